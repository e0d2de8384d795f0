//! What a migration is asked to do: the operator's options as the wire's flags and parameters.
//!
//! Called by the `migrate` command. Refuses nothing that a host decides better.

use ferry_migration::params::names;
use ferry_rpc::TypedParam;
use ferry_rpc::flags::MigrateFlags;

use crate::cli::Migrate;
use crate::failure::Failure;
use crate::guests::read;
use crate::place::{self, PlaceError};

/// The flags.
pub(crate) fn flags(options: &Migrate) -> MigrateFlags {
    use MigrateFlags as F;
    let chosen = [
        (!options.no_live && !options.offline, F::LIVE),
        (options.p2p, F::PEER2PEER),
        (options.suspend, F::PAUSED),
        (options.persistent, F::PERSIST_DEST),
        (options.undefinesource, F::UNDEFINE_SOURCE),
        (options.offline, F::OFFLINE),
        (options.allow_unsafe, F::UNSAFE),
        (options.abort_on_error, F::ABORT_ON_ERROR),
        (options.auto_converge, F::AUTO_CONVERGE),
    ];
    chosen.into_iter().filter(|(is, _)| *is).fold(F::NONE, |flags, (_, flag)| flags | flag)
}

/// The parameters; the XML files are read.
pub(crate) fn params(options: &Migrate) -> Result<Vec<TypedParam>, Failure> {
    let file = |path: &Option<_>| path.as_deref().map(read).transpose();
    let texts = [
        (names::DESTINATION_XML, file(&options.xml)?),
        (names::PERSISTENT_XML, file(&options.persistent_xml)?),
        (names::DESTINATION_NAME, options.dname.clone()),
        (names::MIGRATE_URI, options.migrateuri.clone()),
        (names::LISTEN_ADDRESS, options.listen_address.clone()),
    ];
    let texts = texts.into_iter().filter_map(|(name, text)| Some(TypedParam::new(name, text?)));
    let bandwidth = options.bandwidth.map(|mib| TypedParam::new(names::BANDWIDTH, mib));
    Ok(texts.chain(bandwidth).collect())
}

/// The destination of a peer-to-peer migration, as the source host is to reach it. A URI goes there as it is: the
/// source may speak transports that this tool does not.
pub(crate) fn peer(destination: &str) -> Result<String, PlaceError> {
    match place::host(destination) {
        Ok(uri) => Ok(uri.to_string()),
        Err(PlaceError::Uri(_)) => Ok(destination.to_owned()),
        Err(error @ (PlaceError::Nothing(_) | PlaceError::NoSocket(_))) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;
    use ferry_rpc::ParamValue;

    fn options(words: &str) -> Migrate {
        match Cli::try_parse_from(format!("ferry migrate vm d {words}").split_whitespace()).unwrap().command {
            Command::Migrate(go) => go.migrate,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_become_flags() {
        use MigrateFlags as F;
        assert_eq!(flags(&options("")), F::LIVE);
        assert_eq!(flags(&options("--no-live --suspend")), F::PAUSED);
        assert_eq!(flags(&options("--offline --persistent")), F::OFFLINE | F::PERSIST_DEST);
        let all = "--p2p --undefinesource --unsafe --abort-on-error --auto-converge";
        let expected = F::LIVE | F::PEER2PEER | F::UNDEFINE_SOURCE | F::UNSAFE | F::ABORT_ON_ERROR;
        assert_eq!(flags(&options(all)), expected | F::AUTO_CONVERGE);
    }

    #[test]
    fn options_become_parameters() {
        let folder = tempfile::tempdir().unwrap();
        let xml = folder.path().join("x.xml");
        std::fs::write(&xml, "<domain/>").unwrap();
        let words = format!("--xml {} --dname new --bandwidth 7", xml.display());
        let found = params(&options(&words)).unwrap();
        let value =
            |name: &str| found.iter().find(|param| param.name == name).map(|param| param.value.clone());
        assert_eq!(value("destination_xml"), Some(ParamValue::String("<domain/>".to_owned())));
        assert_eq!(value("destination_name"), Some(ParamValue::String("new".to_owned())));
        assert_eq!(value("bandwidth"), Some(ParamValue::ULLong(7)));
        assert_eq!(found.len(), 3);
        assert_eq!(params(&options("--xml /nonexistent")).unwrap_err().exit, crate::failure::Exit::Refused);
    }

    #[test]
    fn a_peer_may_be_one_that_only_the_source_can_reach() {
        assert_eq!(peer("qemu+ssh://beta/system").unwrap(), "qemu+ssh://beta/system");
        assert_eq!(peer("qemu+tcp://beta").unwrap(), "qemu+tcp://beta:16509/system");
        assert!(peer("/nonexistent").is_err());
    }
}
