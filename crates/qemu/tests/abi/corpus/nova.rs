//! As OpenStack Nova writes them: its own metadata, serial numbers in firmware tables, config drives, volumes with serial numbers,
//! plugged interfaces with names, logs of consoles, host-side limits.

use super::Tool;

pub(super) const TOOL: Tool = Tool {
    name: "nova",
    form: "\
<domain type=\"qemu\">
  <uuid>{uuid}</uuid>
  <name>instance-{name}</name>
  {size}
  <metadata>
    <nova:instance xmlns:nova=\"http://openstack.org/xmlns/libvirt/nova/1.1\">
      <nova:package version=\"28.0.0\"/>
      <nova:name>{name}</nova:name>
      <nova:flavor name=\"m1.tiny\"><nova:memory>64</nova:memory><nova:vcpus>1</nova:vcpus></nova:flavor>
      <nova:owner><nova:user uuid=\"u\">someone</nova:user></nova:owner>
    </nova:instance>
  </metadata>
  <sysinfo type=\"smbios\">
    <system>
      <entry name=\"manufacturer\">OpenStack Foundation</entry>
      <entry name=\"product\">OpenStack Nova</entry>
      <entry name=\"version\">28.0.0</entry>
      <entry name=\"serial\">{uuid}</entry>
      <entry name=\"uuid\">{uuid}</entry>
      <entry name=\"family\">Virtual Machine</entry>
    </system>
  </sysinfo>
  {machine}
  {processor}
  {clock}
  <devices>
    {disks}
    {vif}
    {log}
    {screen}
    {extras}
  </devices>
</domain>
",
    places: &[
        ("size", SIZE),
        ("machine", MACHINE),
        ("processor", PROCESSOR),
        ("clock", CLOCK),
        ("disks", DISKS),
        ("vif", VIF),
        ("log", LOG),
        ("screen", SCREEN),
        ("extras", EXTRAS),
    ],
};

const SIZE: &[(&str, &str)] = &[
    ("one", "<memory>65536</memory><vcpu>1</vcpu><cputune><shares>1024</shares></cputune>"),
    ("two", "<memory>65536</memory><vcpu>2</vcpu>"),
    (
        "pinned",
        "<memory>65536</memory><vcpu>2</vcpu><cputune><shares>2048</shares><vcpupin vcpu='0' cpuset='0'/>\
         <vcpupin vcpu='1' cpuset='1'/><emulatorpin cpuset='0-1'/></cputune>",
    ),
    (
        "quota",
        "<memory>65536</memory><vcpu>1</vcpu><cputune><quota>10000</quota><period>20000</period></cputune>\
         <memtune><hard_limit unit='KiB'>4194304</hard_limit></memtune>",
    ),
];

const MACHINE: &[(&str, &str)] = &[
    (
        "q35",
        "<os><type machine='q35'>hvm</type><boot dev='hd'/><smbios mode='sysinfo'/></os>\
         <features><acpi/><apic/></features>",
    ),
    (
        "pc",
        "<os><type machine='pc'>hvm</type><boot dev='hd'/><smbios mode='sysinfo'/></os>\
         <features><acpi/><apic/><vmcoreinfo/></features>",
    ),
    (
        "q35_efi",
        "<os firmware='efi'><type machine='q35'>hvm</type><boot dev='hd'/><smbios mode='sysinfo'/></os>\
         <features><acpi/><apic/></features>",
    ),
    (
        "q35_menu",
        "<os><type machine='pc-q35-7.2'>hvm</type><boot dev='cdrom'/><boot dev='hd'/><bootmenu enable='yes'/>\
         <smbios mode='sysinfo'/></os><features><acpi/><apic/></features>",
    ),
];

const PROCESSOR: &[(&str, &str)] = &[
    ("model", "<cpu mode='custom' match='exact'><model>Nehalem</model></cpu>"),
    ("host_model", "<cpu match='exact' mode='host-model'/>"),
    (
        "traits",
        "<cpu match='exact' mode='custom' check='none'><model fallback='allow'>qemu64</model>\
         <feature name='aes' policy='require'/><feature name='vmx' policy='disable'/></cpu>",
    ),
    ("none", ""),
];

const CLOCK: &[(&str, &str)] = &[
    (
        "linux",
        "<clock offset='utc'><timer name='pit' tickpolicy='delay'/><timer name='rtc' tickpolicy='catchup'/>\
         <timer name='hpet' present='no'/></clock>",
    ),
    (
        "windows",
        "<clock offset='localtime'><timer name='pit' tickpolicy='delay'/><timer name='rtc' tickpolicy='catchup'/>\
         <timer name='hpet' present='no'/></clock>",
    ),
    ("bare", "<clock offset='utc'/>"),
];

