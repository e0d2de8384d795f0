//! What everybody may see of a domain: a snapshot that its driver publishes after every change.
//!
//! Queries read it without asking the driver, so they never wait behind a job. Only the driver makes views.

use std::sync::Arc;

use ferry_domxml::Domain;
use ferry_rpc::proto::DomainRef;
use ferry_rpc::values::DomainState;
use uuid::Uuid;

use crate::perform::agent::Agent;
use crate::perform::monitor::Monitor;
use crate::perform::rundir::RunDir;
use crate::process::Process;

/// One moment of one domain.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) uuid: Uuid,
    pub(crate) name: String,
    /// What the domain does, and why: the numbers of the wire.
    pub(crate) state: DomainState,
    pub(crate) reason: i32,
    /// The definition that outlives the guest; `None` for a transient domain.
    pub(crate) config: Option<Arc<Domain>>,
    /// The running guest, when there is one.
    pub(crate) live: Option<Live>,
    pub(crate) autostart: bool,
    /// Snapshots whose metadata is kept here.
    pub(crate) snapshots: usize,
    /// Its QEMU lives and does not answer.
    pub(crate) silent: bool,
    /// A migration, or what is left of one, keeps the driver.
    pub(crate) busy: bool,
    /// No migration of it is open: what is left of one is only kept for its coordinator's questions.
    pub(crate) settled: bool,
    /// Why and since when (Unix seconds) it is not known who runs the guest.
    pub(crate) doubt: Option<(String, u64)>,
    /// Longest pause that the next or present migration may take, in milliseconds.
    pub(crate) downtime_ms_max: u64,
    /// Bandwidth limits for migration in MiB/s: before and after the switch to post-copy.
    pub(crate) speed_mib_max: u64,
    pub(crate) postcopy_speed_mib_max: u64,
}

/// The running guest behind a view.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    /// Its number on this host.
    pub(crate) id: i32,
    /// The definition that runs.
    pub(crate) domain: Arc<Domain>,
    pub(crate) process: Process,
    /// For questions that change nothing.
    pub(crate) monitor: Monitor,
    /// Where QEMU may write for us.
    pub(crate) run_dir: RunDir,
    /// For what the guest's agent does.
    pub(crate) agent: Arc<Agent>,
}

impl View {
    /// A domain that nobody has defined or started yet.
    pub(crate) fn vacant(uuid: Uuid, name: String) -> View {
        View {
            uuid,
            name,
            state: DomainState::SHUTOFF,
            reason: 0,
            config: None,
            live: None,
            autostart: false,
            snapshots: 0,
            silent: false,
            busy: false,
            settled: true,
            doubt: None,
            downtime_ms_max: 0,
            speed_mib_max: 0,
            postcopy_speed_mib_max: 0,
        }
    }

    /// Whether clients can see the domain.
    pub(crate) fn exists(&self) -> bool {
        self.config.is_some() || self.live.is_some() || self.silent
    }

    /// Whether nothing is left to keep the domain for.
    pub(crate) fn is_vacant(&self) -> bool {
        !self.exists() && !self.busy
    }

    /// Whether another domain may have its name: it was here, and nothing of it can come to be here any more.
    pub(crate) fn has_left(&self) -> bool {
        !self.exists() && self.settled
    }

    /// The number of the running guest.
    pub(crate) fn id(&self) -> Option<i32> {
        self.live.as_ref().map(|live| live.id)
    }

    /// How the wire names the domain.
    pub(crate) fn reference(&self) -> DomainRef {
        DomainRef { name: self.name.clone(), uuid: self.uuid, id: self.id().unwrap_or(-1) }
    }

    /// The definition that counts now: the running one, else the stored one.
    pub(crate) fn current(&self) -> Option<&Arc<Domain>> {
        self.live.as_ref().map(|live| &live.domain).or(self.config.as_ref())
    }
}
