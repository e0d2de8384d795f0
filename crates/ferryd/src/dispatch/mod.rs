//! What a call means: from a procedure and its arguments to an answer.
//!
//! A connection hands over every call that its gate lets pass. One file for each family of procedures decodes
//! nothing and encodes nothing itself: the table below pairs a procedure with its handler, and the types of
//! `rpc::proto` see to it that arguments and reply are the procedure's own. Three kinds of handlers:
//!
//! - **read**: answers from a view or from what the host knows, at once. It can never wait behind a job.
//! - **ask**: waits: for a domain's driver, for QEMU, for a probe.
//! - **stream**: as ask, and hands back who serves the stream once the answer is out.
//!
//! Flags that a procedure does not know are refused before anything else, with stock's text. Procedures
//! without a row are refused with code 3, which clients take as "not supported". Nothing here changes a
//! domain; its driver does.

mod agent;
mod api;
mod blocks;
mod change;
mod connect;
mod console;
mod define;
mod device;
mod elsewhere;
mod event;
mod guest_info;
mod handover;
mod info;
mod job;
mod keyboard;
mod keycodes;
mod lifecycle;
mod limits;
mod lookup;
mod machine;
mod metadata;
mod migrate;
mod node;
mod operator;
mod plan;
mod processor;
mod qemu;
mod screen;
mod secret;
mod snapshot;
mod stats;
mod threshold;
mod vcpu;
mod volume;

use std::future::Future;
use std::sync::Arc;

use ferry_domxml::Domain;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{AffectFlags, Flags};
use ferry_rpc::procedure::Procedure;
use ferry_rpc::proto::{self, Arguments, DomainRef};
use ferry_rpc::server::Call;
use ferry_rpc::server::gate::Gate;
use ferry_xdr::Encode;
use uuid::Uuid;

use crate::driver::{DomainHandle, Live, View};
use crate::host::Host;
use crate::listen::{Answer, Client, Encoded, Outbound, Pump};
use crate::refuse;

pub(crate) use agent::is_agents;
pub(crate) use connect::open;
pub(crate) use console::Consoles;

/// What a handler may use.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) host: Arc<Host>,
    /// Who calls.
    pub(crate) client: Client,
    /// The way to who calls, for what comes after the answer.
    pub(crate) outbound: Outbound,
    /// What who calls may do.
    pub(crate) gate: Gate,
}

impl Context {
    /// The domain that a call is about. Only the UUID counts.
    ///
    /// # Errors
    /// 42/10.
    pub(crate) fn domain(&self, domain: &DomainRef) -> Result<DomainHandle, Error> {
        self.host.registry.by_uuid(domain.uuid, Some(&domain.name))
    }

    /// How that domain stands.
    ///
    /// # Errors
    /// 42/10.
    pub(crate) fn view(&self, domain: &DomainRef) -> Result<Arc<View>, Error> {
        self.domain(domain).map(|handle| handle.view())
    }
}

/// Pairs procedures with their handlers.
macro_rules! table {
    (
        $context:ident, $call:ident;
        read { $($read:ident => $read_by:path,)* }
        ask { $($ask:ident => $ask_by:path,)* }
        stream { $($stream:ident => $stream_by:path,)* }
    ) => {
        match $call.procedure {
            $(Procedure::$read => {
                let arguments: proto::$read = $call.decode()?;
                plain::<proto::$read>($read_by(&$context, arguments)?)
            })*
            $(Procedure::$ask => {
                let arguments: proto::$ask = $call.decode()?;
                plain::<proto::$ask>(wait($ask_by($context, arguments)).await?)
            })*
            $(Procedure::$stream => {
                let arguments: proto::$stream = $call.decode()?;
                let (reply, pump) = wait($stream_by($context, arguments)).await?;
                streaming::<proto::$stream>(reply, pump)
            })*
            other => Err(api::not_supported(other)),
        }
    };
}

