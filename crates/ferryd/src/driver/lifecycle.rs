//! Start, stop and the states between: what a client can do to a guest besides moving it.
//!
//! Every change that must survive a crash is recorded before it is answered; before a CPU may run, the guest is in
//! the store, so that no QEMU runs that a restarted daemon does not know.

use ferry_domain::{Happening, Lifecycle, Operation, State};
use ferry_domxml::Domain;
use ferry_qmp::commands::run::{Cont, Stop, SystemPowerdown, SystemReset};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{DestroyFlags, ShutdownFlags, StartFlags};
use ferry_rpc::proto::DomainRef;
use ferry_rpc::values::RunningReason;

use super::guest::{Ending, Guest};
use super::{Driver, Reply, Request, answer};
use crate::listen::Client;
use crate::perform::launch::{self, Purpose};
use crate::refuse;

impl Driver {
    /// Starts the kept definition.
    pub(super) async fn start(&mut self, flags: StartFlags, client: Client) -> Result<DomainRef, Error> {
        self.admit(Operation::Start)?;
        self.refuse_if_moved(flags.contains(StartFlags::FORCE_BOOT)).await?;
        let Some(config) = self.config.clone() else {
            return Err(refuse::no_such_domain(self.uuid, &self.name));
        };
        self.boot(Domain::clone(&config), flags, client).await
    }

