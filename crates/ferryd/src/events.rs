//! Who wants to hear of domains, and telling them.
//!
//! Drivers [emit](Hub::emit); `dispatch` registers and deregisters for clients; a connection that ends is
//! [forgotten](Hub::forget). One event is one message for each registration that it fits, so a client that
//! registered for a domain and for all of them hears twice, as from stock. Messages to one connection keep
//! the order in which they were emitted. Nothing here waits: a client that does not read is the connection's
//! matter.
//!
//! Two styles share the table. New clients get a callback id for each registration, from one counter for the
//! whole daemon; old ones name the event itself and get messages without an id. Of the old messages only the
//! lifecycle one is spoken. Any event that exists may be registered for; those without a variant here never
//! come.

mod notice;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferry_qmp::Event;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{DomainEventGraphicsAddress, DomainEventGraphicsIdentity, DomainRef};
use ferry_rpc::typed_param::TypedParam;
use ferry_rpc::values::{
    EventId, GraphicsPhase, IoErrorAction, LifecycleEvent, MetadataKind, WatchdogAction,
};
use uuid::Uuid;

use crate::listen::{Client, Outbound};
use notice::{Overheard, Told};

pub(crate) use notice::Notice;

/// Registrations that one client may hold.
const REGISTRATIONS_MAX: usize = 16_384;

/// Something that happened to a domain.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DomainEvent {
    /// It came, went, or changed its state. The detail's meaning depends on the event.
    Lifecycle { event: LifecycleEvent, detail: i32 },
    /// The machine was reset.
    Reboot,
    /// The guest set its clock; seconds between UTC and the guest's time.
    RtcChange { offset: i64 },
    /// A disk request failed. `reason` is `enospc`, or empty.
    IoError { path: String, alias: String, action: IoErrorAction, reason: String },
    /// The guest's watchdog fired; what QEMU did.
    Watchdog { action: WatchdogAction },
    /// Somebody came to the guest's screen, or left it.
    Graphics {
        phase: GraphicsPhase,
        local: DomainEventGraphicsAddress,
        remote: DomainEventGraphicsAddress,
        auth_scheme: String,
        subject: Vec<DomainEventGraphicsIdentity>,
    },
    /// The guest went to sleep, in memory or on disk.
    Slept { to_disk: bool },
    /// The guest woke up.
    Woke,
    /// The guest wrote beyond the threshold of a disk or of an image of it (`vda`, `vda[1]`); bytes.
    BlockThreshold { device: String, path: Option<String>, threshold: u64, excess: u64 },
    /// The guest's memory in KiB, as the balloon has it now.
    BalloonChange { actual_kib: u64 },
    /// A device came. Its alias.
    DeviceAdded { alias: String },
    /// A device is gone.
    DeviceRemoved { alias: String },
    /// The guest did not let a device go.
    DeviceRemovalFailed { alias: String },
    /// The guest has so much of a block of memory that grows, in bytes.
    MemoryDeviceSizeChange { alias: String, bytes: u64 },
    /// A medium's tray moved; it is open now, or closed.
    TrayChange { alias: String, open: bool },
    /// The guest's agent came or went, and why (`VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_*`).
    AgentLifecycle { connected: bool, reason: i32 },
    /// Title, description or another program's data; the namespace of the latter.
    MetadataChange { kind: MetadataKind, uri: Option<String> },
    /// A migration began another pass over memory; counts from 1.
    MigrationIteration { iteration: i32 },
    /// A job has succeeded; its statistics.
    JobCompleted { params: Vec<TypedParam> },
    /// Limits of the running guest were changed; the new ones.
    Tunable { params: Vec<TypedParam> },
}

