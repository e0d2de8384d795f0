//! Where the disks of a guest really lie: the facts that decide whether it may move without them.
//!
//! Called by a driver before its guest leaves. What the facts mean is `ferry_migration::checks`'s; this room looks at
//! files and mounts.

use std::fs;
use std::path::{Path, PathBuf};

use ferry_domxml::disk::{self, DiskDevice};
use ferry_domxml::storage::{Location, Source};
use ferry_migration::checks::file_system::{FileSystem, Sharing, kind_of_device};
use ferry_migration::checks::safe;

/// The disks of a definition as they lie on this host. `declared` are the trees that the operator says are shared.
/// May block: for a thread that can.
pub(crate) fn survey(disks: &[disk::Disk], declared: &[PathBuf]) -> Vec<safe::Disk> {
    let mounts = Mounts::read(declared);
    disks.iter().map(|disk| mounts.disk(disk)).collect()
}

/// The host's mounts, read once for all disks.
struct Mounts {
    mountinfo: String,
    declared: Vec<PathBuf>,
}

impl Mounts {
    fn read(declared: &[PathBuf]) -> Mounts {
        Mounts {
            // Without it every file system that its number does not tell counts as local.
            mountinfo: fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            declared: declared.iter().map(|tree| resolved(tree)).collect(),
        }
    }

    fn disk(&self, disk: &disk::Disk) -> safe::Disk {
        let mut sources = Vec::new();
        sources.extend(self.source(&disk.source));
        sources.extend(disk.source.data_store.iter().filter_map(|data| self.source(&data.source)));
        safe::Disk {
            target: disk.target.dev.clone(),
            read_only: disk.readonly || disk.device == DiskDevice::Cdrom,
            shareable: disk.shareable,
            copied: false,
            cache: disk.driver.as_ref().and_then(|driver| driver.cache),
            sources,
        }
    }

    /// None for an empty drive.
    fn source(&self, source: &Source) -> Option<safe::Source> {
        Some(match &source.location {
            Location::File(path) => {
                let path = path.as_deref()?;
                safe::Source {
                    name: path.to_owned(),
                    place: safe::Place::File(self.file_system(Path::new(path))),
                }
            }
            Location::Block(path) => safe::Source { name: path.clone()?, place: safe::Place::Device },
            // No such guest starts; if it did, nothing would be known of it.
            Location::Volume { pool, volume } => {
                safe::Source { name: format!("{pool}/{volume}"), place: safe::Place::Device }
            }
        })
    }

    fn file_system(&self, path: &Path) -> FileSystem {
        let place = resolved(path);
        let number = rustix::fs::statfs(&place).map_or(0, |found| found.f_type);
        let device = rustix::fs::stat(&place)
            .map(|found| format!("{}:{}", rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev)));
        let kind = device.ok().and_then(|device| kind_of_device(&self.mountinfo, &device));
        let kind = kind.unwrap_or("a file system of unknown type").to_owned();
        let sharing = match Sharing::of(u32::try_from(number).unwrap_or_default(), &kind) {
            Sharing::Local if self.declared.iter().any(|tree| place.starts_with(tree)) => Sharing::Shared,
            sharing => sharing,
        };
        FileSystem { kind, sharing }
    }
}

/// Where a path really lies: links followed, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    path.ancestors().find_map(|there| fs::canonicalize(there).ok()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_domxml::Domain;

    fn look(path: &Path, declared: &[PathBuf]) -> FileSystem {
        Mounts::read(declared).file_system(path)
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

    #[test]
    fn images_data_files_and_empty_drives() {
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
        let found = survey(&domain.devices.disks, &[]);
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
