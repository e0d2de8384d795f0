//! Guest memory on the host: folders for what lies in files, the limit on locked memory, and where QEMU has put its devices.
//!
//! Called by [`super::launch`] and when memory is plugged in. QEMU makes its files in these folders without names, so that
//! nothing is left to be cleaned up when it ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ferry_domxml::address::Address;
use ferry_domxml::memory::Size;
use ferry_domxml::memory_device::{MemoryBase, MemoryModel};
use ferry_domxml::{Domain, MemoryBacking};
use ferry_qemu::command_line::MemoryFolders;
use ferry_qmp::commands::guest::{MemoryDeviceInfo, QueryBalloon, QueryMemoryDevices};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::monitor::{Monitor, MonitorError};
use super::ownership::Account;
use crate::layout::Layout;

/// Our folder on a file system of large pages.
const FOLDER: &str = "ferry";

/// Which folders there would be on this host. Nothing is made.
pub(crate) fn folders(layout: &Layout) -> MemoryFolders {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let usual_pages_kib = usual_pages_kib(&meminfo);
    let pages = mounts.lines().filter_map(|line| {
        let (place, pages_kib) = large_page_mount(line)?;
        Some((pages_kib.or(usual_pages_kib)?, Path::new(&place).join(FOLDER).to_string_lossy().into_owned()))
    });
    MemoryFolders {
        files: Some(layout.ram.to_string_lossy().into_owned()),
        pages: pages.collect(),
        usual_pages_kib,
    }
}

/// The folders that a guest may need, made and QEMU's own; files of its memory devices too.
///
/// # Errors
/// A folder cannot be made or given away.
pub(crate) fn prepare(domain: &Domain, layout: &Layout, account: &Account) -> io::Result<MemoryFolders> {
    let folders = folders(layout);
    for device in &domain.devices.memories {
        let path = device.source.as_ref().and_then(|source| source.path.as_deref());
        // One that is not there is made by QEMU.
        if let Some(path) = path.map(Path::new).filter(|path| path.is_file()) {
            account.own(path)?;
        }
    }
    if !lies_in_files(domain) {
        return Ok(folders);
    }
    for folder in folders.files.iter().chain(folders.pages.values()) {
        let folder = PathBuf::from(folder);
        if !folder.is_dir() {
            use std::os::unix::fs::DirBuilderExt as _;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        }
        account.own(&folder)?;
    }
    Ok(folders)
}

/// Whether any of the guest's memory may be put into a file of ours.
fn lies_in_files(domain: &Domain) -> bool {
    let is_said = |backing: &MemoryBacking| {
        backing.hugepages.is_some() || backing.source.is_some() || backing.access.is_some()
    };
    domain.memory_backing.as_ref().is_some_and(is_said)
        || domain.cells().iter().any(|cell| cell.mem_access.is_some())
        || domain.devices.memories.iter().any(|device| device.access.is_some() || device.source.is_some())
}

/// The place of a file system of large pages, and their size in KiB when the mount names one.
fn large_page_mount(line: &str) -> Option<(String, Option<u64>)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut words = file_system.split(' ');
    if words.next() != Some("hugetlbfs") {
        return None;
    }
    // Blanks and the like are written as octal numbers.
    let place = mount.split(' ').nth(4)?.replace("\\040", " ");
    let options = words.next_back().unwrap_or_default();
    let size = options.split(',').find_map(|option| option.strip_prefix("pagesize="))?;
    let digits = size.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match size.get(digits.len()..) {
        Some("K") => 1,
        Some("M") => 1 << 10,
        Some("G") => 1 << 20,
        _ => return Some((place, None)),
    };
    Some((place, digits.parse::<u64>().ok().map(|number| number.saturating_mul(unit))))
}

fn usual_pages_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Does `spawn` while a new process may lock all its memory, as it inherits our limit. Where the limit cannot be raised QEMU
/// may have the right to do without; when it has not, it says so and ends.
pub(crate) fn with_locked_memory<T>(spawn: impl FnOnce() -> T) -> T {
    /// One at a time, so that the limit is put back to what it was.
    static LIMIT: Mutex<()> = Mutex::new(());
    let _one = LIMIT.lock().unwrap_or_else(PoisonError::into_inner);
    let before = getrlimit(Resource::Memlock);
    if let Err(error) = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }) {
        tracing::warn!(%error, "the limit on locked memory cannot be raised");
        return spawn();
    }
    let spawned = spawn();
    if let Err(error) = setrlimit(Resource::Memlock, before) {
        tracing::warn!(%error, "the limit on locked memory stays raised");
    }
    spawned
}

