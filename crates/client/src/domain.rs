//! Calls about domains: finding, defining, running, watching.

use ferry_rpc::TypedParam;
use ferry_rpc::flags::{
    AbortJobFlags, ConsoleFlags, DefineFlags, DestroyFlags, JobStatsFlags, ListFlags, ShutdownFlags,
    StartFlags, StatsFlags, StatsGroups, UndefineFlags, XmlFlags,
};
use ferry_rpc::proto::{
    ConnectDomainEventCallbackDeregisterAny, ConnectDomainEventCallbackRegisterAny, ConnectGetAllDomainStats,
    ConnectListAllDomains, DomainAbortJob, DomainAbortJobFlags, DomainCreate, DomainCreateWithFlags,
    DomainCreateXml, DomainDefineXmlFlags, DomainDestroyFlags, DomainGetInfo, DomainGetInfoReply,
    DomainGetJobInfo, DomainGetJobInfoReply, DomainGetJobStats, DomainGetState, DomainGetXmlDesc,
    DomainIsActive, DomainIsPersistent, DomainLookupById, DomainLookupByName, DomainLookupByUuid,
    DomainOpenConsole, DomainReboot, DomainRef, DomainReset, DomainResume, DomainShutdownFlags,
    DomainStatsRecord, DomainSuspend, DomainUndefineFlags,
};
use ferry_rpc::proto::{DomainDefineXml, DomainShutdown};
use ferry_rpc::values::{DomainState, EventId, JobType};
use uuid::Uuid;

use crate::connection::{CallError, Connection};
use crate::stream::Stream;

/// Every method makes one call; its errors are those of [`Connection::call`].
#[allow(clippy::missing_errors_doc, reason = "said once, above")]
impl Connection {
    /// The domains that `flags` select; none selects all.
    pub async fn domains(&self, flags: ListFlags) -> Result<Vec<DomainRef>, CallError> {
        Ok(self.call(&ConnectListAllDomains { need_results: true, flags }).await?.domains)
    }

    /// The domain with this name; 42/10 when there is none.
    pub async fn domain_lookup_by_name(&self, name: &str) -> Result<DomainRef, CallError> {
        self.call(&DomainLookupByName { name: name.to_owned() }).await
    }

    /// The domain with this UUID; 42/10 when there is none.
    pub async fn domain_lookup_by_uuid(&self, uuid: Uuid) -> Result<DomainRef, CallError> {
        self.call(&DomainLookupByUuid { uuid }).await
    }

    /// The running domain with this id; 42/10 when there is none.
    pub async fn domain_lookup_by_id(&self, id: i32) -> Result<DomainRef, CallError> {
        self.call(&DomainLookupById { id }).await
    }

    /// Defines a domain, or redefines the one with the same name and UUID. Like stock's clients, it uses the older
    /// call when no flag is given.
    pub async fn define(&self, xml: &str, flags: DefineFlags) -> Result<DomainRef, CallError> {
        let xml = xml.to_owned();
        if flags == DefineFlags::NONE {
            return self.call(&DomainDefineXml { xml }).await;
        }
        self.call(&DomainDefineXmlFlags { xml, flags }).await
    }

    /// Forgets a definition; a running guest goes on without one.
    pub async fn undefine(&self, domain: &DomainRef, flags: UndefineFlags) -> Result<(), CallError> {
        self.call(&DomainUndefineFlags { domain: domain.clone(), flags }).await
    }

    /// Starts a guest without a definition.
    pub async fn create_xml(&self, xml: &str, flags: StartFlags) -> Result<DomainRef, CallError> {
        self.call(&DomainCreateXml { xml: xml.to_owned(), flags }).await
    }

    /// Starts a defined domain; the answer knows its new id.
    pub async fn create(&self, domain: &DomainRef, flags: StartFlags) -> Result<DomainRef, CallError> {
        let domain = domain.clone();
        if flags == StartFlags::NONE {
            let uuid = domain.uuid;
            self.call(&DomainCreate { domain }).await?;
            return self.domain_lookup_by_uuid(uuid).await;
        }
        self.call(&DomainCreateWithFlags { domain, flags }).await
    }

    /// Ends a guest at once.
    pub async fn destroy(&self, domain: &DomainRef, flags: DestroyFlags) -> Result<(), CallError> {
        self.call(&DomainDestroyFlags { domain: domain.clone(), flags }).await
    }

    /// Asks a guest to shut down; done when it was asked.
    pub async fn shutdown(&self, domain: &DomainRef, flags: ShutdownFlags) -> Result<(), CallError> {
        let domain = domain.clone();
        if flags == ShutdownFlags::NONE {
            return self.call(&DomainShutdown { domain }).await;
        }
        self.call(&DomainShutdownFlags { domain, flags }).await
    }

