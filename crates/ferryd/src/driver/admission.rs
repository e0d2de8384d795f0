//! May it? What a request meets before the driver acts on it: `ferry_domain`'s policy, and the host that a guest went to.

use std::time::Duration;

use ferry_client::{Connection, OpenOptions};
use ferry_domain::{Admission, JobSlot, Operation, job::Holder};
use ferry_migration::Standing;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::values::DomainState;
use uuid::Uuid;

use super::Driver;
use super::migrate::Migration;
use crate::handover::{self, Peer};

/// How long the host that a guest went to may take to say whether it still has it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(3);

impl Driver {
    /// Whether an operation may run now. `Ok(false)`: the guest is so already, and nothing is to be done.
    ///
    /// # Errors
    /// The policy's refusal, with stock's code and text.
    pub(super) fn admit(&self, operation: Operation) -> Result<bool, Error> {
        if self.silent.is_some() && operation != Operation::Query {
            let text =
                format!("QEMU of domain '{}' lives and does not answer; it is being tried again", self.name);
            return Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text));
        }
        match self.slot().admit(operation, self.state(), self.standing()) {
            Admission::Accept => Ok(true),
            Admission::Ignore => Ok(false),
            Admission::Refuse(refusal) => Err(refusal.to_error(&self.name)),
        }
    }

    fn slot(&self) -> JobSlot {
        match &self.migration {
            Some(Migration::Out(outgoing)) if outgoing.job_open => JobSlot::MigratingOut {
                holder: if outgoing.performs() { Holder::Perform } else { Holder::Begin },
                connection: outgoing.coordinator(),
            },
            Some(Migration::In(incoming)) if incoming.job_open => JobSlot::MigratingIn,
            Some(Migration::Out(_) | Migration::In(_)) | None => JobSlot::Idle,
        }
    }

    /// Where the guest stands by all that is known of its migrations. One that has ended here, either way, is no
    /// obstacle by itself.
    fn standing(&self) -> Standing {
        let migrations = self.migration.iter().chain(&self.settling);
        migrations.map(Migration::standing).fold(Standing::Here, |worst, standing| match (worst, standing) {
            (doubt @ Standing::InDoubt(_), _) | (_, doubt @ Standing::InDoubt(_)) => doubt,
            (Standing::HandedOver, _) | (_, Standing::HandedOver) => Standing::HandedOver,
            (worst, Standing::Here | Standing::Away) => worst,
            (_, standing @ (Standing::Leaving | Standing::Arriving)) => standing,
        })
    }

    /// A definition that stayed behind when its guest was migrated must not be started while the guest runs where it
    /// went. That host is asked; `forced` is the operator's word that it need not be.
    ///
    /// # Errors
    /// The guest runs there, or nobody can say.
    pub(super) async fn refuse_if_moved(&mut self, forced: bool) -> Result<(), Error> {
        let Some(peer) = self.moved_to.clone() else { return Ok(()) };
        if forced {
            tracing::warn!(domain = %self.name, host = %peer.host, "started by force, unasked whether the guest still runs there");
            return Ok(());
        }
        let asked = tokio::time::timeout(ANSWER_DEADLINE, runs_at(&peer, self.uuid)).await;
        let refuse = |text: String| Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        match asked.ok().flatten() {
            Some(false) => Ok(()),
            Some(true) => refuse(format!(
                "domain '{}' was migrated to host {} and runs there; migrate it back, or destroy it there first",
                self.name, peer.host
            )),
            None => refuse(format!(
                "domain '{}' was migrated to host {}, which does not answer whether the guest still runs there; to start it all the same, use --force-boot",
                self.name, peer.host
            )),
        }
    }
}

/// Whether the guest runs on the host that it was migrated to; `None` when that host cannot be asked.
async fn runs_at(peer: &Peer, guest: Uuid) -> Option<bool> {
    for uri in peer.addresses.iter().filter_map(|address| handover::uri(address)) {
        let options = OpenOptions { read_only: false, ..OpenOptions::peer() };
        let Ok(connection) = Connection::open(&uri, options).await else { continue };
        if !handover::is_host(&connection, peer.host).await {
            continue;
        }
        return match connection.domain_lookup_by_uuid(guest).await {
            Ok(domain) => {
                let (state, _) = connection.domain_state(&domain).await.ok()?;
                Some(!matches!(state, DomainState::SHUTOFF))
            }
            Err(ferry_client::CallError::Remote(error)) if error.code == ErrorCode::NO_DOMAIN => Some(false),
            Err(_) => None,
        };
    }
    None
}
