//! As KubeVirt's virt-launcher writes them: non-transitional virtio throughout, aliases of its own, sockets in its private folder,
//! memory in bytes, disks of container images and a cloud-init medium, firmware tables with its name.

use super::Tool;

pub(super) const TOOL: Tool = Tool {
    name: "kubevirt",
    form: "\
<domain type=\"qemu\" xmlns:qemu=\"http://libvirt.org/schemas/domain/qemu/1.0\">
  <name>default_{name}</name>
  <uuid>{uuid}</uuid>
  {memory}
  {machine}
  <sysinfo type=\"smbios\">
    <system>
      <entry name=\"uuid\">{uuid}</entry>
      <entry name=\"manufacturer\">KubeVirt</entry>
      <entry name=\"family\">KubeVirt</entry>
      <entry name=\"product\">None</entry>
      <entry name=\"sku\">None</entry>
      <entry name=\"version\"></entry>
    </system>
    <baseBoard></baseBoard>
    <chassis></chassis>
  </sysinfo>
  <metadata>
    <kubevirt xmlns=\"http://kubevirt.io\">
      <uid>{uuid}</uid>
      <graceperiod><deletionGracePeriodSeconds>30</deletionGracePeriodSeconds></graceperiod>
    </kubevirt>
  </metadata>
  {processor}
  <clock offset=\"utc\"></clock>
  <devices>
    <controller type=\"usb\" index=\"0\" model=\"{usb}\"></controller>
    <controller type=\"scsi\" index=\"0\" model=\"virtio-non-transitional\"><driver iothread=\"1\" queues=\"1\"></driver></controller>
    <controller type=\"virtio-serial\" index=\"0\" model=\"virtio-non-transitional\"></controller>
    {disks}
    {network}
    <channel type=\"unix\"><target name=\"org.qemu.guest_agent.0\" type=\"virtio\"></target></channel>
    {screen}
    {extras}
  </devices>
</domain>
",
    places: &[
        ("memory", MEMORY),
        ("machine", MACHINE),
        ("processor", PROCESSOR),
        ("usb", USB),
        ("disks", DISKS),
        ("network", NETWORK),
        ("screen", SCREEN),
        ("extras", EXTRAS),
    ],
};

const MEMORY: &[(&str, &str)] = &[
    ("plain", "<memory unit=\"b\">67108864</memory>"),
    (
        "shared",
        "<memory unit=\"b\">67108864</memory>\
         <memoryBacking><source type=\"memfd\"></source><access mode=\"shared\"></access></memoryBacking>",
    ),
    ("odd", "<memory unit=\"b\">67108865</memory>"),
];

const MACHINE: &[(&str, &str)] = &[
    (
        "q35",
        "<os><type arch=\"x86_64\" machine=\"q35\">hvm</type><smbios mode=\"sysinfo\"></smbios></os>\
         <features><acpi></acpi></features>",
    ),
    (
        "q35_smm",
        "<os><type arch=\"x86_64\" machine=\"q35\">hvm</type><smbios mode=\"sysinfo\"></smbios></os>\
         <features><acpi></acpi><apic></apic><smm state=\"on\"></smm></features>",
    ),
    (
        "q35_efi",
        "<os firmware=\"efi\"><type arch=\"x86_64\" machine=\"q35\">hvm</type><smbios mode=\"sysinfo\"></smbios></os>\
         <features><acpi></acpi></features>",
    ),
    (
        "q35_versioned",
        "<os><type arch=\"x86_64\" machine=\"pc-q35-7.2\">hvm</type><smbios mode=\"sysinfo\"></smbios></os>\
         <features><acpi></acpi><pvspinlock state=\"off\"></pvspinlock></features>",
    ),
];