    /// Asks a guest to reboot; done when it was asked.
    pub async fn reboot(&self, domain: &DomainRef, flags: ShutdownFlags) -> Result<(), CallError> {
        self.call(&DomainReboot { domain: domain.clone(), flags }).await
    }

    /// Resets a guest, as the button does.
    pub async fn reset(&self, domain: &DomainRef) -> Result<(), CallError> {
        self.call(&DomainReset { domain: domain.clone(), flags: 0 }).await
    }

    /// Pauses a guest.
    pub async fn suspend(&self, domain: &DomainRef) -> Result<(), CallError> {
        self.call(&DomainSuspend { domain: domain.clone() }).await
    }

    /// Lets a paused guest go on.
    pub async fn resume(&self, domain: &DomainRef) -> Result<(), CallError> {
        self.call(&DomainResume { domain: domain.clone() }).await
    }

    /// The state and the number of its reason.
    pub async fn domain_state(&self, domain: &DomainRef) -> Result<(DomainState, i32), CallError> {
        let reply = self.call(&DomainGetState { domain: domain.clone(), flags: 0 }).await?;
        Ok((reply.state, reply.reason))
    }

    /// State, memory (KiB), processors and processor time (ns).
    pub async fn domain_info(&self, domain: &DomainRef) -> Result<DomainGetInfoReply, CallError> {
        self.call(&DomainGetInfo { domain: domain.clone() }).await
    }

    /// Whether the guest is there, running or paused.
    pub async fn domain_is_active(&self, domain: &DomainRef) -> Result<bool, CallError> {
        self.call(&DomainIsActive { domain: domain.clone() }).await
    }

    /// Whether there is a definition.
    pub async fn domain_is_persistent(&self, domain: &DomainRef) -> Result<bool, CallError> {
        self.call(&DomainIsPersistent { domain: domain.clone() }).await
    }

    /// The XML.
    pub async fn domain_xml(&self, domain: &DomainRef, flags: XmlFlags) -> Result<String, CallError> {
        self.call(&DomainGetXmlDesc { domain: domain.clone(), flags }).await
    }

    /// The job that occupies the domain, in the older form.
    pub async fn job_info(&self, domain: &DomainRef) -> Result<DomainGetJobInfoReply, CallError> {
        self.call(&DomainGetJobInfo { domain: domain.clone() }).await
    }

    /// The job that occupies the domain, or the last completed one, with all its figures.
    pub async fn job_stats(
        &self,
        domain: &DomainRef,
        flags: JobStatsFlags,
    ) -> Result<(JobType, Vec<TypedParam>), CallError> {
        let reply = self.call(&DomainGetJobStats { domain: domain.clone(), flags }).await?;
        Ok((reply.kind, reply.params))
    }

    /// Aborts the job that occupies the domain; done when it was told to stop.
    pub async fn abort_job(&self, domain: &DomainRef, flags: AbortJobFlags) -> Result<(), CallError> {
        let domain = domain.clone();
        if flags == AbortJobFlags::NONE {
            return self.call(&DomainAbortJob { domain }).await;
        }
        self.call(&DomainAbortJobFlags { domain, flags }).await
    }

    /// Statistics of these domains, or of all that `flags` select when none is named.
    pub async fn domain_stats(
        &self,
        domains: &[DomainRef],
        stats: StatsGroups,
        flags: StatsFlags,
    ) -> Result<Vec<DomainStatsRecord>, CallError> {
        let call = ConnectGetAllDomainStats { domains: domains.to_vec(), stats, flags };
        Ok(self.call(&call).await?.records)
    }

    /// Opens a serial console: the first one, or the device with this alias.
    pub async fn open_console(
        &self,
        domain: &DomainRef,
        device: Option<&str>,
        flags: ConsoleFlags,
    ) -> Result<Stream, CallError> {
        let call = DomainOpenConsole { domain: domain.clone(), dev_name: device.map(str::to_owned), flags };
        Ok(self.call_stream(&call).await?.1)
    }

    /// Registers for an event, of one domain or of all; subscribe before, so that none is missed. Messages carry
    /// the returned callback id.
    pub async fn register_event(&self, event: EventId, domain: Option<&DomainRef>) -> Result<i32, CallError> {
        let call = ConnectDomainEventCallbackRegisterAny { event_id: event, domain: domain.cloned() };
        self.call(&call).await
    }

    /// Takes a registration back.
    pub async fn deregister_event(&self, callback_id: i32) -> Result<(), CallError> {
        self.call(&ConnectDomainEventCallbackDeregisterAny { callback_id }).await
    }
}
