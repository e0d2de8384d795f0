//! `<filesystem>`: folders of the host that the guest can mount.

use crate::address::DeviceInfo;
use crate::disk::VirtioModel;
use crate::model::{OnOff, Value, ValueError, element, parse_integer, values};
use crate::virtio::VirtioOptions;

element! {
    /// A folder of the host.
    pub struct FileSystem {
        /// What is exported: a folder.
        kind: FileSystemType => AttrOr("type", FileSystemType::Mount),
        /// Whose rights count. `None`: the guest's users' as they are.
        access_mode: Option<AccessMode> => Attr("accessmode"),
        /// What becomes of files of several file systems in one export.
        multidevs: Option<Multidevs> => Attr("multidevs"),
        /// Rights of new files, where the guest's are only noted.
        fmode: Option<FileMode> => Attr("fmode"),
        /// Rights of new folders, where the guest's are only noted.
        dmode: Option<FileMode> => Attr("dmode"),
        /// Which virtio generation.
        model: Option<VirtioModel> => Attr("model"),
        /// Who serves it.
        driver: Option<FileSystemDriver> => Child("driver"),
        /// The program that serves it (virtiofs).
        binary: Option<FileSystemBinary> => Child("binary"),
        /// What is exported.
        source: Option<FileSystemSource> => Child("source"),
        /// What the guest asks for.
        target: FileSystemTarget => Child("target"),
        /// The guest cannot write.
        readonly: bool => Flag("readonly"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
    attributes ["type", "accessmode", "multidevs", "fmode", "dmode", "model"]
    order ["driver", "binary", "source", "target", "idmap", "readonly", "space_hard_limit", "space_soft_limit"]
}

impl FileSystem {
    /// Who serves it.
    pub fn served_by(&self) -> FileSystemServer {
        self.driver.as_ref().and_then(|driver| driver.kind).unwrap_or(FileSystemServer::Path)
    }
}

values! {
    /// What is exported.
    pub enum FileSystemType {
        /// a folder
        Mount = "mount",
    }
}

values! {
    /// Whose rights count.
    pub enum AccessMode {
        /// the guest's users' as they are
        Passthrough = "passthrough",
        /// QEMU's; the guest's are noted in attributes
        Mapped = "mapped",
        /// QEMU's; failures to give files away are overlooked
        Squash = "squash",
    }
}

values! {
    /// What becomes of files of several file systems in one export.
    pub enum Multidevs {
        /// QEMU's choice
        Default = "default",
        /// their numbers are made unique
        Remap = "remap",
        /// they are not shown
        Forbid = "forbid",
        /// it is said in the log
        Warn = "warn",
    }
}

/// Rights of a file, in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl Value for FileMode {
    fn parse(text: &str) -> Result<Self, ValueError> {
        // Octal whether a zero stands before it or not.
        let mode = parse_integer(&format!("0{}", text.trim_start_matches('0')))?;
        u32::try_from(mode).ok().filter(|mode| *mode <= 0o777).map(Self).ok_or(ValueError::Invalid)
    }

    fn to_text(&self) -> String {
        format!("{:04o}", self.0)
    }
}

element! {
    /// `<driver>` of a file system.
    #[derive(Default)]
    pub struct FileSystemDriver {
        /// Who serves it. `None`: QEMU.
        kind: Option<FileSystemServer> => Attr("type"),
        /// When what is written reaches the disk.
        write_policy: Option<WritePolicy> => Attr("wrpolicy"),
        /// Length of a queue, a power of two.
        queue: Option<u32> => Attr("queue"),
        /// What all virtio devices take.
        virtio: VirtioOptions => Flatten(),
    }
}

values! {
    /// Who serves a file system.
    pub enum FileSystemServer {
        /// QEMU itself, over 9p
        Path = "path",
        /// a program of its own, over FUSE
        Virtiofs = "virtiofs",
    }
}

values! {
    /// When what is written reaches the disk.
    pub enum WritePolicy {
        /// at once
        Immediate = "immediate",
    }
}

element! {
    /// `<binary>`: the program that serves a file system.
    #[derive(Default)]
    pub struct FileSystemBinary {
        /// Its path. `None`: the host's.
        path: Option<String> => Attr("path"),
        /// Whether extended attributes are passed.
        xattr: Option<OnOff> => Attr("xattr"),
        /// What the guest may cache.
        cache: Option<FileSystemCache> => ChildAttr("cache", "mode"),
        /// How the program locks itself in.
        sandbox: Option<FileSystemSandbox> => ChildAttr("sandbox", "mode"),
        /// Which locks are passed.
        lock: Option<FileSystemLock> => Child("lock"),
        /// Threads that serve requests.
        thread_pool: Option<u32> => ChildAttr("thread_pool", "size"),
    }
}

values! {
    /// What the guest may cache.
    pub enum FileSystemCache {
        /// nothing
        None = "none",
        /// everything
        Always = "always",
    }
}

values! {
    /// How the program that serves a file system locks itself in.
    pub enum FileSystemSandbox {
        /// in namespaces
        Namespace = "namespace",
        /// in the folder
        Chroot = "chroot",
    }
}

element! {
    /// `<lock>`
    #[derive(Default)]
    pub struct FileSystemLock {
        /// Record locks.
        posix: Option<OnOff> => Attr("posix"),
        /// Locks of whole files.
        flock: Option<OnOff> => Attr("flock"),
    }
}

element! {
    /// `<source>` of a file system.
    #[derive(Default)]
    pub struct FileSystemSource {
        /// The folder.
        dir: Option<String> => Attr("dir"),
        /// Socket of a program that somebody else started.
        socket: Option<String> => Attr("socket"),
    }
}

element! {
    /// `<target>` of a file system.
    pub struct FileSystemTarget {
        /// What the guest mounts: a name, not a place.
        dir: String => Attr("dir"),
    }
}
