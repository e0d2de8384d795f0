//! The devices that a command line builds, each as its model and its place: what two hosts must agree on before a guest
//! moves from one to the other.
//!
//! Called on both sides of a migration with the command lines of the same guest. QEMU notices a device that its machine
//! lacks, and not one that it has too many. Names, back ends and options that differ between versions of QEMU are not
//! looked at.

use serde_json::Value;

use crate::command_line::CommandLine;

/// What says where a device is, in QEMU's words: bus, slot, and what stands for a slot on other buses than PCI.
const PLACE: [&str; 10] =
    ["bus", "addr", "unit", "channel", "scsi-id", "lun", "port", "nr", "chassis", "iobase"];

/// `virtio-blk-pci at bus=pci.0 addr=0x4`, in the order of the command line.
pub fn devices(line: &CommandLine) -> Vec<String> {
    let values = line.argv.iter().zip(line.argv.iter().skip(1));
    values.filter(|(option, _)| *option == "-device").map(|(_, value)| device(value)).collect()
}

/// An option that is no object is told as it is.
fn device(option: &str) -> String {
    let Ok(Value::Object(properties)) = serde_json::from_str(option) else { return option.to_owned() };
    let text = |name: &str| {
        properties.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let place: Vec<String> =
        PLACE.iter().filter_map(|name| text(name).map(|value| format!("{name}={value}"))).collect();
    let model = text("driver").unwrap_or_default();
    if place.is_empty() { model } else { format!("{model} at {}", place.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_its_model_and_its_place() {
        let argv = [
            "qemu",
            "-device",
            r#"{"driver":"virtio-blk-pci","bus":"pci.0","addr":"0x4","drive":"libvirt-1-format","id":"virtio-disk0"}"#,
            "-netdev",
            r#"{"type":"user"}"#,
            "-device",
            r#"{"driver":"scsi-hd","bus":"scsi0.0","channel":0,"scsi-id":0,"lun":1,"id":"scsi0-0-0-1"}"#,
            "-device",
            r#"{"driver":"pvpanic","id":"panic0"}"#,
            "-device",
        ];
        let line = CommandLine { argv: argv.map(str::to_owned).to_vec(), env: Vec::new() };
        assert_eq!(
            devices(&line),
            [
                "virtio-blk-pci at bus=pci.0 addr=0x4",
                "scsi-hd at bus=scsi0.0 channel=0 scsi-id=0 lun=1",
                "pvpanic"
            ]
        );
    }
}
