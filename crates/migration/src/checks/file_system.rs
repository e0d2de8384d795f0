//! Which file systems several hosts see, and which of them keep their caches coherent.
//!
//! Called by whoever looks at a host's mounts, with the number that statfs(2) gives and the type that
//! /proc/self/mountinfo gives. What is not in the tables counts as local: a wrong "shared" costs a disk, a wrong
//! "local" costs the operator a line in the configuration.

/// A file system that a path lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Its type as mountinfo has it: `ext4`, `nfs4`, `fuse.glusterfs`.
    pub kind: String,
    /// Who else sees it.
    pub sharing: Sharing,
}

/// Who else sees what is written to a file system, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// This host only.
    Local,
    /// Other hosts, once this one has written its cache back and they have dropped theirs.
    Shared,
    /// Other hosts, at once: the file system keeps all caches coherent.
    Clustered,
}

/// `f_type` of statfs(2) where it alone tells; from linux/magic.h and the file systems' own sources.
const BY_NUMBER: [(u32, Sharing); 12] = [
    (0x6969, Sharing::Shared),         // NFS
    (0xff53_4d42, Sharing::Shared),    // CIFS, SMB 1
    (0xfe53_4d42, Sharing::Shared),    // SMB 2 and later
    (0x6b41_4653, Sharing::Shared),    // AFS
    (0x5346_414f, Sharing::Shared),    // OpenAFS
    (0x4750_4653, Sharing::Shared),    // GPFS, now Spectrum Scale
    (0x5162_6d6e, Sharing::Shared),    // Quobyte
    (0x6163_6673, Sharing::Shared),    // ACFS
    (0x1983_0326, Sharing::Shared),    // BeeGFS
    (0x0116_1970, Sharing::Clustered), // GFS2
    (0x7461_636f, Sharing::Clustered), // OCFS2
    (0x00c3_6400, Sharing::Clustered), // CephFS
];

/// What FUSE file systems call themselves behind the dot.
const BY_FUSE_TYPE: [(&str, Sharing); 8] = [
    ("glusterfs", Sharing::Clustered),
    ("ceph", Sharing::Clustered),
    ("ceph-fuse", Sharing::Clustered),
    ("quobyte", Sharing::Shared),
    ("mfs", Sharing::Shared),
    ("lizardfs", Sharing::Shared),
    ("juicefs", Sharing::Shared),
    ("sshfs", Sharing::Shared),
];

impl Sharing {
    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Shared => "shared",
            Self::Clustered => "clustered",
        }
    }

    /// Of a file system with this `f_type` and this type in mountinfo.
    pub fn of(number: u32, kind: &str) -> Self {
        let by_number = BY_NUMBER.iter().find(|(known, _)| *known == number).map(|(_, sharing)| *sharing);
        let by_type = || {
            let name = kind.strip_prefix("fuse.").or_else(|| kind.strip_prefix("fuseblk."))?;
            BY_FUSE_TYPE.iter().find(|(known, _)| *known == name).map(|(_, sharing)| *sharing)
        };
        by_number.or_else(by_type).unwrap_or(Self::Local)
    }
}

/// The type of the file system of the mount with this number, from the text of mountinfo. Not by device number: those of btrfs'
/// subvolumes and of an overlay's files stand in no line.
pub fn kind_of_mount(mountinfo: &str, mount: u64) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let number: u64 = front.split(' ').next()?.parse().ok()?;
        (number == mount).then(|| back.split(' ').next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_is_known_and_the_rest_is_local() {
        for (number, kind, sharing) in [
            (0x6969, "nfs", Sharing::Shared),
            (0x6969, "nfs4", Sharing::Shared),
            (0xff53_4d42, "cifs", Sharing::Shared),
            (0xfe53_4d42, "cifs", Sharing::Shared),
            (0x6b41_4653, "afs", Sharing::Shared),
            (0x5346_414f, "afs", Sharing::Shared),
            (0x4750_4653, "gpfs", Sharing::Shared),
            (0x6573_5546, "fuse.quobyte", Sharing::Shared),
            (0x5162_6d6e, "quobyte", Sharing::Shared),
            (0x6163_6673, "acfs", Sharing::Shared),
            (0x1983_0326, "beegfs", Sharing::Shared),
            (0x6573_5546, "fuse.sshfs", Sharing::Shared),
            (0x6573_5546, "fuse.mfs", Sharing::Shared),
            (0x6573_5546, "fuse.lizardfs", Sharing::Shared),
            (0x6573_5546, "fuse.juicefs", Sharing::Shared),
            (0x6573_5546, "fuse.ceph", Sharing::Clustered),
            (0x0116_1970, "gfs2", Sharing::Clustered),
            (0x7461_636f, "ocfs2", Sharing::Clustered),
            (0x00c3_6400, "ceph", Sharing::Clustered),
            (0x6573_5546, "fuse.glusterfs", Sharing::Clustered),
            (0x6573_5546, "fuse.ceph-fuse", Sharing::Clustered),
            (0xef53, "ext4", Sharing::Local),
            (0x5846_5342, "xfs", Sharing::Local),
            (0x9123_683e, "btrfs", Sharing::Local),
            (0x0102_1994, "tmpfs", Sharing::Local),
            (0x794c_7630, "overlay", Sharing::Local),
            (0x6573_5546, "fuse.ntfs-3g", Sharing::Local),
            (0x6573_5546, "fuseblk", Sharing::Local),
            (0x6573_5546, "fuse", Sharing::Local),
            (0x6573_5546, "virtiofs", Sharing::Local),
        ] {
            assert_eq!(Sharing::of(number, kind), sharing, "{kind} ({number:#x})");
        }
    }

    #[test]
    fn the_type_is_found_by_the_number_of_the_mount() {
        let text = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
                    36 22 0:31 / /mnt/a\\040b rw - fuse.glusterfs server:/vol rw\n\
                    37 22 0:31 / /n rw,x master:1 shared:2 - nfs4 192.0.2.1:/n rw\n";
        assert_eq!(kind_of_mount(text, 22), Some("ext4"));
        assert_eq!(kind_of_mount(text, 36), Some("fuse.glusterfs"));
        assert_eq!(kind_of_mount(text, 37), Some("nfs4"));
        assert_eq!(kind_of_mount(text, 1), None);
        assert_eq!(kind_of_mount("nonsense\n - \n", 3), None);
    }
}