/// Answers one call.
///
/// # Errors
/// The refusal, as the client is to see it.
pub(crate) async fn dispatch(context: Context, call: Call) -> Result<Answer, Error> {
    table! {
        context, call;
        read {
            AuthList => connect::auth_list,
            ConnectSupportsFeature => connect::feature,
            ConnectGetType => connect::kind,
            ConnectGetLibVersion => connect::library_version,
            ConnectGetHostname => connect::hostname,
            ConnectGetUri => connect::uri,
            ConnectIsSecure => connect::is_secure,
            ConnectGetSysinfo => connect::sysinfo,
            ConnectRegisterCloseCallback => connect::register_close,
            ConnectUnregisterCloseCallback => connect::unregister_close,

            NodeGetInfo => node::info,
            NodeGetFreeMemory => node::free_memory,
            NodeGetCellsFreeMemory => node::cells_free_memory,
            NodeGetCpuMap => node::cpus,
            NodeGetCpuStats => node::cpu_stats,
            NodeGetMemoryStats => node::memory_stats,
            NodeGetMemoryParameters => node::memory_parameters,
            NodeGetSecurityModel => node::security_model,

            DomainLookupById => lookup::by_id,
            DomainLookupByName => lookup::by_name,
            DomainLookupByUuid => lookup::by_uuid,
            ConnectListAllDomains => lookup::list_all,
            ConnectListDomains => lookup::list_ids,
            ConnectListDefinedDomains => lookup::list_defined,
            ConnectNumOfDomains => lookup::number_running,
            ConnectNumOfDefinedDomains => lookup::number_defined,

            DomainGetXmlDesc => define::xml,
            DomainGetAutostart => define::autostart,
            DomainGetAutostartOnce => define::autostart_once,
            DomainGetMetadata => metadata::get,

            DomainGetState => info::state,
            DomainGetInfo => info::info,
            DomainGetMaxMemory => info::memory_max,
            DomainGetOsType => info::os_type,
            DomainIsActive => info::is_active,
            DomainIsPersistent => info::is_persistent,
            DomainIsUpdated => info::is_updated,
            DomainGetControlInfo => info::control,
            DomainGetSchedulerType => limits::scheduler,
            DomainGetSchedulerParameters => limits::scheduling_plain,
            DomainGetSchedulerParametersFlags => limits::scheduling,
            DomainGetBlkioParameters => limits::disk_bandwidth,
            DomainGetMemoryParameters => limits::memory,
            DomainGetNumaParameters => limits::memory_places,
            DomainGetPerfEvents => limits::perf_events,
            DomainGetLaunchSecurityInfo => limits::launch_security,
            NodeGetSevInfo => limits::host_security,
            DomainGetSecurityLabel => info::security_label,
            DomainGetMessages => info::messages,
            DomainHasManagedSaveImage => info::has_managed_save,
            DomainManagedSaveRemove => info::remove_managed_save,
            DomainManagedSaveGetXmlDesc => info::managed_save_xml,

            DomainGetMaxVcpus => vcpu::most,
            DomainGetVcpuPinInfo => vcpu::pinning,
            DomainGetEmulatorPinInfo => vcpu::emulator_pinning,
            DomainGetIothreadInfo => vcpu::iothreads,

            DomainInterfaceStats => stats::interface,
            DomainGetCpuStats => stats::cpu,

            DomainListAllCheckpoints => snapshot::list_checkpoints,

            DomainGetBlockJobInfo => blocks::job,
            DomainBlockJobAbort => blocks::abort_job,

            DomainMigrateGetMaxDowntime => job::max_downtime,
            DomainMigrateGetMaxSpeed => job::max_speed,

            ConnectDomainEventRegister => event::register_lifecycle,
            ConnectDomainEventDeregister => event::deregister_lifecycle,
            ConnectDomainEventRegisterAny => event::register_bare,
            ConnectDomainEventDeregisterAny => event::deregister_bare,
            QemuConnectDomainMonitorEventRegister => event::listen,
            QemuConnectDomainMonitorEventDeregister => event::listen_no_more,
            ConnectDomainEventCallbackRegisterAny => event::register,
            ConnectDomainEventCallbackDeregisterAny => event::deregister,

            ConnectListAllNetworks => elsewhere::networks,
            ConnectListAllStoragePools => elsewhere::pools,
            ConnectListAllInterfaces => elsewhere::interfaces,
            ConnectListAllNodeDevices => elsewhere::devices,
            ConnectListAllNwfilters => elsewhere::filters,
            ConnectNumOfStoragePools => elsewhere::number_of_pools,
            ConnectListStoragePools => elsewhere::pool_names,
            ConnectNumOfInterfaces => elsewhere::number_of_interfaces,
            NetworkLookupByName => elsewhere::network,
            StoragePoolLookupByName => elsewhere::pool,
            NodeDeviceLookupByName => elsewhere::device,
            NodeDeviceGetXmlDesc => elsewhere::device_xml,

            StorageVolLookupByPath => volume::by_path,
            StorageVolGetInfo => volume::info,
            StorageVolGetXmlDesc => volume::xml,
            StorageVolGetPath => volume::path,
            StoragePoolLookupByVolume => volume::pool,
            StoragePoolGetInfo => volume::pool_info,
            StoragePoolGetXmlDesc => volume::pool_xml,
            StoragePoolIsActive => volume::pool_is_active,
            StoragePoolIsPersistent => volume::pool_is_persistent,
            StoragePoolGetAutostart => volume::pool_autostart,
            StoragePoolRefresh => volume::pool_refresh,
            StorageVolDelete => volume::delete,
            ConnectNetworkEventRegisterAny => elsewhere::hear_networks,
            ConnectNetworkEventDeregisterAny => elsewhere::ignore_networks,
            ConnectStoragePoolEventRegisterAny => elsewhere::hear_pools,
            ConnectStoragePoolEventDeregisterAny => elsewhere::ignore_pools,
            ConnectNodeDeviceEventRegisterAny => elsewhere::hear_devices,
            ConnectNodeDeviceEventDeregisterAny => elsewhere::ignore_devices,
            ConnectSecretEventRegisterAny => elsewhere::hear_secrets,
            ConnectSecretEventDeregisterAny => elsewhere::ignore_secrets,
        }
        ask {
            DomainSnapshotNum => snapshot::number,
            DomainListAllSnapshots => snapshot::list,
            DomainHasCurrentSnapshot => snapshot::has_current,
            DomainSnapshotCurrent => snapshot::current,
            DomainSnapshotLookupByName => snapshot::by_name,
            DomainSnapshotGetXmlDesc => snapshot::xml,
            DomainSnapshotDelete => snapshot::delete,

            ConnectGetVersion => connect::hypervisor_version,
            ConnectGetMaxVcpus => connect::vcpus_max,
            ConnectGetCapabilities => connect::capabilities,
            ConnectGetDomainCapabilities => processor::domain_capabilities,
            ConnectGetCpuModelNames => processor::model_names,
            ConnectCompareCpu => processor::compare,
            ConnectCompareHypervisorCpu => processor::compare_with,
            ConnectBaselineCpu => processor::baseline,
            ConnectBaselineHypervisorCpu => processor::baseline_with,
            ConnectDomainXmlToNative => define::to_native,

            ConnectListAllSecrets => secret::list,
            ConnectNumOfSecrets => secret::number,
            ConnectListSecrets => secret::uuids,
            SecretLookupByUuid => secret::by_uuid,
            SecretLookupByUsage => secret::by_usage,
            SecretDefineXml => secret::define,
            SecretGetXmlDesc => secret::xml,
            SecretSetValue => secret::set_value,
            SecretGetValue => secret::value,
            SecretUndefine => secret::undefine,

            DomainDefineXml => define::define,
            DomainDefineXmlFlags => define::define_with_flags,
            DomainUndefine => define::undefine_plain,
            DomainUndefineFlags => define::undefine,
            DomainSetAutostart => define::set_autostart,
            DomainSetMetadata => metadata::set,
            DomainRename => metadata::rename,

            DomainSetMaxMemory => change::memory_max,
            DomainSetMemory => change::memory_plain,
            DomainSetMemoryFlags => change::memory,
            DomainSetMemoryStatsPeriod => change::stats_period,
            DomainSetVcpus => change::vcpus_plain,
            DomainSetVcpusFlags => change::vcpus,
            DomainSetLifecycleAction => change::lifecycle,

            DomainSetBlockIoTune => blocks::set_limits,
            DomainGetBlockIoTune => blocks::limits,
            DomainBlockResize => blocks::resize,
            DomainBlockPeek => blocks::peek,

            DomainAttachDevice => device::attach_plain,
            DomainAttachDeviceFlags => device::attach,
            DomainDetachDevice => device::detach_plain,
            DomainDetachDeviceFlags => device::detach,
            DomainDetachDeviceAlias => device::detach_alias,
            DomainUpdateDeviceFlags => device::update,

            DomainCreate => lifecycle::start,
            DomainCreateWithFlags => lifecycle::start_with_flags,
            DomainCreateXml => lifecycle::create,
            DomainDestroy => lifecycle::destroy,
            DomainDestroyFlags => lifecycle::destroy_with_flags,
            DomainShutdown => lifecycle::shutdown,
            DomainShutdownFlags => lifecycle::shutdown_with_flags,
            DomainReboot => lifecycle::reboot,
            DomainReset => lifecycle::reset,
            DomainSuspend => lifecycle::suspend,
            DomainResume => lifecycle::resume,

            DomainGetVcpus => vcpu::each,
            DomainGetVcpusFlags => vcpu::number,

            ConnectGetAllDomainStats => stats::all,
            DomainBlockStats => stats::block,
            DomainBlockStatsFlags => stats::block_flags,
            DomainGetBlockInfo => stats::block_info,
            DomainMemoryStats => stats::memory,
            DomainGetDiskErrors => stats::disk_errors,
            DomainStartDirtyRateCalc => stats::start_dirty_rate,

            DomainBlockJobSetSpeed => threshold::set_job_speed,
            DomainSetBlockThreshold => threshold::set,

            DomainSendKey => keyboard::send,
            DomainInjectNmi => keyboard::inject_nmi,
            QemuDomainMonitorCommand => qemu::monitor_command,

            QemuDomainAgentCommand => agent::command,
            DomainFsfreeze => agent::freeze,
            DomainFsthaw => agent::thaw,
            DomainFstrim => agent::trim,
            DomainGetHostname => agent::hostname,
            DomainGetTime => agent::time,
            DomainSetTime => agent::set_time,
            DomainSetUserPassword => agent::set_password,
            DomainAuthorizedSshKeysGet => agent::ssh_keys,
            DomainAuthorizedSshKeysSet => agent::set_ssh_keys,
            DomainGetGuestVcpus => agent::vcpus,
            DomainSetGuestVcpus => agent::switch_vcpus,
            DomainGetGuestInfo => guest_info::all,
            DomainGetFsinfo => guest_info::filesystems_of,
            DomainInterfaceAddresses => guest_info::addresses,

            DomainGetJobInfo => job::info,
            DomainGetJobStats => job::stats,
            DomainAbortJob => job::abort,
            DomainAbortJobFlags => job::abort_with_flags,
            DomainMigrateSetMaxDowntime => job::set_max_downtime,
            DomainMigrateSetMaxSpeed => job::set_max_speed,
            DomainMigrateGetCompressionCache => job::compression_cache,
            DomainMigrateSetCompressionCache => job::set_compression_cache,

            DomainMigrateBegin3Params => migrate::begin,
            DomainMigratePrepare3Params => migrate::prepare,
            DomainMigratePrepareTunnel3Params => migrate::prepare_tunnel,
            DomainMigratePerform3Params => migrate::perform,
            DomainMigrateFinish3Params => migrate::finish,
            DomainMigrateConfirm3Params => migrate::confirm,
            DomainMigrateStartPostCopy => migrate::start_postcopy,
            HandoverTell => handover::tell,
            History => operator::history,
            Resolve => operator::resolve,
            PlanLeaving => plan::leaving,
            PlanArriving => plan::arriving,
            PlanProbe => plan::probe,
            PlanPeer => plan::peer,

            DomainMigrateBegin3 => migrate::begin_plain,
            DomainMigratePrepare3 => migrate::prepare_plain,
            DomainMigratePrepareTunnel3 => migrate::prepare_tunnel_plain,
            DomainMigratePerform3 => migrate::perform_plain,
            DomainMigrateFinish3 => migrate::finish_plain,
            DomainMigrateConfirm3 => migrate::confirm_plain,
        }
        stream {
            DomainOpenConsole => console::open,
            DomainScreenshot => screen::shot,
        }
    }
}

