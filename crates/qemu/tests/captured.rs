//! What the captured sets say, against what is known of those versions by other ways.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use ferry_qemu::capabilities::{Accelerator, Capabilities, FORMAT, StoredError};
use ferry_qemu::probe::DEVICE_TYPES;
use ferry_qmp::commands::migration::MigrationCapability;

fn captured() -> [Capabilities; 2] {
    [include_str!("data/qemu-7.2.json"), include_str!("data/qemu-10.0.json")]
        .map(|text| Capabilities::from_json(text).unwrap())
}

#[test]
fn machines() {
    for (capabilities, version) in captured().iter().zip(["7.2", "10.0"]) {
        for (alias, name, cpus_max) in [
            ("pc", format!("pc-i440fx-{version}"), 255),
            ("q35", format!("pc-q35-{version}"), if version == "7.2" { 288 } else { 4096 }),
        ] {
            let machine = capabilities.machine(alias).unwrap();
            assert_eq!(machine, capabilities.machine(&name).unwrap());
            assert_eq!((&machine.name, machine.cpus_max), (&name, cpus_max));
            assert_eq!(machine.ram_id.as_deref(), Some("pc.ram"));
            assert_eq!(machine.default_cpu.as_deref(), Some("qemu64"));
            assert!(machine.cpu_hotplug && !machine.deprecated);
        }
        assert_eq!(capabilities.default_machine(), capabilities.machine("pc"));
        assert!(capabilities.machine("pc-q35-7.2").is_some(), "the machine on which the versions meet");
        assert!(capabilities.machine("none-such").is_none());
        for option in ["acpi", "hpet", "vmport", "smm", "usb", "dump-guest-core", "memory-backend"] {
            assert!(capabilities.machine_has(option), "{option}");
        }
    }
}

#[test]
fn migration() {
    let [old, new] = captured();
    for capability in [
        MigrationCapability::Events,
        MigrationCapability::PauseBeforeSwitchover,
        MigrationCapability::LateBlockActivate,
        MigrationCapability::Multifd,
        MigrationCapability::PostcopyRam,
        MigrationCapability::ReturnPath,
        MigrationCapability::ZeroCopySend,
    ] {
        assert!(
            old.has_migration_capability(&capability) && new.has_migration_capability(&capability),
            "{capability}"
        );
    }
    for capability in
        [MigrationCapability::DirtyLimit, MigrationCapability::MappedRam, MigrationCapability::SwitchoverAck]
    {
        assert!(
            !old.has_migration_capability(&capability) && new.has_migration_capability(&capability),
            "{capability}"
        );
    }
    for capability in [MigrationCapability::Compress, MigrationCapability::Block] {
        assert!(
            old.has_migration_capability(&capability) && !new.has_migration_capability(&capability),
            "{capability}"
        );
    }
    for parameter in ["avail-switchover-bandwidth", "direct-io", "mode", "zero-page-detection"] {
        assert!(
            !old.has_migration_parameter(parameter) && new.has_migration_parameter(parameter),
            "{parameter}"
        );
    }
    assert!(old.has_migration_parameter("max-bandwidth") && new.has_migration_parameter("downtime-limit"));
    assert!(!old.command_has("migrate", "channels") && new.command_has("migrate", "channels"));
    assert!(
        !old.command_has("migrate-incoming", "exit-on-error")
            && new.command_has("migrate-incoming", "exit-on-error")
    );
    assert!(!old.has_command("blockdev-set-active") && new.has_command("blockdev-set-active"));
    assert!(old.drops_cache() && new.drops_cache());
}

#[test]
fn devices_objects_and_back_ends() {
    for capabilities in captured() {
        assert!(capabilities.device_has("virtio-net-pci", "host_mtu"));
        assert!(capabilities.device_has("virtio-blk-pci", "num-queues"));
        assert!(
            capabilities.device_has("ICH9-LPC", "noreboot")
                && capabilities.device_has("PIIX4_PM", "disable_s3")
        );
        assert!(capabilities.has_device("virtio-vga"), "a module that is loaded when it is asked for");
        assert!(!capabilities.has_device("virtio-teapot") && !capabilities.device_has("virtio-teapot", "id"));
        assert!(capabilities.object_has("memory-backend-memfd", "hugetlb"));
        assert!(capabilities.object_has("memory-backend-file", "x-use-canonical-path-for-ramblock-id"));
        assert!(capabilities.has_object("iothread") && capabilities.has_object("secret"));
        assert!(
            capabilities.block_driver_has("file", "aio")
                && capabilities.block_driver_has("qcow2", "data-file")
        );
        assert!(capabilities.block_driver_has("raw", "node-name"), "options that all drivers share");
        assert_eq!(capabilities.aio.iter().collect::<Vec<_>>(), ["io_uring", "native", "threads"]);
        assert!(capabilities.netdevs["tap"].contains("vhostfds"));
        assert!(capabilities.chardevs.contains("pty") && capabilities.chardevs.contains("socket"));
        assert!(capabilities.has_option("sandbox") && capabilities.option_has("msg", "guest-name"));
        assert!(capabilities.option_has("boot-opts", "strict"));
    }
    let [old, new] = captured();
    assert!(old.has_device("qxl") && !new.has_device("qxl"));
    assert!(!old.has_option("run-with") && new.has_option("run-with"));
    let asked = |capabilities: &Capabilities| {
        capabilities.devices.keys().all(|name| DEVICE_TYPES.contains(&name.as_str()))
    };
    assert!(asked(&old) && asked(&new));
}

#[test]
fn cpus() {
    for capabilities in captured() {
        let model = capabilities.cpu_model(Accelerator::Tcg, "qemu64").unwrap();
        assert_eq!((model.alias_of.as_deref(), model.lacks.as_deref()), (Some("qemu64-v1"), Some(&[][..])));
        let epyc = capabilities.cpu_model(Accelerator::Tcg, "EPYC").unwrap();
        assert!(epyc.lacks.as_ref().unwrap().contains(&"topoext".to_owned()));
        let tcg = &capabilities.accelerators[&Accelerator::Tcg];
        assert_eq!(tcg.max_cpu_vendor.as_deref(), Some("AuthenticAMD"));
        assert_eq!((tcg.max_cpu.get("sse4.2"), tcg.max_cpu.get("vmx")), (Some(&true), Some(&false)));
        assert_eq!(tcg.max_cpu.get("realized"), None, "features only");
    }
}

#[test]
fn a_set_is_read_as_it_was_written_and_other_formats_are_refused() {
    for capabilities in captured() {
        let text = capabilities.to_json().unwrap();
        assert_eq!(Capabilities::from_json(&text).unwrap(), capabilities);
        let other = text.replacen(&format!("\"format\":{FORMAT}"), "\"format\":4711", 1);
        assert!(matches!(Capabilities::from_json(&other), Err(StoredError::Format { found: 4711 })));
        assert!(matches!(Capabilities::from_json(&text[..text.len() / 2]), Err(StoredError::Malformed(_))));
        assert!(matches!(Capabilities::from_json("{\"format\":2}"), Err(StoredError::Malformed(_))));
    }
}
