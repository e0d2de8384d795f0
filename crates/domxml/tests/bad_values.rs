//! A wrong value in each element, and the error that its user reads: number and text, stock's where stock has one.
//!
//! A table of each place in the document.

use ferry_domxml::Domain;

/// What stands beside the devices, the number of the error on the wire, its text.
const BESIDE_DEVICES: &[(&str, u32, &str)] = &[
    (
        "<features><hyperv><relaxed state='x'/></hyperv></features>",
        67,
        "unsupported configuration: element 'features/hyperv/relaxed': <relaxed state='x'>",
    ),
    (
        "<features><hyperv><vapic/></hyperv></features>",
        27,
        "XML error: Missing required attribute 'state' in element 'vapic'",
    ),
    (
        "<features><hyperv><spinlocks state='on'/></hyperv></features>",
        27,
        "XML error: Missing required attribute 'retries' in element 'spinlocks'",
    ),
    (
        "<features><hyperv><spinlocks state='on' retries='5'/></hyperv></features>",
        27,
        "XML error: HyperV spinlock retry count must be at least 4095",
    ),
    (
        "<features><hyperv><vendor_id state='on' value='1234567890123'/></hyperv></features>",
        27,
        "XML error: HyperV vendor_id value must not be more than 12 characters.",
    ),
    (
        "<features><hyperv><vendor_id state='on' value='a,b'/></hyperv></features>",
        27,
        "XML error: HyperV vendor_id value is invalid",
    ),
    (
        "<features><hyperv><vendor_id state='on'/></hyperv></features>",
        27,
        "XML error: Missing required attribute 'value' in element 'vendor_id'",
    ),
    (
        "<features><kvm><hidden state='x'/></kvm></features>",
        67,
        "unsupported configuration: element 'features/kvm/hidden': <hidden state='x'>",
    ),
    (
        "<features><vmcoreinfo state='x'/></features>",
        67,
        "unsupported configuration: element 'features/vmcoreinfo': <vmcoreinfo state='x'>",
    ),
    (
        "<features><ioapic driver='x'/></features>",
        67,
        "unsupported configuration: element 'features/ioapic': <ioapic driver='x'>",
    ),
    (
        "<features><smm><tseg unit='KiB'>3000</tseg></smm></features>",
        67,
        "unsupported configuration: SMM TSEG size must be divisible by 1 MiB",
    ),
    (
        "<sysinfo type='smbios'><bios><entry name='date'>2020</entry></bios></sysinfo>",
        35,
        "Invalid BIOS 'date' format",
    ),
    (
        "<sysinfo type='smbios'><system><entry name='uuid'>x</entry></system></sysinfo>",
        35,
        "malformed <sysinfo> uuid element",
    ),
    (
        "<uuid>58b7ef39-df32-4228-8b3d-78a3287f8e48</uuid><sysinfo type='smbios'><system>\
         <entry name='uuid'>48b7ef39-df32-4228-8b3d-78a3287f8e49</entry></system></sysinfo>",
        35,
        "UUID mismatch between <uuid> and <sysinfo>",
    ),
    ("<sysinfo type='x'/>", 67, "unsupported configuration: element 'sysinfo': <sysinfo type='x'>"),
    (
        "<sysinfo type='smbios'><system><entry name='colour'>red</entry></system></sysinfo>",
        67,
        "unsupported configuration: element 'sysinfo/system/entry': <entry name='colour'>",
    ),
    (
        "<features><hyperv mode='x'/></features>",
        67,
        "unsupported configuration: attribute 'features/hyperv/@mode' with value 'x'",
    ),
    ("<genid>x</genid>", 27, "XML error: Invalid value 'x' for element 'genid'"),
    ("<iothreads>-1</iothreads>", 27, "XML error: Invalid value '-1' for element 'iothreads'"),
    ("<iothreads>100000</iothreads>", 27, "XML error: invalid iothreads count '100000'"),
    (
        "<iothreadids><iothread id='0'/></iothreadids>",
        27,
        "XML error: Invalid value for attribute 'id' in element 'iothread': '0'.",
    ),
    (
        "<iothreadids><iothread id='3'/><iothread id='3'/></iothreadids>",
        27,
        "XML error: duplicate iothread id '3' found",
    ),
    (
        "<iothreadids><iothread id='3' thread_pool_min='4' thread_pool_max='3'/></iothreadids>",
        27,
        "XML error: thread_pool_min must not be greater than thread_pool_max",
    ),
    (
        "<iothreadids><iothread id='3'><poll max='x'/></iothread></iothreadids>",
        27,
        "XML error: Invalid value for attribute 'max' in element 'poll': 'x'.",
    ),
    (
        "<defaultiothread thread_pool_max='x'/>",
        27,
        "XML error: Invalid value for attribute 'thread_pool_max' in element 'defaultiothread': 'x'.",
    ),
    (
        "<cpu><numa><cell id='0' cpus='0-1' memory='9'/><cell id='1' cpus='1' memory='9'/></numa></cpu>",
        67,
        "unsupported configuration: NUMA cells 1 and 0 have overlapping vCPU ids",
    ),
    (
        "<cpu><numa><cell id='0' cpus='0-5' memory='9'/></numa></cpu>",
        1,
        "internal error: Number of CPUs in <numa> exceeds the <vcpu> count",
    ),
    (
        "<cpu><numa><cell id='1' cpus='0-1' memory='9'/></numa></cpu>",
        27,
        "XML error: Exactly one 'cell' element per guest NUMA cell allowed, non-contiguous ranges or ranges not starting from 0 are not allowed",
    ),
    (
        "<cpu><numa><cell id='0' cpus='0' memory='9'/><cell id='0' cpus='1' memory='9'/></numa></cpu>",
        27,
        "XML error: Duplicate NUMA cell info for cell id '0'",
    ),
    (
        "<cpu><numa><cell id='0' cpus='0'/></numa></cpu>",
        27,
        "XML error: Missing required attribute 'memory' in element 'cell'",
    ),
    (
        "<cpu><numa><cell id='0' memory='x'/></numa></cpu>",
        27,
        "XML error: Invalid value for attribute 'memory' in element 'cell': 'x'.",
    ),
    (
        "<cpu><numa><cell memory='9'><distances><sibling id='3' value='20'/></distances></cell></numa></cpu>",
        27,
        "XML error: 'sibling_id 3' does not refer to a valid cell within NUMA 'cell id 0'",
    ),
    (
        "<cpu><numa><cell memory='9'><distances><sibling id='0' value='20'/></distances></cell></numa></cpu>",
        27,
        "XML error: 'value 20' is invalid for 'sibling id 0' under NUMA 'cell id 0'",
    ),
    (
        "<cpu><numa><cell memory='9'/><cell memory='9'><distances><sibling id='0' value='5'/></distances></cell></numa></cpu>",
        27,
        "XML error: 'value 5' is invalid for 'sibling id 0' under NUMA 'cell id 1'",
    ),
    (
        "<cpu><numa><cell memory='9' memAccess='shared'/></numa></cpu>",
        67,
        "unsupported configuration: element 'cpu/numa/cell/@memAccess': shared memory needs <source type='memfd'/> in <memoryBacking>",
    ),
    (
        "<cpu><numa><cell memory='9' discard='yes'/></numa></cpu>",
        67,
        "unsupported configuration: attribute 'cpu/numa/cell/@discard' with value 'yes'",
    ),
    (
        "<maxMemory slots='0' unit='GiB'>4</maxMemory>",
        27,
        "XML error: Invalid value for attribute 'slots' in element 'maxMemory': '0'.",
    ),
    (
        "<maxMemory unit='GiB'>4</maxMemory>",
        27,
        "XML error: Missing required attribute 'slots' in element 'maxMemory'",
    ),
    (
        "<maxMemory slots='1'>4</maxMemory>",
        27,
        "XML error: maximum memory size must be equal or greater than the actual memory size",
    ),
    (
        "<maxMemory slots='2' unit='GiB'>4</maxMemory>",
        67,
        "unsupported configuration: At least one numa node has to be configured when enabling memory hotplug",
    ),
    (
        "<numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>",
        27,
        "XML error: Element 'memnode' is invalid without any guest NUMA cells",
    ),
    (
        "<cpu><numa><cell memory='9'/></numa></cpu><numatune><memnode cellid='1' mode='strict' nodeset='0'/></numatune>",
        27,
        "XML error: Argument 'memnode' must correspond to existing guest's NUMA cell",
    ),
    (
        "<numatune><memory mode='strict'/></numatune>",
        67,
        "unsupported configuration: nodeset for NUMA memory tuning must be set if 'placement' is 'static'",
    ),
    (
        "<numatune><memory mode='x' nodeset='0'/></numatune>",
        67,
        "unsupported configuration: attribute 'numatune/memory/@mode' with value 'x'",
    ),
    (
        "<numatune><memory placement='auto'/></numatune>",
        67,
        "unsupported configuration: element 'numatune/memory/@placement': nobody advises on where memory lies",
    ),
    (
        "<numatune><memory mode='restrictive' nodeset='0'/></numatune>",
        67,
        "unsupported configuration: element 'numatune/memory/@mode': mode 'restrictive' needs a control group, and none is made",
    ),
    (
        "<memoryBacking><hugepages/></memoryBacking>",
        67,
        "unsupported configuration: element 'memoryBacking/hugepages': <hugepages>",
    ),
    (
        "<memoryBacking><locked/></memoryBacking>",
        67,
        "unsupported configuration: element 'memoryBacking/locked': <locked>",
    ),
    (
        "<memoryBacking><source type='file'/></memoryBacking>",
        67,
        "unsupported configuration: element 'memoryBacking/source': <source type='file'>",
    ),
    (
        "<memoryBacking><access mode='shared'/></memoryBacking>",
        67,
        "unsupported configuration: element 'memoryBacking/access': shared memory needs <source type='memfd'/>",
    ),
    (
        "<memoryBacking><allocation threads='x'/></memoryBacking>",
        27,
        "XML error: Invalid value for attribute 'threads' in element 'allocation': 'x'.",
    ),
    ("<sysinfo/>", 27, "XML error: Missing required attribute 'type' in element 'sysinfo'"),
    (
        "<sysinfo type='fwcfg'><entry name='x'>v</entry></sysinfo>",
        67,
        "unsupported configuration: Invalid firmware name",
    ),
    (
        "<sysinfo type='fwcfg'><entry name='opt/x'/></sysinfo>",
        27,
        "XML error: Firmware entry must have either value or 'file' attribute",
    ),
];

