//! A wrong value in each element, and the error that its user reads: number and text, stock's where stock has one.
//!
//! A table of each place in the document.

mod devices;

use devices::{DEVICES, MEMORY};
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
    (
        "<cputune><vcpupin vcpu='0' cpuset='x'/></cputune>",
        27,
        "XML error: Invalid value for attribute 'cpuset' in element 'vcpupin': 'x'.",
    ),
    (
        "<cputune><vcpupin cpuset='0'/></cputune>",
        27,
        "XML error: Missing required attribute 'vcpu' in element 'vcpupin'",
    ),
    (
        "<cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='0' cpuset='1'/></cputune>",
        27,
        "XML error: duplicate vcpupin for vcpu '0'",
    ),
    (
        "<cputune><iothreadpin iothread='1' cpuset='0'/><iothreadpin iothread='1' cpuset='1'/></cputune>",
        27,
        "XML error: duplicate iothreadpin for same iothread '1'",
    ),
    ("<vcpus><vcpu id='0' enabled='no'/></vcpus>", 67, "unsupported configuration: vcpu 0 can't be offline"),
    ("<vcpus><vcpu id='1' enabled='yes'/></vcpus>", 67, "unsupported configuration: vcpu 0 can't be offline"),
    (
        "<vcpus><vcpu id='0' enabled='yes' hotpluggable='yes'/></vcpus>",
        67,
        "unsupported configuration: vcpu0 can't be hotpluggable",
    ),
    (
        "<vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no' hotpluggable='no'/></vcpus>",
        67,
        "unsupported configuration: vcpu '1' is both offline and not hotpluggable",
    ),
    (
        "<vcpus><vcpu id='7' enabled='yes'/></vcpus>",
        27,
        "XML error: vcpu id '7' is out of range of maximum vcpu count",
    ),
    (
        "<vcpus><vcpu id='0' enabled='yes'/><vcpu id='0' enabled='yes'/></vcpus>",
        27,
        "XML error: vcpu id '0' is listed twice",
    ),
    (
        "<vcpus><vcpu id='0' enabled='x'/></vcpus>",
        67,
        "unsupported configuration: element 'vcpus/vcpu': <vcpu id='0' enabled='x'>",
    ),
    (
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:arg/></qemu:commandline>",
        1,
        "internal error: No qemu command-line argument specified",
    ),
    (
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:env value='x'/></qemu:commandline>",
        1,
        "internal error: No qemu environment name specified",
    ),
    (
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:env name='1A'/></qemu:commandline>",
        1,
        "internal error: Invalid environment name, it must begin with a letter or underscore",
    ),
    (
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><qemu:env name='A-B'/></qemu:commandline>",
        1,
        "internal error: Invalid environment name, it must contain only alphanumerics and underscore",
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
        "<cpu><numa><cell memory='9' discard='x'/></numa></cpu>",
        67,
        "unsupported configuration: attribute 'cpu/numa/cell/@discard' with value 'x'",
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
        "<memoryBacking><hugepages/><source type='anonymous'/></memoryBacking>",
        67,
        "unsupported configuration: hugepages are not allowed with anonymous memory source",
    ),
    (
        "<memoryBacking><hugepages/><allocation mode='ondemand'/></memoryBacking>",
        67,
        "unsupported configuration: hugepages are not allowed with memory allocation ondemand",
    ),
    (
        "<memoryBacking><hugepages><page nodeset='0'/></hugepages></memoryBacking>",
        27,
        "XML error: Missing required attribute 'size' in element 'page'",
    ),
    (
        "<memoryBacking><hugepages><page size='0'/></hugepages></memoryBacking>",
        35,
        "hugepage size can't be zero",
    ),
    (
        "<memoryBacking><hugepages><page size='2' unit='x'/></hugepages></memoryBacking>",
        27,
        "XML error: Invalid value for attribute 'unit' in element 'page': 'x'.",
    ),
    (
        "<memoryBacking><hugepages><page size='2048' nodeset='1'/></hugepages></memoryBacking>",
        35,
        "hugepages: node 1 not found",
    ),
    (
        "<memoryBacking><hugepages><page size='2048'/><page size='1048576'/></hugepages></memoryBacking>",
        35,
        "two master hugepages detected: 1048576 and 2048",
    ),
    (
        "<memoryBacking><hugepages><page size='2048' nodeset='0'/><page size='4' nodeset='0'/></hugepages></memoryBacking>",
        35,
        "nodeset attribute of hugepages of sizes 4 and 2048 intersect",
    ),
    (
        "<memoryBacking><source type='tape'/></memoryBacking>",
        67,
        "unsupported configuration: element 'memoryBacking/source': <source type='tape'>",
    ),
    (
        "<memoryBacking><access mode='x'/></memoryBacking>",
        67,
        "unsupported configuration: element 'memoryBacking/access': <access mode='x'>",
    ),
    (
        "<memoryBacking><allocation mode='x'/></memoryBacking>",
        67,
        "unsupported configuration: attribute 'memoryBacking/allocation/@mode' with value 'x'",
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
    let grows = "<maxMemory slots='2' unit='GiB'>8</maxMemory>\
        <cpu><numa><cell id='0' cpus='0-1' memory='1048576'/></numa></cpu>";
    let memory = MEMORY.iter().map(|(text, code, error)| (domain("", grows, text), *code, *error));
    for (text, code, expected) in beside.chain(devices).chain(memory).chain(os).chain(with_acpi) {
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
