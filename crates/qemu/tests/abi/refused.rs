//! What is refused, and in which words: stock's, where its clients are used to them.

use ferry_domxml::{Domain, FormatOptions};
use ferry_qemu::{Origin, complete, validate};

use super::common::{capabilities, counted};

/// Machine, devices, what else stands in the domain, and the refusal.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    (
        "q35",
        "<disk type='network' device='lun'><source protocol='nbd'><host name='a'/></source><target dev='sda' bus='scsi'/></disk>",
        "",
        "unsupported configuration: disk device='lun' is not supported for protocol='nbd'",
    ),
    (
        "q35",
        "<disk><driver copy_on_read='on'/><source file='/a'/><target dev='vda' bus='virtio'/><readonly/></disk>",
        "",
        "unsupported configuration: copy_on_read is not compatible with read-only disk 'vda'",
    ),
    (
        "q35",
        "<disk><driver discard_no_unref='on' type='qcow2'/><source file='/a'/><target dev='vda' bus='virtio'/></disk>",
        "",
        "unsupported configuration: 'discard_no_unref' is not supported by this QEMU binary",
    ),
    (
        "q35",
        "<disk><driver discard_no_unref='on'/><source file='/a'/><target dev='vda' bus='virtio'/></disk>",
        "",
        "unsupported configuration: 'discard_no_unref' only works with qcow2 disk format",
    ),
    (
        "q35",
        "<disk><driver><metadata_cache><max_size unit='MiB'>1</max_size></metadata_cache></driver><source file='/a'/>
         <target dev='vda' bus='virtio'/></disk>",
        "",
        "unsupported configuration: metadata cache max size control is supported only with qcow2 images",
    ),
    (
        "q35",
        "<disk><source file='/a'><dataStore type='file'><format type='raw'/><source file='/b'/></dataStore></source>
         <target dev='vda' bus='virtio'/></disk>",
        "",
        "unsupported configuration: <dataStore> feature available only with qcow2 images",
    ),
    (
        "q35",
        "<disk><driver type='qcow2'/><source file='/a'><dataStore type='file'><format type='qcow2'/><source file='/b'/>
         </dataStore></source><target dev='vda' bus='virtio'/></disk>",
        "",
        "unsupported configuration: only 'raw' images supported as <dataStore>",
    ),
    (
        "q35",
        "<disk><source file='/a'/><target dev='vda' bus='virtio'/><vendor>a</vendor></disk>",
        "",
        "unsupported configuration: Only scsi disk supports 'vendor'",
    ),
    (
        "q35",
        "<disk><source file='/a'/><target dev='sda' bus='scsi'/><vendor>123456789</vendor></disk>",
        "",
        "unsupported configuration: disk vendor is more than 8 characters",
    ),
    (
        "q35",
        "<disk><source file='/a'/><target dev='vda' bus='virtio' rotation_rate='1'/></disk>",
        "",
        "unsupported configuration: rotation rate is only valid for SCSI/IDE/SATA bus",
    ),
    (
        "q35",
        "<disk><source file='/a'/><target dev='vda' bus='virtio' removable='on'/></disk>",
        "",
        "unsupported configuration: removable is only valid for usb or scsi disks",
    ),
    (
        "q35",
        "<disk><source file='/a'/><geometry cyls='1' heads='2' secs='3' trans='lba'/><target dev='vda' bus='virtio'/></disk>",
        "",
        "unsupported configuration: CHS translation mode can only be set for 'ide' bus not 'virtio'",
    ),
    (
        "q35",
        "<controller type='scsi' model='lsilogic'><driver queues='3'/></controller>",
        "",
        "unsupported configuration: 'queues' is only supported by virtio-scsi controller",
    ),
    (
        "q35",
        "<interface type='user'><model type='virtio'/><address type='pci' domain='1' slot='3'/></interface>",
        "",
        "XML error: Invalid PCI address 0001:00:03.0. Only PCI domain 0 is available",
    ),
    (
        "q35",
        "<interface type='user'><model type='virtio'/><address type='pci' slot='31'/></interface>",
        "",
        "XML error: Attempted double use of PCI Address 0000:00:1f.0",
    ),
    (
        "pc",
        "<interface type='user'><model type='virtio'/><address type='pci' slot='1'/></interface>",
        "",
        "XML error: Attempted double use of PCI Address 0000:00:01.0",
    ),
    (
        "q35",
        "<controller type='pci' index='1' model='pcie-root-port'/>
         <interface type='user'><model type='virtio'/><address type='pci' bus='1' slot='1'/></interface>",
        "",
        "XML error: Invalid PCI address 0000:01:01.0. slot must be <= 0",
    ),
    (
        "pc",
        "<controller type='pci' model='pcie-root'/>",
        "",
        "XML error: The PCI controller with index='0' must be model='pci-root' for this machine type, but model='pcie-root' was found instead",
    ),
    (
        "q35",
        "<controller type='pci' model='pcie-root'/><controller type='pci' index='2' model='pcie-root-port'/>
         <controller type='pci' index='2' model='pcie-root-port'/>",
        "",
        "XML error: Multiple 'pci' controllers with index '2'",
    ),
    (
        "q35",
        "<controller type='sata' index='0'><address type='pci' slot='4'/></controller>",
        "",
        "internal error: Primary SATA controller must have PCI address 0:0:1f.2",
    ),
    (
        "pc",
        "<controller type='ide' index='0'><address type='pci' slot='4'/></controller>",
        "",
        "internal error: Primary IDE controller must have PCI address 0:0:1.1",
    ),
    (
        "pc",
        "<controller type='ide' index='1'/>",
        "",
        "unsupported configuration: Only a single IDE controller is supported for this machine type",
    ),
    (
        "pc",
        "<controller type='usb' index='0' model='piix3-uhci'><address type='pci' slot='4'/></controller>",
        "",
        "internal error: PIIX3 USB controller at index 0 must have PCI address 0:0:1.2",
    ),
    (
        "q35",
        "<disk><source file='/a'/><target dev='hda' bus='ide'/></disk>",
        "",
        "unsupported configuration: IDE controllers are unsupported for this QEMU binary or machine type",
    ),
    (
        "pc",
        "<controller type='usb' model='none'/><input type='tablet' bus='usb'/>",
        "",
        "unsupported configuration: Can't add USB input device. USB bus is disabled",
    ),
    (
        "pc",
        "<input type='tablet' bus='usb'><address type='usb' bus='0' port='1.2'/></input>",
        "",
        "XML error: there is no hub at port 1 in USB address bus: 0 port: 1.2",
    ),
    (
        "pc",
        "<input type='tablet' bus='ps2'/>",
        "",
        "internal error: ps2 bus does not support tablet input device",
    ),
    (
        "pc",
        "<controller type='usb' index='0' model='ich9-uhci1'><master startport='0'/></controller>",
        "",
        "XML error: No master USB controller specified",
    ),
    (
        "pc",
        "<disk><source file='/a'/><target dev='foo' bus='virtio'/></disk>",
        "",
        "internal error: Invalid harddisk device name: foo",
    ),
    (
        "pc",
        "<disk><source file='/a'/><target dev='foo' bus='sata'/></disk>",
        "",
        "XML error: Unknown disk name 'foo' and no address specified",
    ),
    (
        "pc",
        "<disk><source file='/a'/><target dev='hda' bus='ide'/><address type='drive'/></disk>
         <disk><source file='/b'/><target dev='hdb' bus='ide'/><address type='drive'/></disk>",
        "",
        "unsupported configuration: Found duplicate drive address for disk with target name 'hda' controller='0' bus='0' target='0' unit='0'",
    ),
    (
        "pc",
        "<disk device='cdrom'><target dev='vda' bus='virtio'/></disk>",
        "",
        "unsupported configuration: disk type of 'vda' does not support ejectable media",
    ),
    (
        "pc",
        "<disk><driver queues='2'/><source file='/a'/><target dev='sda' bus='sata'/></disk>",
        "",
        "unsupported configuration: queues attribute in disk driver element is only supported by virtio-blk",
    ),
    (
        "pc",
        "<disk><driver io='native'/><source file='/a'/><target dev='sda' bus='sata'/></disk>",
        "",
        "unsupported configuration: io='native' needs either no disk cache or directsync cache mode",
    ),
    (
        "pc",
        "<disk><driver iothread='1'/><source file='/a'/><target dev='vda'/></disk>",
        "",
        "unsupported configuration: Disk iothread '1' not defined in iothreadid",
    ),
    (
        "pc",
        "<disk><driver iothread='1'/><source file='/a'/><target dev='sda' bus='scsi'/></disk>",
        "<iothreads>1</iothreads>",
        "unsupported configuration: IOThreads not available for bus scsi target sda",
    ),
    (
        "pc",
        "<disk><driver><iothreads><iothread id='1'/></iothreads></driver><source file='/a'/><target dev='vda'/></disk>",
        "<iothreads>1</iothreads>",
        "unsupported configuration: IOThread mapping for disk is not available with this QEMU binary",
    ),
    (
        "pc",
        "<controller type='scsi' model='virtio-scsi'><driver iothread='2'/></controller>",
        "<iothreads>1</iothreads>",
        "unsupported configuration: controller iothread '2' not defined in iothreadid",
    ),
    (
        "pc",
        "<controller type='virtio-serial'><driver iothread='1'/></controller>",
        "<iothreads>1</iothreads>",
        "unsupported configuration: ioeventfd and iothread are only supported for virtio-scsi controllers, not for 'virtio-serial'",
    ),
    (
        "pc",
        "<disk><driver ioeventfd='on'/><source file='/a'/><target dev='sda' bus='scsi'/></disk>",
        "",
        "unsupported configuration: disk ioeventfd mode supported only for virtio bus",
    ),
    (
        "pc",
        "<disk><driver iommu='on'/><source file='/a'/><target dev='sda' bus='scsi'/></disk>",
        "",
        "unsupported configuration: iommu driver option is only supported for virtio devices",
    ),
    (
        "pc",
        "<interface type='user'><model type='e1000'/><driver packed='on'/></interface>",
        "",
        "unsupported configuration: packed driver option is only supported for virtio devices",
    ),
    (
        "pc",
        "<input type='tablet' bus='usb'><driver ats='on'/></input>",
        "",
        "unsupported configuration: ats driver option is only supported for virtio devices",
    ),
    (
        "pc",
        "<video><driver page_per_vq='on'/><model type='vga'/></video>",
        "",
        "unsupported configuration: page_per_vq driver option is only supported for virtio devices",
    ),
    (
        "pc",
        "<disk type='volume'><source pool='p' volume='v'/><target dev='vda'/></disk>",
        "",
        "unsupported configuration: disk 'vda' of type 'volume' (pool 'p', volume 'v'): there are no storage pools",
    ),
    (
        "pc",
        "<console type='pty'/><console type='pty'/>",
        "",
        "unsupported configuration: Only the first console can be a serial port",
    ),
    (
        "pc",
        "<channel type='pty'><target type='virtio' name='a'/><address type='virtio-serial' port='1'/></channel>
         <channel type='pty'><target type='virtio' name='b'/><address type='virtio-serial' port='1'/></channel>",
        "",
        "XML error: virtio serial port 1 on controller 0 is already occupied",
    ),
    (
        "pc",
        "<channel type='pty'><target type='virtio' name='a'/><address type='virtio-serial' port='31'/></channel>",
        "",
        "XML error: virtio serial controller 0 does not have port 31",
    ),
    (
        "pc",
        "<video><model type='vga'/></video><video><model type='vga'/></video>",
        "",
        "unsupported configuration: video type 'vga' is only valid as primary video device",
    ),
    (
        "pc",
        "<graphics type='vnc'/><graphics type='vnc'/>",
        "",
        "unsupported configuration: only 1 graphics device of each type (sdl, vnc, spice, headless, dbus) is supported",
    ),
    (
        "pc",
        "<interface type='user'><alias name='ua-a'/></interface><interface type='user'><alias name='ua-a'/></interface>",
        "",
        "unsupported configuration: non unique alias detected: ua-a",
    ),
    (
        "pc",
        "",
        "<cpu mode='host-passthrough'/>",
        "unsupported configuration: CPU mode 'host-passthrough' for x86_64 qemu domain on x86_64 host is not supported by hypervisor",
    ),
    (
        "pc",
        "",
        "<cpu mode='custom'><model>NoSuch</model></cpu>",
        "unsupported configuration: CPU model 'NoSuch' is not supported by this QEMU binary",
    ),
    (
        "pc",
        "",
        "<cpu mode='custom'><model>qemu64</model><feature name='aes=on,enforce' policy='require'/></cpu>",
        "unsupported configuration: CPU feature 'aes=on,enforce' is not a name",
    ),
    (
        "pc",
        "<graphics type='vnc' keymap='../../etc/passwd'/>",
        "",
        "unsupported configuration: keymap '../../etc/passwd' is not a name",
    ),
    (
        "pc",
        "<disk><source file='/a'/><target dev='sdzzzzz' bus='scsi'/></disk>",
        "",
        "XML error: controller index '1765232' is too large",
    ),
    (
        "pc-q35-99.0",
        "",
        "",
        "unsupported configuration: Emulator '/usr/bin/qemu-system-x86_64' does not support machine type 'pc-q35-99.0'",
    ),
    (
        "microvm",
        "",
        "",
        "unsupported configuration: machine type 'microvm' is not supported, only the pc and q35 families are",
    ),
];

