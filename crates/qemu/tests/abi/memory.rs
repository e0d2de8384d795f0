//! What guest memory is made of, said on the command line as stock says it (observed with 9.0 and 11.3).

use ferry_qemu::command_line;

use super::common::{capabilities, defined, launch, started};

const CELLS: &str = "<maxMemory slots='4' unit='GiB'>8</maxMemory><memory>1</memory>\
    <cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/></numa></cpu>";
const WHOLE: &str = "<memory unit='KiB'>700001</memory>";
const DIMM: &str = "<memory model='dimm'><target><size unit='MiB'>256</size><node>0</node></target></memory>";
const GROWS: &str = "<memory model='virtio-mem'><target><size unit='MiB'>256</size><node>0</node>\
    <block>2048</block><requested>2048</requested></target></memory>";
const PMEM: &str = "<memory model='virtio-pmem'><source><path>/pm</path></source>\
    <target><size unit='MiB'>256</size></target></memory>";

/// Size, `<memoryBacking>` and the like, devices, and the memory objects without their sizes.
#[rustfmt::skip]
const OBJECTS: &[(&str, &str, &str, &[&str])] = &[
    (WHOLE, "", "", &["ram,pc.ram"]),
    (WHOLE, "<memoryBacking><discard/></memoryBacking>", "", &["ram,pc.ram"]),
    (WHOLE, "<memoryBacking><access mode='shared'/></memoryBacking>", "",
     &["file,pc.ram,mem-path=/huge/ram,share=true,x-use-canonical-path-for-ramblock-id=false"]),
    (WHOLE, "<memoryBacking><source type='anonymous'/><access mode='private'/><discard/></memoryBacking>", "",
     &["file,pc.ram,mem-path=/huge/ram,discard-data=true,share=false,x-use-canonical-path-for-ramblock-id=false"]),
    (WHOLE, "<memoryBacking><source type='memfd'/><access mode='private'/></memoryBacking>", "",
     &["memfd,pc.ram,share=false,x-use-canonical-path-for-ramblock-id=false"]),
    (WHOLE, "<memoryBacking><source type='memfd'/><access mode='shared'/><discard/><allocation mode='immediate'/></memoryBacking>", "",
     &["memfd,pc.ram,share=true,x-use-canonical-path-for-ramblock-id=false,prealloc=true"]),
    (WHOLE, "<memoryBacking><allocation mode='ondemand' threads='3'/></memoryBacking>", "",
     &["ram,pc.ram,prealloc-threads=3"]),
    (WHOLE, "<memoryBacking><hugepages/></memoryBacking>", "",
     &["file,pc.ram,mem-path=/huge/2M,x-use-canonical-path-for-ramblock-id=false,prealloc=true"]),
    (WHOLE, "<memoryBacking><hugepages><page size='4' unit='KiB'/></hugepages></memoryBacking>", "", &["ram,pc.ram"]),
    (WHOLE, "<memoryBacking><hugepages><page size='1' unit='G'/></hugepages><source type='memfd'/><access mode='shared'/></memoryBacking>", "",
     &["memfd,pc.ram,hugetlb=true,hugetlbsize=1073741824,share=true,x-use-canonical-path-for-ramblock-id=false,prealloc=true"]),
    (WHOLE, "<memoryBacking><hugepages/><source type='file'/><access mode='shared'/></memoryBacking>", "",
     &["file,pc.ram,mem-path=/huge/2M,share=true,x-use-canonical-path-for-ramblock-id=false,prealloc=true"]),
    (CELLS, "<memoryBacking><source type='memfd'/><access mode='shared'/><allocation mode='immediate' threads='2'/></memoryBacking>",
     "DIMM+GROWS+PMEM",
     &["memfd,ram-node0,share=true,prealloc=true,prealloc-threads=2",
       "memfd,memdimm0,share=true,prealloc=true,prealloc-threads=2",
       "memfd,memvirtiomem0,share=true,reserve=false",
       "file,memvirtiopmem0,mem-path=/pm,share=true,prealloc=true,prealloc-threads=2"]),
    (CELLS, "<memoryBacking><hugepages/></memoryBacking>", "DIMM+GROWS+PMEM",
     &["file,ram-node0,mem-path=/huge/2M,prealloc=true",
       "file,memdimm0,mem-path=/huge/2M,prealloc=true",
       "file,memvirtiomem0,mem-path=/huge/2M,reserve=false",
       "file,memvirtiopmem0,mem-path=/pm,share=true"]),
    (CELLS, "<memoryBacking><hugepages/><source type='memfd'/></memoryBacking>", "DIMM+GROWS",
     &["memfd,ram-node0,hugetlb=true,hugetlbsize=2097152,prealloc=true",
       "memfd,memdimm0,hugetlb=true,hugetlbsize=2097152,prealloc=true",
       "memfd,memvirtiomem0,hugetlb=true,hugetlbsize=2097152,reserve=false"]),
    (CELLS, "<memoryBacking><source type='file'/><discard/></memoryBacking>", "DIMM",
     &["file,ram-node0,mem-path=/huge/ram,discard-data=true", "file,memdimm0,mem-path=/huge/ram,discard-data=true"]),
    (CELLS, "<numatune><memnode mode='preferred' cellid='0' nodeset='0'/></numatune>", "DIMM",
     &["ram,ram-node0,host-nodes=[0],policy=preferred", "ram,memdimm0,host-nodes=[0],policy=preferred"]),
];

