//! `<interface>`: a network card and what it is plugged into on the host.

use crate::address::{DeviceInfo, Rom};
use crate::model::{Flatten, Input, Mac, OnOff, Output, Refusal, Rest, element, values};
use crate::virtio::VirtioOptions;

element! {
    /// A network card.
    pub struct Interface {
        /// Hardware address. `None`: made up at define.
        mac: Option<Mac> => ChildAttr("mac", "address"),
        /// What it is plugged into.
        source: InterfaceSource => Flatten(),
        /// Name of the host's end. Names that begin with `vnet` belong to the daemon: see `Domain::inactive`.
        target_dev: Option<String> => ChildAttr("target", "dev"),
        /// The device that the guest sees. `None`: rtl8139.
        model: Option<InterfaceModel> => ChildAttr("model", "type"),
        /// Queues and the like.
        driver: Option<InterfaceDriver> => Child("driver"),
        /// Whether the cable is plugged in.
        link: Option<LinkState> => ChildAttr("link", "state"),
        /// Largest packet, bytes.
        mtu: Option<u32> => ChildAttr("mtu", "size"),
        /// Place in the boot order, from 1.
        boot_order: Option<u32> => ChildAttr("boot", "order"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
        /// Boot ROM.
        rom: Option<Rom> => Child("rom"),
    }
    order [
        "mac", "source", "virtualport", "bandwidth", "vlan", "port", "ip", "route", "script", "downscript",
        "backenddomain", "target", "guest", "model", "driver", "backend", "filterref", "tune", "link", "mtu",
        "coalesce", "teaming", "boot", "alias", "rom", "acpi", "address",
    ]
}

/// What a card is plugged into: the `type` attribute and the `<source>` element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSource {
    /// What it is plugged into.
    pub network: Network,
    /// What else stands in `<source>`.
    pub rest: Rest,
}

/// What a card is plugged into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// `type='bridge'`: a bridge of the host.
    Bridge {
        /// Name of the bridge.
        bridge: String,
    },
    /// `type='network'`: a name that the daemon's configuration maps to a bridge.
    Network {
        /// Name of the network.
        network: String,
        /// Group of settings within it.
        portgroup: Option<String>,
        /// The port that a running guest holds there (live XML only).
        portid: Option<uuid::Uuid>,
        /// The bridge that it turned out to be (live XML only).
        bridge: Option<String>,
    },
    /// `type='ethernet'`: a TAP device that somebody else connects.
    Ethernet,
    /// `type='user'`: QEMU's own address translation.
    User,
}

values! {
    /// The `type` of an interface.
    pub enum InterfaceType {
        /// a bridge
        Bridge = "bridge",
        /// a configured network
        Network = "network",
        /// a bare TAP
        Ethernet = "ethernet",
        /// user mode networking
        User = "user",
    }
}

values! {
    /// The card that the guest sees.
    pub enum InterfaceModel {
        /// virtio-net
        Virtio = "virtio",
        /// virtio-net, both generations
        VirtioTransitional = "virtio-transitional",
        /// virtio-net 1.0
        VirtioNonTransitional = "virtio-non-transitional",
        /// Intel 82540EM
        E1000 = "e1000",
        /// Intel 82574L
        E1000e = "e1000e",
        /// Realtek 8139
        Rtl8139 = "rtl8139",
    }
}

impl InterfaceModel {
    /// A virtio card of whichever generation.
    pub fn is_virtio(self) -> bool {
        matches!(self, Self::Virtio | Self::VirtioTransitional | Self::VirtioNonTransitional)
    }
}

element! {
    /// `<driver>` of an interface.
    #[derive(Default)]
    pub struct InterfaceDriver {
        /// Who moves the packets.
        name: Option<InterfaceBackend> => Attr("name"),
        /// When packets that the guest sends go out.
        tx_mode: Option<TxMode> => Attr("txmode"),
        /// Whether a thread of its own waits for the guest's requests.
        ioeventfd: Option<OnOff> => Attr("ioeventfd"),
        /// Whether guest and QEMU spare each other notifications.
        event_idx: Option<OnOff> => Attr("event_idx"),
        /// Queue pairs.
        queues: Option<u32> => Attr("queues"),
        /// Length of a receive queue, a power of two of 256..=1024.
        rx_queue_size: Option<u32> => Attr("rx_queue_size"),
        /// Length of a transmit queue, a power of two of 256..=1024.
        tx_queue_size: Option<u32> => Attr("tx_queue_size"),
        /// Whether packets are spread over queues by a hash.
        rss: Option<OnOff> => Attr("rss"),
        /// Whether the guest is told the hash.
        rss_hash_report: Option<OnOff> => Attr("rss_hash_report"),
        /// What all virtio devices take.
        virtio: VirtioOptions => Flatten(),
        /// Work that the host's side may do for the guest.
        host: Option<Offloads> => Child("host"),
        /// Work that the guest may be left with.
        guest: Option<Offloads> => Child("guest"),
    }
}

