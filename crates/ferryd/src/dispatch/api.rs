//! Refusal of procedures that are not built, by the name and component that stock would show.
//!
//! A procedure that changes something carries its public name in the protocol's table. The others' follow
//! from the protocol's name by a rule and a few exceptions: `connect_get_all_domain_stats` is
//! `virConnectGetAllDomainStats`.

use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::procedure::{Access, Procedure, Program};

/// Words of protocol names that public names spell otherwise.
const WORDS: &[(&str, &str)] = &[
    ("cpu", "CPU"),
    ("fsinfo", "FSInfo"),
    ("iothread", "IOThread"),
    ("nwfilter", "NWFilter"),
    ("nwfilters", "NWFilters"),
    ("sev", "SEV"),
    ("uri", "URI"),
    ("uuid", "UUID"),
    ("xml", "XML"),
];

/// What a client is told that calls a procedure without a handler.
pub(super) fn not_supported(procedure: Procedure) -> Error {
    let (name, origin) = match procedure.access() {
        Access::Write { api, origin } => (api.to_owned(), origin),
        Access::Read | Access::Event => (public_name(procedure), origin(procedure)),
    };
    Error::of(ErrorCode::NO_SUPPORT, origin, name)
}

fn public_name(procedure: Procedure) -> String {
    let mut name = "vir".to_owned();
    for word in procedure.name().split('_') {
        match WORDS.iter().find(|(from, _)| *from == word) {
            Some((_, to)) => name.push_str(to),
            None => {
                let mut letters = word.chars();
                name.extend(letters.next().map(|first| first.to_ascii_uppercase()));
                name.push_str(letters.as_str());
            }
        }
    }
    name
}

/// The component whose driver is missing.
fn origin(procedure: Procedure) -> Origin {
    if procedure.program() == Program::Qemu {
        return Origin::NONE;
    }
    let words = procedure.name();
    let about = |subject: &str| words.contains(subject);
    match () {
        () if about("storage") => Origin::STORAGE,
        () if about("network") => Origin::NETWORK,
        () if about("node_device") => Origin::NODEDEV,
        () if about("nwfilter") => Origin::NWFILTER,
        () if about("secret") => Origin::SECRET,
        () if about("interfaces") => Origin::INTERFACE,
        () if about("snapshot") => Origin::DOMAIN_SNAPSHOT,
        () if about("checkpoint") => Origin::DOMAIN_CHECKPOINT,
        () if words.starts_with("domain") || about("domain_") => Origin::DOMAIN,
        () => Origin::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(procedure: Procedure) -> (i32, i32, String) {
        let error = not_supported(procedure);
        (error.code.0, error.origin.0, error.message)
    }

    #[test]
    fn what_is_not_built_is_named_as_stock_names_it() {
        let text = |api: &str| format!("this function is not supported by the connection driver: {api}");
        let stock = [
            (Procedure::ConnectListAllInterfaces, 26, "virConnectListAllInterfaces"),
            (Procedure::ConnectListAllNwfilters, 33, "virConnectListAllNWFilters"),
            (Procedure::StoragePoolLookupByName, 18, "virStoragePoolLookupByName"),
            (Procedure::ConnectNetworkEventRegisterAny, 19, "virConnectNetworkEventRegisterAny"),
            (Procedure::DomainGetBlockJobInfo, 20, "virDomainGetBlockJobInfo"),
            (Procedure::ConnectGetAllDomainStats, 20, "virConnectGetAllDomainStats"),
            (Procedure::DomainSave, 20, "virDomainSave"),
            (Procedure::ConnectGetCpuModelNames, 0, "virConnectGetCPUModelNames"),
        ];
        for (procedure, origin, api) in stock {
            assert_eq!(refusal(procedure), (3, origin, text(api)));
        }
    }
}
