//! What the agent knows of the guest from within: users, system, clock, file systems, disks, network.

use std::fs;

use ferry_domxml::address::{DriveAddress, PciAddress};
use ferry_domxml::controller::ControllerType;
use ferry_domxml::{Disk, DiskBus, Domain, Interface};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{
    DomainFsinfo, DomainGetFsinfo, DomainGetFsinfoReply, DomainGetGuestInfo, DomainGetGuestInfoReply,
    DomainInterface, DomainInterfaceAddresses, DomainInterfaceAddressesReply, DomainIpAddr,
};
use ferry_rpc::typed_param::TypedParam;
use serde_json::Value;

use super::agent::{self, Asked, not_understood};
use super::{Context, accept_flags, running};

/// What can be asked for (`VIR_DOMAIN_GUEST_INFO_*`). None means all that the agent can tell.
const USERS: u32 = 0x1;
const OS: u32 = 0x2;
const TIMEZONE: u32 = 0x4;
const HOSTNAME: u32 = 0x8;
const FILESYSTEM: u32 = 0x10;
const DISKS: u32 = 0x20;
const INTERFACES: u32 = 0x40;
const ALL: u32 = USERS | OS | TIMEZONE | HOSTNAME | FILESYSTEM | DISKS | INTERFACES;

/// Entries of one list of a guest that are believed.
const ENTRIES_MAX: usize = 256;

/// The most values of one answer.
const PARAMS_MAX: usize = 2048;

/// The facts of one guest, in order.
#[derive(Default)]
struct Facts(Vec<TypedParam>);

impl Facts {
    fn text(&mut self, name: String, value: Option<&Value>) {
        if let Some(text) = value.and_then(Value::as_str) {
            self.0.push(TypedParam::new(name, text));
        }
    }

    fn size(&mut self, name: String, value: Option<&Value>) {
        if let Some(size) = value.and_then(Value::as_u64) {
            self.0.push(TypedParam::new(name, size));
        }
    }

    fn count(&mut self, name: String, count: usize) {
        self.0.push(TypedParam::new(name, u32::try_from(count).unwrap_or(u32::MAX)));
    }
}

/// All that is asked for, or all that the agent can tell.
pub(super) async fn all(
    context: Context,
    call: DomainGetGuestInfo,
) -> Result<DomainGetGuestInfoReply, Error> {
    accept_flags(call.flags, 0, "qemuDomainGetGuestInfo")?;
    let unknown = call.types & !ALL;
    if unknown != 0 {
        let text = format!("unsupported guest information types '0x{unknown:x}'");
        return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
    }
    let view = context.view(&call.domain)?;
    let agent = agent::of(&view)?;
    let mut facts = Facts::default();
    for (kind, command) in [
        (USERS, "guest-get-users"),
        (OS, "guest-get-osinfo"),
        (TIMEZONE, "guest-get-timezone"),
        (HOSTNAME, "guest-get-host-name"),
        (FILESYSTEM, "guest-get-fsinfo"),
        (DISKS, "guest-get-disks"),
        (INTERFACES, "guest-network-get-interfaces"),
    ] {
        if call.types != 0 && call.types & kind == 0 {
            continue;
        }
        let answer = match agent.run(command, Value::Null).await {
            Ok(answer) => answer,
            // What was not asked for by name may be missing.
            Err(error) if call.types == 0 && error.code == ErrorCode::INTERNAL_ERROR => continue,
            Err(error) => return Err(error),
        };
        match kind {
            USERS => users(&answer, &mut facts),
            OS => system(&answer, &mut facts),
            TIMEZONE => timezone(&answer, &mut facts),
            HOSTNAME => facts.text("hostname".to_owned(), answer.get("host-name")),
            FILESYSTEM => filesystems(&answer, &agent.live.domain, &mut facts),
            DISKS => disks(&answer, &agent.live.domain, &mut facts),
            _ => interfaces(&answer, &mut facts),
        }
    }
    facts.0.truncate(PARAMS_MAX);
    Ok(DomainGetGuestInfoReply { params: facts.0 })
}

/// The entries of a list, those beyond the bound left out.
fn entries(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.as_array().into_iter().flatten().take(ENTRIES_MAX)
}

fn users(answer: &Value, facts: &mut Facts) {
    facts.count("user.count".to_owned(), entries(answer).count());
    for (at, user) in entries(answer).enumerate() {
        facts.text(format!("user.{at}.name"), user.get("user"));
        facts.text(format!("user.{at}.domain"), user.get("domain"));
        if let Some(seconds) = user.get("login-time").and_then(Value::as_f64) {
            // Milliseconds since 1970.
            let login = TypedParam::new(format!("user.{at}.login-time"), (seconds * 1000.0) as u64);
            facts.0.push(login);
        }
    }
}