/// What stands among the devices.
const DEVICES: &[(&str, u32, &str)] = &[
    ("<vsock><cid address='2'/></vsock>", 67, "unsupported configuration: guest CIDs must be >= 3"),
    (
        "<vsock><cid address='x'/></vsock>",
        27,
        "XML error: Invalid value for attribute 'address' in element 'cid': 'x'.",
    ),
    (
        "<serial type='tcp'><source mode='bind' host='h' service='1'/><protocol type='x'/></serial>",
        67,
        "unsupported configuration: element 'devices/serial': \
         <serial type='tcp'><source mode='bind' host='h' service='1'><protocol type='x'>",
    ),
    (
        "<vsock/>",
        67,
        "unsupported configuration: element 'devices/vsock/cid': nobody gives out numbers; name one with address",
    ),
    (
        "<vsock><cid auto='yes'/></vsock>",
        67,
        "unsupported configuration: element 'devices/vsock/cid': nobody gives out numbers; name one with address",
    ),
    (
        "<vsock><cid address='3'/></vsock><vsock/>",
        67,
        "unsupported configuration: element 'devices/vsock[2]': <vsock>",
    ),
    ("<panic model='x'/>", 67, "unsupported configuration: attribute 'devices/panic/@model' with value 'x'"),
    ("<panic model='isa'/><panic/>", 27, "XML error: Multiple panic devices with model 'isa'"),
    ("<sound/>", 27, "XML error: Missing required attribute 'model' in element 'sound'"),
    ("<sound model='x'/>", 67, "unsupported configuration: element 'devices/sound': <sound model='x'>"),
    ("<sound model='ich9'><audio id='5'/></sound>", 27, "XML error: no audio device with ID 5"),
    (
        "<sound model='ich6'><codec type='x'/></sound>",
        67,
        "unsupported configuration: element 'devices/sound/codec': <codec type='x'>",
    ),
    (
        "<audio id='1' type='none'/><audio id='1' type='none'/>",
        27,
        "XML error: audio ID 1 is used multiple times",
    ),
    (
        "<audio id='0' type='none'/>",
        27,
        "XML error: Invalid value for attribute 'id' in element 'audio': '0'.",
    ),
    (
        "<pstore backend='x'/>",
        67,
        "unsupported configuration: element 'devices/pstore': <pstore backend='x'>",
    ),
    (
        "<pstore backend='acpi-erst'/>",
        67,
        "unsupported configuration: element 'devices/pstore': its path and its size must be given",
    ),
    (
        "<disk><driver iothread='0'/><source file='/a'/><target dev='vda'/></disk>",
        27,
        "XML error: Invalid value for attribute 'iothread' in element 'driver': '0'.",
    ),
    (
        "<disk><driver><iothreads/></driver><source file='/a'/><target dev='vda'/></disk>",
        67,
        "unsupported configuration: disk 'vda' has an empty iothread mapping",
    ),
    (
        "<disk><driver><iothreads><iothread id='1'><queue id='0'/></iothread></iothreads></driver>\
         <source file='/a'/><target dev='vda'/></disk>",
        67,
        "unsupported configuration: disk 'vda' names queues of iothreads and not how many queues it has",
    ),
    (
        "<disk><driver queues='2'><iothreads><iothread id='1'><queue id='0'/></iothread></iothreads></driver>\
         <source file='/a'/><target dev='vda'/></disk>",
        67,
        "unsupported configuration: the iothread mapping of disk 'vda' does not cover every queue",
    ),
    (
        "<disk><driver queues='2'><iothreads><iothread id='1'><queue id='2'/></iothread></iothreads></driver>\
         <source file='/a'/><target dev='vda'/></disk>",
        27,
        "XML error: queue '2' is not one of the 2 queues of disk 'vda'",
    ),
    (
        "<disk><driver iommu='x'/><source file='/a'/><target dev='vda'/></disk>",
        67,
        "unsupported configuration: attribute 'devices/disk/driver/@iommu' with value 'x'",
    ),
    (
        "<interface type='user'><model type='virtio'/><driver txmode='x'/></interface>",
        67,
        "unsupported configuration: attribute 'devices/interface/driver/@txmode' with value 'x'",
    ),
    (
        "<interface type='user'><model type='virtio'/><driver><guest gso='on'/></driver></interface>",
        67,
        "unsupported configuration: element 'devices/interface[1]/driver/guest': gso and mrg_rxbuf are the host's",
    ),
    (
        "<memballoon model='virtio'><driver packed='x'/></memballoon>",
        67,
        "unsupported configuration: attribute 'devices/memballoon/driver/@packed' with value 'x'",
    ),
];