impl DomainEvent {
    /// The registrations that hear of it. Two ids are two messages with different contents.
    const fn ids(&self) -> &'static [EventId] {
        match self {
            Self::Lifecycle { .. } => &[EventId::LIFECYCLE],
            Self::Reboot => &[EventId::REBOOT],
            Self::RtcChange { .. } => &[EventId::RTC_CHANGE],
            Self::IoError { .. } => &[EventId::IO_ERROR, EventId::IO_ERROR_REASON],
            Self::Watchdog { .. } => &[EventId::WATCHDOG],
            Self::Graphics { .. } => &[EventId::GRAPHICS],
            Self::Slept { to_disk: false } => &[EventId::PMSUSPEND],
            Self::Slept { to_disk: true } => &[EventId::PMSUSPEND_DISK],
            Self::Woke => &[EventId::PMWAKEUP],
            Self::BlockThreshold { .. } => &[EventId::BLOCK_THRESHOLD],
            Self::BalloonChange { .. } => &[EventId::BALLOON_CHANGE],
            Self::DeviceAdded { .. } => &[EventId::DEVICE_ADDED],
            Self::DeviceRemoved { .. } => &[EventId::DEVICE_REMOVED],
            Self::DeviceRemovalFailed { .. } => &[EventId::DEVICE_REMOVAL_FAILED],
            Self::MemoryDeviceSizeChange { .. } => &[EventId::MEMORY_DEVICE_SIZE_CHANGE],
            Self::TrayChange { .. } => &[EventId::TRAY_CHANGE],
            Self::AgentLifecycle { .. } => &[EventId::AGENT_LIFECYCLE],
            Self::MetadataChange { .. } => &[EventId::METADATA_CHANGE],
            Self::MigrationIteration { .. } => &[EventId::MIGRATION_ITERATION],
            Self::JobCompleted { .. } => &[EventId::JOB_COMPLETED],
            Self::Tunable { .. } => &[EventId::TUNABLE],
        }
    }
}

/// The registrations of all clients.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last_callback: i32,
    /// In the order in which they were made.
    registrations: Vec<Registration>,
    /// Who wants to hear what QEMUs say, in their own words.
    listeners: Vec<Listener>,
    /// Who wants to hear of what this daemon has none of. Nothing ever happens there.
    idle: Vec<Idle>,
}

#[derive(Debug, PartialEq, Eq)]
struct Idle {
    client: u64,
    subject: Subject,
    callback: i32,
}

/// What other daemons than this one look after. Clients that show it register for it all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Network,
    StoragePool,
    NodeDevice,
    Secret,
}

impl Subject {
    /// What stock calls it in a refusal, and how many events it has.
    const fn facts(self) -> (&'static str, i32) {
        match self {
            Self::Network => ("network", 2),
            Self::StoragePool => ("storage pool", 2),
            Self::NodeDevice => ("node device", 2),
            Self::Secret => ("secret", 2),
        }
    }
}

#[derive(Debug)]
struct Registration {
    client: u64,
    outbound: Outbound,
    callback: i32,
    style: Style,
    event: EventId,
    /// Only this domain; `None` for all.
    domain: Option<Uuid>,
}

/// A client that hears QEMUs' own words.
#[derive(Debug)]
struct Listener {
    client: u64,
    outbound: Outbound,
    callback: i32,
    wanted: Wanted,
}

/// Which of QEMU's events a client wants to hear.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Only this domain's; `None` for all.
    pub(crate) domain: Option<Uuid>,
    /// Only those with this name; `None` for all.
    pub(crate) name: Option<String>,
    /// Letters' case does not matter in the name.
    pub(crate) any_case: bool,
}

impl Wanted {
    fn is_met(&self, domain: Uuid, name: &str) -> bool {
        self.domain.is_none_or(|wanted| wanted == domain)
            && self.name.as_deref().is_none_or(|wanted| match self.any_case {
                true => wanted.eq_ignore_ascii_case(name),
                false => wanted == name,
            })
    }
}

/// How a client registered, and so which message it understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Procedure 316: messages begin with the callback id.
    WithCallback,
    /// Procedures 105 and 167: they do not.
    Bare,
}

