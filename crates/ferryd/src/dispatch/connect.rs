//! Opening a connection, and what it says about its host and this daemon.

use ferry_qemu::capabilities::Accelerator;
use ferry_qemu::host_caps::{self, HostFacts};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::OpenFlags;
use ferry_rpc::proto::{
    AuthList, AuthListReply, ConnectGetCapabilities, ConnectGetHostname, ConnectGetLibVersion,
    ConnectGetMaxVcpus, ConnectGetSysinfo, ConnectGetType, ConnectGetUri, ConnectGetVersion, ConnectIsSecure,
    ConnectOpen, ConnectRegisterCloseCallback, ConnectSupportsFeature, ConnectUnregisterCloseCallback,
};
use ferry_rpc::server::gate::Gate;
use ferry_rpc::values::{AuthType, Feature};

use super::machine::Machine;
use super::{Context, accept_flags, int};
use crate::probe::DEFAULT_EMULATOR;

/// The release of libvirt whose protocol is spoken, as `major * 1000000 + minor * 1000 + release`. Clients
/// and stock daemons decide by it what they may send.
const LIBRARY_VERSION: u64 = 11_003_000;

/// The only host that there is: the one that the client is connected to.
const URI: &str = "qemu:///system";

/// The most processors of a guest that is emulated, in stock's answer.
const EMULATED_VCPUS_MAX: i32 = 16;

/// Opens a connection.
///
/// # Errors
/// 1/7 when it is open already or no name was given, 5/0 for another hypervisor or host, 1/0 for another
/// path.
pub(crate) fn open(call: &ConnectOpen, gate: &mut Gate) -> Result<(), Error> {
    if !gate.is_open() {
        check_name(call.name.as_deref())?;
    }
    // Unknown flags are let pass, as from stock.
    gate.open(call.flags.contains(OpenFlags::RO))
}

fn check_name(name: Option<&str>) -> Result<(), Error> {
    let Some(name) = name else {
        return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, "connection not open"));
    };
    if name.is_empty() {
        return Ok(());
    }
    let no_driver = |text: String| Err(Error::of(ErrorCode::NO_CONNECT, Origin::NONE, text));
    let Some((scheme, rest)) = name.split_once(':') else {
        return no_driver(format!("URI '{name}' does not include a driver name"));
    };
    let local = rest.split(['?', '#']).next().unwrap_or_default();
    let path = local.strip_prefix("//").unwrap_or(local);
    if scheme != "qemu" || !path.starts_with('/') {
        return no_driver(name.to_owned());
    }
    match path {
        "/system" | "/session" => Ok(()),
        _ => {
            let text = format!("unexpected qemu URI path '{path}', try qemu:///system");
            Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::NONE, text))
        }
    }
}

/// Nobody has to prove who they are: the sockets' owners and modes have done that, or the operator has
/// decided that whoever reaches the TCP port may.
pub(super) fn auth_list(_: &Context, _: AuthList) -> Result<AuthListReply, Error> {
    Ok(AuthListReply { types: vec![AuthType::NONE] })
}

/// What clients and peers ask before they use it.
pub(super) fn feature(context: &Context, call: ConnectSupportsFeature) -> Result<bool, Error> {
    context.gate.check_feature(&call)?;
    Ok(matches!(
        call.feature,
        Feature::MIGRATION_P2P
            | Feature::MIGRATION_V3
            | Feature::MIGRATE_CHANGE_PROTECTION
            | Feature::TYPED_PARAM_STRING
            | Feature::KEEPALIVE
            | Feature::XML_MIGRATABLE
            | Feature::MIGRATION_OFFLINE
            | Feature::MIGRATION_PARAMS
            | Feature::EVENT_CALLBACK
            | Feature::CLOSE_CALLBACK
            | Feature::NETWORK_UPDATE_ORDER
    ))
}

/// The hypervisor's name.
pub(super) fn kind(_: &Context, _: ConnectGetType) -> Result<String, Error> {
    Ok("QEMU".to_owned())
}

/// The release of libvirt that this daemon stands for.
pub(super) fn library_version(_: &Context, _: ConnectGetLibVersion) -> Result<u64, Error> {
    Ok(LIBRARY_VERSION)
}

/// The version of the default QEMU.
pub(super) async fn hypervisor_version(context: Context, _: ConnectGetVersion) -> Result<u64, Error> {
    let version = context.host.capabilities(None).await?.version;
    Ok(u64::from(version.major) * 1_000_000 + u64::from(version.minor) * 1_000 + u64::from(version.micro))
}

