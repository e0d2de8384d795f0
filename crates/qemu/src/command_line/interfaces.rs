//! Network cards: the host's end, then the device.

use ferry_domxml::disk::VirtioModel;
use ferry_domxml::interface::{Interface, InterfaceModel, Network, Offloads, TxMode};

use super::virtio::{virtio_driver, virtio_options};
use super::{Builder, CommandLineError, Fd, alias, incomplete};
use crate::props::Props;

impl Builder<'_> {
    pub(super) fn interfaces(&mut self) -> Result<(), CommandLineError> {
        for (at, card) in self.domain.devices.interfaces.iter().enumerate() {
            let name = alias(&card.info, "interface")?;
            let netdev = self.netdev(card, name)?;
            self.option("-netdev", netdev);
            let props = self.interface_props(card, name, self.boot.interfaces.get(&at).copied())?;
            self.device(&props);
        }
        Ok(())
    }

    fn netdev(&self, card: &Interface, name: &str) -> Result<Props, CommandLineError> {
        let id = format!("host{name}");
        let props = Props::new();
        let kind = match card.source.network {
            Network::User => return Ok(props.with("type", "user").with("id", id)),
            Network::Bridge { .. } | Network::Network { .. } | Network::Ethernet => "tap",
        };
        let tap = self.launch.taps.get(name).filter(|tap| !tap.fds.is_empty());
        let tap = tap.ok_or_else(|| CommandLineError::NoFd(name.to_owned()))?;
        let mut props = fds(props.with("type", kind), "fd", "fds", &tap.fds);
        if !tap.vhost_fds.is_empty() {
            props = fds(props.with("vhost", true), "vhostfd", "vhostfds", &tap.vhost_fds);
        }
        Ok(props.with("id", id))
    }

    pub(super) fn interface_props(
        &self,
        card: &Interface,
        name: &str,
        boot: Option<u32>,
    ) -> Result<Props, CommandLineError> {
        let model = card.model.ok_or_else(|| incomplete(name, "model"))?;
        let mac = card.mac.ok_or_else(|| incomplete(name, "hardware address"))?;
        let mut props = match model {
            InterfaceModel::E1000 | InterfaceModel::E1000e | InterfaceModel::Rtl8139 => {
                Props::driver(model.as_str())
            }
            InterfaceModel::Virtio => virtio_props(card, None),
            InterfaceModel::VirtioTransitional => virtio_props(card, Some(VirtioModel::Transitional)),
            InterfaceModel::VirtioNonTransitional => virtio_props(card, Some(VirtioModel::NonTransitional)),
        };
        props = props.with("netdev", format!("host{name}")).with("id", name).with("mac", mac.to_string());
        props.set_some("bootindex", boot);
        let mut props = self.pci(props, &card.info, "interface")?;
        if let Some(rom) = &card.rom {
            props.set_some("rombar", rom.bar.map(|bar| u32::from(bar.is_on())));
            let disabled = rom.enabled.is_some_and(|enabled| !enabled.is_yes());
            props.set_some("romfile", if disabled { Some("") } else { rom.file.as_deref() });
        }
        Ok(props)
    }
}

/// Queues and what the guest may learn of the host's MTU: both are features that it negotiates.
fn virtio_props(card: &Interface, model: Option<VirtioModel>) -> Props {
    let driver = card.driver.as_ref();
    let mut props = Props::driver(virtio_driver("virtio-net-pci", model));
    if let Some(queues) = driver.and_then(|driver| driver.queues).filter(|queues| *queues > 1) {
        // A pair each, one for control, one for configuration.
        props = props.with("mq", true).with("vectors", queues.saturating_mul(2).saturating_add(2));
    }
    let tx = driver.and_then(|driver| driver.tx_mode).map(|mode| match mode {
        TxMode::Iothread => "bh",
        TxMode::Timer => "timer",
    });
    let props = virtio_options(props, driver.map(|driver| &driver.virtio))
        .with_some("tx", tx)
        .with_some("ioeventfd", driver.and_then(|driver| driver.ioeventfd).map(|on| on.is_on()))
        .with_some("event_idx", driver.and_then(|driver| driver.event_idx).map(|on| on.is_on()))
        .with_some("rss", driver.and_then(|driver| driver.rss).map(|on| on.is_on()))
        .with_some("hash", driver.and_then(|driver| driver.rss_hash_report).map(|on| on.is_on()));
    let props = offloads(props, driver.and_then(|driver| driver.host.as_ref()), "host_");
    let props = offloads(props, driver.and_then(|driver| driver.guest.as_ref()), "guest_");
    props
        .with_some("rx_queue_size", driver.and_then(|driver| driver.rx_queue_size))
        .with_some("tx_queue_size", driver.and_then(|driver| driver.tx_queue_size))
        .with_some("host_mtu", card.mtu)
}

/// Work left to the other side. Three switches of the host's have QEMU's oldest names.
fn offloads(props: Props, offloads: Option<&Offloads>, side: &str) -> Props {
    let switches = offloads.map(Offloads::switches).into_iter().flatten();
    switches.fold(props, |props, (name, state)| {
        let is_plain = side == "host_" && matches!(name, "csum" | "gso" | "mrg_rxbuf");
        let name = if is_plain { name.to_owned() } else { format!("{side}{name}") };
        props.with_some(&name, state.map(|state| state.is_on()))
    })
}

/// One descriptor has a property of its own name.
fn fds(props: Props, one: &str, many: &str, fds: &[Fd]) -> Props {
    let list: Vec<String> = fds.iter().map(Fd::to_string).collect();
    props.with(if fds.len() == 1 { one } else { many }, list.join(":"))
}