/// Names the future that a handler returns, so that the tasks that run it are known to be sendable.
fn wait<T>(
    handler: impl Future<Output = Result<T, Error>> + Send,
) -> impl Future<Output = Result<T, Error>> + Send {
    handler
}

fn plain<C: Arguments>(reply: C::Reply) -> Result<Answer, Error> {
    encode(&reply).map(Answer::Plain)
}

fn streaming<C: Arguments>(reply: C::Reply, pump: Pump) -> Result<Answer, Error> {
    Ok(Answer::Stream(encode(&reply)?, pump))
}

fn encode(reply: &impl Encode) -> Result<Encoded, Error> {
    // Only a reply that breaks a bound of the wire has no encoding: more domains than a list may hold.
    let unencodable = |_| Error::new(ErrorCode::RPC, Origin::RPC, "Unable to encode message payload");
    ferry_xdr::to_bytes(reply).map(Encoded).map_err(unencodable)
}

/// Refuses flags that a call does not know, for calls whose flags have no type of their own.
///
/// # Errors
/// 8/10, stock's text.
fn accept_flags(flags: u32, accepted: u32, function: &str) -> Result<(), Error> {
    match flags & !accepted {
        0 => Ok(()),
        unknown => {
            let text = format!("unsupported flags (0x{unknown:x}) in function {function}");
            Err(Error::new(ErrorCode::INVALID_ARG, Origin::QEMU, text))
        }
    }
}