/// Where QEMU has put the memory devices, and how much of them the guest has.
///
/// # Errors
/// QEMU does not answer.
pub(crate) async fn learn(monitor: &Monitor, domain: &mut Domain) -> Result<(), MonitorError> {
    if domain.devices.memories.is_empty() {
        return Ok(());
    }
    see(domain, &monitor.execute(&QueryMemoryDevices).await?);
    learn_balloon(monitor, domain).await
}

/// How much memory the guest has, as the balloon counts it.
///
/// # Errors
/// The monitor is closed. That there is no balloon is none.
pub(crate) async fn learn_balloon(monitor: &Monitor, domain: &mut Domain) -> Result<(), MonitorError> {
    let has_balloon = domain.devices.memballoon.as_ref();
    if has_balloon.is_none_or(|balloon| balloon.model == ferry_domxml::BalloonModel::None) {
        domain.current_memory = Some(Size { kib: domain.memory.kib });
        return Ok(());
    }
    let kib = monitor.execute(&QueryBalloon).await?.actual / 1024;
    domain.current_memory = Some(Size { kib });
    Ok(())
}

fn see(domain: &mut Domain, found: &[MemoryDeviceInfo]) {
    for device in &mut domain.devices.memories {
        let alias = device.info.alias.as_deref();
        let info = found.iter().find(|info| info.data.id.as_deref() == alias && alias.is_some());
        let Some(data) = info.map(|info| &info.data) else { continue };
        match (&mut device.info.address, device.model) {
            (Some(Address::Dimm(dimm)), _) => dimm.base = Some(data.addr),
            (_, MemoryModel::VirtioMem) => {
                device.target.base = Some(MemoryBase(data.addr));
                device.target.current = Some(Size { kib: data.size / 1024 });
            }
            (_, MemoryModel::VirtioPmem) => device.target.base = Some(MemoryBase(data.addr)),
            (_, MemoryModel::Dimm | MemoryModel::Nvdimm) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn file_systems_of_large_pages_are_found_with_their_sizes() {
        let line = "41 31 0:36 / /dev/huge\\040pages rw,relatime shared:17 - hugetlbfs hugetlbfs rw,mode=1777,pagesize=1024M";
        assert_eq!(large_page_mount(line), Some(("/dev/huge pages".to_owned(), Some(1 << 20))));
        let line = "42 31 0:37 / /huge rw - hugetlbfs none rw,pagesize=2M";
        assert_eq!(large_page_mount(line), Some(("/huge".to_owned(), Some(2048))));
        assert_eq!(large_page_mount("42 31 0:37 / /tmp rw - tmpfs none rw,size=2M"), None);
        assert_eq!(large_page_mount("nonsense"), None);
        assert_eq!(usual_pages_kib("HugePages_Free: 0\nHugepagesize:       2048 kB\n"), Some(2048));
        assert_eq!(usual_pages_kib(""), None);
    }

    #[test]
    fn devices_are_where_qemu_says() {
        let device = |model: &str, more: &str, address: &str, alias: &str| {
            format!(
                "<memory model='{model}'><target><size>4096</size><node>0</node>{more}</target>{address}\
                 <alias name='{alias}'/></memory>"
            )
        };
        let text = format!(
            "<domain type='qemu'><name>a</name><maxMemory slots='4'>99999</maxMemory><memory>9</memory>\
             <os><type>hvm</type></os><cpu><numa><cell memory='9'/></numa></cpu><devices>{}{}</devices></domain>",
            device("dimm", "", "<address type='dimm' slot='1'/>", "dimm1"),
            device("virtio-mem", "<block>2048</block>", "", "virtiomem0"),
        );
        let mut domain = Domain::parse(&text).unwrap();
        let found = json!([
            {"type": "dimm", "data": {"id": "dimm1", "addr": 0x1_0000_0000_u64, "size": 4_194_304, "slot": 1, "node": 0,
                "memdev": "/objects/memdimm1", "hotplugged": false, "hotpluggable": true}},
            {"type": "virtio-mem", "data": {"id": "virtiomem0", "memaddr": 0x1_1000_0000_u64, "requested-size": 0,
                "size": 2_097_152, "max-size": 4_194_304, "block-size": 2_097_152, "node": 0, "memdev": "/objects/x"}}
        ]);
        see(&mut domain, &serde_json::from_value::<Vec<MemoryDeviceInfo>>(found).unwrap());
        let bases: Vec<_> = domain.devices.memories.iter().map(|device| device.base()).collect();
        assert_eq!(bases, [Some(0x1_0000_0000), Some(0x1_1000_0000)]);
        assert_eq!(domain.devices.memories[1].target.current, Some(Size { kib: 2048 }));
    }
}
