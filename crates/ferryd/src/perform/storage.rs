//! Where the disks of a guest really lie: the facts that decide whether it may move without them.
//!
//! Called by a driver before its guest leaves. What the facts mean is `ferry_migration::checks`'s; this room looks at
//! files and mounts. A file system whose server is gone holds whoever looks at it, for ever if need be: so each disk is
//! looked at by a thread of its own, that nobody waits for longer than [`PATIENCE`].

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ferry_domxml::disk::{self, DiskDevice};
use ferry_domxml::storage::{Location, Source};
use ferry_migration::checks::file_system::{FileSystem, Sharing, kind_of_mount};
use ferry_migration::checks::safe;
use rustix::fs::{Mode, OFlags};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long the file systems of a guest may take to say what they are. A living server answers in milliseconds; one that
/// has just been started again, within its clients' retries.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the disks of one guest.
#[derive(Debug, Default)]
pub(crate) struct Surveyor {
    /// Looks that nobody has waited for to the end, by their disks' targets. A disk is not looked at twice at a time, so
    /// a guest holds one thread for each of its disks at most.
    late: Vec<(String, JoinHandle<()>)>,
}

impl Surveyor {
    /// The disks of a definition as they lie on this host. `declared` are the trees that the operator says are shared.
    /// Comes back after [`PATIENCE`] at the latest, with [`safe::Place::Silent`] for what did not answer.
    pub(crate) async fn survey(&mut self, disks: &[disk::Disk], declared: &[PathBuf]) -> Vec<safe::Disk> {
        self.late.retain(|(_, look)| !look.is_finished());
        let declared: Arc<[PathBuf]> = declared.into();
        let looks: Vec<_> = disks.iter().map(|disk| self.look(disk, &declared)).collect();
        let deadline = Instant::now() + PATIENCE;
        let mut found = Vec::with_capacity(disks.len());
        for (disk, look) in disks.iter().zip(looks) {
            let seen = match look {
                Some(look) => timeout_at(deadline, look).await.ok().and_then(Result::ok),
                None => None,
            };
            found.push(match seen {
                Some(seen) => {
                    // Its thread has nothing left to do but to end, whenever it comes to that.
                    self.late.retain(|(late, _)| *late != disk.target.dev);
                    seen
                }
                None => facts(disk, |_| safe::Place::Silent),
            });
        }
        found
    }

    /// None when an earlier look at this disk is still out, or none can be begun.
    fn look(
        &mut self,
        disk: &disk::Disk,
        declared: &Arc<[PathBuf]>,
    ) -> Option<oneshot::Receiver<safe::Disk>> {
        let target = &disk.target.dev;
        if self.late.iter().any(|(late, _)| late == target) {
            return None;
        }
        let (tell, told) = oneshot::channel();
        let (disk, declared) = (disk.clone(), Arc::clone(declared));
        let look = move || {
            let seen = facts(&disk, |path| safe::Place::File(file_system(path, &declared)));
            // Nobody may be waiting any more.
            let _ = tell.send(seen);
        };
        let thread = thread::Builder::new().name("disk".to_owned()).spawn(look).ok()?;
        self.late.push((target.clone(), thread));
        Some(told)
    }
}

/// What is to be known of a disk; `look` says of a file where it is.
fn facts(disk: &disk::Disk, look: impl Fn(&Path) -> safe::Place) -> safe::Disk {
    let mut sources = Vec::new();
    sources.extend(source(&disk.source, &look));
    sources.extend(disk.source.data_store.iter().filter_map(|data| source(&data.source, &look)));
    safe::Disk {
        target: disk.target.dev.clone(),
        read_only: disk.readonly || disk.device == DiskDevice::Cdrom,
        shareable: disk.shareable,
        copied: false,
        cache: disk.driver.as_ref().and_then(|driver| driver.cache),
        overlay: None,
        sources,
    }
}

/// None for an empty drive.
fn source(source: &Source, look: impl Fn(&Path) -> safe::Place) -> Option<safe::Source> {
    Some(match &source.location {
        Location::File(path) => {
            let path = path.as_deref()?;
            safe::Source { name: path.to_owned(), place: look(Path::new(path)) }
        }
        Location::Block(path) => safe::Source { name: path.clone()?, place: safe::Place::Device },
        Location::Network(_) => safe::Source { name: source.label(), place: safe::Place::Network },
        // No such guest starts; if it did, nothing would be known of it.
        Location::Volume { pool, volume } => {
            safe::Source { name: format!("{pool}/{volume}"), place: safe::Place::Device }
        }
    })
}

/// The file system that a path lies on, or will once it is there. May block without an end.
fn file_system(path: &Path, declared: &[PathBuf]) -> FileSystem {
    let place = Resolved::of(path);
    let (number, mount) = number_and_mount(&place.there).unwrap_or_default();
    // Without it, what the number does not tell counts as local.
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kind = kind_of_mount(&mountinfo, mount).unwrap_or("a file system of unknown type").to_owned();
    let sharing = match Sharing::of(number, &kind) {
        Sharing::Local if declared.iter().any(|tree| place.is_below(&Resolved::of(tree))) => Sharing::Shared,
        sharing => sharing,
    };
    FileSystem { kind, sharing }
}

