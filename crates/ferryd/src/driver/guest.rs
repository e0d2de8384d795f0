//! The running guest as its driver holds it: one QEMU, its monitor, and how it is to end.
//!
//! Made by a start, an arriving migration or a restart of the daemon; gone when QEMU is.

use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use ferry_domxml::Domain;
use ferry_qemu::capabilities::Capabilities;
use ferry_qmp::Event;
use ferry_rpc::values::ShutoffReason;
use tokio::sync::mpsc;

use super::Live;
use crate::perform::agent::Agent;
use crate::perform::firmware;
use crate::perform::launch::Launched;
use crate::perform::monitor::Monitor;
use crate::perform::rundir::RunDir;
use crate::perform::tpm::Swtpm;
use crate::perform::words::Words;
use crate::process::Process;

/// How long QEMU may take to end in order before it is killed. It flushes disks in this time.
const TERMINATION: Duration = Duration::from_secs(10);

/// A running QEMU.
pub(crate) struct Guest {
    pub(crate) id: i32,
    /// Names this start of this QEMU, and its run folder.
    pub(crate) launch_id: String,
    pub(crate) domain: Arc<Domain>,
    pub(crate) process: Process,
    /// Ours to reap; `None` when an earlier daemon started it.
    pub(super) child: Option<Child>,
    pub(super) monitor: Monitor,
    /// What its agent is spoken to with, when it has one.
    pub(super) agent: Arc<Agent>,
    pub(super) events: mpsc::Receiver<Event>,
    /// The monitor's connection stands.
    pub(super) monitored: bool,
    pub(crate) run_dir: RunDir,
    /// What this QEMU says; not known of one that an earlier daemon started.
    pub(super) words: Option<Words>,
    /// Who plays the guest's TPM, when it has one.
    pub(super) swtpm: Option<Swtpm>,
    /// Where variables of its firmware were made for it.
    pub(super) new_variables: Option<PathBuf>,
    /// What this QEMU can do.
    pub(super) capabilities: Arc<Capabilities>,
    /// The number of the next block node.
    pub(crate) next_node: u32,
    /// The connection with which the guest is to end.
    pub(super) autodestroy: Option<u64>,
    /// `reboot` asked the guest to power off: it is to start over when it has.
    pub(super) reboot: bool,
    /// Why QEMU is ending, once it is.
    pub(super) ending: Option<Ending>,
}

/// Why a guest ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The guest powered off.
    Shutdown,
    /// Somebody destroyed it.
    Destroyed,
    /// QEMU died, or the guest's kernel did.
    Crashed,
    /// It runs on another host now.
    Migrated,
    /// It never came to run here.
    Failed,
}

impl Ending {
    /// `shut off (…)`.
    pub(super) fn reason(self) -> ShutoffReason {
        match self {
            Ending::Shutdown => ShutoffReason::SHUTDOWN,
            Ending::Destroyed => ShutoffReason::DESTROYED,
            Ending::Crashed => ShutoffReason::CRASHED,
            Ending::Migrated => ShutoffReason::MIGRATED,
            Ending::Failed => ShutoffReason::FAILED,
        }
    }
}

impl Guest {
    /// A QEMU that this daemon has just started.
    pub(super) fn of_launch(id: i32, launched: Launched, autodestroy: Option<u64>) -> Guest {
        Guest {
            id,
            launch_id: launched.launch_id,
            domain: Arc::new(launched.domain),
            process: launched.process,
            child: Some(launched.child),
            monitor: launched.monitor,
            agent: Arc::default(),
            events: launched.events,
            monitored: true,
            run_dir: launched.run_dir,
            words: Some(launched.words),
            swtpm: launched.swtpm,
            new_variables: launched.new_variables,
            capabilities: launched.capabilities,
            next_node: launched.next_node,
            autodestroy,
            reboot: false,
            ending: None,
        }
    }

    /// What the view shows.
    pub(super) fn live(&self) -> Live {
        Live {
            id: self.id,
            domain: Arc::clone(&self.domain),
            process: self.process.clone(),
            monitor: self.monitor.clone(),
            run_dir: self.run_dir.clone(),
            agent: Arc::clone(&self.agent),
        }
    }

    /// Ends QEMU and waits until it is gone: first in order, then by force.
    pub(super) async fn end(&mut self) {
        end(&self.process).await;
        self.reap();
    }

    /// Forgets what was made for a guest that has not come to be. What an earlier daemon made is not known any more.
    pub(super) fn forget_variables(&self) {
        if let Some(path) = &self.new_variables {
            firmware::forget_variables(path);
        }
    }

    /// Waits until nobody plays the guest's TPM any more. For a QEMU that has ended.
    pub(super) async fn end_tpm(&mut self) {
        if let Some(swtpm) = &mut self.swtpm {
            swtpm.end().await;
        }
    }

    /// Has nobody play the guest's TPM any more. For a guest that runs elsewhere.
    pub(super) async fn kill_tpm(&mut self) {
        if let Some(swtpm) = &mut self.swtpm {
            swtpm.kill().await;
        }
    }

    /// Lets QEMU end by itself from here on, and cleans up after it. Nobody waits for that.
    pub(super) fn bury(mut self) {
        self.process.terminate();
        tokio::spawn(async move {
            self.end().await;
            self.run_dir.remove();
        });
    }

    /// Takes the exit status, so that no zombie stays.
    pub(super) fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            match child.wait() {
                Ok(status) => tracing::debug!(pid = child.id(), %status, "QEMU ended"),
                Err(error) => tracing::warn!(pid = child.id(), %error, "cannot reap QEMU"),
            }
        }
    }
}

/// Ends a QEMU: first in order, then by force.
pub(crate) async fn end(process: &Process) {
    process.terminate();
    if tokio::time::timeout(TERMINATION, process.exited()).await.is_err() {
        process.kill();
        process.exited().await;
    }
}
