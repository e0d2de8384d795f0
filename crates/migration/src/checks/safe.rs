//! Whether the guest finds on the other host what it has written on this one: disk by disk, source by source.
//!
//! Called through [`super`]. The rule, first match wins, for each source of a disk (image, data file):
//!
//! | the disk or the source | safe |
//! |---|---|
//! | empty, read-only, or copied by this migration | yes |
//! | on the network | yes |
//! | an image that holds nothing but bitmaps ([`crate::overlay`]) | if they travel, and its like stands on the other host |
//! | on a local NVMe controller | no: nobody else sees it |
//! | a file on a file system that does not answer | no: nobody can tell |
//! | a file on a file system of this host alone | no: nobody else sees it |
//! | a file on a clustered file system | yes, with every cache mode |
//! | a file on another shared file system, a block device | if nothing stale can stay in a cache |
//!
//! Nothing stale stays with cache `none` or `directsync`, with `<shareable/>` (which implies `none`), and with a QEMU
//! that drops an image's cached pages when it takes the image over. Backing images are read only and no matter of
//! safety: an image whose base is missing on the other host does not start there.

use ferry_domxml::disk::CacheMode;
use ferry_rpc::error::ErrorCode;

use super::file_system::{FileSystem, Sharing};
use super::{Finding, Severity};

/// Stock's text for what the other host does not see.
pub const NOT_SHARED: &str = "Migration without shared storage is unsafe";

/// Stock's text for what a cache may keep.
pub const CACHED: &str =
    "Migration may lead to data corruption if disks use cache other than none or directsync";

/// Ours, for what cannot be looked at: stock waits for it without an end.
pub const SILENT: &str = "the file system of a disk does not answer";

/// One disk of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Its name in the definition: `vda`.
    pub target: String,
    /// The guest cannot write to it.
    pub read_only: bool,
    /// Several guests may have it open.
    pub shareable: bool,
    /// This migration copies it.
    pub copied: bool,
    /// How the host caches it, as the definition says.
    pub cache: Option<CacheMode>,
    /// Its image, the first of its sources, holds nothing but bitmaps. None: it holds what the guest wrote.
    pub overlay: Option<Overlay>,
    /// Where its bytes are: the image, and its data file when it has one. None: an empty drive.
    pub sources: Vec<Source>,
}

/// What is known of an image that holds nothing but bitmaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    /// It has none, or QEMU sends them along.
    pub travels: bool,
    /// Whether an image of equal size stands on the destination. None: nobody has looked yet.
    pub is_there: Option<bool>,
}

/// Where bytes of a disk are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// How a reader finds it: a path, or what the network calls it.
    pub name: String,
    /// What kind of place it is.
    pub place: Place,
}

/// What kind of place bytes are at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(FileSystem),
    /// A file whose file system does not say what it is: its server is gone, or the way there.
    Silent,
    /// A block device.
    Device,
    /// A controller of this host, driven by QEMU.
    Nvme,
    /// A server that both hosts reach.
    Network,
}

impl Place {
    /// Whether nobody but this host sees it.
    fn is_local(&self) -> bool {
        match self {
            Self::File(file_system) => file_system.sharing == Sharing::Local,
            Self::Nvme => true,
            Self::Silent | Self::Device | Self::Network => false,
        }
    }
}

/// Every disk that is not safe to migrate. `drops_cache`: QEMU drops an image's cached pages when it takes it over.
pub fn findings(disks: &[Disk], drops_cache: bool) -> Vec<Finding> {
    disks.iter().filter(|disk| !disk.is_harmless()).flat_map(|disk| disk.findings(drops_cache)).collect()
}

impl Disk {
    fn is_harmless(&self) -> bool {
        self.read_only || self.copied
    }

    fn findings(&self, drops_cache: bool) -> impl Iterator<Item = Finding> {
        let is_coherent = drops_cache
            || self.shareable
            || matches!(self.cache, Some(CacheMode::None | CacheMode::Directsync));
        let judge = move |(number, source): (usize, &Source)| match self.overlay {
            // One that the other host sees anyway is judged as such.
            Some(overlay) if number == 0 && source.place.is_local() => self.judge_overlay(source, overlay),
            _ => self.judge(source, is_coherent),
        };
        self.sources.iter().enumerate().filter_map(judge)
    }

