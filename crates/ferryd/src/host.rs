//! What all rooms of a running daemon share: one host, and what it knows.
//!
//! Made once by `main`, borrowed by everybody. It holds things together and decides nothing.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ferry_domxml::Domain;
use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::complete::Origin;
use ferry_rpc::error::{Error, ErrorCode, Origin as Component};
use ferry_store::{Store, StoredSecret};
use uuid::Uuid;

use crate::config::Config;
use crate::dispatch::Consoles;
use crate::driver;
use crate::events::Hub;
use crate::layout::Layout;
use crate::perform::ownership::Account;
use crate::probe::{CapabilityCache, DEFAULT_EMULATOR};
use crate::registry::{Claim, Registry};
use crate::secrets::Secrets;

/// One host.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    /// Differs from every other host's: a guest is never sent to its own host.
    pub(crate) uuid: Uuid,
    pub(crate) hostname: String,
    pub(crate) account: Account,
    pub(crate) registry: Arc<Registry>,
    pub(crate) events: Hub,
    /// Who uses which guest's console.
    pub(crate) consoles: Consoles,
    pub(crate) ports: PortPool,
    /// What servers and encrypted images want to hear.
    pub(crate) secrets: Secrets,
    /// Where the TCP door is, once it is open.
    pub(crate) tcp_address: OnceLock<SocketAddr>,
    store: Arc<Store>,
    capabilities: CapabilityCache,
}

impl Host {
    /// Puts a host together.
    pub(crate) fn new(
        config: Config,
        layout: Layout,
        uuid: Uuid,
        hostname: String,
        account: Account,
        store: Store,
        secrets: Vec<StoredSecret>,
    ) -> Host {
        Host {
            ports: PortPool::new(config.migration_ports()),
            capabilities: CapabilityCache::new(layout.cache.clone()),
            config,
            layout,
            uuid,
            hostname,
            account,
            registry: Arc::default(),
            events: Hub::default(),
            tcp_address: OnceLock::new(),
            consoles: Consoles::default(),
            secrets: Secrets::new(secrets),
            store: Arc::new(store),
        }
    }

    /// What an emulator can do; the default one when none is named.
    pub(crate) async fn capabilities(&self, emulator: Option<&str>) -> Result<Arc<Capabilities>, Error> {
        Ok(self.capabilities.of(Path::new(emulator.unwrap_or(DEFAULT_EMULATOR))).await?)
    }

    /// Reads a definition as a client sends it, and fills in what stock fills in at define.
    ///
    /// # Errors
    /// What cannot be read, is not supported, or contradicts itself, with stock's codes.
    pub(crate) async fn complete(&self, xml: &str) -> Result<Domain, Error> {
        self.fill_in(xml, Origin::Define).await
    }

    /// Reads the definition of a guest that arrives: nothing is added that it would notice.
    ///
    /// # Errors
    /// As [`Host::complete`].
    pub(crate) async fn complete_arriving(&self, xml: &str) -> Result<Domain, Error> {
        self.fill_in(xml, Origin::Migration).await
    }

    async fn fill_in(&self, xml: &str, origin: Origin) -> Result<Domain, Error> {
        let mut domain = crate::refuse::parse(xml)?;
        domain.check_supported().map_err(crate::refuse::unsupported)?;
        let capabilities = self.capabilities(domain.devices.emulator.as_deref()).await?;
        if domain.devices.emulator.is_none() {
            domain.devices.emulator = Some(DEFAULT_EMULATOR.to_owned());
        }
        if domain.uuid.is_none() {
            domain.uuid = Some(Uuid::new_v4());
        }
        ferry_qemu::complete::complete(&mut domain, &capabilities, origin, &mut random_byte)
            .map_err(crate::refuse::incomplete)?;
        if domain.os.firmware.is_some() || domain.os.has_variables() {
            let descriptors = tokio::task::spawn_blocking(crate::perform::firmware::descriptors).await;
            let descriptors = descriptors.map_err(|_| crate::refuse::internal("the daemon is stopping"))?;
            let folder = self.layout.nvram.to_string_lossy();
            ferry_qemu::firmware::choose(&mut domain, &descriptors, &folder)
                .map_err(crate::refuse::no_firmware)?;
        }
        crate::refuse::showable(&domain)?;
        Ok(domain)
    }