/// What stands in `<os>`.
const OS_WITH_ACPI: &[(&str, u32, &str)] = &[
    (
        "<loader readonly='yes' type='pflash' stateless='yes'>/a</loader><nvram>/x</nvram>",
        35,
        "NVRAM is not permitted when loader is stateless",
    ),
    (
        "<loader readonly='no' type='pflash'>/a</loader><nvram>/x</nvram>",
        67,
        "unsupported configuration: a loader that can be written has its variables in itself, not in nvram",
    ),
    (
        "<loader readonly='yes' secure='yes' type='pflash'>/a</loader>",
        67,
        "unsupported configuration: Secure boot requires SMM feature enabled",
    ),
];

/// What stands in `<os>` of a guest without ACPI.
const OS: &[(&str, u32, &str)] = &[
    ("<smbios mode='sysinfo'/>", 27, "XML error: Domain 'a' sysinfo are not available"),
    (
        "<loader type='x'>/a</loader>",
        67,
        "unsupported configuration: attribute 'os/loader/@type' with value 'x'",
    ),
    (
        "<loader type='pflash'>/a</loader>",
        67,
        "unsupported configuration: UEFI requires ACPI on this architecture",
    ),
    ("<loader type='pflash'/>", 35, "no loader path specified and firmware auto selection disabled"),
    ("<nvram>/x</nvram>", 35, "no loader path specified and firmware auto selection disabled"),
    ("<loader type='rom' stateless='no'>/a</loader>", 35, "Only pflash loader type permits NVRAM"),
    ("<loader type='rom'>/a</loader><nvram template='/a'/>", 35, "Only pflash loader type permits NVRAM"),
    (
        "<loader readonly='x'>/a</loader>",
        67,
        "unsupported configuration: attribute 'os/loader/@readonly' with value 'x'",
    ),
    (
        "<loader format='qcow2'>/a</loader>",
        67,
        "unsupported configuration: attribute 'os/loader/@format' with value 'qcow2'",
    ),
    (
        "<firmware><feature name='secure-boot' enabled='yes'/></firmware>",
        35,
        "cannot use feature-based firmware autoselection when firmware autoselection is disabled",
    ),
    ("<smbios mode='x'/>", 67, "unsupported configuration: element 'os/smbios': <smbios mode='x'>"),
    (
        "<smbios mode='host'/>",
        67,
        "unsupported configuration: element 'os/smbios/@mode': the host's own tables are not read",
    ),
];

