//! The probe against the QEMU of this machine, where there is one.

#[path = "../examples/probe.rs"]
#[expect(dead_code, reason = "only the conversation is used, not the program around it")]
mod probe;

use ferry_qemu::capabilities::{Accelerator, Capabilities};
use std::path::Path;

const BINARY: &str = "/usr/bin/qemu-system-x86_64";

#[test]
fn the_installed_qemu_is_what_was_captured() {
    if !Path::new(BINARY).exists() {
        return;
    }
    let found = probe::capabilities(BINARY).unwrap();
    assert!(
        found.machine("q35").is_some() && found.has_device("virtio-blk-pci") && found.has_command("migrate")
    );
    assert!(found.has_accelerator(Accelerator::Tcg));
    assert!(found.default_machine().is_some());

    let captured = Capabilities::from_json(include_str!("data/qemu-7.2.json")).unwrap();
    if (found.version, &found.package) != (captured.version, &captured.package) {
        return;
    }
    // Which devices are there depends on which modules are installed, and KVM on the host.
    for (device, properties) in &found.devices {
        assert_eq!(captured.devices.get(device), Some(properties), "{device}");
    }
    let common = |capabilities: Capabilities| {
        let mut accelerators = capabilities.accelerators;
        accelerators.remove(&Accelerator::Kvm);
        Capabilities { devices: Default::default(), accelerators, ..capabilities }
    };
    assert_eq!(common(found), common(captured));
}
