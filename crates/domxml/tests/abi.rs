//! One change at a time: what the guest would notice is refused with stock's text, what it would not is free.

// Helpers of tests may fail like tests.
#![allow(clippy::unwrap_used, clippy::panic)]

use ferry_domxml::{Domain, abi};

const SOURCE: &str = "
<domain type='qemu'>
  <name>vm</name>
  <uuid>5c1d2b1e-7f0a-4b1e-9a53-0c9b5b0c8a01</uuid>
  <maxMemory slots='2' unit='KiB'>262144</maxMemory>
  <memory unit='KiB'>131072</memory>
  <currentMemory unit='KiB'>131072</currentMemory>
  <vcpu placement='static'>2</vcpu>
  <sysinfo type='smbios'><system><entry name='product'>Cloud</entry></system></sysinfo>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <boot dev='hd'/>
    <smbios mode='sysinfo'/>
  </os>
  <features><acpi/><apic eoi='on'/><hyperv mode='custom'><relaxed state='on'/><spinlocks state='on' retries='4095'/>
  </hyperv><kvm><hidden state='on'/></kvm><vmport state='off'/><vmcoreinfo state='on'/></features>
  <cpu mode='custom' match='exact' check='full'>
    <model fallback='forbid'>Nehalem</model>
    <topology sockets='1' dies='1' clusters='1' cores='2' threads='1'/>
    <feature policy='require' name='vme'/>
    <feature policy='disable' name='svm'/>
    <numa><cell id='0' cpus='0-1' memory='131072' unit='KiB'/></numa>
  </cpu>
  <clock offset='utc'>
    <timer name='rtc' tickpolicy='catchup'/>
    <timer name='hpet' present='no'/>
  </clock>
  <on_crash>destroy</on_crash>
  <pm><suspend-to-mem enabled='no'/></pm>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' queues='2'/>
      <source file='/srv/a'/>
      <geometry cyls='100' heads='16' secs='63'/>
      <blockio discard_granularity='4096'/>
      <target dev='vda' bus='virtio'/>
      <iotune><total_bytes_sec>1000</total_bytes_sec></iotune>
      <serial>S1</serial>
      <address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>
    </disk>
    <disk type='file' device='cdrom'>
      <target dev='sda' bus='sata'/>
      <readonly/>
      <address type='drive' controller='0' bus='0' target='0' unit='0'/>
    </disk>
    <controller type='pci' index='0' model='pcie-root'/>
    <controller type='pci' index='1' model='pcie-root-port'>
      <model name='pcie-root-port'/>
      <target chassis='1' port='0x10'/>
      <address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0' multifunction='on'/>
    </controller>
    <controller type='usb' index='0' model='qemu-xhci' ports='15'/>
    <controller type='virtio-serial' index='0' vectors='4'/>
    <filesystem type='mount' accessmode='mapped'>
      <source dir='/srv/shared'/>
      <target dir='shared'/>
      <address type='pci' domain='0x0000' bus='0x09' slot='0x00' function='0x0'/>
    </filesystem>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:01'/>
      <source bridge='br0'/>
      <model type='virtio'/>
      <driver queues='2' rx_queue_size='512'/>
      <mtu size='1450'/>
      <alias name='ua-net'/>
    </interface>
    <serial type='pty'><target type='isa-serial' port='0'><model name='isa-serial'/></target></serial>
    <console type='pty'><target type='serial' port='0'/></console>
    <channel type='unix'>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
      <address type='virtio-serial' controller='0' bus='0' port='1'/>
    </channel>
    <input type='tablet' bus='usb'><address type='usb' bus='0' port='1'/></input>
    <input type='mouse' bus='ps2'/>
    <tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>
    <graphics type='vnc' port='5901' autoport='no' listen='127.0.0.1'/>
    <video><model type='vga' vram='16384' heads='1' primary='yes'/></video>
    <watchdog model='itco' action='reset'/>
    <watchdog model='i6300esb' action='reset'/>
    <memballoon model='virtio' autodeflate='on'><stats period='5'/></memballoon>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <sound model='ich6'/>
    <panic model='isa'/>
    <memory model='dimm'>
      <target><size unit='KiB'>16384</size><node>0</node></target>
      <address type='dimm' slot='0' base='0x100000000'/>
    </memory>
    <vsock model='virtio'><cid auto='no' address='4'/></vsock>
    <pstore backend='acpi-erst'><path>/srv/p</path><size unit='KiB'>8</size></pstore>
  </devices>
