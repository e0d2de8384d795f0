//! A word when a disk fills up. Asked for by image, told once by [`crate::driver`].

use ferry_qemu::blockgraph;
use ferry_qmp::commands::block::BlockSetWriteThreshold;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{DomainBlockJobSetSpeed, DomainSetBlockThreshold};

use super::{Context, accept_flags, running, stats};
use crate::driver::Live;
use crate::refuse;

/// Limits a disk's job, of which there is none: no client can begin one, and a migration's copies are its own.
pub(super) async fn set_job_speed(context: Context, call: DomainBlockJobSetSpeed) -> Result<(), Error> {
    const BYTES: u32 = 1;
    accept_flags(call.flags, BYTES, "qemuDomainBlockJobSetSpeed")?;
    let view = context.view(&call.domain)?;
    let disks = &running(&view)?.domain.devices.disks;
    let text = match stats::find(disks, &call.path) {
        Some(disk) => format!("disk {} does not have an active block job", disk.target.dev),
        None => format!("disk '{}' not found in the domain", call.path),
    };
    Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text))
}

/// Has an event told once the guest writes beyond this byte of an image; 0 takes that back.
pub(super) async fn set(context: Context, call: DomainSetBlockThreshold) -> Result<(), Error> {
    accept_flags(call.flags, 0, "qemuDomainSetBlockThreshold")?;
    let view = context.view(&call.domain)?;
    let live = running(&view)?;
    let number = image(live, &call.device)?;
    let wish = BlockSetWriteThreshold {
        node_name: blockgraph::storage_node(number),
        write_threshold: call.threshold,
    };
    live.monitor.execute(&wish).await.map_err(refuse::monitor).map(drop)
}

/// The number of the image that `vda` or `vda[2]` means.
fn image(live: &Live, device: &str) -> Result<u32, Error> {
    let (target, wanted) = match device.strip_suffix(']').and_then(|text| text.rsplit_once('[')) {
        Some((target, number)) => (target, number.parse::<u32>().ok()),
        None => (device, None),
    };
    let disks = &live.domain.devices.disks;
    let images = disks.iter().find(|disk| disk.target.dev == target).map(blockgraph::images);
    let mut numbers = images.into_iter().flatten().filter_map(|(_, number)| number);
    let found = match wanted {
        Some(wanted) => numbers.find(|number| *number == wanted),
        None if target == device => numbers.next(),
        None => None,
    };
    found.ok_or_else(|| {
        let text = format!("failed to find disk '{device}'");
        Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text)
    })
}
