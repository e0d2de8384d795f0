//! As vagrant-libvirt's template gives them: short, old buses and emulated cards among the choices, every driver attribute that a
//! Vagrantfile can set.

use super::Tool;

pub(super) const TOOL: Tool = Tool {
    name: "vagrant",
    form: "\
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}_default</name>
  <title></title>
  <description>Source: /home/somebody/Vagrantfile</description>
  <uuid>{uuid}</uuid>
  {size}
  {cpu}
  {machine}
  {features}
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {disks}
    {network}
    {ports}
    {screen}
    {extras}
  </devices>
</domain>
",
    places: &[
        ("size", SIZE),
        ("cpu", CPU),
        ("machine", MACHINE),
        ("features", FEATURES),
        ("disks", DISKS),
        ("network", NETWORK),
        ("ports", PORTS),
        ("screen", SCREEN),
        ("extras", EXTRAS),
    ],
};

const SIZE: &[(&str, &str)] = &[
    ("small", "<memory>65536</memory><vcpu>1</vcpu>"),
    ("cpuset", "<memory>65536</memory><vcpu cpuset='0-1'>2</vcpu>"),
    (
        "shared",
        "<memory>65536</memory><vcpu>1</vcpu>\
         <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
    ),
    ("tuned", "<memory>65536</memory><vcpu>2</vcpu><cputune><shares>512</shares></cputune>"),
    (
        "nodes",
        "<memory>65536</memory><vcpu>2</vcpu><numatune><memory nodeset='0' mode='preferred'/></numatune>",
    ),
];

const CPU: &[(&str, &str)] = &[
    ("host_model", "<cpu mode='host-model'></cpu>"),
    ("custom", "<cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model></cpu>"),
    ("no_cpu", ""),
    (
        "features",
        "<cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model>\
         <feature name='hypervisor' policy='disable'/><feature name='sse4.1' policy='optional'/></cpu>",
    ),
];

const MACHINE: &[(&str, &str)] = &[
    ("pc", "<os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/><bootmenu enable='no'/></os>"),
    ("q35", "<os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/><bootmenu enable='no'/></os>"),
    (
        "pc_versioned",
        "<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type><boot dev='network'/><boot dev='hd'/>\
         <bootmenu enable='yes'/></os>",
    ),
    ("nothing_said", "<os><type arch='x86_64'>hvm</type><boot dev='hd'/></os>"),
];

const FEATURES: &[(&str, &str)] = &[
    ("usual", "<features><acpi/><apic/><pae/></features><clock offset='utc'/>"),
    ("none", "<clock offset='utc'/>"),
    (
        "timers",
        "<features><acpi/><apic/><pae/></features>\
         <clock offset='localtime'><timer name='hpet' present='no'/><timer name='pit' tickpolicy='delay'/>\
         <timer name='rtc' track='guest'/></clock><on_poweroff>destroy</on_poweroff>",
    ),
    (
        "absolute",
        "<features><acpi/><apic/></features><clock offset='absolute' start='1700000000'/>\
         <pm><suspend-to-mem enabled='yes'/></pm>",
    ),
];