</domain>";

/// Part of the source, what stands there in the target, and the error.
const NOTICED: &[(&str, &str, &str)] = &[
    ("cyls='100'", "cyls='101'", "Target disk geometry '101/16/63' does not match source '100/16/63'"),
    (
        "discard_granularity='4096'",
        "discard_granularity='512'",
        "Target disk discard_granularity 512 does not match source 4096",
    ),
    (
        "<target dir='shared'/>",
        "<target dir='other'/>",
        "Target filesystem guest target other does not match source shared",
    ),
    (
        "<source dir='/srv/shared'/>",
        "<source dir='/srv/shared'/><readonly/>",
        "Target filesystem access mode true does not match source false",
    ),
    (
        "<sound model='ich6'/>",
        "<sound model='ich6'/><hostdev mode='subsystem' type='usb'/>",
        "Target domain host device count 1 does not match source 0",
    ),
    (
        "<sound model='ich6'/>",
        "<sound model='ich6'/><parallel type='null'/>",
        "Target domain parallel port count 1 does not match source 0",
    ),
    (
        "<sound model='ich6'/>",
        "<sound model='ac97'/>",
        "Target sound card model ac97 does not match source ich6",
    ),
    ("<sound model='ich6'/>", "", "Target domain sound card count 0 does not match source 1"),
    (
        "<tpm model='tpm-tis'>",
        "<tpm model='tpm-crb'>",
        "Target TPM device model tpm-crb does not match source tpm-tis",
    ),
    (
        "<backend type='emulator' version='2.0'/>",
        "<backend type='emulator'/>",
        "Target TPM version 1.2 does not match source 2.0",
    ),
    (
        "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>",
        "",
        "Target domain TPM device count 0 does not match source 1",
    ),
    (
        "<panic model='isa'/>",
        "<panic model='hyperv'/>",
        "Target panic model 'hyperv' does not match source 'isa'",
    ),
    (
        "<vsock model='virtio'>",
        "<vsock model='virtio-non-transitional'>",
        "Target vsock model 'virtio-non-transitional' does not match source 'virtio'",
    ),
    (
        "<size unit='KiB'>8</size>",
        "<size unit='KiB'>16</size>",
        "Target pstore size 16 does not match source 8",
    ),
    (
        "<cell id='0' cpus='0-1' memory='131072' unit='KiB'/>",
        "<cell id='0' cpus='0' memory='131072' unit='KiB'/>",
        "Target NUMA node CPUs 0 does not match source 0-1",
    ),
    (
        "<cell id='0' cpus='0-1' memory='131072' unit='KiB'/>",
        "<cell id='0' cpus='0-1' memory='131072' unit='KiB'/><cell id='1' memory='1024'/>",
        "Target NUMA node count 2 does not match source 1",
    ),
    (
        "<maxMemory slots='2' unit='KiB'>262144</maxMemory>",
        "<maxMemory slots='3' unit='KiB'>262144</maxMemory>",
        "Target domain maximum memory 262144 in 3 slots does not match source 262144 in 2 slots",
    ),
    (
        "<memory model='dimm'>",
        "<memory model='nvdimm'><source><path>/nv</path></source>",
        "Target memory device model 'nvdimm' does not match source 'dimm'",
    ),
    (
        "<size unit='KiB'>16384</size>",
        "<size unit='KiB'>32768</size>",
        "Target memory device size '32768' does not match source '16384'",
    ),
    (
        "slot='0' base='0x100000000'",
        "slot='1' base='0x100000000'",
        "Target device dimm address 1:0x100000000 does not match source 0:0x100000000",
    ),
    (
        "slot='0' base='0x100000000'",
        "slot='0'",
        "Target memory device address '0x0' does not match source '0x100000000'",
    ),
    (
        "cache='none' queues='2'",
        "queues='2' packed='on'",
        "Target device packed option 'on' does not match source 'none'",
    ),
    (
        "<driver queues='2' rx",
        "<driver iommu='on' queues='2' rx",
        "Target device iommu option 'on' does not match source 'none'",
    ),
    (
        "<driver queues='2' rx",
        "<driver rss='on' queues='2' rx",
        "Target network card rss 'on' does not match source 'none'",
    ),
    (
        "<relaxed state='on'/>",
        "<relaxed state='on'/><vapic state='on'/>",
        "State of feature 'hyperv' differs: source: 'relaxed=on', destination: 'relaxed=on,vapic=on'",
    ),
    (
        "retries='4095'",
        "retries='8191'",
        "State of feature 'hyperv spinlocks' differs: source: 'on,4095', destination: 'on,8191'",
    ),
    (
        "<hidden state='on'/>",
        "",
        "State of feature 'kvm hidden' differs: source: 'on', destination: 'default'",
    ),
    (
        "<vmcoreinfo state='on'/>",
        "",
        "State of feature 'vmcoreinfo' differs: source: 'on', destination: 'default'",
    ),
    ("<smbios mode='sysinfo'/>", "", "Target SMBIOS mode emulate does not match source sysinfo"),
    (
        "<entry name='product'>Cloud",
        "<entry name='product'>Heaven",
        "Target sysinfo system product=Heaven does not match source product=Cloud",
    ),
    ("<domain type='qemu'>", "<domain type='kvm'>", "Target domain virt type kvm does not match source qemu"),
    (
        "8a01</uuid>",
        "8a02</uuid>",
        "Target domain uuid 5c1d2b1e-7f0a-4b1e-9a53-0c9b5b0c8a02 does not match source 5c1d2b1e-7f0a-4b1e-9a53-0c9b5b0c8a01",
    ),
    ("<name>vm</name>", "<name>nn</name>", "Target domain name 'nn' does not match source 'vm'"),
    (
        "<memory unit='KiB'>131072",
        "<memory unit='KiB'>262144",
        "Target domain max memory 262144 does not match source 131072",
    ),
    (
        "'static'>2<",
        "'static' current='1'>2<",
        "State of vCPU '1' differs between source and destination definitions",
    ),
    ("pc-q35-7.2", "pc-q35-7.1", "Target domain machine type pc-q35-7.1 does not match source pc-q35-7.2"),
    (
        "<boot dev='hd'/>",
        "<bios useserial='yes'/>",
        "Target domain BIOS on serial port 'yes' does not match source 'no'",
    ),
    ("<acpi/>", "", "State of feature 'acpi' differs: source: 'on', destination: 'default'"),
    (
        "<apic eoi='on'/>",
        "<apic eoi='off'/>",
        "State of feature 'apic' differs: source: 'on,eoi=on', destination: 'on,eoi=off'",
    ),
    (
        "<acpi/>",
        "<acpi/><smm state='on'/>",
        "State of feature 'smm' differs: source: 'default', destination: 'on'",
    ),
    ("present='no'", "present='yes'", "Target timer presence 'yes' does not match source 'no'"),
    ("<timer name='hpet' present='no'/>", "", "Target domain timers do not match source"),
    ("<timer name='hpet'", "<timer name='kvmclock'", "Target timer kvmclock does not match source hpet"),
    (
        "tickpolicy='catchup'",
        "tickpolicy='delay'",
        "Target timer tick policy 'delay' does not match source 'catchup'",
    ),
    (">Nehalem<", ">Westmere<", "Target CPU model Westmere does not match source Nehalem"),
    ("cores='2' threads='1'", "cores='1' threads='2'", "Target CPU cores 1 does not match source 2"),
    ("<feature policy='disable' name='svm'/>", "", "Target CPU feature count 1 does not match source 2"),
    ("name='svm'", "name='avx'", "Target CPU feature avx does not match source svm"),
    (
        "policy='disable'",
        "policy='require'",
        "Target CPU feature policy require does not match source disable",
    ),
    ("<suspend-to-mem enabled='no'/>", "", "Target domain suspend-to-mem 'none' does not match source 'no'"),
    ("dev='vda'", "dev='vdb'", "Target disk vdb does not match source vda"),
    ("<serial>S1</serial>", "", "Target disk serial none does not match source S1"),
    ("<readonly/>", "", "Target disk access mode 'rw' does not match source 'ro'"),
    ("cache='none' queues='2'", "cache='none' queues='4'", "Target disk queues 4 does not match source 2"),
    ("dev='vda' bus='virtio'", "dev='vda' bus='scsi'", "Target disk bus scsi does not match source virtio"),
    (
        "bus='0x02' slot='0x00'",
        "bus='0x03' slot='0x00'",
        "Target device PCI address 0000:03:00.0 does not match source 0000:02:00.0",
    ),
    ("target='0'", "target='1'", "Target device drive address target 1 does not match source 0"),
    ("unit='0'", "unit='1'", "Target device drive address 0:0:1 does not match source 0:0:0"),
    (
        "<controller type='usb' index='0' model='qemu-xhci' ports='15'/>",
        "",
        "Target domain controller count 3 does not match source 4",
    ),
    (
        "model='qemu-xhci'",
        "model='nec-xhci'",
        "Target controller model 'nec-xhci' does not match source 'qemu-xhci'",
    ),
    ("ports='15'", "ports='8'", "Target controller ports 8 does not match source 15"),
    ("vectors='4'", "vectors='5'", "Target controller vectors 5 does not match source 4"),
    ("chassis='1'", "chassis='2'", "Target PCI controller chassis 2 does not match source 1"),
    ("port='0x10'", "port='0x11'", "Target PCI controller port 17 does not match source 16"),
    (" multifunction='on'", "", "Target device PCI multifunction 'off' does not match source 'on'"),
    (
        "52:54:00:00:00:01",
        "52:54:00:00:00:02",
        "Target network card mac 52:54:00:00:00:02 does not match source 52:54:00:00:00:01",
    ),
    (
        "<model type='virtio'/>",
        "<model type='e1000'/>",
        "Target network card model e1000 does not match source virtio",
    ),
    ("<mtu size='1450'/>", "", "Target network card MTU 0 does not match source 1450"),
    (
        "<driver queues='2' rx",
        "<driver queues='3' rx",
        "Target network card queues 3 does not match source 2",
    ),
    (
        "rx_queue_size='512'",
        "rx_queue_size='256'",
        "Target network card rx_queue_size 256 does not match source 512",
    ),
    ("ua-net", "ua-other", "Target device alias 'ua-other' does not match source 'ua-net'"),
    (
        "<target type='isa-serial' port='0'>",
        "<target type='isa-serial' port='1'>",
        "Target serial port 1 does not match source 0",
    ),
    (
        "<console type='pty'><target type='serial' port='0'/></console>",
        "",
        "Target domain console count 0 does not match source 1",
    ),
    (
        "org.qemu.guest_agent.0",
        "com.example.0",
        "Target channel name com.example.0 does not match source org.qemu.guest_agent.0",
    ),
    (
        "port='1'/>\n    </channel>",
        "port='2'/>\n    </channel>",
        "Target device virtio serial address 0:0:2 does not match source 0:0:1",
    ),
    ("<input type='mouse' bus='ps2'/>", "", "Target domain input device count 1 does not match source 2"),
    ("type='tablet'", "type='mouse'", "Target input device type mouse does not match source tablet"),
    (
        "<address type='usb' bus='0' port='1'/>",
        "<address type='usb' bus='0' port='2'/>",
        "Target device USB address 0:2 does not match source 0:1",
    ),
    (
        "<address type='usb' bus='0' port='1'/>",
        "",
        "Target device address type none does not match source usb",
    ),
    (
        "<model type='vga' vram",
        "<model type='cirrus' vram",
        "Target video card model cirrus does not match source vga",
    ),
    ("vram='16384'", "vram='32768'", "Target video card vram 32768 does not match source 16384"),
    ("heads='1'", "heads='2'", "Target video card heads 2 does not match source 1"),
    ("model='i6300esb'", "model='ib700'", "Target watchdog model ib700 does not match source i6300esb"),
    (
        "<memballoon model='virtio'",
        "<memballoon model='none'",
        "Target balloon model none does not match source virtio",
    ),
    (
        "autodeflate='on'",
        "autodeflate='off'",
        "Target balloon autodeflate attribute value 'off' does not match source 'on'",
    ),
    (
        "<rng model='virtio'>",
        "<rng model='virtio-transitional'>",
        "Target RNG model 'virtio-transitional' does not match source 'virtio'",
    ),
];