impl Hub {
    /// Tells everybody who registered for it.
    pub(crate) fn emit(&self, domain: &DomainRef, event: DomainEvent) {
        let told = Arc::new(Told { domain: domain.clone(), event });
        for registration in &self.lock().registrations {
            let fits = registration.domain.is_none_or(|uuid| uuid == domain.uuid);
            if fits && told.event.ids().contains(&registration.event) {
                let callback = (registration.style == Style::WithCallback).then_some(registration.callback);
                registration.outbound.notice(Notice::Domain {
                    callback,
                    id: registration.event,
                    told: Arc::clone(&told),
                });
            }
        }
    }

    /// Tells everybody who wants to hear QEMUs' own words.
    pub(crate) fn overhear(&self, domain: &DomainRef, event: &Event) {
        let table = self.lock();
        let met = |listener: &&Listener| listener.wanted.is_met(domain.uuid, &event.said.name);
        let mut listeners = table.listeners.iter().filter(met).peekable();
        if listeners.peek().is_none() {
            return;
        }
        let overheard = Arc::new(Overheard { domain: domain.clone(), event: event.clone() });
        for listener in listeners {
            let overheard = Arc::clone(&overheard);
            listener.outbound.notice(Notice::Monitor { callback: listener.callback, overheard });
        }
    }