const DISKS: &[(&str, &str)] = &[
    (
        "box",
        "<disk type='file' device='disk'><alias name='ua-box-volume-0'/>\
         <driver name='qemu' type='qcow2' cache='default'/><source file='/corpus/overlay.qcow2'/>\
         <target dev='vda' bus='virtio'/></disk>",
    ),
    (
        "box_and_disk",
        "<disk type='file' device='disk'><alias name='ua-box-volume-0'/>\
         <driver name='qemu' type='qcow2' cache='unsafe'/><source file='/corpus/a.qcow2'/>\
         <target dev='vda' bus='virtio'/></disk>\
         <disk type='file' device='disk'><alias name='ua-disk-volume-0'/>\
         <driver name='qemu' type='raw' cache='directsync' io='threads' detect_zeroes='on'/>\
         <source file='/corpus/b.img'/><target dev='vdb' bus='virtio'/><address type='pci' bus='0x00' slot='0x1d'/></disk>",
    ),
    (
        "sata",
        "<disk type='file' device='disk'><alias name='ua-box-volume-0'/><driver name='qemu' type='qcow2'/>\
         <source file='/corpus/a.qcow2'/><target dev='sda' bus='sata'/></disk>\
         <disk type='file' device='cdrom'><source file='/corpus/install.iso'/><target dev='sdb' bus='sata'/>\
         <readonly/></disk>",
    ),
    (
        "scsi",
        "<controller type='scsi' index='0' model='virtio-scsi'/>\
         <disk type='file' device='disk'><alias name='ua-box-volume-0'/><driver name='qemu' type='qcow2'/>\
         <source file='/corpus/a.qcow2'/><target dev='sda' bus='scsi'/></disk>",
    ),
    (
        "default_scsi",
        "<disk type='file' device='disk'><alias name='ua-box-volume-0'/><driver name='qemu' type='qcow2'/>\
         <source file='/corpus/a.qcow2'/><target dev='sda' bus='scsi'/></disk>",
    ),
    (
        "floppy",
        "<disk type='file' device='disk'><alias name='ua-box-volume-0'/><driver name='qemu' type='qcow2'/>\
         <source file='/corpus/a.qcow2'/><target dev='vda' bus='virtio'/></disk>\
         <disk type='file' device='floppy'><source file='/corpus/floppy.img'/><target dev='fda' bus='fdc'/></disk>",
    ),
];

const NETWORK: &[(&str, &str)] = &[
    (
        "management",
        "<interface type='bridge'><alias name='ua-net-0'/><source bridge='virbr0'/>\
         <mac address='{mac}:01'/><target dev='vnet%d'/><model type='virtio'/>\
         <driver name='qemu' txmode='timer' event_idx='off'/></interface>",
    ),
    (
        "private",
        "<interface type='user'><alias name='ua-net-0'/><mac address='{mac}:01'/><model type='virtio'/></interface>\
         <interface type='bridge'><alias name='ua-net-1'/><source bridge='br0'/><mac address='{mac}:02'/>\
         <model type='e1000'/></interface>",
    ),
    (
        "emulated",
        "<interface type='user'><alias name='ua-net-0'/><mac address='{mac}:01'/><model type='rtl8139'/></interface>",
    ),
    ("no_model", "<interface type='user'><mac address='{mac}:01'/></interface>"),
    ("none", ""),
];

const PORTS: &[(&str, &str)] = &[
    ("pty", "<serial type='pty'><target port='0'/></serial><console type='pty'><target port='0'/></console>"),
    (
        "file",
        "<serial type='file'><source path='/corpus/serial.log'/><target port='0'/></serial>\
         <serial type='pty'><target port='1'/></serial>",
    ),
    (
        "channels",
        "<serial type='pty'/><channel type='unix'><source mode='bind' path='/corpus/agent.sock'/>\
         <target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <channel type='unix'><target type='virtio' name='org.example.1'/></channel>",
    ),
    ("console", "<console type='pty'/>"),
];

const SCREEN: &[(&str, &str)] = &[
    (
        "cirrus",
        "<input type='mouse' bus='ps2'/>\
         <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1' keymap='en-us'/>\
         <video><model type='cirrus' vram='16384' heads='1'/></video>",
    ),
    (
        "password",
        "<input type='tablet' bus='usb'/><graphics type='vnc' port='-1' autoport='yes' passwd='secret'/>\
         <video><model type='vga' vram='16384' heads='1'/></video>",
    ),
    ("no_screen", ""),
    (
        "virtio",
        "<input type='keyboard' bus='ps2'/><graphics type='vnc' port='-1' autoport='yes'/>\
         <video><model type='virtio' heads='1'/></video>",
    ),
];

const EXTRAS: &[(&str, &str)] = &[
    ("plain", ""),
    ("balloon", "<memballoon model='virtio' autodeflate='on'/>"),
    ("rng", "<rng model='virtio'><backend model='random'>/dev/random</backend></rng>"),
    ("watchdog", "<watchdog model='ib700' action='dump'/>"),
    ("sound", "<sound model='ac97'/><memballoon model='none'/>"),
    (
        "usb",
        "<controller type='usb' model='nec-xhci' ports='4'/><input type='mouse' bus='usb'/>\
         <input type='keyboard' bus='usb'/><memballoon model='virtio'/>",
    ),
];