    /// Starts a domain that need not be kept.
    pub(super) async fn create(
        &mut self,
        domain: Box<Domain>,
        flags: StartFlags,
        client: Client,
    ) -> Result<DomainRef, Error> {
        if self.guest.is_some() {
            let text = format!("domain '{}' is already active", self.name);
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::DOMAIN, text));
        }
        self.admit(Operation::Start)?;
        self.refuse_if_moved(false).await?;
        self.boot(*domain, flags, client).await
    }

    async fn boot(&mut self, domain: Domain, flags: StartFlags, client: Client) -> Result<DomainRef, Error> {
        let autodestroy = flags.contains(StartFlags::AUTODESTROY).then(|| client.id());
        let id = self.host.registry.next_id();
        let launching = launch::launch(&self.host, domain, id, launch::new_launch_id(), Purpose::Boot);
        let launched = Box::pin(launching).await;
        let launched = launched.inspect_err(|_| {
            // It never came to be, so nobody is told of its end.
            self.life = Lifecycle::found(State::ShutOff(Ending::Failed.reason()));
        })?;
        self.guest = Some(Guest::of_launch(id, launched, autodestroy));
        if self.moved_to.is_some() {
            self.forget_departures().await;
        }
        self.happen(Happening::Launched);
        if let Err(error) = self.bring_up(flags).await {
            self.end_guest(Ending::Failed).await;
            return Err(error);
        }
        if autodestroy.is_some() {
            self.watch(client);
        }
        Ok(self.published.borrow().reference())
    }

    async fn bring_up(&mut self, flags: StartFlags) -> Result<(), Error> {
        self.record_guest().await?;
        if flags.contains(StartFlags::PAUSED) {
            self.happen(Happening::StartedPaused);
            return self.record_guest().await;
        }
        self.running()?.monitor.execute(&Cont).await.map_err(refuse::monitor)?;
        self.happen(Happening::Resumed(RunningReason::BOOTED));
        self.record_guest().await
    }

    /// Ends the guest. In the middle of a migration the machine decides what that means.
    pub(super) async fn destroy(&mut self, flags: DestroyFlags, reply: Reply<()>) {
        let _ = flags;
        if let Err(error) = self.admit(Operation::Destroy) {
            return answer(reply, Err(error));
        }
        if self.is_migrating() {
            return self.destroy_in_migration(reply).await;
        }
        self.end_guest(Ending::Destroyed).await;
        self.answer(reply, Ok(()));
    }

    /// Ends QEMU, waits for its end and settles what is left of it.
    pub(super) async fn end_guest(&mut self, ending: Ending) {
        if let Some(guest) = &mut self.guest {
            guest.ending.get_or_insert(ending);
            guest.end().await;
            self.settle_end().await;
        }
    }

    /// Presses the power button.
    pub(super) async fn shutdown(&mut self, flags: ShutdownFlags) -> Result<(), Error> {
        self.press_power_button(flags, false).await
    }

    /// Presses the power button, and starts the guest over once it is off.
    pub(super) async fn reboot(&mut self, flags: ShutdownFlags) -> Result<(), Error> {
        self.press_power_button(flags, true).await
    }

    async fn press_power_button(&mut self, flags: ShutdownFlags, reboot: bool) -> Result<(), Error> {
        let button = ShutdownFlags::ACPI_POWER_BTN;
        if flags != ShutdownFlags::NONE && !flags.contains(button) {
            let text = "the only button is the ACPI power button: use --mode acpi or agent";
            return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
        }
        self.admit(Operation::Power)?;
        let monitor = self.running()?.monitor.clone();
        if let Some(guest) = &mut self.guest {
            guest.reboot = reboot;
        }
        monitor.execute(&SystemPowerdown).await.map_err(refuse::monitor)?;
        Ok(())
    }

    /// Presses the reset button.
    pub(super) async fn reset(&mut self) -> Result<(), Error> {
        self.admit(Operation::Power)?;
        self.running()?.monitor.execute(&SystemReset).await.map_err(refuse::monitor)?;
        Ok(())
    }

    /// Stops the CPUs. A guest that is being copied may be stopped too: the copy then ends soon.
    pub(super) async fn suspend(&mut self) -> Result<(), Error> {
        if !self.admit(Operation::Suspend)? {
            return Ok(());
        }
        let monitor = self.running()?.monitor.clone();
        monitor.execute(&Stop).await.map_err(refuse::monitor)?;
        let reason = self.note_suspended();
        self.happen(Happening::Stopped(reason));
        self.record_guest().await
    }

    /// Lets the CPUs run.
    pub(super) async fn resume(&mut self) -> Result<(), Error> {
        self.admit(Operation::Resume)?;
        let monitor = self.running()?.monitor.clone();
        if !matches!(self.state(), State::Paused(_)) {
            let text = "domain is not paused";
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        monitor.execute(&Cont).await.map_err(refuse::monitor)?;
        self.happen(Happening::Resumed(RunningReason::UNPAUSED));
        self.record_guest().await
    }

    /// The running guest.
    ///
    /// # Errors
    /// 55/20, stock's text.
    pub(super) fn running(&self) -> Result<&Guest, Error> {
        self.guest.as_ref().ok_or_else(refuse::not_running)
    }

    /// Writes down the running guest as it stands.
    pub(super) async fn record_guest(&self) -> Result<(), Error> {
        let Some(guest) = &self.guest else { return Ok(()) };
        let record = refuse::guest_record(self.uuid, guest, self.state(), self.config.is_none());
        self.host.store(move |store| store.save_guest(&record)).await
    }

    /// Settles what a QEMU that has ended leaves: record, run folder, state, event.
    pub(super) async fn settle_end(&mut self) {
        let Some(mut guest) = self.guest.take() else { return };
        guest.reap();
        guest.end_tpm().await;
        guest.run_dir.remove();
        self.give_up_unplugs().await;
        let ending = guest.ending.unwrap_or(Ending::Crashed);
        self.settle_tpm(&guest.domain, ending);
        if ending == Ending::Failed {
            guest.forget_variables();
        }
        self.settle_state(ending).await;
    }

    /// The guest is no longer this host's, or no longer at all.
    pub(super) async fn settle_state(&mut self, ending: Ending) {
        let uuid = self.uuid;
        // A record that stays behind is found to be without a process at the next start.
        let _ = self.host.store(move |store| store.remove_guest(uuid)).await;
        self.happen(Happening::Ended(ending.reason()));
    }

    /// Has this driver told when `client` goes away.
    pub(super) fn watch(&self, client: Client) {
        let Some(me) = self.me.upgrade() else { return };
        let me = me.downgrade();
        tokio::spawn(async move {
            client.gone().await;
            if let Some(me) = me.upgrade() {
                let _ = me.send(Request::ClientGone { client: client.id() }).await;
            }
        });
    }

    /// Something of this domain hung on a connection that has closed.
    pub(super) async fn handle_client_gone(&mut self, client: u64) {
        self.client_gone_in_migration(client).await;
        let bound = self.guest.as_ref().is_some_and(|guest| guest.autodestroy == Some(client));
        if bound && !self.is_migrating() {
            tracing::info!(domain = %self.name, "its client is gone: destroyed as asked");
            self.end_guest(Ending::Destroyed).await;
        }
    }
}