    /// Registers for QEMUs' own words; the answer is a callback id as any other.
    ///
    /// # Errors
    /// 1/7 for one too many.
    pub(crate) fn listen(&self, client: &Client, outbound: &Outbound, wanted: Wanted) -> Result<i32, Error> {
        let refused = |text: String| Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, text);
        let mut table = self.lock();
        if table.listeners.iter().filter(|listener| listener.client == client.id()).count()
            >= REGISTRATIONS_MAX
        {
            return Err(refused(too_many()));
        }
        if outbound.is_closed() {
            return Err(refused("client socket is closed".to_owned()));
        }
        table.last_callback += 1;
        let callback = table.last_callback;
        table.listeners.push(Listener { client: client.id(), outbound: outbound.clone(), callback, wanted });
        Ok(callback)
    }

    /// Takes such a registration back.
    ///
    /// # Errors
    /// 1/7 when the client has none with this id.
    pub(crate) fn listen_no_more(&self, client: &Client, callback: i32) -> Result<(), Error> {
        let is_meant = |listener: &Listener| listener.client == client.id() && listener.callback == callback;
        let mut table = self.lock();
        let Some(at) = table.listeners.iter().position(is_meant) else {
            let text = format!("qemu monitor event callback {callback} not registered");
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, text));
        };
        table.listeners.remove(at);
        Ok(())
    }

    /// Registers in the new style; the answer is the callback id.
    ///
    /// # Errors
    /// 1/7 for an event that does not exist, 8/0 for one that the client is registered for with the same
    /// filter.
    pub(crate) fn register(
        &self,
        client: &Client,
        outbound: &Outbound,
        event: EventId,
        domain: Option<Uuid>,
    ) -> Result<i32, Error> {
        if event.message().is_none() {
            return Err(no_such_event(event));
        }
        self.add(client, outbound, Style::WithCallback, event, domain)
    }

    /// Registers in the old style, for all domains.
    ///
    /// # Errors
    /// As [`Hub::register`]; 1/7 also for an event whose old message is not spoken here.
    pub(crate) fn register_bare(
        &self,
        client: &Client,
        outbound: &Outbound,
        event: EventId,
    ) -> Result<(), Error> {
        if event != EventId::LIFECYCLE {
            return Err(no_such_event(event));
        }
        self.add(client, outbound, Style::Bare, event, None).map(drop)
    }

    /// Takes back the registration with this callback id.
    ///
    /// # Errors
    /// 1/7 when the client has none.
    pub(crate) fn deregister(&self, client: &Client, callback: i32) -> Result<(), Error> {
        self.remove(
            |registration| registration.client == client.id() && registration.callback == callback,
            || format!("domain event callback {callback} not registered"),
        )
    }

    /// Takes back the client's first registration for this event, whatever its style, as stock does.
    ///
    /// # Errors
    /// 1/7 when the event does not exist or the client is not registered for it.
    pub(crate) fn deregister_bare(&self, client: &Client, event: EventId) -> Result<(), Error> {
        if event.message().is_none() {
            return Err(no_such_event(event));
        }
        self.remove(
            |registration| registration.client == client.id() && registration.event == event,
            || format!("domain event {} not registered", event.0),
        )
    }

    /// Registers for events of what this daemon has none of; the answer is a callback id as any other.
    ///
    /// # Errors
    /// 1/7 for an event that does not exist, or one too many.
    pub(crate) fn register_idle(
        &self,
        client: &Client,
        outbound: &Outbound,
        subject: Subject,
        event: i32,
    ) -> Result<i32, Error> {
        let refused = |text: String| Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, text);
        let (name, events) = subject.facts();
        if !(0..events).contains(&event) {
            return Err(refused(format!("unsupported {name} event ID {event}")));
        }
        let mut table = self.lock();
        if table.idle.iter().filter(|idle| idle.client == client.id()).count() >= REGISTRATIONS_MAX {
            return Err(refused(too_many()));
        }
        if outbound.is_closed() {
            return Err(refused("client socket is closed".to_owned()));
        }
        table.last_callback += 1;
        let callback = table.last_callback;
        table.idle.push(Idle { client: client.id(), subject, callback });
        Ok(callback)
    }

    /// Takes such a registration back.
    ///
    /// # Errors
    /// 1/7 when the client has none with this id.
    pub(crate) fn deregister_idle(
        &self,
        client: &Client,
        subject: Subject,
        callback: i32,
    ) -> Result<(), Error> {
        let meant = Idle { client: client.id(), subject, callback };
        let mut table = self.lock();
        let Some(at) = table.idle.iter().position(|idle| *idle == meant) else {
            let text = format!("{} event callback {callback} not registered", subject.facts().0);
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, text));
        };
        table.idle.swap_remove(at);
        Ok(())
    }

    /// A connection has ended: nothing of it stays.
    pub(crate) fn forget(&self, client: u64) {
        let mut table = self.lock();
        table.registrations.retain(|registration| registration.client != client);
        table.listeners.retain(|listener| listener.client != client);
        table.idle.retain(|idle| idle.client != client);
    }

    /// How many registrations there are.
    #[cfg(test)]
    pub(crate) fn registrations(&self) -> usize {
        let table = self.lock();
        table.registrations.len() + table.listeners.len()
    }

    fn add(
        &self,
        client: &Client,
        outbound: &Outbound,
        style: Style,
        event: EventId,
        domain: Option<Uuid>,
    ) -> Result<i32, Error> {
        let mut table = self.lock();
        let of_client = table.registrations.iter().filter(|registration| registration.client == client.id());
        let (mut held, mut tracked) = (0, false);
        for registration in of_client {
            held += 1;
            tracked |= registration.event == event && registration.domain == domain;
        }
        if tracked {
            let text = "event callback already tracked";
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::NONE, text));
        }
        if held >= REGISTRATIONS_MAX {
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, too_many()));
        }
        // A call that outlives its connection would register after `forget`: such a registration is not kept.
        if outbound.is_closed() {
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, "client socket is closed"));
        }
        table.last_callback += 1;
        let callback = table.last_callback;
        let registration =
            Registration { client: client.id(), outbound: outbound.clone(), callback, style, event, domain };
        table.registrations.push(registration);
        Ok(callback)
    }

    fn remove(
        &self,
        which: impl Fn(&Registration) -> bool,
        missing: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        let mut table = self.lock();
        match table.registrations.iter().position(which) {
            Some(at) => {
                table.registrations.remove(at);
                Ok(())
            }
            None => Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, missing())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic while the lock was held cannot leave the table half changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn too_many() -> String {
    format!("more than {REGISTRATIONS_MAX} event registrations on one connection")
}

fn no_such_event(event: EventId) -> Error {
    let text = format!("unsupported event ID {}", event.0);
    Error::of(ErrorCode::INTERNAL_ERROR, Origin::RPC, text)
}