/// Part of the source, and what stands there in the target.
const NOT_NOTICED: &[(&str, &str)] = &[
    ("<total_bytes_sec>1000<", "<total_bytes_sec>2000<"),
    ("<source dir='/srv/shared'/>", "<source dir='/srv/elsewhere'/>"),
    ("<watchdog model='itco' action='reset'/>", ""),
    ("<currentMemory unit='KiB'>131072", "<currentMemory unit='KiB'>65536"),
    ("<on_crash>destroy", "<on_crash>preserve"),
    ("<clock offset='utc'>", "<clock offset='localtime'>"),
    (
        "<timer name='rtc' tickpolicy='catchup'/>\n    <timer name='hpet' present='no'/>",
        "<timer name='hpet' present='no'/><timer name='rtc' tickpolicy='catchup'/>",
    ),
    (
        "<feature policy='require' name='vme'/>\n    <feature policy='disable' name='svm'/>",
        "<feature policy='disable' name='svm'/><feature name='vme'/>",
    ),
    ("dies='1' clusters='1' ", ""),
    ("check='full'", "check='none'"),
    ("/usr/bin/qemu-system-x86_64", "/opt/qemu"),
    (
        "<source file='/srv/a'/>",
        "<source file='/mnt/b'/><backingStore type='block'><format type='raw'/><source dev='/dev/x'/></backingStore>",
    ),
    ("cache='none'", "cache='writeback' io='threads'"),
    ("type='file' device='cdrom'", "type='block' device='cdrom'"),
    ("<source bridge='br0'/>", "<source bridge='br7'/><target dev='tap3'/>"),
    ("<serial type='pty'>", "<serial type='file'><source path='/tmp/log'/>"),
    ("port='5901' autoport='no' listen='127.0.0.1'", "autoport='yes' listen='0.0.0.0'"),
    ("'i6300esb' action='reset'", "'i6300esb' action='poweroff'"),
    ("<stats period='5'/>", ""),
    ("<memory model='dimm'>", "<memory model='dimm' access='shared'><source><nodemask>0</nodemask></source>"),
    ("/dev/urandom", "/dev/hwrng"),
    ("<boot dev='hd'/>", "<boot dev='network'/>"),
    ("<memballoon", "<!-- a comment --><memballoon"),
];