const DISKS: &[(&str, &str)] = &[
    (
        "image",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none' discard='unmap'/>\
         <source file='/corpus/overlay.qcow2'/><target bus='virtio' dev='vda'/></disk>",
    ),
    (
        "config_drive",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>\
         <source file='/corpus/a.qcow2'/><target bus='virtio' dev='vda'/></disk>\
         <disk type='file' device='cdrom'><driver name='qemu' type='raw' cache='none'/>\
         <source file='/corpus/disk.config'/><target bus='sata' dev='sda'/></disk>",
    ),
    (
        "ephemeral_and_swap",
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>\
         <source file='/corpus/a.qcow2'/><target bus='virtio' dev='vda'/></disk>\
         <disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/>\
         <source file='/corpus/b.img'/><target bus='virtio' dev='vdb'/></disk>\
         <disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/>\
         <source file='/corpus/c.img'/><target bus='virtio' dev='vdc'/></disk>",
    ),
    (
        "volume",
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none' io='native'/>\
         <source file='/corpus/b.img'/><target bus='virtio' dev='vda'/>\
         <iotune><total_bytes_sec>10485760</total_bytes_sec><read_iops_sec>500</read_iops_sec>\
         <write_iops_sec>500</write_iops_sec></iotune>\
         <serial>8f2a4f4e-65b2-4a35-b0f3-5e5d8e0d1c11</serial></disk>",
    ),
    (
        "scsi_volume",
        "<disk type='file' device='disk'><driver name='qemu' type='raw' cache='writeback' discard='unmap'/>\
         <source file='/corpus/b.img'/><target bus='scsi' dev='sda'/>\
         <serial>8f2a4f4e-65b2-4a35-b0f3-5e5d8e0d1c11</serial><address type='drive' controller='0' unit='0'/></disk>\
         <controller type='scsi' model='virtio-scsi' index='0'/>",
    ),
];

const VIF: &[(&str, &str)] = &[
    (
        "ovs",
        "<interface type='bridge'><mac address='{mac}:01'/><model type='virtio'/>\
         <driver name='qemu' rx_queue_size='512' tx_queue_size='256'/><source bridge='br-int'/>\
         <mtu size='1442'/><target dev='tapcorpus0'/></interface>",
    ),
    (
        "plugged",
        "<interface type='ethernet'><mac address='{mac}:01'/><model type='virtio'/>\
         <mtu size='1442'/><target dev='tapcorpus0'/></interface>",
    ),
    (
        "e1000",
        "<interface type='bridge'><mac address='{mac}:01'/><model type='e1000'/><source bridge='br-int'/>\
         <target dev='tapcorpus0'/></interface>",
    ),
    (
        "two",
        "<interface type='bridge'><mac address='{mac}:01'/><model type='virtio'/><source bridge='br-int'/>\
         <target dev='tapcorpus0'/></interface>\
         <interface type='bridge'><mac address='{mac}:02'/><model type='virtio'/><source bridge='br-int'/>\
         <target dev='tapcorpus1'/></interface>",
    ),
    ("none", ""),
];

const LOG: &[(&str, &str)] = &[
    ("logged", "<serial type='pty'><log file='/corpus/console.log' append='off'/></serial>"),
    (
        "tcp",
        "<serial type='tcp'><source host='127.0.0.1' mode='bind' service='0'/>\
         <log file='/corpus/console.log' append='off'/></serial>",
    ),
    ("pty", "<serial type='pty'/><console type='pty'/>"),
];

const SCREEN: &[(&str, &str)] = &[
    (
        "vnc",
        "<input type='tablet' bus='usb'/><graphics type='vnc' autoport='yes' listen='0.0.0.0'/>\
         <video><model type='virtio'/></video>",
    ),
    (
        "cirrus",
        "<input type='tablet' bus='usb'/><graphics type='vnc' autoport='yes' keymap='en-us' listen='127.0.0.1'/>\
         <video><model type='cirrus'/></video>",
    ),
    ("headless", ""),
];

const EXTRAS: &[(&str, &str)] = &[
    (
        "usual",
        "<memballoon model='virtio'><stats period='10'/></memballoon>\
         <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>",
    ),
    (
        "agent",
        "<channel type='unix'><source mode='bind' path='/corpus/agent.sock'/>\
         <target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <memballoon model='virtio'><stats period='10'/></memballoon>",
    ),
    ("watchdog", "<watchdog model='i6300esb' action='reset'/><memballoon model='virtio'/>"),
    ("old_usb", "<controller type='usb' index='0'/><memballoon model='none'/>"),
    (
        "limited_rng",
        "<rng model='virtio'><rate bytes='1024' period='1000'/><backend model='random'>/dev/urandom</backend></rng>\
         <memballoon model='virtio'/>",
    ),
];
