//! Host ends of a guest's interfaces: TAP devices, plugged into bridges.
//!
//! Called by [`super::launch`] and by a driver that plugs a card in. A TAP lives as long as its descriptors, so there is
//! nothing to clean up after a QEMU that died. It does not know domains, only what one interface needs.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use ferry_domxml::interface::{Interface, Network};
use ferry_rpc::error::{Error, ErrorCode, Origin};

use crate::sys;

/// Every address of this host, as something to listen on: IPv6's takes IPv4 too, where the host has IPv6.
pub(crate) fn any_address() -> &'static str {
    if Path::new("/proc/net/if_inet6").exists() { "::" } else { "0.0.0.0" }
}

/// What one interface needs of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TapRequest {
    /// The name that the definition asks for; `None` or a `vnet` name lets the kernel number one.
    pub(crate) name: Option<String>,
    /// The guest's MAC address.
    pub(crate) mac: [u8; 6],
    /// MTU in bytes.
    pub(crate) mtu: Option<u32>,
    /// Queue pairs, at least 1.
    pub(crate) queues: usize,
    /// The bridge to plug into; `None` leaves the TAP by itself (`type='ethernet'`).
    pub(crate) bridge: Option<String>,
}

impl TapRequest {
    /// What a card needs; `None` for one that QEMU serves by itself. A network's bridge must have been looked up.
    pub(crate) fn of(card: &Interface) -> Option<TapRequest> {
        let bridge = match &card.source.network {
            Network::User => return None,
            Network::Ethernet => None,
            Network::Bridge { bridge } => Some(bridge.clone()),
            Network::Network { bridge, .. } => bridge.clone(),
        };
        let queues = card.driver.as_ref().and_then(|driver| driver.queues).unwrap_or(1);
        Some(TapRequest {
            name: card.target_dev.clone(),
            mac: card.mac.map(|mac| mac.0).unwrap_or_default(),
            mtu: card.mtu,
            queues: usize::try_from(queues).unwrap_or(1),
            bridge,
        })
    }
}

/// Looks up the bridge behind the network that a card names. `place` is where the operator would add it.
///
/// # Errors
/// The operator has not said which bridge that is.
pub(crate) fn map(
    card: &mut Interface,
    networks: &BTreeMap<String, String>,
    place: &Path,
) -> Result<(), Error> {
    if let Network::Network { network, bridge, .. } = &mut card.source.network {
        let mapped = networks.get(network).ok_or_else(|| {
            let text = format!(
                "network '{network}' is not mapped to a bridge: add it to [networks] in {}",
                place.display()
            );
            Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text)
        })?;
        *bridge = Some(mapped.clone());
    }
    Ok(())
}

/// Whether the bridge that a card is to be plugged into is there.
///
/// # Errors
/// There is no such bridge; in the words in which plugging in would fail.
pub(crate) fn look(card: &Interface) -> Result<(), Error> {
    let Some(TapRequest { bridge: Some(bridge), .. }) = TapRequest::of(card) else { return Ok(()) };
    if Path::new("/sys/class/net").join(&bridge).join("bridge").is_dir() {
        return Ok(());
    }
    let text = format!("Cannot get interface MTU on '{bridge}': No such device");
    Err(Error::of(ErrorCode::SYSTEM_ERROR, Origin::NONE, text))
}

/// An open TAP.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Its name on the host, for `<target dev=…/>` of the live XML.
    pub(crate) name: String,
    /// One descriptor for each queue.
    pub(crate) fds: Vec<OwnedFd>,
}

/// Why an interface has no host end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TapError {
    #[error("Unable to create tap device {name}")]
    Open {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("Unable to add port {name} to bridge {bridge}")]
    Plug {
        name: String,
        bridge: String,
        #[source]
        source: io::Error,
    },
    #[error("Unable to set up tap device {name}")]
    SetUp {
        name: String,
        #[source]
        source: io::Error,
    },
}

/// Opens a TAP and plugs it in.
pub(crate) fn open(request: &TapRequest) -> Result<Tap, TapError> {
    // A name that the kernel once made up is no wish: it may be taken on this host.
    let wanted = request.name.as_deref().filter(|name| !name.starts_with("vnet")).unwrap_or("vnet%d");
    let (name, fds) = sys::open_tap(wanted, request.queues)
        .map_err(|source| TapError::Open { name: wanted.to_owned(), source })?;
    sys::plug_tap(&name, host_mac(request.mac), request.mtu, request.bridge.as_deref()).map_err(
        |source| match &request.bridge {
            Some(bridge) => TapError::Plug { name: name.clone(), bridge: bridge.clone(), source },
            None => TapError::SetUp { name: name.clone(), source },
        },
    )?;
    Ok(Tap { name, fds })
}

/// The TAP's own address: the guest's with the first byte `fe`, so high that a bridge never takes it for its own.
fn host_mac(guest: [u8; 6]) -> [u8; 6] {
    let [_, rest @ ..] = guest;
    let mut mac = [0xfe; 6];
    mac[1..].copy_from_slice(&rest);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_that_is_missing_is_named() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let request = TapRequest {
            name: Some("vnet7".into()),
            mac: [0x52, 0x54, 0, 1, 2, 3],
            mtu: Some(1400),
            queues: 2,
            bridge: Some("no-such-bridge".into()),
        };
        let error = open(&request).unwrap_err();
        assert!(error.to_string().contains("to bridge no-such-bridge"), "{error}");
        let tap = open(&TapRequest { bridge: None, ..request }).unwrap();
        assert_eq!(tap.fds.len(), 2);
        let mtu = std::fs::read_to_string(format!("/sys/class/net/{}/mtu", tap.name)).unwrap();
        assert_eq!(mtu.trim(), "1400");
    }
}