fn changed(part: &str, replacement: &str) -> Domain {
    assert_eq!(SOURCE.matches(part).count(), 1, "{part}");
    let text = SOURCE.replace(part, replacement);
    Domain::parse(&text).unwrap_or_else(|error| panic!("{part} -> {replacement}: {error}"))
}

#[test]
fn what_the_guest_would_notice_is_refused_by_name() {
    let source = Domain::parse(SOURCE).unwrap();
    for (part, replacement, expected) in NOTICED {
        let error = abi::check(&source, &changed(part, replacement)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("unsupported configuration: {expected}"),
            "{part} -> {replacement}"
        );
    }
}

#[test]
fn more_processors_are_refused_by_name() {
    // Takes two changes: the topology must agree with the number.
    let source = Domain::parse(SOURCE).unwrap();
    let target = SOURCE.replace("'static'>2<", "'static'>4<").replace("sockets='1'", "sockets='2'");
    let error = abi::check(&source, &Domain::parse(&target).unwrap()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "unsupported configuration: Target domain vCPU max 4 does not match source 2"
    );
}

#[test]
fn what_only_the_host_notices_is_free() {
    let source = Domain::parse(SOURCE).unwrap();
    for (part, replacement) in NOT_NOTICED {
        let target = changed(part, replacement);
        assert_eq!(abi::check(&source, &target), Ok(()), "{part} -> {replacement}");
        assert_eq!(abi::check(&target, &source), Ok(()), "{replacement} -> {part}");
    }
}

#[test]
fn the_live_form_and_the_definition_are_the_same_to_the_guest() {
    let source = Domain::parse(SOURCE).unwrap();
    assert_eq!(abi::check(&source, &source.inactive()), Ok(()));
}
