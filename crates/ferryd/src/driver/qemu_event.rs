//! What QEMU says unasked, and what follows from it.
//!
//! An event that a command of ours caused finds the state as it says already and changes nothing; what is left is
//! the guest's or QEMU's own doing. What a migration makes of an event stands in [`super::migrate`].

use ferry_domain::{Happening, State};
use ferry_domxml::{OnCrash, OnEvent};
use ferry_qmp::commands::run::{Cont, SystemReset};
use ferry_qmp::{Event, EventKind, ShutdownCause, ShutdownReason, VncEvent, WriteThreshold};
use ferry_rpc::proto::{DomainEventGraphicsAddress, DomainEventGraphicsIdentity};
use ferry_rpc::values::{GraphicsPhase, IoErrorAction, PausedReason, RunningReason, WatchdogAction};

use super::Driver;
use super::guest::Ending;
use crate::events::DomainEvent;

impl Driver {
    pub(super) async fn handle_qemu_event(&mut self, event: Event) {
        tracing::debug!(domain = %self.name, event = ?event.kind, "QEMU");
        self.host.events.overhear(&self.published.borrow().reference(), &event);
        match event.kind {
            EventKind::Stop => self.handle_stop().await,
            EventKind::Resume => self.handle_resume().await,
            EventKind::Shutdown(cause) => self.handle_shutdown(&cause).await,
            EventKind::Reset(_) => self.emit(DomainEvent::Reboot),
            EventKind::Migration(status) if self.holds_its_guest() => {
                self.handle_migration_status(status).await
            }
            EventKind::Migration(_) => {}
            EventKind::MigrationPass(pass) => {
                let iteration = i32::try_from(pass).unwrap_or(i32::MAX);
                self.emit(DomainEvent::MigrationIteration { iteration });
                self.handle_migration_pass(pass).await;
            }
            EventKind::BlockIoError(error) => self.handle_io_error(&error).await,
            EventKind::GuestPanicked(_) => self.handle_panic().await,
            EventKind::RtcChange(change) => self.emit(DomainEvent::RtcChange { offset: change.offset }),
            EventKind::BalloonChange(bytes) => self.handle_balloon(bytes).await,
            EventKind::DeviceDeleted(gone) => self.handle_device_deleted(&gone).await,
            EventKind::DeviceUnplugGuestError(kept) => self.handle_unplug_refused(&kept).await,
            EventKind::VserportChange(change) => self.handle_channel(&change).await,
            EventKind::MemoryDeviceSizeChange(change) => self.handle_memory_size(&change).await,
            EventKind::DeviceTrayMoved(moved) => self.handle_tray(&moved),
            EventKind::Suspend => self.emit(DomainEvent::Slept { to_disk: false }),
            EventKind::SuspendDisk => self.emit(DomainEvent::Slept { to_disk: true }),
            EventKind::Wakeup => self.emit(DomainEvent::Woke),
            EventKind::Watchdog(action) => self.emit(DomainEvent::Watchdog { action: barked(&action) }),
            EventKind::VncConnected(visit) => self.emit(visited(GraphicsPhase::CONNECT, visit)),
            EventKind::VncInitialized(visit) => self.emit(visited(GraphicsPhase::INITIALIZE, visit)),
            EventKind::VncDisconnected(visit) => self.emit(visited(GraphicsPhase::DISCONNECT, visit)),
            EventKind::BlockWriteThreshold(passed) => self.handle_threshold(&passed),
            EventKind::Powerdown
            | EventKind::GuestCrashloaded(_)
            | EventKind::NicRxFilterChanged(_)
            | EventKind::JobStatusChange(_)
            | EventKind::BlockJobCompleted(_)
            | EventKind::BlockJobCancelled(_)
            | EventKind::BlockJobError(_)
            | EventKind::BlockJobReady(_)
            | EventKind::Other { .. } => {}
        }
    }

    /// The CPUs have stopped and no command of ours has done it.
    async fn handle_stop(&mut self) {
        if !matches!(self.state(), State::Running(_)) {
            return;
        }
        let reason = if self.is_migrating() {
            self.note_stopped();
            PausedReason::MIGRATION
        } else {
            PausedReason::UNKNOWN
        };
        self.happen(Happening::Stopped(reason));
    }