/// How many processors a guest may have.
pub(super) async fn vcpus_max(context: Context, call: ConnectGetMaxVcpus) -> Result<i32, Error> {
    let kind = call.kind.unwrap_or_default();
    if kind.is_empty() || kind.eq_ignore_ascii_case("qemu") {
        return Ok(EMULATED_VCPUS_MAX);
    }
    if !kind.eq_ignore_ascii_case("kvm") {
        return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, format!("unknown type '{kind}'")));
    }
    let capabilities = context.host.capabilities(None).await?;
    if !capabilities.has_accelerator(Accelerator::Kvm) {
        return Err(Error::new(ErrorCode::SYSTEM_ERROR, Origin::NONE, "KVM does not work on this host"));
    }
    let most = capabilities.default_machine().map_or(1, |machine| machine.cpus_max);
    Ok(int(most))
}

/// What this host is and which guests it can run.
pub(super) async fn capabilities(context: Context, _: ConnectGetCapabilities) -> Result<String, Error> {
    let host = &context.host;
    let capabilities = host.capabilities(None).await?;
    let machine = Machine::here();
    let facts = HostFacts {
        uuid: host.uuid,
        cpu: machine.processor(),
        page_sizes_kib: machine.page_sizes_kib(),
        iommu: machine.has_iommu(),
        cells: machine.cells(),
        emulator: DEFAULT_EMULATOR.to_owned(),
        owner: host.account.uid.zip(host.account.gid),
    };
    Ok(host_caps::document(&facts, &capabilities))
}

/// This host's name.
pub(super) fn hostname(context: &Context, _: ConnectGetHostname) -> Result<String, Error> {
    Ok(context.host.hostname.clone())
}

/// What the connection was opened with, in its plain form. Clients answer this themselves.
pub(super) fn uri(_: &Context, _: ConnectGetUri) -> Result<String, Error> {
    Ok(URI.to_owned())
}

/// Stock's answer for a connection that ends in the hypervisor's own daemon; a client adds what it knows of
/// the way.
pub(super) fn is_secure(_: &Context, _: ConnectIsSecure) -> Result<bool, Error> {
    Ok(true)
}

/// What the firmware says about the machine: not read here.
pub(super) fn sysinfo(_: &Context, call: ConnectGetSysinfo) -> Result<String, Error> {
    accept_flags(call.flags, 0, "qemuConnectGetSysinfo")?;
    let text = "Host SMBIOS information is not available";
    Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text))
}

/// Would be told of the end of the daemon's own connection to a hypervisor; there is none that could end.
pub(super) fn register_close(_: &Context, _: ConnectRegisterCloseCallback) -> Result<(), Error> {
    Ok(())
}

/// See [`register_close`].
pub(super) fn unregister_close(_: &Context, _: ConnectUnregisterCloseCallback) -> Result<(), Error> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: Option<&str>) -> Option<(i32, i32, String)> {
        let call = ConnectOpen { name: name.map(str::to_owned), flags: OpenFlags::NONE };
        let error = open(&call, &mut Gate::new(false)).err()?;
        Some((error.code.0, error.origin.0, error.message))
    }

    #[test]
    fn names_are_taken_and_refused_as_by_stock() {
        let taken = [
            "",
            "qemu:///system",
            "qemu:///session",
            "qemu:/system",
            "qemu:///system?socket=/x",
            "qemu:///system#x",
        ];
        for name in taken {
            assert_eq!(refusal(Some(name)), None, "{name}");
        }
        let not_open = "internal error: connection not open".to_owned();
        assert_eq!(refusal(None), Some((1, 7, not_open)));
        let no_driver = |text: &str| Some((5, 0, format!("no connection driver available for {text}")));
        assert_eq!(refusal(Some("lxc:///")), no_driver("lxc:///"));
        assert_eq!(refusal(Some("qemu://other/system")), no_driver("qemu://other/system"));
        assert_eq!(refusal(Some("foo")), no_driver("URI 'foo' does not include a driver name"));
        let path = "internal error: unexpected qemu URI path '/foo', try qemu:///system".to_owned();
        assert_eq!(refusal(Some("qemu:///foo")), Some((1, 0, path)));
    }

    #[test]
    fn a_flag_makes_a_connection_read_only_and_unknown_ones_pass() {
        let mut gate = Gate::new(false);
        let call = ConnectOpen { name: Some(URI.to_owned()), flags: OpenFlags::from_bits(0xff01) };
        open(&call, &mut gate).unwrap();
        assert!(gate.is_read_only());
        assert_eq!(open(&call, &mut gate).unwrap_err().message, "internal error: connection already open");
    }
}