fn system(answer: &Value, facts: &mut Facts) {
    for key in [
        "id",
        "name",
        "pretty-name",
        "version",
        "version-id",
        "machine",
        "variant",
        "variant-id",
        "kernel-release",
        "kernel-version",
    ] {
        facts.text(format!("os.{key}"), answer.get(key));
    }
}

fn timezone(answer: &Value, facts: &mut Facts) {
    facts.text("timezone.name".to_owned(), answer.get("zone"));
    if let Some(offset) = answer.get("offset").and_then(Value::as_i64) {
        let offset = i32::try_from(offset).unwrap_or(0);
        facts.0.push(TypedParam::new("timezone.offset", offset));
    }
}

fn filesystems(answer: &Value, own: &Domain, facts: &mut Facts) {
    facts.count("fs.count".to_owned(), entries(answer).count());
    for (at, system) in entries(answer).enumerate() {
        facts.text(format!("fs.{at}.name"), system.get("name"));
        facts.text(format!("fs.{at}.mountpoint"), system.get("mountpoint"));
        facts.text(format!("fs.{at}.fstype"), system.get("type"));
        facts.size(format!("fs.{at}.total-bytes"), system.get("total-bytes"));
        facts.size(format!("fs.{at}.used-bytes"), system.get("used-bytes"));
        let disks = system.get("disk").unwrap_or(&Value::Null);
        facts.count(format!("fs.{at}.disk.count"), entries(disks).count());
        for (number, disk) in entries(disks).enumerate() {
            let prefix = format!("fs.{at}.disk.{number}");
            if let Some(own) = meant(disk, own) {
                facts.0.push(TypedParam::new(format!("{prefix}.alias"), own.target.dev.as_str()));
            }
            facts.text(format!("{prefix}.serial"), disk.get("serial"));
            facts.text(format!("{prefix}.device"), disk.get("dev"));
        }
    }
}

fn disks(answer: &Value, own: &Domain, facts: &mut Facts) {
    facts.count("disk.count".to_owned(), entries(answer).count());
    for (at, disk) in entries(answer).enumerate() {
        facts.text(format!("disk.{at}.name"), disk.get("name"));
        if let Some(partition) = disk.get("partition").and_then(Value::as_bool) {
            facts.0.push(TypedParam::new(format!("disk.{at}.partition"), partition));
        }
        if let Some(below) = disk.get("dependencies").filter(|below| below.is_array()) {
            facts.count(format!("disk.{at}.dependency.count"), entries(below).count());
            for (number, name) in entries(below).enumerate() {
                facts.text(format!("disk.{at}.dependency.{number}.name"), Some(name));
            }
        }
        if let Some(address) = disk.get("address") {
            facts.text(format!("disk.{at}.serial"), address.get("serial"));
            if let Some(own) = meant(address, own) {
                facts.0.push(TypedParam::new(format!("disk.{at}.alias"), own.target.dev.as_str()));
            }
        }
        facts.text(format!("disk.{at}.guest_alias"), disk.get("alias"));
    }
}

fn interfaces(answer: &Value, facts: &mut Facts) {
    let found = read_interfaces(answer);
    facts.count("if.count".to_owned(), found.len());
    for (at, interface) in found.into_iter().enumerate() {
        facts.0.push(TypedParam::new(format!("if.{at}.name"), interface.name));
        if let Some(address) = interface.hwaddr {
            facts.0.push(TypedParam::new(format!("if.{at}.hwaddr"), address));
        }
        facts.count(format!("if.{at}.addr.count"), interface.addrs.len());
        for (number, address) in interface.addrs.into_iter().enumerate() {
            let prefix = format!("if.{at}.addr.{number}");
            let family = if address.kind == IPV4 { "ipv4" } else { "ipv6" };
            facts.0.push(TypedParam::new(format!("{prefix}.type"), family));
            facts.0.push(TypedParam::new(format!("{prefix}.addr"), address.address));
            facts.0.push(TypedParam::new(format!("{prefix}.prefix"), address.prefix));
        }
    }
}

/// The disk of the definition that sits where the guest found one of its own.
fn meant<'a>(found: &Value, own: &'a Domain) -> Option<&'a Disk> {
    let number = |of: &Value, key: &str| of.get(key).and_then(Value::as_u64);
    // An agent that does not know has numbers below zero there.
    let pci = found.get("pci-controller");
    let pci = pci.and_then(|pci| Some((number(pci, "bus")?, number(pci, "slot")?, number(pci, "function")?)));
    let at =
        |address: PciAddress| pci == Some((address.bus.into(), address.slot.into(), address.function.into()));
    own.devices.disks.iter().find(|disk| match disk.drive_address() {
        None => disk.info.pci().is_some_and(at),
        Some(drive) => {
            let place = |key, own: u32| number(found, key) == Some(own.into());
            let controller = controller_address(own, disk.bus(), drive);
            place("bus", drive.bus)
                && place("target", drive.target)
                && place("unit", drive.unit)
                && (pci.is_none() || controller.is_none_or(at))
        }
    })
}

