//! Images of a guest that arrived paused and has not run since: taken into use before it may leave again.
//!
//! The images of a guest that arrives stay inactive until its CPUs run (late-block-activate). A QEMU that is to send
//! them away while they are inactive ends with a failed assertion, and the guest's memory with it, up to and with
//! QEMU 9.2. The versions that know `blockdev-set-active` are past that. Called by the source of a migration.

use ferry_qemu::capabilities::Capabilities;
use ferry_qmp::commands::block::{BlockExportAdd, NbdServerStart, NbdServerStop, QueryBlock};

use super::monitor::{Monitor, MonitorError};
use super::rundir::RunDir;

/// Makes all images of a paused guest active; those that are, stay so.
///
/// The older versions have one command besides `cont` that does this: an export activates its node. So each node is
/// exported, for reading, to nobody, on a socket in the guest's own folder, and all exports are ended again.
///
/// # Errors
/// QEMU refuses, for one because another process holds an image's lock: the guest must then not be sent.
pub(crate) async fn activate(
    monitor: &Monitor,
    capabilities: &Capabilities,
    run_dir: &RunDir,
) -> Result<(), MonitorError> {
    if capabilities.has_command("blockdev-set-active") {
        return Ok(());
    }
    let media = monitor.execute(&QueryBlock).await?.into_iter().filter_map(|device| device.inserted);
    let nodes: Vec<String> = media.filter_map(|node| node.node_name).collect();
    if nodes.is_empty() {
        return Ok(());
    }
    let path = run_dir.channel("activate.sock").to_string_lossy().into_owned();
    monitor.execute(&NbdServerStart { path }).await?;
    let exported = export_all(monitor, nodes).await;
    monitor.execute(&NbdServerStop).await?;
    exported
}

async fn export_all(monitor: &Monitor, nodes: Vec<String>) -> Result<(), MonitorError> {
    for (number, node_name) in nodes.into_iter().enumerate() {
        let export = BlockExportAdd { id: format!("activate{number}"), node_name, writable: false };
        monitor.execute(&export).await?;
    }
    Ok(())
}