/// The file system of a folder of the daemon's own, or of where it will be. `declared` as for disks, except that links are not
/// followed: nothing is looked at here but what the daemon uses all day.
pub(crate) fn own_file_system(folder: &Path, declared: &[PathBuf]) -> FileSystem {
    let found = file_system(folder, &[]);
    let is_declared = declared.iter().any(|tree| folder.starts_with(tree));
    if is_declared && found.sharing == Sharing::Local {
        return FileSystem { sharing: Sharing::Shared, ..found };
    }
    found
}

/// The number of the file system's type and the number of the mount, of one and the same place.
fn number_and_mount(place: &Path) -> io::Result<(u32, u64)> {
    let place = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let number = rustix::fs::fstatfs(&place)?.f_type;
    let told = fs::read_to_string(format!("/proc/self/fdinfo/{}", place.as_raw_fd()))?;
    let mount = told.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    Ok((u32::try_from(number).unwrap_or_default(), mount.unwrap_or_default()))
}

/// Where a path really lies.
struct Resolved {
    /// With links followed, as far as it exists.
    there: PathBuf,
    /// And with the rest, which does not.
    whole: PathBuf,
}

impl Resolved {
    fn of(path: &Path) -> Self {
        let found = path.ancestors().find_map(|part| Some((part, fs::canonicalize(part).ok()?)));
        let Some((part, there)) = found else {
            return Self { there: path.to_owned(), whole: path.to_owned() };
        };
        let rest = path.strip_prefix(part).unwrap_or(Path::new(""));
        // Nobody knows where `..` of a folder that is not there leads.
        let is_plain = rest.components().all(|component| matches!(component, Component::Normal(_)));
        let whole = if is_plain { there.join(rest) } else { there.clone() };
        Self { there, whole }
    }

    /// A tree that is not there has nothing in it but what is not there either.
    fn is_below(&self, tree: &Self) -> bool {
        self.whole.starts_with(&tree.whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_domxml::Domain;

    fn look(path: &Path, declared: &[PathBuf]) -> FileSystem {
        file_system(path, declared)
    }

    #[test]
    fn a_tree_that_is_declared_is_shared_also_behind_links() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, link) = (folder.path().join("tree"), folder.path().join("link"));
        fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&tree, &link).unwrap();
        assert_eq!(look(&tree, &[]).sharing, Sharing::Local);
        for (path, declared, sharing) in [
            (tree.join("a"), &tree, Sharing::Shared),
            (link.join("a"), &tree, Sharing::Shared),
            (tree.join("not/there/yet"), &link, Sharing::Shared),
            (folder.path().join("tree2"), &tree, Sharing::Local),
            (folder.path().join("a"), &tree, Sharing::Local),
            (folder.path().join("a"), &folder.path().join("nowhere"), Sharing::Local),
            (folder.path().join("nowhere/a"), &folder.path().join("nowhere"), Sharing::Shared),
            (folder.path().join("nowhere/../a"), &folder.path().join("nowhere"), Sharing::Local),
        ] {
            assert_eq!(look(&path, std::slice::from_ref(declared)).sharing, sharing, "{path:?}");
        }
    }

    #[test]
    fn a_path_is_on_the_file_system_of_where_it_really_lies() {
        assert_eq!(look(Path::new("/proc/self/status"), &[]).kind, "proc");
        assert_eq!(look(Path::new("/proc/no/such/thing"), &[]).kind, "proc");
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        assert_eq!(look(&link.join("x"), &[]).kind, "proc");
    }

    #[tokio::test]
    async fn a_disk_that_has_answered_can_be_looked_at_again_at_once() {
        let domain = Domain::parse(
            "<domain type='qemu'><name>vm</name><memory>65536</memory>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
             <disk type='file' device='disk'><source file='/proc/self/status'/><target dev='vda' bus='virtio'/></disk>\
             </devices></domain>",
        )
        .unwrap();
        let mut surveyor = Surveyor::default();
        let found = surveyor.survey(&domain.devices.disks, &[]).await;
        assert!(matches!(found[0].sources[0].place, safe::Place::File(_)), "{found:?}");
        assert!(surveyor.late.is_empty(), "whether its thread has ended by now or not");
    }

    #[tokio::test]
    async fn images_data_files_and_empty_drives() {
        let domain = Domain::parse(
            "<domain type='qemu'><name>vm</name><memory>65536</memory>\
             <os><type arch='x86_64' machine='pc'>hvm</type></os><devices>\
             <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>\
             <source file='/a'><dataStore type='file'><format type='raw'/><source file='/b'/></dataStore></source>\
             <target dev='vda' bus='virtio'/></disk>\
             <disk type='file' device='cdrom'><target dev='sda' bus='sata'/></disk>\
             <disk type='block' device='disk'><source dev='/dev/x'/><target dev='vdb' bus='virtio'/><shareable/></disk>\
             </devices></domain>",
        )
        .unwrap();
        let found = Surveyor::default().survey(&domain.devices.disks, &[]).await;
        let names: Vec<Vec<&str>> = found
            .iter()
            .map(|disk| disk.sources.iter().map(|source| source.name.as_str()).collect())
            .collect();
        assert_eq!(names, [vec!["/a", "/b"], vec!["/dev/x"], vec![]]);
        assert!(!found[0].read_only && found[1].shareable && found[2].read_only);
        assert_eq!(found[0].cache, Some(disk::CacheMode::None));
        assert_eq!(found[1].sources[0].place, safe::Place::Device);
    }
}
