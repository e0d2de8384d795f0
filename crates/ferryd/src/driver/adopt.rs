//! Taking over what a former daemon left of a domain: its definition, and its guest when QEMU still lives.

use std::sync::Arc;

use ferry_domxml::Domain;
use ferry_qmp::commands::run::{QueryStatus, RunState, Status};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::values::{DomainState, PausedReason, RunningReason, ShutoffReason};
use ferry_store::GuestRecord;

use super::Driver;
use super::guest::{Ending, Guest};
use crate::perform::monitor::Monitor;
use crate::perform::rundir::RunDir;
use crate::process::{Identity, Process};
use crate::refuse;
use crate::restart::Found;

/// Tells the monitor's answers of this daemon from those that an earlier one asked for.
fn generation() -> u64 {
    super::now_ms()
}

impl Driver {
    pub(super) async fn adopt(&mut self, found: Found) -> Result<(), Error> {
        self.epoch = found.epoch;
        if let Some((config, autostart)) = found.config {
            self.config = Some(Arc::new(config));
            self.autostart = autostart;
        }
        if let Some(record) = found.guest {
            self.adopt_guest(record).await?;
        }
        for left in found.migrations {
            self.adopt_migration(left).await;
        }
        Ok(())
    }

    async fn adopt_guest(&mut self, record: GuestRecord) -> Result<(), Error> {
        self.host.registry.seen_id(record.id);
        let identity =
            Identity { pid: record.pid, start_ticks: record.start_ticks, boot_id: record.boot_id.clone() };
        let run_dir = RunDir::existing(record.run_dir.clone());
        let alive = Process::find(&identity).map_err(|e| refuse::system("cannot look for QEMU", &e))?;
        let Some(process) = alive else {
            tracing::info!(domain = %self.name, pid = record.pid, "QEMU ended while no daemon watched");
            run_dir.remove();
            let uuid = self.uuid;
            self.host.store(move |store| store.remove_guest(uuid)).await?;
            self.set_state(DomainState::SHUTOFF, ShutoffReason::CRASHED.0);
            return Ok(());
        };
        let domain = Domain::parse(&record.xml).map_err(|error| {
            refuse::internal(&format!(
                "the stored live XML of domain '{}' cannot be read: {error}",
                self.name
            ))
        })?;
        let capabilities = self.host.capabilities(domain.devices.emulator.as_deref()).await?;
        let (monitor, events) =
            Monitor::connect(&run_dir.monitor(), generation()).await.map_err(|error| {
                let text = format!(
                    "the monitor of domain '{}' does not answer: {}",
                    self.name,
                    refuse::chain(&error)
                );
                Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text)
            })?;
        let status = monitor.execute(&QueryStatus).await.map_err(refuse::monitor)?;
        self.guest = Some(Guest {
            id: record.id,
            launch_id: record.launch_id,
            domain: Arc::new(domain),
            capabilities,
            process,
            child: None,
            monitor,
            events,
            monitored: true,
            run_dir,
            next_node: record.next_node,
            autodestroy: None,
            reboot: false,
            ending: None,
        });
        self.adopt_state(&status, DomainState(record.state), record.reason).await;
        Ok(())
    }

    /// QEMU says what the guest does; the record says why, when the two agree.
    async fn adopt_state(&mut self, status: &Status, recorded: DomainState, reason: i32) {
        if status.running {
            let known = recorded == DomainState::RUNNING;
            let reason = if known { reason } else { RunningReason::UNKNOWN.0 };
            return self.set_state(DomainState::RUNNING, reason);
        }
        match status.status {
            RunState::Shutdown => {
                // The guest powered off while no daemon watched.
                self.end_guest(Ending::Shutdown).await;
            }
            RunState::IoError => self.set_state(DomainState::PAUSED, PausedReason::IOERROR.0),
            RunState::Watchdog => self.set_state(DomainState::PAUSED, PausedReason::WATCHDOG.0),
            RunState::GuestPanicked => self.set_state(DomainState::CRASHED, 1),
            _ => {
                let known = recorded == DomainState::PAUSED && reason != PausedReason::STARTING_UP.0;
                let reason = if known { reason } else { PausedReason::UNKNOWN.0 };
                self.set_state(DomainState::PAUSED, reason);
            }
        }
    }
}
