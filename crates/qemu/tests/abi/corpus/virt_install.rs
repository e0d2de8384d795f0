//! As `virt-install --import` and `virt-install --cdrom` write them: libosinfo's identity, timers and sleep states of the guest's
//! system, many root ports, an agent's channel.

use super::Tool;

pub(super) const TOOL: Tool = Tool {
    name: "virt_install",
    form: "\
<domain type=\"qemu\">
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  {memory}
  {system}
  {guest}
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {disks}
    {network}
    {console}
    {screen}
    {extras}
  </devices>
</domain>
",
    places: &[
        ("memory", MEMORY),
        ("system", SYSTEM),
        ("guest", GUEST),
        ("disks", DISKS),
        ("network", NETWORK),
        ("console", CONSOLE),
        ("screen", SCREEN),
        ("extras", EXTRAS),
    ],
};

const MEMORY: &[(&str, &str)] = &[
    ("plain", "<memory>65536</memory><currentMemory>65536</currentMemory><vcpu>1</vcpu>"),
    ("ballooned", "<memory>98304</memory><currentMemory>65536</currentMemory><vcpu>2</vcpu>"),
    ("spare_cpus", "<memory unit='MiB'>64</memory><vcpu current='2'>4</vcpu>"),
    (
        "memfd",
        "<memory>65536</memory><memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>\
         <vcpu>2</vcpu>",
    ),
    (
        "pinned",
        "<memory>65536</memory><vcpu cpuset='0'>1</vcpu><cputune><vcpupin vcpu='0' cpuset='0'/></cputune>",
    ),
];

const SYSTEM: &[(&str, &str)] = &[
    ("q35", "<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>"),
    ("q35_efi", "<os firmware='efi'><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>"),
    ("pc", "<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>"),
    (
        "q35_menu",
        "<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='cdrom'/><boot dev='hd'/>\
         <bootmenu enable='yes' timeout='3000'/></os>",
    ),
    (
        "q35_network",
        "<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='network'/><boot dev='hd'/>\
         <bios useserial='yes' rebootTimeout='0'/></os>",
    ),
    (
        "q35_7_1_smbios",
        "<sysinfo type='smbios'><bios><entry name='vendor'>Somebody</entry></bios>\
         <system><entry name='manufacturer'>Somebody</entry><entry name='serial'>12</entry></system>\
         <chassis><entry name='asset'>a &amp; b</entry></chassis><oemStrings><entry>one</entry></oemStrings></sysinfo>\
         <os><type arch='x86_64' machine='pc-q35-7.1'>hvm</type><boot dev='hd'/><smbios mode='sysinfo'/></os>",
    ),
];

const GUEST: &[(&str, &str)] = &[
    (
        "linux",
        "<metadata><libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>\
         <libosinfo:os id='http://fedoraproject.org/fedora/39'/></libosinfo:libosinfo></metadata>\
         <features><acpi/><apic/></features><cpu mode='host-model'/>\
         <clock offset='utc'><timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/>\
         <timer name='hpet' present='no'/></clock>\
         <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>",
    ),
    (
        "windows",
        "<metadata><libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>\
         <libosinfo:os id='http://microsoft.com/win/10'/></libosinfo:libosinfo></metadata>\
         <features><acpi/><apic/><hyperv><relaxed state='on'/><vapic state='on'/>\
         <spinlocks state='on' retries='8191'/></hyperv><vmport state='off'/></features>\
         <cpu mode='custom' match='exact' check='none'><model fallback='allow'>Nehalem</model></cpu>\
         <clock offset='localtime'><timer name='rtc' tickpolicy='catchup'/><timer name='pit' tickpolicy='delay'/>\
         <timer name='hpet' present='no'/></clock>\
         <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>",
    ),
    ("generic", "<features><acpi/><apic/></features><clock offset='utc'/>"),
    (
        "maximum",
        "<features><acpi/><apic/><pae/></features><cpu mode='maximum' check='none' migratable='on'/>\
         <clock offset='utc'><timer name='tsc' present='yes'/></clock><on_reboot>destroy</on_reboot>",
    ),
    (
        "features",
        "<title>one with wishes</title><description>several lines\nof text</description>\
         <features><acpi/><apic eoi='on'/><kvm><hidden state='on'/></kvm><vmcoreinfo state='on'/></features>\
         <cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model>\
         <feature policy='require' name='ssse3'/><feature policy='disable' name='svm'/></cpu>\
         <clock offset='variable' adjustment='3600' basis='utc'/>\
         <on_crash>restart</on_crash>",
    ),
];

