//! What the tests of command lines share: capability sets, the daemon's part of a start, and a normal form
//! in which two command lines can be compared.

use std::collections::BTreeMap;

use ferry_domxml::Domain;
use ferry_domxml::chardev::{Backend, ConsoleTargetType, SocketMode};
use ferry_domxml::controller::{ControllerKind, PciModel, UsbModel};
use ferry_domxml::display::{Graphics, VideoType};
use ferry_domxml::interface::Network;
use ferry_domxml::{BalloonModel, InputBus, WatchdogModel};
use ferry_qemu::blockgraph::{self, Image, ImageChain};
use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::command_line::{ChardevFds, MemoryFolders, Now, SealedSecret, Tap};
use ferry_qemu::firmware::{self, Descriptor};
use ferry_qemu::{CommandLine, Launch, Origin, aliases, command_line, complete, host_model};
use serde_json::{Map, Value, json};

use crate::live::{self, Settings};

/// The capabilities of a captured binary: `7.2` or `10.0`.
pub(crate) fn capabilities(version: &str) -> Capabilities {
    let path = format!("{}/tests/data/qemu-{version}.json", env!("CARGO_MANIFEST_DIR"));
    Capabilities::from_json(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Random bytes that are the same in every run.
pub(crate) fn counted() -> impl FnMut() -> u8 {
    let mut last = 0;
    move || {
        last += 1;
        last
    }
}

/// Completes as a definition.
pub(crate) fn defined(text: &str, capabilities: &Capabilities) -> Domain {
    let mut domain = Domain::parse(text).unwrap();
    fill_in(&mut domain, capabilities).unwrap();
    domain
}

/// What the daemon does at define: its emulator, what is left open, the firmware. `Err` has the refusal.
pub(crate) fn fill_in(domain: &mut Domain, capabilities: &Capabilities) -> Result<(), String> {
    domain.devices.emulator.get_or_insert("/usr/bin/qemu-system-x86_64".to_owned());
    complete(domain, capabilities, Origin::Define, &mut counted()).map_err(|refused| refused.to_string())?;
    if domain.os.firmware.is_some() || domain.os.has_variables() {
        let installed = [secure_firmware()];
        firmware::choose(domain, &installed, "/var/lib/libvirt/qemu/nvram")
            .map_err(|refused| refused.to_string())?;
    }
    Ok(())
}

/// The UEFI that Debian puts first.
fn secure_firmware() -> Descriptor {
    let text = json!({
        "interface-types": ["uefi"],
        "mapping": {
            "device": "flash",
            "executable": {"filename": "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "format": "raw"},
            "nvram-template": {"filename": "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "format": "raw"}
        },
        "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
        "features": ["acpi-s3", "enrolled-keys", "requires-smm", "secure-boot"]
    });
    Descriptor::parse(&text.to_string()).unwrap()
}

/// What the daemon adds to a definition before it starts it: the host's CPU, chains without overlays,
/// addresses of servers, names, node numbers.
pub(crate) fn started(domain: &Domain, capabilities: &Capabilities) -> Domain {
    try_started(domain, capabilities).unwrap()
}

/// The same for a definition of which it is not known whether it can be started.
pub(crate) fn try_started(domain: &Domain, capabilities: &Capabilities) -> Result<Domain, String> {
    let mut live = domain.clone();
    host_model::expand(&mut live, capabilities).map_err(|error| error.to_string())?;
    for disk in &mut live.devices.disks {
        if !disk.source.is_empty() && disk.backing_store.is_none() {
            let image =
                Image { location: disk.source.location.clone(), format: disk.format(), data_file: None };
            blockgraph::attach(disk, &ImageChain(vec![image]));
        }
    }
    blockgraph::number(&mut live.devices.disks);
    live.id = Some(1);
    live::settle(
        &mut live,
        &Settings {
            channel_directory: "/run/channel".to_owned(),
            vnc_directory: "/run/vnc".to_owned(),
            vnc_address: "127.0.0.1".to_owned(),
        },
    );
    for Graphics::Vnc(vnc) in &mut live.devices.graphics {
        vnc.port = vnc.port.filter(|port| *port > 0).or(Some(5900));
    }
    aliases::assign(&mut live).map_err(|error| error.to_string())?;
    Ok(live)
}

/// A start with every descriptor that the domain needs.
pub(crate) fn launch(domain: &Domain) -> Launch {
    let mut launch = Launch::new(3, Now { utc_s: 1_000_000_000, zone_offset_s: 3600 });
    launch.memory = memory_folders("/huge");
    let mut fd = 10;
    let mut next = || {
        fd += 1;
        fd
    };
    for card in &domain.devices.interfaces {
        if card.source.network != Network::User {
            let queues = card.driver.as_ref().and_then(|driver| driver.queues).unwrap_or(1);
            let tap = Tap { fds: (0..queues).map(|_| next()).collect(), vhost_fds: Vec::new() };
            launch.taps.insert(card.info.alias.clone().unwrap(), tap);
        }
    }
    for secret in domain.devices.disks.iter().flat_map(blockgraph::needed) {
        let sealed = SealedSecret { data: "c2VhbGVk".to_owned(), iv: "dmVjdG9y".to_owned() };
        launch.secrets.insert(secret.object, sealed);
        launch.master_key = Some("/run/master-key.aes".to_owned());
    }
    for file_system in &domain.devices.filesystems {
        let alias = file_system.info.alias.clone().unwrap();
        launch.file_systems.insert(alias.clone(), format!("/run/{alias}-fs.sock"));
    }
    launch.tpm = domain.devices.tpms.first().map(|_| next());
    let serials = domain.devices.serials.iter().map(|device| (&device.info, &device.source, &device.log));
    let channels = domain.devices.channels.iter().map(|device| (&device.info, &device.source, &device.log));
    for (info, source, log) in serials.chain(channels) {
        let listen = matches!(source.backend, Backend::Unix { mode: SocketMode::Bind, .. }).then(&mut next);
        let log = log.as_ref().map(|_| next());
        let fds = ChardevFds { listen, file: None, log };
        launch.chardevs.insert(info.alias.clone().unwrap(), fds);
    }
    launch
}

/// A host with large pages of two sizes.
pub(crate) fn memory_folders(root: &str) -> MemoryFolders {
    MemoryFolders {
        files: Some(format!("{root}/ram")),
        pages: BTreeMap::from([(2048, format!("{root}/2M")), (1 << 20, format!("{root}/1G"))]),
        usual_pages_kib: Some(2048),
    }
}

/// The command line of a completed domain.
pub(crate) fn line(domain: &Domain, capabilities: &Capabilities) -> CommandLine {
    let live = started(domain, capabilities);
    command_line(&live, capabilities, &launch(&live)).unwrap()
}

/// A command line with every option parsed and in one form, whichever way it was written: switches are
/// `on`/`off`, numbers decimal strings, PCI addresses `SS.F`, devices sorted by id.
pub(crate) fn normal(argv: &[String]) -> Value {
    let mut out: BTreeMap<&str, Value> = BTreeMap::new();
    for list in ["accel", "device", "global", "numa"] {
        out.insert(list, json!([]));
    }
    for map in ["audiodev", "blockdev", "chardev", "fsdev", "netdev", "object", "tpmdev", "opt"] {
        out.insert(map, json!({}));
    }
    let mut words = argv.iter().skip(1);
    while let Some(option) = words.next() {
        let name = option.strip_prefix('-').unwrap();
        if ["S", "no-user-config", "nodefaults", "no-shutdown", "no-hpet", "no-acpi"].contains(&name) {
            if name != "S" {
                push(&mut out, "opt", name, json!(""));
            }
            continue;
        }
        let value = words.next().unwrap();
        match name {
            "name" | "msg" | "sandbox" | "mon" | "add-fd" => {}
            "machine" => drop(out.insert("machine", options(value, "type"))),
            "cpu" => drop(out.insert("cpu", options(value, "model"))),
            "m" => drop(out.insert("m", bytes(options(value, "size")))),
            "smp" => drop(out.insert("smp", options(value, "cpus"))),
            "accel" => item(&mut out, "accel", options(value, "accel")),
            "numa" => item(&mut out, "numa", options(value, "type")),
            "global" => item(&mut out, "global", json!(value)),
            "device" => item(&mut out, "device", device(options(value, "driver"))),
            "object" => keyed(&mut out, "object", options(value, "qom-type"), "id"),
            "blockdev" => keyed(&mut out, "blockdev", options(value, "driver"), "node-name"),
            "chardev" => keyed(&mut out, "chardev", chardev(options(value, "backend")), "id"),
            "netdev" => keyed(&mut out, "netdev", options(value, "type"), "id"),
            "audiodev" => keyed(&mut out, "audiodev", options(value, "driver"), "id"),
            "tpmdev" => keyed(&mut out, "tpmdev", options(value, "type"), "id"),
            "uuid" | "k" | "bios" | "watchdog-action" | "kernel" | "initrd" | "append" | "incoming" => {
                push(&mut out, "opt", name, json!(value));
            }
            "display" => push(&mut out, "opt", name, options(value, "type")),
            "vnc" => push(&mut out, "opt", name, options(value, "display")),
            "boot" | "rtc" | "overcommit" | "smbios" | "fw_cfg" => {
                push(&mut out, "opt", name, options(value, ""))
            }
            other => panic!("option -{other} is not known to the normal form"),
        }
    }
    let mut value = json!(out);
    sort(&mut value);
    value
}

/// Takes out of a normal form what two equal guests may differ in: descriptors, image paths, stock's master
/// key, the program.
pub(crate) fn without_host(mut normal: Value) -> Value {
    let object = normal.as_object_mut().unwrap();
    object.remove("binary");
    object.remove("env");
    object.get_mut("object").and_then(Value::as_object_mut).unwrap().remove("masterKey0");
    for (_, node) in object["blockdev"].as_object_mut().unwrap() {
        let node = node.as_object_mut().unwrap();
        node.entry("filename").and_modify(|path| *path = json!("IMAGE"));
        // Samples stand a file in for every device.
        node.entry("driver").and_modify(|driver| {
            if driver == "host_device" {
                *driver = json!("file");
            }
        });
    }
    for (_, netdev) in object["netdev"].as_object_mut().unwrap() {
        netdev.as_object_mut().unwrap().entry("fd").and_modify(|fd| *fd = json!("FD"));
    }
    for device in object["device"].as_array_mut().unwrap() {
        device.as_object_mut().unwrap().remove("vhostfd");
    }
    for (_, chardev) in object["chardev"].as_object_mut().unwrap() {
        let chardev = chardev.as_object_mut().unwrap();
        chardev.entry("fd").and_modify(|fd| *fd = json!("FD"));
        if chardev.get("backend") == Some(&json!("socket")) && chardev.remove("path").is_some() {
            chardev.insert("fd".to_owned(), json!("FD"));
        }
    }
    sort(&mut normal);
    normal
}

/// Where two values differ, as paths with both sides.
pub(crate) fn differences(ours: &Value, theirs: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", ours, theirs, &mut found);
    found
}

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let missing = Value::String("(nothing)".to_owned());
                let (one, other) = (a.get(key).unwrap_or(&missing), b.get(key).unwrap_or(&missing));
                compare(&format!("{path}/{key}"), one, other, found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (one, other)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{index}]"), one, other, found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => found.push(format!("{path}: ours {a}, theirs {b}")),
    }
}

/// JSON or `key=value,…`; a first word without a key is called `head`.
fn options(text: &str, head: &str) -> Value {
    if text.starts_with('{') {
        return plain(serde_json::from_str(text).unwrap());
    }
    let mut map = Map::new();
    let text = text.replace(",,", "\u{1}");
    for (index, part) in text.split(',').enumerate() {
        let part = part.replace('\u{1}', ",");
        match part.split_once('=') {
            Some((key, value)) => map.insert(key.to_owned(), json!(value)),
            None if index == 0 => map.insert(head.to_owned(), json!(part)),
            None => map.insert(part, json!("on")),
        };
    }
    Value::Object(map)
}

/// Switches and numbers as the older form writes them.
fn plain(value: Value) -> Value {
    match value {
        Value::Bool(on) => json!(if on { "on" } else { "off" }),
        Value::Number(number) => json!(number.to_string()),
        Value::Null => json!("null"),
        Value::Array(values) => values.into_iter().map(plain).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, plain(value))).collect(),
        text @ Value::String(_) => text,
    }
}