    /// The driver of the domain with this UUID and name, made when there is none.
    pub(crate) fn claim(self: &Arc<Self>, uuid: Uuid, name: &str) -> Result<Claim, Error> {
        self.registry.claim(uuid, name, || driver::spawn(Arc::clone(self), uuid, name.to_owned()))
    }

    /// Runs `work` on the store, off the threads that serve clients. What it wrote is on the disk when this
    /// returns.
    pub(crate) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, ferry_store::StoreError> + Send + 'static,
    ) -> Result<T, Error> {
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                tracing::error!(error = crate::refuse::chain(&error), "the store failed");
                let text = format!("cannot record the change: {}", crate::refuse::chain(&error));
                Err(Error::of(ErrorCode::INTERNAL_ERROR, Component::QEMU, text))
            }
            Err(_) => Err(Error::of(ErrorCode::INTERNAL_ERROR, Component::QEMU, "the store is closing")),
        }
    }
}

/// For hardware addresses.
pub(crate) fn random_byte() -> u8 {
    let [byte, ..] = *Uuid::new_v4().as_bytes();
    byte
}

/// TCP ports for incoming guests, each given to one at a time.
#[derive(Debug)]
pub(crate) struct PortPool {
    range: RangeInclusive<u16>,
    taken: Arc<Mutex<BTreeSet<u16>>>,
}

/// A port that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    taken: Arc<Mutex<BTreeSet<u16>>>,
}

impl PortPool {
    fn new(range: RangeInclusive<u16>) -> PortPool {
        PortPool { range, taken: Arc::default() }
    }

    /// The lowest free port from `at_least` on. Another program may listen there ([`Port::is_occupied`]): then the caller asks
    /// again with the next one.
    ///
    /// # Errors
    /// All are taken (1/10, stock's text).
    pub(crate) fn take(&self, at_least: u16) -> Result<Port, Error> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (*self.range.start(), *self.range.end());
        let free = (first.max(at_least)..=last).find(|port| !taken.contains(port));
        let Some(number) = free else {
            let text = format!("Unable to find an unused port in range 'migration' ({first}-{last})");
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Component::QEMU, text));
        };
        taken.insert(number);
        Ok(Port { number, taken: Arc::clone(&self.taken) })
    }
}

impl Port {
    /// The port's number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// Whether another program listens there. A QEMU of our day that was told to listen in vain cannot be told again, so
    /// that is found out before. What is not an address is left to QEMU.
    pub(crate) fn is_occupied(&self, address: &str) -> bool {
        let Ok(address) = address.trim_matches(['[', ']']).parse::<IpAddr>() else { return false };
        let tried = TcpListener::bind((address, self.number));
        tried.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_another_program_is_found_out() {
        let other = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let number = other.local_addr().unwrap().port();
        let port = PortPool::new(number..=number).take(0).unwrap();
        for address in ["127.0.0.1", "0.0.0.0", "[::ffff:127.0.0.1]"] {
            assert!(port.is_occupied(address), "{address}");
        }
        drop(other);
        assert!(!port.is_occupied("127.0.0.1"));
        assert!(!port.is_occupied("no.such.host.invalid"));
    }

    #[test]
    fn ports_are_given_once_and_come_back() {
        let pool = PortPool::new(51000..=51001);
        let first = pool.take(0).unwrap();
        let second = pool.take(0).unwrap();
        assert_eq!((first.number(), second.number()), (51000, 51001));
        let refused = pool.take(0).unwrap_err();
        assert_eq!(
            refused.message,
            "internal error: Unable to find an unused port in range 'migration' (51000-51001)"
        );
        drop(first);
        assert_eq!(pool.take(0).unwrap().number(), 51000);
    }
}