/// Where the controller is that a drive hangs on.
fn controller_address(own: &Domain, bus: DiskBus, drive: DriveAddress) -> Option<PciAddress> {
    let kind = match bus {
        DiskBus::Ide => ControllerType::Ide,
        DiskBus::Scsi => ControllerType::Scsi,
        DiskBus::Sata => ControllerType::Sata,
        DiskBus::Usb => ControllerType::Usb,
        DiskBus::Fdc | DiskBus::Virtio => return None,
    };
    let mut controllers = own.devices.controllers.iter();
    let controller =
        controllers.find(|one| one.kind.controller_type() == kind && one.index == Some(drive.controller))?;
    controller.info.pci()
}

/// The guest's file systems and the disks that they are on.
pub(super) async fn filesystems_of(
    context: Context,
    call: DomainGetFsinfo,
) -> Result<DomainGetFsinfoReply, Error> {
    accept_flags(call.flags, 0, "qemuDomainGetFSInfo")?;
    let view = context.view(&call.domain)?;
    let agent = agent::of(&view)?;
    let answer = agent.run("guest-get-fsinfo", Value::Null).await?;
    let own = &agent.live.domain;
    let read = |system: &Value| {
        let text = |key: &str| system.get(key).and_then(Value::as_str).map(str::to_owned);
        let disks = system.get("disk").unwrap_or(&Value::Null);
        Some(DomainFsinfo {
            mountpoint: text("mountpoint")?,
            name: text("name")?,
            fstype: text("type")?,
            dev_aliases: entries(disks)
                .filter_map(|disk| Some(meant(disk, own)?.target.dev.clone()))
                .collect(),
        })
    };
    let info: Option<Vec<_>> = entries(&answer).map(read).collect();
    let info = info.ok_or_else(|| not_understood("guest-get-fsinfo"))?;
    Ok(DomainGetFsinfoReply { count: u32::try_from(info.len()).unwrap_or(u32::MAX), info })
}

/// Families of addresses (`VIR_IP_ADDR_TYPE_*`).
const IPV4: i32 = 0;
const IPV6: i32 = 1;

/// The guest's network addresses, from one of those who may know them.
pub(super) async fn addresses(
    context: Context,
    call: DomainInterfaceAddresses,
) -> Result<DomainInterfaceAddressesReply, Error> {
    /// `VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_*`.
    const LEASE: u32 = 0;
    const AGENT: u32 = 1;
    const ARP: u32 = 2;
    accept_flags(call.flags, 0, "qemuDomainInterfaceAddresses")?;
    let view = context.view(&call.domain)?;
    let live = running(&view)?;
    let interfaces = match call.source {
        // No network is ours, so nobody here has given an address to a guest.
        LEASE => Vec::new(),
        AGENT => read_interfaces(&ask_interfaces(&agent::of(&view)?).await?),
        ARP => {
            let table = fs::read_to_string("/proc/net/arp").unwrap_or_default();
            live.domain.devices.interfaces.iter().filter_map(|card| in_arp(&table, card)).collect()
        }
        other => {
            let text = format!("Unknown IP address data source {other}");
            return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
        }
    };
    Ok(DomainInterfaceAddressesReply { interfaces })
}

async fn ask_interfaces(agent: &Asked<'_>) -> Result<Value, Error> {
    agent.run("guest-network-get-interfaces", Value::Null).await
}

fn read_interfaces(answer: &Value) -> Vec<DomainInterface> {
    let address = |entry: &Value| {
        let kind = match entry.get("ip-address-type")?.as_str()? {
            "ipv4" => IPV4,
            "ipv6" => IPV6,
            _ => return None,
        };
        let address = entry.get("ip-address")?.as_str()?.to_owned();
        let prefix = u32::try_from(entry.get("prefix")?.as_u64()?).ok()?;
        Some(DomainIpAddr { kind, address, prefix })
    };
    let mut found: Vec<DomainInterface> = Vec::new();
    for entry in entries(answer) {
        let Some(name) = entry.get("name").and_then(Value::as_str) else { continue };
        let addrs: Vec<_> =
            entries(entry.get("ip-addresses").unwrap_or(&Value::Null)).filter_map(address).collect();
        // `eth0:1` is another address of `eth0`.
        let base = name.split(':').next().unwrap_or(name);
        match found.iter_mut().find(|known| known.name == base) {
            Some(known) => known.addrs.extend(addrs),
            None => {
                let hwaddr = entry.get("hardware-address").and_then(Value::as_str).map(str::to_owned);
                found.push(DomainInterface { name: base.to_owned(), hwaddr, addrs });
            }
        }
    }
    found
}