#[test]
fn memory_is_made_of_what_stock_makes_it_of() {
    let capabilities = capabilities("7.2");
    for (size, beside, devices, expected) in OBJECTS {
        let devices = devices.replace("DIMM", DIMM).replace("GROWS", GROWS).replace("PMEM", PMEM);
        let text = format!(
            "<domain type='qemu'><name>a</name><uuid>0e0a9d44-4d38-4a3e-8c1e-4a4f2c6f2a10</uuid>{size}{beside}\
             <vcpu>1</vcpu><os><type machine='q35'>hvm</type></os><devices>{}</devices></domain>",
            devices.replace('+', "")
        );
        let live = started(&defined(&text, &capabilities), &capabilities);
        let line = command_line(&live, &capabilities, &launch(&live)).unwrap();
        let objects: Vec<String> = line.argv.iter().filter_map(|word| object(word)).collect();
        assert_eq!(&objects, expected, "{beside}");
    }
}

#[test]
fn locked_memory_is_said_to_qemu() {
    let capabilities = capabilities("7.2");
    for (beside, word) in [("", "mem-lock=off"), ("<memoryBacking><locked/></memoryBacking>", "mem-lock=on")]
    {
        let text = format!(
            "<domain type='qemu'><name>a</name><uuid>0e0a9d44-4d38-4a3e-8c1e-4a4f2c6f2a10</uuid>{WHOLE}{beside}\
             <vcpu>1</vcpu><os><type machine='q35'>hvm</type></os></domain>"
        );
        let live = started(&defined(&text, &capabilities), &capabilities);
        let line = command_line(&live, &capabilities, &launch(&live)).unwrap();
        assert!(line.argv.iter().any(|one| one == word), "{beside}");
    }
}

/// A memory object as `KIND,ID,NAME=VALUE…`, without its size.
fn object(word: &str) -> Option<String> {
    let rest = word.strip_prefix("{\"qom-type\":\"memory-backend-")?;
    let words = rest.trim_end_matches('}').split(",\"").map(|piece| {
        let piece = piece.replace('"', "");
        piece.strip_prefix("id:").map_or_else(|| piece.replacen(':', "=", 1), str::to_owned)
    });
    Some(words.filter(|word| !word.starts_with("size=")).collect::<Vec<_>>().join(","))
}

/// A host without large pages, or with others, says so in stock's words.
#[test]
fn pages_that_a_host_does_not_have_are_refused() {
    let capabilities = capabilities("7.2");
    let refusal = |pages: &str, with_pages: bool| {
        let text = format!(
            "<domain type='qemu'><name>a</name><uuid>0e0a9d44-4d38-4a3e-8c1e-4a4f2c6f2a10</uuid>{WHOLE}\
             <memoryBacking><hugepages>{pages}</hugepages></memoryBacking><vcpu>1</vcpu>\
             <os><type machine='q35'>hvm</type></os></domain>"
        );
        let live = started(&defined(&text, &capabilities), &capabilities);
        let mut launch = launch(&live);
        if !with_pages {
            launch.memory = Default::default();
        }
        command_line(&live, &capabilities, &launch).unwrap_err().to_string()
    };
    let none = "internal error: hugetlbfs filesystem is not mounted or disabled by administrator config";
    assert_eq!(refusal("", false), none);
    assert_eq!(refusal("<page size='2048'/>", false), none);
    let other = "internal error: Unable to find any usable hugetlbfs mount for 64 KiB";
    assert_eq!(refusal("<page size='64'/>", true), other);
}
