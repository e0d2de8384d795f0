//! Machines with many parts, as clouds and desktops define them: started by the real QEMU, moved, and the same afterwards.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::path::Path;

use ferry_tests::aftermath::Asking as _;
use ferry_tests::{Pair, SOON};

/// What stands before `<os>`.
const BEFORE: &str = "
  <genid>4f1d9b2e-4a1c-4b7e-9a61-0c1f5a7e3b2d</genid>
  <iothreads>2</iothreads>
  <sysinfo type='smbios'>
    <system><entry name='manufacturer'>Clouds, Ltd</entry><entry name='product'>Instance</entry></system>
    <oemStrings><entry>first</entry><entry>second</entry></oemStrings>
  </sysinfo>";

const FEATURES: &str =
    "<vmcoreinfo state='on'/><hyperv><relaxed state='on'/></hyperv><kvm><hidden state='on'/></kvm>";

const CPU: &str = "
  <cpu mode='custom'>
    <model>qemu64</model>
    <topology sockets='2' cores='1' threads='1'/>
  </cpu>";

/// The boot-sector guest's definition with all of it.
fn many_parts(pair: &Pair, plain: &str) -> String {
    let pstore = pair.lab().shared().join("vm.pstore");
    let disk = pair.lab().shared().join("second.img");
    fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    let devices = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' iothread='1' packed='on'/>\
         <source file='{}'/><target dev='vdz' bus='virtio'/></disk>\
         <controller type='scsi' model='virtio-scsi'><driver iothread='2' queues='2'/></controller>\
         <interface type='user'><model type='virtio'/><driver event_idx='off'><host gso='off'/></driver></interface>\
         <sound model='ich6'/><panic model='isa'/><rng model='virtio'><backend model='builtin'/><driver packed='on'/></rng>\
         <watchdog model='i6300esb' action='pause'/>\
         <pstore backend='acpi-erst'><path>{}</path><size unit='KiB'>64</size></pstore>",
        disk.display(),
        pstore.display()
    );
    let places = [
        ("<vcpu>1</vcpu>", format!("<vcpu>2</vcpu>{BEFORE}")),
        ("<boot dev='hd'/>", "<boot dev='hd'/><smbios mode='sysinfo'/>".to_owned()),
        ("<apic/>", format!("<apic/>{FEATURES}")),
        ("<clock offset='utc'/>", format!("{CPU}<clock offset='utc'/>")),
        ("<memballoon", format!("{devices}<memballoon")),
    ];
    places.iter().fold(plain.to_owned(), |xml, (place, with)| {
        assert!(xml.contains(place), "{place} is not in {xml}");
        xml.replacen(place, with, 1)
    })
}

/// The definition of what runs on the first host, without what became known of its images.
fn machine_of(pair: &Pair) -> String {
    let xml = pair.virsh(0).ok(["dumpxml", "vm", "--migratable"]).unwrap();
    xml.lines().filter(|line| line.trim() != "<backingStore/>").collect::<Vec<_>>().join("\n")
}

/// There and back, directly and peer to peer: the guest beats on, and its definition is the same to the letter.
#[test]
fn a_machine_of_many_parts_crosses_and_returns() {
    for machine in ["pc", "q35"] {
        let pair = Pair::new(&Pair::distribution()).unwrap();
        let (domain, serial) = pair.sector("vm").unwrap();
        let file = pair.lab().shared().join("vm.xml");
        fs::write(&file, many_parts(&pair, &domain.machine(machine).xml())).unwrap();
        pair.virsh(0).define_and_start("vm", &file).unwrap();
        serial.wait_beats_on(pair.ear(0), 100, SOON).unwrap();
        let before = machine_of(&pair);
        for (from, p2p) in [(0, None), (1, None), (0, Some("--p2p")), (1, Some("--p2p"))] {
            let uri = pair.uri(1 - from);
            let words = ["migrate", "vm", &uri, "--live", "--unsafe"].into_iter().chain(p2p);
            pair.virsh(from).ok(words).unwrap();
            pair.moved(from, "vm", "running (migrated)", &serial);
        }
        assert_eq!(machine_of(&pair), before, "{machine}");
        serial.verdict().whole().unwrap();
    }
}

/// The firmware is chosen once and written down; its variables are made at the first start, move along, and are forgotten
/// only on a word.
#[test]
fn a_guest_with_uefi_starts_crosses_and_leaves_its_variables() {
    if !Path::new("/usr/share/qemu/firmware").is_dir() {
        eprintln!("no firmware is installed on this host: passed by");
        return;
    }
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let virsh = pair.virsh(0);
    let (domain, _) = pair.sector("vm").unwrap();
    let variables = pair.lab().shared().join("vars.fd");
    let place = format!("</type><nvram>{}</nvram>", variables.display());
    let xml =
        domain.machine("q35").xml().replacen("<os>", "<os firmware='efi'>", 1).replacen("</type>", &place, 1);
    let file = pair.lab().shared().join("vm.xml");
    fs::write(&file, xml).unwrap();
    virsh.define_and_start("vm", &file).unwrap();
    let defined = virsh.ok(["dumpxml", "vm", "--inactive"]).unwrap();
    for part in [
        "<loader readonly='yes' secure='yes' type='pflash' format='raw'>",
        "name='secure-boot'",
        "<smm state='on'/>",
    ] {
        assert!(defined.contains(part), "{part} is not in {defined}");
    }
    assert!(fs::metadata(&variables).unwrap().len() > 0);
    let uri = pair.uri(1);
    virsh.ok(["migrate", "vm", &uri, "--live", "--unsafe", "--p2p"]).unwrap();
    assert_eq!(pair.virsh(1).reason("vm"), "running (migrated)");
    pair.virsh(1).ok(["destroy", "vm"]).unwrap();

    let said = virsh.fails(["undefine", "vm"]).unwrap();
    assert!(said.contains("cannot undefine domain with nvram"), "{said}");
    virsh.ok(["undefine", "vm", "--nvram"]).unwrap();
    assert!(!variables.exists());
}