    fn judge_overlay(&self, image: &Source, overlay: Overlay) -> Option<Finding> {
        let (target, name) = (&self.target, &image.name);
        let (why, remedy) = match overlay {
            Overlay { travels: false, .. } => (
                "has dirty bitmaps, which QEMU cannot send along",
                "remove the bitmaps, or put the image on storage that both hosts share",
            ),
            Overlay { is_there: Some(false), .. } => (
                "has no like on the other host, or it runs no ferryd to say so",
                "make one there, with `qemu-img create -f qcow2 -o data_file=…,data_file_raw=on`, of the same size",
            ),
            Overlay { travels: true, is_there: None | Some(true) } => return None,
        };
        Some(Finding {
            severity: Severity::Refusal,
            code: ErrorCode::MIGRATE_UNSAFE,
            text: format!("{NOT_SHARED} (disk {target}: {name} {why})"),
            remedy,
        })
    }

    fn judge(&self, source: &Source, is_coherent: bool) -> Option<Finding> {
        let (target, name) = (&self.target, &source.name);
        match &source.place {
            Place::Network => None,
            Place::File(FileSystem { sharing: Sharing::Clustered, .. }) => None,
            Place::File(FileSystem { sharing: Sharing::Local, kind }) => Some(Finding {
                severity: Severity::Refusal,
                code: ErrorCode::MIGRATE_UNSAFE,
                text: format!(
                    "{NOT_SHARED} (disk {target}: {name} is on {kind}, which the other host does not see)"
                ),
                remedy: "put the image on storage that both hosts share; if they do share it, name its tree in \
                         `shared_filesystems` of ferryd.toml; or say --unsafe and answer for it yourself",
            }),
            Place::Silent => Some(Finding {
                severity: Severity::Refusal,
                code: ErrorCode::MIGRATE_UNSAFE,
                text: format!("{SILENT} (disk {target}: {name})"),
                remedy: "see to the file server and to the network that leads there, and ask again",
            }),
            Place::Nvme => Some(Finding {
                severity: Severity::Refusal,
                code: ErrorCode::MIGRATE_UNSAFE,
                text: format!("{NOT_SHARED} (disk {target}: {name} is an NVMe controller of this host)"),
                remedy: "only a disk on shared storage can follow the guest",
            }),
            Place::File(FileSystem { sharing: Sharing::Shared, .. }) | Place::Device => {
                (!is_coherent).then(|| Finding {
                    severity: Severity::Refusal,
                    code: ErrorCode::MIGRATE_UNSAFE,
                    text: format!("{CACHED} (disk {target}: {name})"),
                    remedy: "set cache='none' for the disk, or use a QEMU of 4.0 or newer on both hosts",
                })
            }
        }
    }
}

