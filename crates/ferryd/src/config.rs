//! The configuration file: what an operator decides for a host.
//!
//! Read once at start. Every key has a default, so that an empty or missing file is a working host; an unknown
//! key is an error, because a misspelt safety setting must not pass in silence.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use uuid::Uuid;

/// The keys of `ferryd.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Overrides the stored host UUID.
    pub(crate) host_uuid: Option<Uuid>,
    /// TCP address to listen on without authentication.
    pub(crate) listen_tcp: Option<SocketAddr>,
    /// Also listen on libvirt's well-known sockets.
    pub(crate) libvirt_sockets: bool,
    /// User name that QEMU runs as. Unset: the daemon's own.
    pub(crate) user: Option<String>,
    /// Group name that QEMU runs as. Unset: the user's own group.
    pub(crate) group: Option<String>,
    /// Host name or address that a source is told to send guests to. Unset: this host's name.
    pub(crate) migration_host: Option<String>,
    /// Address on which incoming guests are received. Unset: all.
    pub(crate) migration_address: Option<String>,
    /// Where the daemon of another host can ask this one about a migration: `tcp:HOST:PORT`. Empty: where this
    /// daemon listens on TCP.
    pub(crate) control_addresses: Vec<String>,
    /// First and last TCP port for incoming guests.
    pub(crate) migration_port_min: u16,
    /// See `migration_port_min`.
    pub(crate) migration_port_max: u16,
    /// `<interface type='network'>`: the bridge that stands for each network name.
    pub(crate) networks: BTreeMap<String, String>,
    /// Where VNC listens when the domain does not say.
    pub(crate) vnc_listen: String,
    /// Trees that the other hosts see too, although their file system does not tell. Links are followed.
    pub(crate) shared_filesystems: Vec<PathBuf>,
    /// Whether a disk on shared storage needs a cache mode that keeps nothing stale, where QEMU does not see to that.
    pub(crate) check_disk_cache: bool,
    /// A program that is asked about each guest that arrives, and may change its definition.
    pub(crate) migration_hook: Option<PathBuf>,
    /// Seconds that it may take.
    pub(crate) migration_hook_seconds: u64,
    /// The program that plays a guest's TPM.
    pub(crate) swtpm: PathBuf,
    /// The program that makes a new one.
    pub(crate) swtpm_setup: PathBuf,
    /// QEMU's own system call filter.
    pub(crate) seccomp_sandbox: bool,
    /// Seconds without a word from a client before it is pinged; 0 turns pings off.
    pub(crate) keepalive_interval: u64,
    /// Unanswered pings after which a client counts as gone.
    pub(crate) keepalive_count: u32,
    /// How long a connection may take until it is open, in seconds.
    pub(crate) open_timeout: u32,
    /// Connections that may be open at once; those through the read-only socket are counted apart.
    pub(crate) max_clients: usize,
    /// Calls of one connection that may be unanswered before it is no longer read.
    pub(crate) max_client_requests: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            host_uuid: None,
            listen_tcp: None,
            libvirt_sockets: false,
            user: None,
            group: None,
            migration_host: None,
            migration_address: None,
            control_addresses: Vec::new(),
            migration_port_min: 49152,
            migration_port_max: 49215,
            networks: BTreeMap::new(),
            vnc_listen: "127.0.0.1".into(),
            shared_filesystems: Vec::new(),
            check_disk_cache: true,
            migration_hook: None,
            migration_hook_seconds: 60,
            swtpm: "/usr/bin/swtpm".into(),
            swtpm_setup: "/usr/bin/swtpm_setup".into(),
            seccomp_sandbox: true,
            keepalive_interval: 5,
            keepalive_count: 5,
            open_timeout: 30,
            max_clients: 5000,
            max_client_requests: 32,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the configuration {path:?} is not valid")]
    Parse {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("{path:?}: migration_port_min {min} is above migration_port_max {max}")]
    Ports { path: PathBuf, min: u16, max: u16 },
}

impl Config {
    /// Reads `path`; a missing file gives the defaults unless it was `named` by the operator.
    pub(crate) fn read(path: &Path, named: bool) -> Result<Config, ConfigError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !named => String::new(),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let config: Config =
            toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        if config.migration_port_min > config.migration_port_max {
            return Err(ConfigError::Ports {
                path: path.to_owned(),
                min: config.migration_port_min,
                max: config.migration_port_max,
            });
        }
        Ok(config)
    }

    /// The ports on which incoming guests may be received.
    pub(crate) fn migration_ports(&self) -> RangeInclusive<u16> {
        self.migration_port_min..=self.migration_port_max
    }

    /// How long a client may be silent before it is pinged.
    pub(crate) fn keepalive(&self) -> Option<(Duration, u32)> {
        (self.keepalive_interval > 0)
            .then(|| (Duration::from_secs(self.keepalive_interval), self.keepalive_count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Config::read(file.path(), true)
    }

    #[test]
    fn an_empty_file_is_a_working_host() {
        assert_eq!(parsed("").unwrap().migration_ports(), 49152..=49215);
    }

    #[test]
    fn the_example_that_is_shipped_has_every_key_and_its_default() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../../dist/ferryd.toml");
        let text = fs::read_to_string(example).unwrap();
        let shipped: Config = toml::from_str(&text).unwrap();
        assert_eq!(format!("{shipped:?}"), format!("{:?}", Config::default()));
        for key in format!("{shipped:?}").split(", ").filter_map(|field| field.split(':').next()) {
            let key = key.trim_start_matches("Config { ");
            assert!(text.contains(key), "{key} is not in the example");
        }
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(matches!(parsed("migration_prot_min = 1"), Err(ConfigError::Parse { .. })));
    }

    #[test]
    fn a_port_range_upside_down_is_refused() {
        let refused = parsed("migration_port_min = 50000\nmigration_port_max = 49999");
        assert!(matches!(refused, Err(ConfigError::Ports { min: 50000, max: 49999, .. })));
    }

    #[test]
    fn a_missing_file_is_an_error_only_when_it_was_named() {
        let missing = Path::new("/nonexistent/ferryd.toml");
        assert!(Config::read(missing, false).is_ok());
        assert!(matches!(Config::read(missing, true), Err(ConfigError::Read { .. })));
    }
}