const PROCESSOR: &[(&str, &str)] = &[
    (
        "host_model",
        "<cpu mode=\"host-model\"><topology sockets=\"1\" cores=\"1\" threads=\"1\"></topology></cpu>\
         <vcpu placement=\"static\">1</vcpu><iothreads>1</iothreads>",
    ),
    (
        "hotpluggable",
        "<cpu mode=\"custom\"><model>Nehalem</model>\
         <topology sockets=\"4\" cores=\"1\" threads=\"1\"></topology></cpu>\
         <vcpu placement=\"static\" current=\"1\">4</vcpu>\
         <iothreads>1</iothreads>",
    ),
    (
        "dedicated",
        "<cpu mode=\"host-model\"><topology sockets=\"1\" cores=\"2\" threads=\"1\"></topology></cpu>\
         <vcpu placement=\"static\">2</vcpu><iothreads>2</iothreads>\
         <cputune><vcpupin vcpu=\"0\" cpuset=\"0\"></vcpupin><vcpupin vcpu=\"1\" cpuset=\"1\"></vcpupin>\
         <iothreadpin iothread=\"1\" cpuset=\"0\"></iothreadpin></cputune>",
    ),
    (
        "threads",
        "<cpu mode=\"custom\" match=\"exact\" check=\"none\"><model>qemu64</model>\
         <topology sockets=\"1\" cores=\"2\" threads=\"2\"></topology></cpu>\
         <vcpu placement=\"static\">4</vcpu><iothreads>1</iothreads>",
    ),
    (
        "cells",
        "<cpu mode=\"custom\" match=\"exact\" check=\"none\"><model>qemu64</model>\
         <topology sockets=\"2\" cores=\"1\" threads=\"1\"></topology>\
         <numa><cell id=\"0\" cpus=\"0\" memory=\"32768\" unit=\"KiB\"></cell>\
         <cell id=\"1\" cpus=\"1\" memory=\"32768\" unit=\"KiB\"></cell></numa></cpu>\
         <vcpu placement=\"static\">2</vcpu><iothreads>1</iothreads>",
    ),
];

const USB: &[(&str, &str)] = &[("no_usb", "none"), ("xhci", "qemu-xhci")];

const DISKS: &[(&str, &str)] = &[
    (
        "container",
        "<disk device=\"disk\" type=\"file\" model=\"virtio-non-transitional\">\
         <source file=\"/corpus/overlay.qcow2\"></source><target bus=\"virtio\" dev=\"vda\"></target>\
         <driver cache=\"none\" error_policy=\"stop\" name=\"qemu\" type=\"qcow2\" discard=\"unmap\"></driver>\
         <alias name=\"ua-containerdisk\"></alias>\
         <backingStore type=\"file\"><format type=\"qcow2\"></format>\
         <source file=\"/corpus/base.qcow2\"></source><backingStore></backingStore></backingStore></disk>\
         <disk device=\"disk\" type=\"file\" model=\"virtio-non-transitional\">\
         <source file=\"/corpus/noCloud.iso\"></source><target bus=\"virtio\" dev=\"vdb\"></target>\
         <driver cache=\"none\" error_policy=\"stop\" name=\"qemu\" type=\"raw\" discard=\"unmap\"></driver>\
         <alias name=\"ua-cloudinitdisk\"></alias></disk>",
    ),
    (
        "volume",
        "<disk device=\"disk\" type=\"file\" model=\"virtio-non-transitional\">\
         <source file=\"/corpus/b.img\"></source><target bus=\"virtio\" dev=\"vda\"></target>\
         <driver cache=\"none\" error_policy=\"stop\" name=\"qemu\" type=\"raw\" io=\"native\" iothread=\"1\" \
         discard=\"unmap\"></driver><alias name=\"ua-rootdisk\"></alias><boot order=\"1\"></boot></disk>",
    ),
    (
        "scsi_and_medium",
        "<disk device=\"disk\" type=\"file\"><source file=\"/corpus/b.img\"></source>\
         <target bus=\"scsi\" dev=\"sda\"></target>\
         <driver cache=\"none\" error_policy=\"report\" name=\"qemu\" type=\"raw\" discard=\"unmap\"></driver>\
         <alias name=\"ua-scsidisk\"></alias></disk>\
         <disk device=\"cdrom\" type=\"file\"><source file=\"/corpus/install.iso\"></source>\
         <target bus=\"sata\" dev=\"sdb\" tray=\"closed\"></target>\
         <driver cache=\"none\" error_policy=\"stop\" name=\"qemu\" type=\"raw\"></driver>\
         <alias name=\"ua-cdrom\"></alias><readonly></readonly></disk>",
    ),
    (
        "blocks",
        "<disk device=\"disk\" type=\"file\" model=\"virtio-non-transitional\">\
         <source file=\"/corpus/b.img\"></source><target bus=\"virtio\" dev=\"vda\"></target>\
         <driver cache=\"none\" error_policy=\"stop\" name=\"qemu\" type=\"raw\" queues=\"2\"></driver>\
         <alias name=\"ua-a\"></alias><blockio logical_block_size=\"512\" physical_block_size=\"4096\"></blockio>\
         <serial>CVLY623300HK240D</serial></disk>\
         <disk device=\"disk\" type=\"file\" model=\"virtio-non-transitional\">\
         <source file=\"/corpus/c.img\"></source><target bus=\"virtio\" dev=\"vdb\"></target>\
         <driver cache=\"writethrough\" error_policy=\"stop\" name=\"qemu\" type=\"raw\"></driver>\
         <alias name=\"ua-b\"></alias><shareable></shareable></disk>",
    ),
];