/// Refuses two flags that contradict each other.
///
/// # Errors
/// 55/10 with `text`.
fn refuse_both<F: Flags>(flags: F, both: F, text: &str) -> Result<(), Error> {
    if flags.bits() & both.bits() == both.bits() {
        return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
    }
    Ok(())
}

/// The running guest.
///
/// # Errors
/// 55/20 when there is none.
fn running(view: &View) -> Result<&Live, Error> {
    view.live.as_ref().ok_or_else(refuse::not_running)
}

/// The definition that a question means: the running one or the stored one; without a word, the one that
/// counts now.
///
/// # Errors
/// 55/20 when it does not exist, 8/20 when both are meant.
fn definition(view: &View, which: AffectFlags) -> Result<&Arc<Domain>, Error> {
    match which {
        AffectFlags::LIVE => running(view).map(|live| &live.domain),
        AffectFlags::CONFIG => view.config.as_ref().ok_or_else(|| {
            let text = "transient domains do not have any persistent config";
            Error::of(ErrorCode::OPERATION_INVALID, Origin::DOMAIN, text)
        }),
        AffectFlags::NONE => view.current().ok_or_else(|| refuse::no_such_domain(view.uuid, &view.name)),
        _ => {
            let text = "Flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG' are mutually exclusive";
            Err(Error::new(ErrorCode::INVALID_ARG, Origin::DOMAIN, text))
        }
    }
}

/// A count for a wire whose counts are signed.
fn int(count: impl TryInto<i32>) -> i32 {
    count.try_into().unwrap_or(i32::MAX)
}

/// The UUID of a definition that was completed, and so has one.
fn uuid_of(domain: &Domain) -> Result<Uuid, Error> {
    domain.uuid.ok_or_else(|| refuse::internal("a completed definition has no UUID"))
}

#[cfg(test)]
mod tests;
