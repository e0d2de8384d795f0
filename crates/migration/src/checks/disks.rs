//! The disks of a guest one by one, as a plan shows them: where each of their bytes are, and what [`super::safe`] makes
//! of it.
//!
//! Called by the source for a plan. It decides nothing: verdicts are those by which a migration is refused. A base that the
//! other host may not have is a warning: an image without its base does not start there, and that the destination says.

use ferry_rpc::error::ErrorCode;

use super::file_system::{FileSystem, Sharing};
use super::safe::{self, Disk, Place, Source};
use super::{Finding, Severity};

/// What a source is to its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// What the definition names.
    Image,
    /// Where the guest's data is, when the image holds metadata only.
    DataFile,
    /// What an image is based on.
    BackingImage,
}

impl Role {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::DataFile => "data file",
            Self::BackingImage => "backing image",
        }
    }
}

/// One source of a disk, and what is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The disk's name in the definition.
    pub target: String,
    /// What it is to the disk.
    pub role: Role,
    /// How a reader finds it.
    pub place: String,
    /// Type of the file system, or what else it is on.
    pub kind: String,
    /// Who sees the file system; `None` where there is none.
    pub sharing: Option<Sharing>,
    /// How the host caches the disk.
    pub cache: String,
    /// What is wrong with it; `None`: safe.
    pub finding: Option<Finding>,
    /// The reason of the verdict.
    pub why: String,
}

/// The images and data files of all disks. `drops_cache` as for [`safe::findings`].
pub fn rows(disks: &[Disk], drops_cache: bool) -> Vec<Row> {
    let rows = |disk: &Disk| {
        let found = safe::findings(std::slice::from_ref(disk), drops_cache);
        let role = |at: usize| if at == 0 { Role::Image } else { Role::DataFile };
        let row = |(at, source): (usize, &Source)| {
            let finding = found.iter().find(|finding| finding.text.contains(&source.name)).cloned();
            let why = finding
                .as_ref()
                .map_or_else(|| reason(disk, source, drops_cache).to_owned(), |finding| finding.text.clone());
            Row { finding, why, ..plain(disk, source, role(at)) }
        };
        disk.sources.iter().enumerate().map(row).collect::<Vec<_>>()
    };
    disks.iter().flat_map(rows).collect()
}

/// An image that another one of `disk` is based on.
pub fn base(disk: &Disk, source: &Source) -> Row {
    let row = plain(disk, source, Role::BackingImage);
    let (target, place) = (&row.target, &row.place);
    let finding = (row.sharing == Some(Sharing::Local)).then(|| Finding {
        severity: Severity::Warning,
        code: ErrorCode::MIGRATE_UNSAFE,
        text: format!(
            "the backing image {place} of disk {target} is on {}, which the other host does not see: it needs the same \
             image at the same path",
            row.kind
        ),
        remedy: "put the backing image on shared storage, or see that the destination's copy of it is the same",
    });
    let why = match &finding {
        Some(finding) => finding.text.clone(),
        None => "the guest does not write to it".to_owned(),
    };
    Row { finding, why, ..row }
}

fn plain(disk: &Disk, source: &Source, role: Role) -> Row {
    let (kind, sharing) = match &source.place {
        Place::File(FileSystem { kind, sharing }) => (kind.as_str(), Some(*sharing)),
        Place::Silent => ("a file system that does not answer", None),
        Place::Device => ("block device", None),
        Place::Nvme => ("NVMe controller", None),
        Place::Network => ("network", None),
    };
    Row {
        target: disk.target.clone(),
        role,
        place: source.name.clone(),
        kind: kind.to_owned(),
        sharing,
        cache: disk.cache.map_or("default", ferry_domxml::disk::CacheMode::as_str).to_owned(),
        finding: None,
        why: String::new(),
    }
}