/// A card whose hardware address the host has spoken to.
fn in_arp(table: &str, card: &Interface) -> Option<DomainInterface> {
    /// An IPv4 address by itself.
    const WHOLE: u32 = 32;
    let mac = card.mac?.to_string();
    let addresses = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [address, _, _, found, ..] = *words.as_slice() else { return None };
        found.eq_ignore_ascii_case(&mac).then(|| DomainIpAddr {
            kind: IPV4,
            address: address.to_owned(),
            prefix: WHOLE,
        })
    });
    let addrs: Vec<_> = addresses.collect();
    let name = card.target_dev.clone()?;
    (!addrs.is_empty()).then_some(DomainInterface { name, hwaddr: Some(mac), addrs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(facts: &Facts) -> Vec<&str> {
        facts.0.iter().map(|fact| fact.name.as_str()).collect()
    }

    #[test]
    fn further_addresses_belong_to_their_interface() {
        let answer = json!([
            {"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]},
            {"name": "eth0", "hardware-address": "52:54:00:00:00:01",
             "ip-addresses": [{"ip-address-type": "ipv6", "ip-address": "fe80::1", "prefix": 64}]},
            {"name": "eth0:1", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "10.0.0.1", "prefix": 24},
                                                {"ip-address-type": "ipx"}]}
        ]);
        let found = read_interfaces(&answer);
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].hwaddr.as_deref(), Some("52:54:00:00:00:01"));
        let addresses: Vec<_> = found[1].addrs.iter().map(|address| (address.kind, address.prefix)).collect();
        assert_eq!(addresses, [(IPV6, 64), (IPV4, 24)]);
        let mut facts = Facts::default();
        interfaces(&answer, &mut facts);
        assert!(names(&facts).contains(&"if.1.addr.1.prefix"));
    }

    #[test]
    fn a_guests_disk_is_found_by_where_it_sits() {
        let xml = "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>\
            <disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/>\
            <address type='pci' domain='0' bus='0' slot='5' function='0'/></disk>\
            <disk type='file'><source file='/b'/><target dev='sda' bus='scsi'/>\
            <address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>\
            <controller type='scsi' index='0' model='virtio-scsi'>\
            <address type='pci' domain='0' bus='0' slot='6' function='0'/></controller></devices></domain>";
        let mut own = Domain::parse(xml).unwrap();
        // The order must not matter.
        own.devices.disks.reverse();
        let virtio = json!({"bus-type": "virtio", "bus": 0, "target": 0, "unit": 0,
                            "pci-controller": {"domain": 0, "bus": 0, "slot": 5, "function": 0}});
        let scsi = json!({"bus-type": "scsi", "bus": 0, "target": 0, "unit": 0});
        assert_eq!(meant(&virtio, &own).unwrap().target.dev, "vda");
        assert_eq!(meant(&scsi, &own).unwrap().target.dev, "sda");
        assert!(meant(&json!({"bus": 3}), &own).is_none());
        let mut facts = Facts::default();
        filesystems(
            &json!([{"name": "vda1", "mountpoint": "/", "type": "ext4", "disk": [virtio]}]),
            &own,
            &mut facts,
        );
        assert_eq!(
            names(&facts),
            [
                "fs.count",
                "fs.0.name",
                "fs.0.mountpoint",
                "fs.0.fstype",
                "fs.0.disk.count",
                "fs.0.disk.0.alias"
            ]
        );
    }

    #[test]
    fn the_neighbours_of_the_host_are_known_by_their_cards() {
        let table = "IP address  HW type  Flags  HW address  Mask  Device\n\
                     192.0.2.7  0x1  0x2  52:54:00:00:00:01  *  br0\n";
        let xml = "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>\
            <interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:01'/><target dev='tap1'/></interface>\
            <interface type='bridge'><source bridge='br0'/><mac address='52:54:00:00:00:02'/></interface></devices></domain>";
        let cards = Domain::parse(xml).unwrap().devices.interfaces;
        let found = in_arp(table, &cards[0]).unwrap();
        assert_eq!((found.name.as_str(), found.addrs[0].address.as_str()), ("tap1", "192.0.2.7"));
        assert!(in_arp(table, &cards[1]).is_none());
    }
}