fn device(mut value: Value) -> Value {
    let map = value.as_object_mut().unwrap();
    if let Some(Value::String(addr)) = map.get("addr") {
        let number = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        let (slot, function) = addr.split_once('.').unwrap_or((addr, "0"));
        // A module of memory has an address of another kind.
        if let (Some(slot), Some(function)) = (number(slot), number(function)) {
            let addr = format!("{slot:02x}.{function:x}");
            map.insert("addr".to_owned(), json!(addr));
        }
    }
    value
}

fn chardev(mut value: Value) -> Value {
    let map = value.as_object_mut().unwrap();
    if let Some(Value::String(path)) = map.get("logfile")
        && path.starts_with("/dev/fdset/")
    {
        map.insert("logfile".to_owned(), json!("/dev/fdset/N"));
    }
    value
}

fn bytes(mut value: Value) -> Value {
    for (key, size) in value.as_object_mut().unwrap() {
        if key != "slots"
            && let Some(kib) = size.as_str().unwrap().strip_suffix('k')
        {
            *size = json!((kib.parse::<u64>().unwrap() * 1024).to_string());
        }
    }
    value
}

fn push(out: &mut BTreeMap<&str, Value>, group: &'static str, name: &str, value: Value) {
    let group = out.get_mut(group).unwrap().as_object_mut().unwrap();
    group.entry(name).or_insert_with(|| json!([])).as_array_mut().unwrap().push(value);
}