/// The destination's image does not fit the source's, which holds nothing but bitmaps: `wrong` says how. Called at Prepare
/// with what QEMU says, and for a plan with what the image's header does.
pub fn unfit(target: &str, wrong: &str) -> Finding {
    Finding {
        severity: Severity::Refusal,
        code: ErrorCode::MIGRATE_UNSAFE,
        text: format!(
            "{NOT_SHARED} (disk {target}: the image on the destination does not fit the source's: {wrong})"
        ),
        remedy: "make an image of the same size there, beside the same raw data file and without bitmaps, or share it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: &str, sharing: Sharing) -> Place {
        Place::File(FileSystem { kind: kind.to_owned(), sharing })
    }

    fn disk(place: Place) -> Disk {
        Disk {
            target: "vda".to_owned(),
            read_only: false,
            shareable: false,
            copied: false,
            cache: None,
            overlay: None,
            sources: vec![Source { name: "/images/a".to_owned(), place }],
        }
    }

    fn texts(disk: &Disk, drops_cache: bool) -> Vec<String> {
        findings(std::slice::from_ref(disk), drops_cache).into_iter().map(|finding| finding.text).collect()
    }

    fn is_safe(disk: &Disk, drops_cache: bool) -> bool {
        texts(disk, drops_cache).is_empty()
    }

    #[test]
    fn a_file_on_this_host_alone_is_unsafe_whatever_its_cache() {
        for cache in [None, Some(CacheMode::None), Some(CacheMode::Directsync), Some(CacheMode::Writeback)] {
            let disk = Disk { cache, shareable: true, ..disk(file("ext4", Sharing::Local)) };
            assert_eq!(
                texts(&disk, true),
                [
                    "Migration without shared storage is unsafe (disk vda: /images/a is on ext4, which the other host does \
                  not see)"
                ]
            );
        }
    }

    #[test]
    fn what_the_guest_cannot_write_and_what_is_copied_is_safe_anywhere() {
        let local = disk(file("ext4", Sharing::Local));
        assert!(is_safe(&Disk { read_only: true, ..local.clone() }, false));
        assert!(is_safe(&Disk { copied: true, ..local.clone() }, false));
        assert!(is_safe(&Disk { sources: Vec::new(), ..local }, false), "an empty drive");
    }

    #[test]
    fn a_shared_file_or_a_device_needs_that_nothing_stale_stays_in_a_cache() {
        for place in [file("nfs4", Sharing::Shared), Place::Device] {
            let disk = disk(place);
            assert_eq!(texts(&disk, false), [format!("{CACHED} (disk vda: /images/a)")]);
            assert!(is_safe(&disk, true), "QEMU drops it");
            assert!(is_safe(&Disk { shareable: true, ..disk.clone() }, false));
            for (cache, safe) in [
                (CacheMode::None, true),
                (CacheMode::Directsync, true),
                (CacheMode::Default, false),
                (CacheMode::Writeback, false),
                (CacheMode::Writethrough, false),
                (CacheMode::Unsafe, false),
            ] {
                assert_eq!(is_safe(&Disk { cache: Some(cache), ..disk.clone() }, false), safe, "{cache:?}");
            }
        }
    }

    #[test]
    fn clusters_and_the_network_are_coherent_and_nvme_is_nobody_elses() {
        let cached = |place| Disk { cache: Some(CacheMode::Writeback), ..disk(place) };
        assert!(is_safe(&cached(file("gfs2", Sharing::Clustered)), false));
        assert!(is_safe(&cached(Place::Network), false));
        assert!(texts(&cached(Place::Nvme), true)[0].starts_with(NOT_SHARED));
    }

    #[test]
    fn what_does_not_answer_is_unsafe_whatever_its_cache() {
        let none = Disk { cache: Some(CacheMode::None), ..disk(Place::Silent) };
        assert_eq!(texts(&none, true), [format!("{SILENT} (disk vda: /images/a)")]);
    }

    #[test]
    fn an_image_and_its_data_file_are_judged_each_for_itself() {
        let shared = Source { name: "/nfs/a".to_owned(), place: file("nfs4", Sharing::Shared) };
        let local = Source { name: "/images/a.raw".to_owned(), place: file("xfs", Sharing::Local) };
        let mut split = disk(Place::Network);
        split.sources = vec![shared.clone(), local.clone()];
        assert!(texts(&split, true)[0].contains("/images/a.raw is on xfs"));
        split.sources = vec![local, shared];
        assert_eq!(texts(&split, true).len(), 1, "the image itself counts as much");
    }

    #[test]
    fn an_image_of_nothing_but_bitmaps_may_stay_unshared_if_they_travel_and_its_like_is_there() {
        let image = Source { name: "/own/a".to_owned(), place: file("ext4", Sharing::Local) };
        let data = |place| Source { name: "/nfs/a.raw".to_owned(), place };
        let mut split = disk(Place::Network);
        split.sources = vec![image.clone(), data(file("nfs4", Sharing::Shared))];
        assert_eq!(texts(&split, true).len(), 1, "it holds more");
        for (travels, is_there, part) in [
            (true, None, None),
            (true, Some(true), None),
            (true, Some(false), Some("has no like on the other host")),
            (false, None, Some("has dirty bitmaps, which QEMU cannot send along")),
            (false, Some(true), Some("has dirty bitmaps, which QEMU cannot send along")),
        ] {
            split.overlay = Some(Overlay { travels, is_there });
            let found = texts(&split, true);
            assert_eq!(found.len(), usize::from(part.is_some()), "{found:?}");
            assert!(part.is_none_or(|part| found[0].contains(part)), "{found:?}");
        }
        // The data file is judged as ever, and so is an image that is shared.
        split.overlay = Some(Overlay { travels: true, is_there: Some(true) });
        split.sources[1] = data(file("xfs", Sharing::Local));
        assert!(texts(&split, true)[0].contains("/nfs/a.raw is on xfs"));
        split.sources = vec![Source { place: file("nfs4", Sharing::Shared), ..image }, data(Place::Network)];
        assert_eq!(texts(&split, false), [format!("{CACHED} (disk vda: /own/a)")]);
    }

    #[test]
    fn every_disk_is_named() {
        let mut second = disk(Place::Nvme);
        second.target = "vdb".to_owned();
        let all = findings(&[disk(file("ext4", Sharing::Local)), second], true);
        assert_eq!(all.len(), 2);
        assert!(
            all.iter().all(|finding| finding.code == ErrorCode::MIGRATE_UNSAFE && !finding.remedy.is_empty())
        );
    }
}