/// Why nothing is wrong with a source.
fn reason(disk: &Disk, source: &Source, drops_cache: bool) -> &'static str {
    match &source.place {
        _ if disk.read_only => "the guest does not write to it",
        _ if disk.overlay.is_some() && disk.sources.first() == Some(source) => "it holds nothing but bitmaps",
        _ if disk.copied => "this migration copies it",
        Place::Network => "both hosts reach it over the network",
        Place::File(FileSystem { sharing: Sharing::Clustered, .. }) => {
            "the file system keeps all caches coherent"
        }
        _ if drops_cache => "QEMU drops its cache of it as it takes it over",
        Place::File(_) | Place::Silent | Place::Device | Place::Nvme => "nothing stale can stay in a cache",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_domxml::disk::CacheMode;

    fn file(name: &str, kind: &str, sharing: Sharing) -> Source {
        Source { name: name.to_owned(), place: Place::File(FileSystem { kind: kind.to_owned(), sharing }) }
    }

    fn disk(sources: Vec<Source>) -> Disk {
        Disk {
            target: "vda".to_owned(),
            read_only: false,
            shareable: false,
            copied: false,
            cache: Some(CacheMode::Writeback),
            overlay: None,
            sources,
        }
    }

    #[test]
    fn each_source_has_a_row_with_its_verdict_and_the_reason() {
        let split = disk(vec![
            file("/nfs/a.qcow2", "nfs4", Sharing::Shared),
            file("/images/a.raw", "ext4", Sharing::Local),
        ]);
        let found = rows(std::slice::from_ref(&split), true);
        assert_eq!(found.len(), 2);
        let [image, data] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (image.role, image.kind.as_str(), image.cache.as_str()),
            (Role::Image, "nfs4", "writeback")
        );
        assert_eq!(
            (&image.finding, image.why.as_str()),
            (&None, "QEMU drops its cache of it as it takes it over")
        );
        assert_eq!((data.role, data.sharing), (Role::DataFile, Some(Sharing::Local)));
        assert_eq!(data.finding.as_ref().unwrap().code, ErrorCode::MIGRATE_UNSAFE);
        assert!(data.why.contains("/images/a.raw is on ext4"));
        assert!(
            rows(&[split], false).iter().all(|row| row.finding.is_some()),
            "without it the cache matters"
        );
    }

    #[test]
    fn what_is_safe_says_why() {
        let why = |disk: &Disk, drops_cache| rows(std::slice::from_ref(disk), drops_cache)[0].why.clone();
        let local = disk(vec![file("/a", "ext4", Sharing::Local)]);
        assert_eq!(why(&Disk { read_only: true, ..local.clone() }, true), "the guest does not write to it");
        assert_eq!(why(&Disk { copied: true, ..local }, true), "this migration copies it");
        let cluster = disk(vec![file("/a", "gfs2", Sharing::Clustered)]);
        assert_eq!(why(&cluster, false), "the file system keeps all caches coherent");
        let network = disk(vec![Source { name: "nbd:x".to_owned(), place: Place::Network }]);
        assert_eq!(why(&network, false), "both hosts reach it over the network");
        let device = Disk {
            cache: Some(CacheMode::None),
            ..disk(vec![Source { name: "/dev/x".to_owned(), place: Place::Device }])
        };
        assert_eq!(why(&device, false), "nothing stale can stay in a cache");
        assert_eq!(rows(&[disk(Vec::new())], false), [], "an empty drive");
    }

    #[test]
    fn a_base_on_this_host_alone_is_a_warning() {
        let overlay = disk(vec![file("/nfs/a", "nfs4", Sharing::Shared)]);
        let local = base(&overlay, &file("/images/base", "xfs", Sharing::Local));
        assert_eq!(local.finding.as_ref().unwrap().severity, Severity::Warning);
        assert!(local.why.contains("/images/base of disk vda is on xfs"));
        let shared = base(&overlay, &file("/nfs/base", "nfs4", Sharing::Shared));
        assert_eq!((shared.finding, shared.role), (None, Role::BackingImage));
    }
}
