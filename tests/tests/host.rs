//! What stock virsh is told about a host: what its guests can have, and what it has of networks, pools and the like.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;

use ferry_tests::bench::Bench;

#[test]
fn guests_of_a_host_can_have_what_it_says() {
    let bench = Bench::sector();
    let told = bench.ok(&["domcapabilities", "--machine", "q35", "--virttype", "qemu"]);
    for part in [
        "<domain>qemu</domain>",
        "<value>virtio-non-transitional</value>",
        "<model fallback='forbid'>qemu64</model>",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(bench.ok(&["domcapabilities"]).contains("<machine>pc-i440fx-"));
    for (words, text) in [
        (["--arch", "foo"], "invalid argument: unknown architecture: foo"),
        (["--arch", "aarch64"], "unable to find any emulator to serve 'aarch64' architecture"),
        (["--machine", "foo"], "invalid argument: the machine 'foo' is not supported by emulator"),
        (["--emulatorbin", "/no/such"], "Cannot check QEMU binary /no/such: No such file or directory"),
        (["--virttype", "foo"], "invalid argument: unknown virttype: foo"),
        (["--virttype", "xen"], "does not support virt type 'xen'"),
    ] {
        bench.refused(&["domcapabilities", words[0], words[1]], text);
    }

    let models = bench.ok(&["cpu-models", "x86_64"]);
    assert!(
        models.lines().any(|name| name == "qemu64") && !models.lines().any(|name| name == "host"),
        "{models}"
    );
    assert!(bench.ok(&["cpu-models", "aarch64"]).contains("all CPU models are accepted"));
    bench.refused(&["cpu-models", "foo"], "cannot find architecture foo");
}

#[test]
fn processors_are_compared_with_what_guests_get() {
    let bench = Bench::sector();
    let file = bench.file("cpu.xml");
    let path = file.to_str().unwrap();
    let write = |text: &str| fs::write(&file, text).unwrap();
    let by_qemu = ["--virttype", "qemu"];
    let compare =
        |words: &[&str]| bench.ok(&[&["hypervisor-cpu-compare", path][..], &by_qemu, words].concat());

    write("<cpu><model>qemu64</model></cpu>");
    assert!(compare(&[]).contains("is a superset of CPU described"));
    // Whatever this machine's KVM gives, it gives what it has.
    write("<cpu mode='host-model'/>");
    assert!(bench.ok(&["cpu-compare", path]).contains("is a superset of CPU described"));
    write("<cpu mode='custom' match='exact'><model>Skylake-Server</model></cpu>");
    let output = bench.virsh().run([&["hypervisor-cpu-compare", path][..], &by_qemu].concat()).unwrap();
    assert!(output.stdout.contains("is incompatible with the CPU provided by hypervisor"), "{output:?}");
    bench.refused(
        &[&["hypervisor-cpu-compare", path, "--error"][..], &by_qemu].concat(),
        "the CPU is incompatible with host CPU: Host CPU does not provide required features: ",
    );
    let common = bench.ok(&[&["hypervisor-cpu-baseline", path][..], &by_qemu].concat());
    assert!(common.contains("<feature policy='disable' name='avx512f'/>"), "{common}");
    // What the hypervisor lacks taken out, it is one that guests can have.
    write(&common);
    assert!(compare(&[]).contains("superset"));
    write("<cpu><model>Foo</model></cpu>");
    bench.refused(&["cpu-compare", path], "Unknown CPU model Foo");
    write("<cpu><model>qemu64</model><feature name='nonsense'/></cpu>");
    bench.refused(&["cpu-compare", path], "Unknown CPU feature nonsense");

    write("<cpu><arch>x86_64</arch><model>Nehalem</model><feature name='aes'/></cpu>");
    let common = bench.ok(&["cpu-baseline", path]);
    assert!(
        common.contains("Nehalem") && common.contains("<feature policy='require' name='aes'/>"),
        "{common}"
    );
    bench.refused(&["cpu-baseline", path, "--features"], "this function is not supported");
}

#[test]
fn what_others_look_after_is_an_empty_list() {
    let bench = Bench::sector();
    for list in ["net-list", "pool-list", "iface-list"] {
        let told = bench.ok(&[list, "--all"]);
        assert_eq!(told.lines().filter(|line| !line.trim().is_empty()).count(), 2, "{list}: {told}");
    }
    for list in ["nwfilter-list", "secret-list"] {
        let told = bench.ok(&[list]);
        assert_eq!(told.lines().filter(|line| !line.trim().is_empty()).count(), 2, "{list}: {told}");
    }
    assert_eq!(bench.ok(&["nodedev-list"]).trim(), "");
    bench.refused(&["net-info", "foo"], "Network not found: no network with matching name 'foo'");
    bench.refused(&["pool-info", "foo"], "Storage pool not found: no storage pool with matching name 'foo'");
    bench.refused(
        &["nodedev-dumpxml", "foo"],
        "Node device not found: no node device with matching name 'foo'",
    );
    for event in ["net-event", "pool-event", "nodedev-event", "secret-event"] {
        let waited = bench.virsh().run([event, "--event", "lifecycle", "--timeout", "1"]).unwrap();
        assert!(waited.stdout.contains("event loop timed out"), "{event}: {waited:?}");
    }
}

#[test]
fn a_definition_is_shown_as_a_command_line() {
    let bench = Bench::sector();
    let line = bench.ok(&["domxml-to-native", "qemu-argv", "--domain", "vm"]);
    for part in ["/qemu-system-x86_64 ", "-name ", "virtio-blk-pci", "org.qemu.guest_agent.0"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    bench.refused(&["domxml-to-native", "foo", "--domain", "vm"], "unsupported config type foo");
    let file = bench.file("argv");
    fs::write(&file, &line).unwrap();
    let path = file.to_str().unwrap();
    let text = "this function is not supported by the connection driver: virConnectDomainXMLFromNative";
    bench.refused(&["domxml-from-native", "qemu-argv", path], text);
}
