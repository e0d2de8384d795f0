//! Asks a destination that runs no ferryd what its ordinary calls tell. What the answers mean is
//! `ferry_migration::checks::stock`'s.

use ferry_client::{CallError, Connection};
use ferry_migration::checks::stock::{self, NOT_KNOWN, Told, Wanted};
use ferry_rpc::ErrorCode;
use ferry_rpc::proto::{
    ConnectCompareHypervisorCpu, ConnectGetDomainCapabilities, DomainRef, NetworkLookupByName,
    NodeGetFreeMemory,
};

use super::{Side, of_finding};

/// The host's own processor runs the guest.
const KVM: &str = "kvm";

/// The processor does not fit (`VIR_CPU_COMPARE_INCOMPATIBLE`).
const INCOMPATIBLE: i32 = 0;

/// Asks, and judges. `name` is what the guest is to be called there.
pub(super) async fn ask(host: &Connection, xml: &str, name: Option<&str>) -> Side {
    let wanted = match Wanted::read(xml, name) {
        Ok(wanted) => wanted,
        Err(error) => return Side::not_asked(format!("the guest's definition cannot be read: {error}")),
    };
    let told = tell(host, &wanted).await;
    let findings = stock::findings(&wanted, &told).iter().map(of_finding).collect();
    let unknown = format!("it runs no ferryd; not known before it is tried: {}", NOT_KNOWN.join(", "));
    Side { findings, unknown: Some(unknown), has_address: None }
}

/// A question that it cannot answer leaves open what it is about.
async fn tell(host: &Connection, wanted: &Wanted) -> Told {
    let mut told = Told::default();
    if let Ok(domain) = host.domain_lookup_by_name(&wanted.name).await {
        told.by_name = Some((domain.uuid, is_active(host, &domain).await));
    }
    if let Some(uuid) = wanted.uuid
        && let Ok(domain) = host.domain_lookup_by_uuid(uuid).await
    {
        let active = is_active(host, &domain).await;
        told.by_uuid = Some((domain.name, active));
    }
    let capabilities = ConnectGetDomainCapabilities {
        emulatorbin: wanted.emulator.clone(),
        arch: wanted.arch.clone(),
        machine: wanted.machine.clone(),
        virttype: Some(wanted.kind.to_owned()),
        flags: 0,
    };
    if let Err(CallError::Remote(error)) = host.call(&capabilities).await {
        told.no_machine = Some(error);
    }
    if let Some(cpu) = wanted.cpu.clone().filter(|_| wanted.kind == KVM && told.no_machine.is_none()) {
        let compare = ConnectCompareHypervisorCpu {
            emulator: wanted.emulator.clone(),
            arch: wanted.arch.clone(),
            machine: wanted.machine.clone(),
            virttype: Some(wanted.kind.to_owned()),
            xml_cpu: cpu,
            flags: 0,
        };
        told.no_processor = host.call(&compare).await.is_ok_and(|verdict| verdict == INCOMPATIBLE);
    }
    let (info, free) = (host.node_info().await, host.call(&NodeGetFreeMemory {}).await);
    told.memory = info.ok().zip(free.ok()).map(|(info, free)| (info.memory.saturating_mul(1024), free));
    for network in &wanted.networks {
        let found = host.call(&NetworkLookupByName { name: network.clone() }).await;
        if matches!(&found, Err(CallError::Remote(error)) if error.code == ErrorCode::NO_NETWORK) {
            told.no_networks.push(network.clone());
        }
    }
    told
}

async fn is_active(host: &Connection, domain: &DomainRef) -> bool {
    host.domain_is_active(domain).await.unwrap_or(false)
}