const DISKS: &[(&str, &str)] = &[
    (
        "virtio",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/>\
         <source file='/corpus/a.qcow2'/><target dev='vda' bus='virtio'/></disk>",
    ),
    (
        "native",
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/>\
         <source file='/corpus/b.img'/><target dev='vda' bus='virtio'/><serial>WD-1</serial></disk>",
    ),
    (
        "sata_and_medium",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/corpus/a.qcow2'/>\
         <target dev='sda' bus='sata'/></disk>\
         <disk type='file' device='cdrom'><driver name='qemu' type='raw'/><source file='/corpus/install.iso'/>\
         <target dev='sdb' bus='sata'/><readonly/></disk>",
    ),
    (
        "virtio_scsi",
        "<controller type='scsi' index='0' model='virtio-scsi'><driver queues='2'/></controller>\
         <disk type='file' device='disk'><driver name='qemu' type='raw' discard='unmap' detect_zeroes='unmap'/>\
         <source file='/corpus/b.img'/><target dev='sda' bus='scsi'/><wwn>5000c50015ea71ac</wwn></disk>\
         <disk type='file' device='cdrom'><target dev='sdb' bus='scsi'/><readonly/></disk>",
    ),
    (
        "usb",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/corpus/a.qcow2'/>\
         <target dev='sda' bus='usb' removable='on'/></disk>",
    ),
    (
        "overlay",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='writeback'/>\
         <source file='/corpus/overlay.qcow2'/><backingStore type='file'><format type='qcow2'/>\
         <source file='/corpus/base.qcow2'/><backingStore/></backingStore><target dev='vda' bus='virtio'/></disk>",
    ),
    (
        "three",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/corpus/a.qcow2'/>\
         <target dev='vda' bus='virtio'/></disk>\
         <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/corpus/b.img'/>\
         <target dev='vdb' bus='virtio'/><readonly/></disk>\
         <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/corpus/c.img'/>\
         <target dev='vdc' bus='virtio'/><shareable/></disk>",
    ),
];

const NETWORK: &[(&str, &str)] = &[
    ("no_net", ""),
    ("user", "<interface type='user'><mac address='{mac}:01'/><model type='virtio'/></interface>"),
    (
        "bridge",
        "<interface type='bridge'><source bridge='br0'/><mac address='{mac}:01'/><model type='virtio'/></interface>",
    ),
    (
        "e1000e",
        "<interface type='bridge'><source bridge='virbr0'/><mac address='{mac}:01'/><model type='e1000e'/></interface>",
    ),
    (
        "two",
        "<interface type='bridge'><source bridge='br0'/><mac address='{mac}:01'/><model type='virtio'/>\
         <mtu size='1400'/></interface>\
         <interface type='user'><mac address='{mac}:02'/><model type='rtl8139'/><link state='down'/></interface>",
    ),
    (
        "queues",
        "<interface type='bridge'><source bridge='br0'/><mac address='{mac}:01'/><model type='virtio'/>\
         <driver name='qemu' queues='2' rx_queue_size='512'/><rom bar='off'/></interface>",
    ),
];

const CONSOLE: &[(&str, &str)] = &[
    ("pty", "<console type='pty'/>"),
    ("serial", "<serial type='pty'/><console type='pty'><target type='serial'/></console>"),
    ("virtio_console", "<console type='pty'><target type='virtio'/></console>"),
    ("log", "<serial type='pty'><log file='/corpus/serial.log' append='on'/></serial>"),
    (
        "two_ports",
        "<serial type='file'><source path='/corpus/one.log'/><target port='0'/></serial>\
         <serial type='unix'><source mode='bind' path='/corpus/two.sock'/><target port='1'/></serial>",
    ),
];

const SCREEN: &[(&str, &str)] = &[
    (
        "vnc_virtio",
        "<graphics type='vnc' port='-1'/><video><model type='virtio'/></video>\
         <input type='tablet' bus='usb'/>",
    ),
    ("headless", ""),
    ("vnc_vga", "<graphics type='vnc' port='-1' listen='127.0.0.1'/><video><model type='vga'/></video>"),
    (
        "vnc_two_heads",
        "<graphics type='vnc' port='-1' keymap='de'/>\
         <video><model type='virtio' heads='2' primary='yes'/></video><input type='keyboard' bus='usb'/>",
    ),
    ("bochs", "<graphics type='vnc' port='-1'/><video><model type='bochs'/></video>"),
];

const EXTRAS: &[(&str, &str)] = &[
    (
        "usual",
        "<controller type='usb' model='qemu-xhci' ports='15'/>\
         <channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <memballoon model='virtio'/>\
         <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    ),
    ("sound", "<sound model='ich9'/><memballoon model='virtio'/>"),
    ("watchdog", "<watchdog model='i6300esb' action='poweroff'/>"),
    ("bare", "<memballoon model='none'/>"),
    (
        "usb2",
        "<controller type='usb' index='0' model='ich9-ehci1'/>\
         <controller type='usb' index='0' model='ich9-uhci1'><master startport='0'/></controller>\
         <controller type='usb' index='0' model='ich9-uhci2'><master startport='2'/></controller>\
         <controller type='usb' index='0' model='ich9-uhci3'><master startport='4'/></controller>\
         <sound model='ich6'><codec type='micro'/></sound>",
    ),
    (
        "tpm",
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm><memballoon model='virtio'/>",
    ),
    ("panic", "<panic model='isa'/><memballoon model='virtio' autodeflate='on' freePageReporting='on'/>"),
    (
        "inputs",
        "<input type='mouse' bus='virtio'/><input type='keyboard' bus='virtio'/><input type='tablet' bus='virtio'/>\
         <rng model='virtio'><rate bytes='1024' period='1000'/><backend model='builtin'/></rng>",
    ),
];