    /// The CPUs run and no command of ours has done it.
    async fn handle_resume(&mut self) {
        if self.is_migrating() {
            return self.handle_migration_resume().await;
        }
        if !matches!(self.state(), State::Paused(_)) {
            return;
        }
        self.happen(Happening::Resumed(RunningReason::UNPAUSED));
        self.record_or_warn().await;
    }

    /// The machine is off, with QEMU still there (`-no-shutdown`).
    async fn handle_shutdown(&mut self, cause: &ShutdownCause) {
        let migrating = self.is_migrating();
        let Some(guest) = &mut self.guest else { return };
        if guest.ending.is_some() {
            return;
        }
        let restart = match cause.reason {
            ShutdownReason::GuestReset => guest.domain.on_reboot.unwrap_or(OnEvent::Restart),
            _ => guest.domain.on_poweroff.unwrap_or(OnEvent::Destroy),
        };
        let reboot = std::mem::take(&mut guest.reboot) || restart == OnEvent::Restart;
        // A signal ends QEMU whatever the definition wishes.
        if reboot && cause.reason != ShutdownReason::HostSignal && !migrating {
            return self.start_over().await;
        }
        guest.ending = Some(Ending::Shutdown);
        self.happen(Happening::PoweredOff { by_guest: cause.guest });
        if let Some(guest) = &self.guest {
            guest.process.terminate();
        }
    }

    /// Resets the machine and lets it run: a reboot by way of power-off.
    async fn start_over(&mut self) {
        let Some(guest) = &self.guest else { return };
        let monitor = guest.monitor.clone();
        let outcome = async {
            monitor.execute(&SystemReset).await?;
            monitor.execute(&Cont).await
        };
        if let Err(error) = outcome.await {
            tracing::error!(domain = %self.name, %error, "the guest could not be started over");
            return self.end_guest(Ending::Failed).await;
        }
        self.happen(Happening::Resumed(RunningReason::BOOTED));
    }

    async fn handle_panic(&mut self) {
        self.happen(Happening::Panicked);
        let Some(guest) = &self.guest else { return };
        match guest.domain.on_crash.unwrap_or(OnCrash::Destroy) {
            OnCrash::Preserve => self.record_or_warn().await,
            OnCrash::Restart | OnCrash::CoredumpRestart | OnCrash::RenameRestart => self.start_over().await,
            OnCrash::Destroy | OnCrash::CoredumpDestroy => self.end_guest(Ending::Crashed).await,
        }
    }

    async fn handle_io_error(&mut self, error: &ferry_qmp::BlockIoError) {
        let alias = error.qom_path.as_deref().and_then(device_of).unwrap_or(error.device.as_str());
        let path = self.guest.as_ref().and_then(|guest| {
            let disks = guest.domain.devices.disks.iter();
            let disk = disks.into_iter().find(|disk| disk.info.alias.as_deref() == Some(alias));
            disk.and_then(|disk| disk.source.path()).map(str::to_owned)
        });
        let stops = error.action == ferry_qmp::commands::run::ErrorAction::Stop;
        let action = if stops { IoErrorAction::PAUSE } else { IoErrorAction::REPORT };
        self.emit(DomainEvent::IoError {
            path: path.unwrap_or_default(),
            alias: alias.to_owned(),
            action,
            reason: if error.nospace == Some(true) { "enospc".to_owned() } else { String::new() },
        });
        if stops && matches!(self.state(), State::Running(_)) {
            self.happen(Happening::Stopped(PausedReason::IOERROR));
            self.record_or_warn().await;
            self.handle_migration_io_error().await;
        }
    }

    async fn handle_balloon(&mut self, bytes: u64) {
        let kib = bytes / 1024;
        if let Some(guest) = &mut self.guest {
            let mut domain = ferry_domxml::Domain::clone(&guest.domain);
            domain.current_memory = Some(ferry_domxml::memory::Size { kib });
            guest.domain = std::sync::Arc::new(domain);
        }
        self.emit(DomainEvent::BalloonChange { actual_kib: kib });
    }