#[test]
fn a_wrong_value_is_refused() {
    let mut wrong = Vec::new();
    let beside = BESIDE_DEVICES.iter().map(|(text, code, error)| (domain("", text, ""), *code, *error));
    let devices = DEVICES.iter().map(|(text, code, error)| (domain("", "", text), *code, *error));
    let os = OS.iter().map(|(text, code, error)| (domain(text, "", ""), *code, *error));
    let acpi = "<features><acpi/></features>";
    let with_acpi = OS_WITH_ACPI.iter().map(|(text, code, error)| (domain(text, acpi, ""), *code, *error));
    for (text, code, expected) in beside.chain(devices).chain(os).chain(with_acpi) {
        let found = match Domain::parse(&text) {
            Err(error) => (error.code(), error.to_string()),
            // A word that no table has is kept, and refused by its path.
            Ok(domain) => domain
                .check_supported()
                .map_or_else(|refused| (67, refused.to_string()), |()| (0, "nothing".to_owned())),
        };
        if found != (code, expected.to_owned()) {
            wrong.push(format!("{text}\n  expected {code}: {expected}\n  found    {}: {}", found.0, found.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn domain(os: &str, beside: &str, devices: &str) -> String {
    format!(
        "<domain type='qemu'><name>a</name><memory>1048576</memory><vcpu>2</vcpu>\
         <os><type machine='q35'>hvm</type>{os}</os>{beside}<devices>{devices}</devices></domain>"
    )
}
