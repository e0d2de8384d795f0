//! Calls that plug devices in, take them out, or change them.

use ferry_domxml::{Device, ParseError};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::AffectFlags;
use ferry_rpc::proto::{
    DomainAttachDevice, DomainAttachDeviceFlags, DomainDetachDevice, DomainDetachDeviceAlias,
    DomainDetachDeviceFlags, DomainRef, DomainUpdateDeviceFlags,
};

use super::Context;
use super::change::{affect, make};
use crate::driver::change::Change;

/// Take a medium out whether the guest has locked it in or not.
const FORCE: u32 = 0x4;

pub(super) async fn attach(context: Context, call: DomainAttachDeviceFlags) -> Result<(), Error> {
    let affect = affect(call.flags.bits(), 0, "qemuDomainAttachDeviceFlags")?;
    make(context, &call.domain, Change::Attach(read(&call.xml)?), affect).await
}

/// Into a running guest.
pub(super) async fn attach_plain(context: Context, call: DomainAttachDevice) -> Result<(), Error> {
    make(context, &call.domain, Change::Attach(read(&call.xml)?), AffectFlags::LIVE).await
}

pub(super) async fn detach(context: Context, call: DomainDetachDeviceFlags) -> Result<(), Error> {
    let affect = affect(call.flags.bits(), 0, "qemuDomainDetachDeviceFlags")?;
    out(context, &call.domain, &call.xml, affect).await
}

/// Out of a running guest.
pub(super) async fn detach_plain(context: Context, call: DomainDetachDevice) -> Result<(), Error> {
    out(context, &call.domain, &call.xml, AffectFlags::LIVE).await
}

/// By the name that it has in the guest.
pub(super) async fn detach_alias(context: Context, call: DomainDetachDeviceAlias) -> Result<(), Error> {
    let affect = affect(call.flags.bits(), 0, "qemuDomainDetachDeviceAlias")?;
    make(context, &call.domain, Change::DetachAlias(call.alias), affect).await
}

async fn out(context: Context, domain: &DomainRef, xml: &str, affect: AffectFlags) -> Result<(), Error> {
    make(context, domain, Change::Detach(read(xml)?), affect).await
}

pub(super) async fn update(context: Context, call: DomainUpdateDeviceFlags) -> Result<(), Error> {
    let flags = call.flags.bits();
    let affect = affect(flags, FORCE, "qemuDomainUpdateDeviceFlags")?;
    let change = Change::Update { device: read(&call.xml)?, force: flags & FORCE != 0 };
    make(context, &call.domain, change, affect).await
}

/// One device.
///
/// # Errors
/// What cannot be read, with stock's codes.
fn read(xml: &str) -> Result<Device, Error> {
    Device::parse(xml).map_err(|error| {
        let origin = match error {
            ParseError::Malformed { .. } | ParseError::TooLarge { .. } => Origin::XML,
            _ => Origin::DOMAIN,
        };
        let code = i32::try_from(error.code()).map_or(ErrorCode::XML_ERROR, ErrorCode);
        Error::new(code, origin, error.to_string())
    })
}