#[test]
fn refusals_have_stocks_words() {
    let capabilities = capabilities("7.2");
    let mut wrong = Vec::new();
    for (machine, devices, rest, expected) in REFUSED {
        let text = format!(
            "<domain type='qemu'><name>r</name><memory>65536</memory><vcpu>1</vcpu>
             <os><type machine='{machine}'>hvm</type></os>{rest}
             <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>{devices}</devices></domain>"
        );
        let mut domain = Domain::parse(&text).unwrap();
        let found = match complete(&mut domain, &capabilities, Origin::Define, &mut counted()) {
            Err(refused) => refused.to_string(),
            Ok(()) => validate(&domain, &capabilities)
                .map_or_else(|refused| refused.to_string(), |()| "nothing".into()),
        };
        if found != *expected {
            wrong.push(format!("{devices}{rest}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A binary that lacks a device says so before it is started.
#[test]
fn a_missing_device_is_named() {
    let mut capabilities = capabilities("7.2");
    let text = "<domain type='qemu'><name>r</name><memory>65536</memory><vcpu>1</vcpu>
                <os><type machine='pc'>hvm</type></os>
                <devices><emulator>/q</emulator><video><model type='cirrus'/></video></devices></domain>";
    let mut domain = Domain::parse(text).unwrap();
    complete(&mut domain, &capabilities, Origin::Define, &mut counted()).unwrap();
    assert_eq!(validate(&domain, &capabilities), Ok(()));
    capabilities.devices.remove("cirrus-vga");
    let refused = validate(&domain, &capabilities).unwrap_err();
    let expected = "unsupported configuration: video model 'cirrus-vga' is not supported by this QEMU binary";
    assert_eq!(refused.to_string(), expected);
}

#[test]
fn secure_boot_needs_the_newer_chipset() {
    let capabilities = capabilities("7.2");
    let refusal = |machine: &str| {
        let text = format!(
            "<domain type='qemu'><name>r</name><memory>65536</memory><vcpu>1</vcpu><os><type machine='{machine}'>hvm</type>
             <loader readonly='yes' secure='yes' type='pflash'>/a</loader><nvram>/b</nvram></os>
             <features><acpi/><smm/></features><devices><emulator>/q</emulator></devices></domain>"
        );
        let mut domain = Domain::parse(&text).unwrap();
        complete(&mut domain, &capabilities, Origin::Define, &mut counted()).unwrap();
        validate(&domain, &capabilities).err().map(|refused| refused.to_string())
    };
    assert_eq!(refusal("q35"), None);
    let expected = "unsupported configuration: Secure boot is supported with q35 machine types only";
    assert_eq!(refusal("pc").as_deref(), Some(expected));
}

/// What is left out of the form that travels is the same machine again when it arrives.
#[test]
fn a_guest_arrives_as_it_left() {
    let capabilities = capabilities("7.2");
    for devices in
        ["", "<watchdog model='i6300esb' action='pause'/>", "<watchdog model='itco' action='none'/>"]
    {
        let text = format!(
            "<domain type='qemu'><name>r</name><uuid>58b7ef39-df32-4228-8b3d-78a3287f8e48</uuid><memory>65536</memory>
             <os><type machine='q35'>hvm</type></os><devices><emulator>/q</emulator>{devices}</devices></domain>"
        );
        let mut domain = Domain::parse(&text).unwrap();
        complete(&mut domain, &capabilities, Origin::Define, &mut counted()).unwrap();
        let mut arrived = Domain::parse(&domain.format(FormatOptions::MIGRATION)).unwrap();
        assert_eq!(ferry_domxml::abi::check(&domain, &arrived), Ok(()), "{devices}");
        complete(&mut arrived, &capabilities, Origin::Migration, &mut counted()).unwrap();
        assert_eq!(
            arrived.format(FormatOptions::INACTIVE),
            domain.format(FormatOptions::INACTIVE),
            "{devices}"
        );
    }
}

/// A guest that arrives has what it has: no port or balloon is added to it. The watchdog is its chipset's.
#[test]
fn a_guest_that_arrives_gets_nothing_new() {
    let capabilities = capabilities("10.0");
    let text = "<domain type='qemu'><name>r</name><memory>65536</memory><vcpu>1</vcpu>
                <os><type machine='pc-q35-7.2'>hvm</type></os>
                <devices><controller type='usb' index='0' model='none'/><memballoon model='none'/></devices></domain>";
    let mut domain = Domain::parse(text).unwrap();
    complete(&mut domain, &capabilities, Origin::Migration, &mut counted()).unwrap();
    assert_eq!(domain.devices.watchdogs.len(), 1, "the chipset's");
    assert_eq!(domain.devices.controllers.len(), 3, "usb none, sata, root");
    assert_eq!(domain.os.machine.machine.as_deref(), Some("pc-q35-7.2"));
}

/// A plan is told of everything, not of what comes first.
#[test]
fn all_that_a_binary_cannot_run_is_found_at_once() {
    let text = "<domain type='kvm'><name>vm</name><memory>65536</memory><vcpu>1</vcpu>
        <os><type arch='x86_64' machine='pc'>hvm</type></os>
        <cpu mode='custom'><model>Foo</model></cpu>
        <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
        <disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/><wwn>1</wwn></disk></devices></domain>";
    let domain = Domain::parse(text).unwrap();
    let mut capabilities = capabilities("7.2");
    capabilities.accelerators.retain(|_, _| false);
    let found = validate::problems(&domain, &capabilities);
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert!(texts.len() >= 3, "{texts:?}");
    for part in ["does not support virt type 'kvm'", "CPU model 'Foo'", "Only ide and scsi disk support wwn"]
    {
        assert!(texts.iter().any(|text| text.contains(part)), "{part}: {texts:?}");
    }
    assert_eq!(validate(&domain, &capabilities).unwrap_err(), found[0]);
}