element! {
    /// `<host>` and `<guest>` of a card's driver: work that is left to the other side.
    #[derive(Default)]
    pub struct Offloads {
        /// Checksums.
        csum: Option<OnOff> => Attr("csum"),
        /// Segmentation of any kind (host).
        gso: Option<OnOff> => Attr("gso"),
        /// TCP segmentation, IPv4.
        tso4: Option<OnOff> => Attr("tso4"),
        /// TCP segmentation, IPv6.
        tso6: Option<OnOff> => Attr("tso6"),
        /// TCP segmentation with congestion notification.
        ecn: Option<OnOff> => Attr("ecn"),
        /// UDP fragmentation.
        ufo: Option<OnOff> => Attr("ufo"),
        /// Packets over several buffers (host).
        mrg_rxbuf: Option<OnOff> => Attr("mrg_rxbuf"),
    }
}

impl Offloads {
    /// Every switch by its name.
    pub fn switches(&self) -> [(&'static str, Option<OnOff>); 7] {
        [
            ("csum", self.csum),
            ("gso", self.gso),
            ("tso4", self.tso4),
            ("tso6", self.tso6),
            ("ecn", self.ecn),
            ("ufo", self.ufo),
            ("mrg_rxbuf", self.mrg_rxbuf),
        ]
    }
}

values! {
    /// When packets that the guest sends go out.
    pub enum TxMode {
        /// at once
        Iothread = "iothread",
        /// after a while, or when many wait
        Timer = "timer",
    }
}

values! {
    /// Who moves the packets.
    pub enum InterfaceBackend {
        /// QEMU
        Qemu = "qemu",
        /// the host's kernel
        Vhost = "vhost",
    }
}

values! {
    /// Whether the cable is plugged in.
    pub enum LinkState {
        /// plugged in
        Up = "up",
        /// pulled
        Down = "down",
    }
}

impl Network {
    /// The `type` attribute.
    pub fn interface_type(&self) -> InterfaceType {
        match self {
            Self::Bridge { .. } => InterfaceType::Bridge,
            Self::Network { .. } => InterfaceType::Network,
            Self::Ethernet => InterfaceType::Ethernet,
            Self::User => InterfaceType::User,
        }
    }
}

impl From<Network> for InterfaceSource {
    fn from(network: Network) -> Self {
        Self { network, rest: Rest::default() }
    }
}

impl Flatten for InterfaceSource {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let kind: InterfaceType = input.required("type")?;
        let source = input.first("source", |element| {
            let mut inner = Input::new(element);
            let network = match kind {
                InterfaceType::Bridge => Network::Bridge { bridge: inner.required("bridge")? },
                InterfaceType::Network => Network::Network {
                    network: inner.required("network")?,
                    portgroup: inner.attribute("portgroup")?,
                    portid: inner.attribute("portid")?,
                    bridge: inner.attribute("bridge")?,
                },
                InterfaceType::Ethernet => Network::Ethernet,
                InterfaceType::User => Network::User,
            };
            Ok(Self { network, rest: inner.rest() })
        })?;
        match (source, kind) {
            (Some(source), _) => Ok(source),
            (None, InterfaceType::Ethernet) => Ok(Network::Ethernet.into()),
            (None, InterfaceType::User) => Ok(Network::User.into()),
            (None, InterfaceType::Bridge | InterfaceType::Network) => Err(input.missing_child("source")),
        }
    }

    fn put(&self, out: &mut Output) {
        out.attribute("type", &self.network.interface_type());
        let mut source = Output::new("source", out.options());
        match &self.network {
            Network::Bridge { bridge } => source.attribute("bridge", bridge),
            Network::Network { network, portgroup, portid, bridge } => {
                source.attribute("network", network);
                source.optional("portgroup", portgroup);
                source.optional("portid", portid);
                source.optional("bridge", bridge);
            }
            Network::Ethernet | Network::User => {}
        }
        source.rest(&self.rest);
        if !source.is_empty() {
            out.push(source);
        }
    }
}