fn item(out: &mut BTreeMap<&str, Value>, list: &'static str, value: Value) {
    out.get_mut(list).unwrap().as_array_mut().unwrap().push(value);
}

fn keyed(out: &mut BTreeMap<&str, Value>, map: &'static str, value: Value, key: &str) {
    let name = value[key].as_str().unwrap().to_owned();
    out.get_mut(map).unwrap().as_object_mut().unwrap().insert(name, value);
}

/// Devices and globals in one order.
fn sort(value: &mut Value) {
    for list in ["device", "global"] {
        value[list].as_array_mut().unwrap().sort_by_key(ToString::to_string);
    }
}

/// Devices of a running definition that the command line does not have. What the chipset has anyway, and what is no device of
/// the guest, is not asked for.
pub(crate) fn absent(live: &Domain, argv: &[String]) -> Vec<String> {
    let words = argv.windows(2).filter(|words| words[0] == "-device");
    let devices = words.map(|words| options(&words[1], "driver"));
    let known = |device: Value| device["id"].as_str().or(device["driver"].as_str()).map(str::to_owned);
    absent_among(live, &devices.filter_map(known).collect::<Vec<_>>())
}

/// The same for devices by their names; those that have none, by what they are.
pub(crate) fn absent_among(live: &Domain, known: &[String]) -> Vec<String> {
    let mut live = live.clone();
    let is_q35 = live.os.machine.machine.as_deref().unwrap_or_default().contains("q35");
    let asked = &mut live.devices;
    asked.graphics.clear();
    asked.inputs.retain(|input| input.bus != Some(InputBus::Ps2));
    asked.videos.retain(|video| video.model.kind != VideoType::None);
    asked.watchdogs.retain(|watchdog| watchdog.model != WatchdogModel::Itco);
    asked.memballoon = asked.memballoon.take().filter(|balloon| balloon.model != BalloonModel::None);
    asked.consoles.retain(|console| {
        console.target.as_ref().is_some_and(|target| target.kind == ConsoleTargetType::Virtio)
    });
    asked.controllers.retain(|controller| match controller.kind {
        ControllerKind::Pci(Some(PciModel::PciRoot | PciModel::PcieRoot))
        | ControllerKind::Usb(Some(UsbModel::None))
        | ControllerKind::Ide
        | ControllerKind::Fdc => false,
        ControllerKind::Sata => !(is_q35 && controller.index == Some(0)),
        _ => true,
    });
    // It has no name of its own.
    let panics = known.iter().filter(|name| name.starts_with("pvpanic")).count();
    let mut absent = Vec::new();
    if panics < asked.panics.len() {
        absent.push("panic".to_owned());
    }
    asked.panics.clear();
    for info in asked.infos_mut() {
        match info.alias.as_deref() {
            Some(alias) if known.iter().any(|name| name == alias) => {}
            alias => absent.push(alias.unwrap_or("a device without an alias").to_owned()),
        }
    }
    absent
}
