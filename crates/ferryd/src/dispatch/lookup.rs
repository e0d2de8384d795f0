//! Finding domains: by name, UUID or id, and in lists.

use std::sync::Arc;

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{Flags as _, ListFlags};
use ferry_rpc::proto::{
    ConnectListAllDomains, ConnectListAllDomainsReply, ConnectListDefinedDomains,
    ConnectListDefinedDomainsReply, ConnectListDomains, ConnectListDomainsReply, ConnectNumOfDefinedDomains,
    ConnectNumOfDomains, DomainLookupById, DomainLookupByName, DomainLookupByUuid, DomainRef,
};
use ferry_rpc::values::DomainState;

use super::{Context, int};
use crate::driver::View;

/// The longest list of domains.
const DOMAINS_MAX: i32 = 16_384;

pub(super) fn by_id(context: &Context, call: DomainLookupById) -> Result<DomainRef, Error> {
    context.host.registry.by_id(call.id).map(|handle| handle.view().reference())
}

pub(super) fn by_name(context: &Context, call: DomainLookupByName) -> Result<DomainRef, Error> {
    context.host.registry.by_name(&call.name).map(|handle| handle.view().reference())
}

pub(super) fn by_uuid(context: &Context, call: DomainLookupByUuid) -> Result<DomainRef, Error> {
    context.host.registry.by_uuid(call.uuid, None).map(|handle| handle.view().reference())
}

/// Every domain that the flags let pass.
pub(super) fn list_all(
    context: &Context,
    call: ConnectListAllDomains,
) -> Result<ConnectListAllDomainsReply, Error> {
    let flags = call.flags.accept(ListFlags::ALL, "qemuConnectListAllDomains")?;
    let chosen: Vec<_> = views(context).filter(|view| is_listed(view, flags)).collect();
    let count = u32::try_from(chosen.len()).unwrap_or(u32::MAX);
    let domains =
        if call.need_results { chosen.iter().map(|view| view.reference()).collect() } else { Vec::new() };
    Ok(ConnectListAllDomainsReply { domains, count })
}

/// The ids of at most so many running guests.
pub(super) fn list_ids(
    context: &Context,
    call: ConnectListDomains,
) -> Result<ConnectListDomainsReply, Error> {
    let refused = |text: &str| Err(Error::new(ErrorCode::RPC, Origin::RPC, text));
    if call.maxids > DOMAINS_MAX {
        return refused("maxids > REMOTE_DOMAIN_LIST_MAX");
    }
    let Ok(most) = usize::try_from(call.maxids) else {
        return refused("maxids must be non-negative");
    };
    Ok(ConnectListDomainsReply { ids: views(context).filter_map(|view| view.id()).take(most).collect() })
}

/// The names of at most so many definitions that do not run.
pub(super) fn list_defined(
    context: &Context,
    call: ConnectListDefinedDomains,
) -> Result<ConnectListDefinedDomainsReply, Error> {
    if call.maxnames > DOMAINS_MAX {
        return Err(Error::new(ErrorCode::RPC, Origin::RPC, "maxnames > REMOTE_DOMAIN_LIST_MAX"));
    }
    let most = usize::try_from(call.maxnames)
        .map_err(|_| Error::new(ErrorCode::RPC, Origin::RPC, "maxnames must be non-negative"))?;
    let idle = views(context).filter(|view| view.live.is_none());
    Ok(ConnectListDefinedDomainsReply { names: idle.map(|view| view.name.clone()).take(most).collect() })
}

pub(super) fn number_running(context: &Context, _: ConnectNumOfDomains) -> Result<i32, Error> {
    Ok(int(views(context).filter(|view| view.live.is_some()).count()))
}

/// Definitions that do not run.
pub(super) fn number_defined(context: &Context, _: ConnectNumOfDefinedDomains) -> Result<i32, Error> {
    Ok(int(views(context).filter(|view| view.live.is_none()).count()))
}

fn views(context: &Context) -> impl Iterator<Item = Arc<View>> {
    context.host.registry.all().into_iter().map(|(_, view)| view)
}

/// Whether a domain passes. Flags stand in groups: none of a group lets all pass, else one of those given
/// must fit.
pub(super) fn is_listed(view: &View, flags: ListFlags) -> bool {
    let state = |state| view.state == state;
    let other = ![DomainState::RUNNING, DomainState::PAUSED, DomainState::SHUTOFF].contains(&view.state);
    let active = view.live.is_some();
    let persistent = view.config.is_some();
    let groups: [&[(ListFlags, bool)]; 7] = [
        &[(ListFlags::ACTIVE, active), (ListFlags::INACTIVE, !active)],
        &[(ListFlags::PERSISTENT, persistent), (ListFlags::TRANSIENT, !persistent)],
        &[
            (ListFlags::RUNNING, state(DomainState::RUNNING)),
            (ListFlags::PAUSED, state(DomainState::PAUSED)),
            (ListFlags::SHUTOFF, state(DomainState::SHUTOFF)),
            (ListFlags::OTHER, other),
        ],
        &[(ListFlags::AUTOSTART, view.autostart), (ListFlags::NO_AUTOSTART, !view.autostart)],
        &[(ListFlags::HAS_SNAPSHOT, view.snapshots > 0), (ListFlags::NO_SNAPSHOT, view.snapshots == 0)],
        // There are none of these.
        &[(ListFlags::MANAGEDSAVE, false), (ListFlags::NO_MANAGEDSAVE, true)],
        &[(ListFlags::HAS_CHECKPOINT, false), (ListFlags::NO_CHECKPOINT, true)],
    ];
    groups.iter().all(|group| {
        let mut given = group.iter().filter(|(flag, _)| flags.contains(*flag)).peekable();
        given.peek().is_none() || given.any(|(_, fits)| *fits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_domxml::Domain;
    use uuid::Uuid;

    fn defined() -> View {
        let xml = "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>";
        let config = Some(Arc::new(Domain::parse(xml).unwrap()));
        View { config, ..View::vacant(Uuid::nil(), "a".to_owned()) }
    }

    #[test]
    fn a_defined_domain_is_in_the_lists_that_fit_it() {
        let view = defined();
        for flags in [
            ListFlags::NONE,
            ListFlags::INACTIVE,
            ListFlags::ACTIVE | ListFlags::INACTIVE,
            ListFlags::PERSISTENT | ListFlags::SHUTOFF,
            ListFlags::NO_AUTOSTART
                | ListFlags::NO_MANAGEDSAVE
                | ListFlags::NO_SNAPSHOT
                | ListFlags::NO_CHECKPOINT,
            ListFlags::RUNNING | ListFlags::SHUTOFF,
        ] {
            assert!(is_listed(&view, flags), "{flags:?}");
        }
        for flags in [
            ListFlags::ACTIVE,
            ListFlags::TRANSIENT,
            ListFlags::RUNNING | ListFlags::PAUSED | ListFlags::OTHER,
            ListFlags::INACTIVE | ListFlags::AUTOSTART,
            ListFlags::MANAGEDSAVE,
            ListFlags::HAS_SNAPSHOT,
            ListFlags::HAS_CHECKPOINT,
        ] {
            assert!(!is_listed(&view, flags), "{flags:?}");
        }
    }

    #[test]
    fn states_without_a_flag_of_their_own_are_others() {
        let view = View { state: DomainState::CRASHED, ..defined() };
        assert!(is_listed(&view, ListFlags::OTHER));
        assert!(!is_listed(&view, ListFlags::RUNNING | ListFlags::PAUSED | ListFlags::SHUTOFF));
    }
}