const NETWORK: &[(&str, &str)] = &[
    (
        "masquerade",
        "<interface type=\"ethernet\"><source></source><target dev=\"tapcorpus0\"></target>\
         <model type=\"virtio-non-transitional\"></model><mac address=\"{mac}:01\"></mac>\
         <mtu size=\"1430\"></mtu><alias name=\"ua-default\"></alias><rom enabled=\"no\"></rom></interface>",
    ),
    (
        "two",
        "<interface type=\"ethernet\"><source></source><target dev=\"tapcorpus0\"></target>\
         <model type=\"virtio-non-transitional\"></model><mac address=\"{mac}:01\"></mac>\
         <alias name=\"ua-default\"></alias><rom enabled=\"no\"></rom><boot order=\"2\"></boot></interface>\
         <interface type=\"ethernet\"><source></source><target dev=\"tapcorpus1\"></target>\
         <model type=\"virtio-non-transitional\"></model><mac address=\"{mac}:02\"></mac>\
         <alias name=\"ua-second\"></alias><rom enabled=\"no\"></rom></interface>",
    ),
    ("none", ""),
    (
        "e1000e",
        "<interface type=\"ethernet\"><source></source><target dev=\"tapcorpus0\"></target>\
         <model type=\"e1000e\"></model><mac address=\"{mac}:01\"></mac><alias name=\"ua-default\"></alias></interface>",
    ),
];

const SCREEN: &[(&str, &str)] = &[
    (
        "vnc",
        "<video><model type=\"vga\" heads=\"1\" vram=\"16384\"></model></video>\
         <graphics type=\"vnc\"><listen type=\"socket\" socket=\"/corpus/virt-vnc\"></listen></graphics>\
         <serial type=\"unix\"><target port=\"0\"></target><source mode=\"bind\" path=\"/corpus/virt-serial0\"></source>\
         <log file=\"/corpus/virt-serial0-log\" append=\"on\"></log></serial>\
         <console type=\"unix\"><target type=\"serial\" port=\"0\"></target>\
         <source mode=\"bind\" path=\"/corpus/virt-serial0\"></source></console>",
    ),
    ("headless", "<video><model type=\"none\"></model></video>"),
    (
        "bochs",
        "<video><model type=\"bochs\" heads=\"1\" vram=\"16384\"></model></video>\
         <graphics type=\"vnc\"><listen type=\"socket\" socket=\"/corpus/virt-vnc\"></listen></graphics>",
    ),
];

const EXTRAS: &[(&str, &str)] = &[
    ("usual", "<memballoon model=\"virtio-non-transitional\"><stats period=\"10\"></stats></memballoon>"),
    (
        "rng",
        "<memballoon model=\"virtio-non-transitional\" freePageReporting=\"on\"><stats period=\"10\"></stats></memballoon>\
         <rng model=\"virtio-non-transitional\"><backend model=\"random\">/dev/urandom</backend></rng>",
    ),
    (
        "tablet",
        "<memballoon model=\"none\"></memballoon>\
         <input type=\"tablet\" bus=\"virtio\" model=\"virtio\"><alias name=\"ua-tablet0\"></alias></input>",
    ),
    (
        "watchdog",
        "<memballoon model=\"virtio-non-transitional\"></memballoon>\
         <watchdog model=\"i6300esb\" action=\"reset\"><alias name=\"ua-mywatchdog\"></alias></watchdog>",
    ),
    (
        "sound_and_panic",
        "<memballoon model=\"virtio-non-transitional\"></memballoon>\
         <sound model=\"ich9\"><alias name=\"ua-sound\"></alias></sound><panic model=\"pvpanic\"></panic>",
    ),
];