    /// A disk's own name is told when its uppermost image is meant, and the image's name in any case.
    fn handle_threshold(&mut self, passed: &WriteThreshold) {
        let Some(domain) = self.guest.as_ref().map(|guest| std::sync::Arc::clone(&guest.domain)) else {
            return;
        };
        for disk in &domain.devices.disks {
            for (layer, (source, number)) in ferry_qemu::blockgraph::images(disk).into_iter().enumerate() {
                let Some(number) = number else { continue };
                if ferry_qemu::blockgraph::storage_node(number) != passed.node_name {
                    continue;
                }
                let tell = |device: String| DomainEvent::BlockThreshold {
                    device,
                    path: source.path().map(str::to_owned),
                    threshold: passed.write_threshold,
                    excess: passed.amount_exceeded,
                };
                if layer == 0 {
                    self.emit(tell(disk.target.dev.clone()));
                }
                self.emit(tell(format!("{}[{number}]", disk.target.dev)));
            }
        }
    }

    /// The monitor is closed. QEMU is about to go, or has broken the protocol: then it is left alone, for it
    /// still runs the guest.
    pub(super) async fn handle_monitor_closed(&mut self) {
        if let Some(guest) = &mut self.guest {
            guest.monitored = false;
        }
    }

    /// QEMU is gone.
    pub(super) async fn handle_exit(&mut self) {
        let launch_id = self.guest.as_ref().map(|guest| guest.launch_id.clone()).unwrap_or_default();
        if self.holds_its_guest() {
            self.handle_migration_exit().await;
        } else {
            self.settle_end().await;
        }
        self.settling_exit(&launch_id).await;
    }

    /// Writes the guest down; a record that is late only costs a reason after a restart.
    pub(super) async fn record_or_warn(&self) {
        // The store has said why.
        let _ = self.record_guest().await;
    }
}

/// The device's id in an object path: `/machine/peripheral/virtio-disk0/virtio-backend`.
fn device_of(path: &str) -> Option<&str> {
    path.strip_prefix("/machine/peripheral/")?.split('/').next()
}

/// What QEMU did when the watchdog fired, in the wire's numbers.
fn barked(action: &ferry_qmp::WatchdogAction) -> WatchdogAction {
    match action {
        ferry_qmp::WatchdogAction::None | ferry_qmp::WatchdogAction::Other(_) => WatchdogAction::NONE,
        ferry_qmp::WatchdogAction::Pause => WatchdogAction::PAUSE,
        ferry_qmp::WatchdogAction::Reset => WatchdogAction::RESET,
        ferry_qmp::WatchdogAction::Poweroff => WatchdogAction::POWEROFF,
        ferry_qmp::WatchdogAction::Shutdown => WatchdogAction::SHUTDOWN,
        ferry_qmp::WatchdogAction::Debug => WatchdogAction::DEBUG,
        ferry_qmp::WatchdogAction::InjectNmi => WatchdogAction::INJECTNMI,
    }
}

/// Somebody at the guest's screen.
fn visited(phase: GraphicsPhase, visit: VncEvent) -> DomainEvent {
    let VncEvent { server, client } = visit;
    let address = |family: &str, node: String, service: String| DomainEventGraphicsAddress {
        // `VIR_DOMAIN_EVENT_GRAPHICS_ADDRESS_*`.
        family: match family {
            "ipv6" => 1,
            "unix" => 2,
            _ => 0,
        },
        node,
        service,
    };
    let names = [("x509dname", client.x509_dname), ("saslUsername", client.sasl_username)];
    let named = |(kind, name): (&str, Option<String>)| {
        Some(DomainEventGraphicsIdentity { kind: kind.to_owned(), name: name? })
    };
    DomainEvent::Graphics {
        phase,
        local: address(&server.family, server.host, server.service),
        remote: address(&client.family, client.host, client.service),
        auth_scheme: server.auth.unwrap_or_default(),
        subject: names.into_iter().filter_map(named).collect(),
    }
}
