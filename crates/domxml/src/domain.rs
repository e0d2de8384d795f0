//! `<domain>`: the whole definition, and the forms in which it is written.

use uuid::Uuid;

use crate::clock::Clock;
use crate::cpu::{Cpu, Vcpus};
use crate::devices::Devices;
use crate::features::{Features, PowerManagement};
use crate::memory::{Memory, Size};
use crate::metadata::Metadata;
use crate::model::{element, values};
use crate::os::Os;

element! {
    /// A domain: the definition of one guest.
    pub struct Domain {
        /// Who runs the guest's instructions.
        kind: DomainKind => Attr("type"),
        /// Number of a running guest on this host (live XML only).
        id: Option<u32> => Attr("id"),
        /// Name, unique on a host.
        name: String => NeededText("name"),
        /// Identity of the guest wherever it runs. `None`: made up at define.
        uuid: Option<Uuid> => TextChild("uuid"),
        /// A short line for people.
        title: Option<String> => TextChild("title"),
        /// Anything for people.
        description: Option<String> => TextChild("description"),
        /// Other programs' data; opaque.
        metadata: Option<Metadata> => Child("metadata"),
        /// What the guest has at boot.
        memory: Memory => Child("memory"),
        /// What the balloon leaves it. `None`: all.
        current_memory: Option<Size> => Child("currentMemory"),
        /// Number of processors.
        vcpus: Vcpus => Child("vcpu"),
        /// What boots.
        os: Os => Child("os"),
        /// What the board can do.
        features: Option<Features> => Child("features"),
        /// The processor. `None`: QEMU's default.
        cpu: Option<Cpu> => Child("cpu"),
        /// The clock. `None`: UTC.
        clock: Option<Clock> => Child("clock"),
        /// When the guest powers off. `None`: destroy.
        on_poweroff: Option<OnEvent> => TextChild("on_poweroff"),
        /// When the guest reboots. `None`: restart.
        on_reboot: Option<OnEvent> => TextChild("on_reboot"),
        /// When the guest crashes. `None`: destroy.
        on_crash: Option<OnCrash> => TextChild("on_crash"),
        /// Sleep states.
        pm: Option<PowerManagement> => Child("pm"),
        /// Everything that is plugged in.
        devices: Devices => Child("devices"),
    }
    order [
        "name", "uuid", "hwuuid", "genid", "title", "description", "metadata", "maxMemory", "memory",
        "currentMemory", "blkiotune", "memtune", "memoryBacking", "vcpu", "vcpus", "iothreads", "iothreadids",
        "defaultiothread", "cputune", "numatune", "resource", "sysinfo", "bootloader", "bootloader_args", "os",
        "idmap", "features", "cpu", "clock", "on_poweroff", "on_reboot", "on_crash", "on_lockfailure", "pm",
        "perf", "devices", "seclabel", "keywrap", "launchSecurity",
    ]
}

values! {
    /// Who runs the guest's instructions.
    pub enum DomainKind {
        /// QEMU itself
        Qemu = "qemu",
        /// the host's processor
        Kvm = "kvm",
    }
}

values! {
    /// What the daemon does when the guest powers off or reboots.
    pub enum OnEvent {
        /// end it
        Destroy = "destroy",
        /// start it again
        Restart = "restart",
        /// start it again under another name
        RenameRestart = "rename-restart",
        /// keep what is left of it
        Preserve = "preserve",
    }
}

values! {
    /// What the daemon does when the guest crashes.
    pub enum OnCrash {
        /// end it
        Destroy = "destroy",
        /// start it again
        Restart = "restart",
        /// start it again under another name
        RenameRestart = "rename-restart",
        /// keep what is left of it
        Preserve = "preserve",
        /// dump its memory, then end it
        CoredumpDestroy = "coredump-destroy",
        /// dump its memory, then start it again
        CoredumpRestart = "coredump-restart",
    }
}

/// Which parts of a domain are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatOptions {
    /// Leave out what only a running guest has: id, given-out aliases, detected chains, chosen ports and nodes.
    pub inactive: bool,
    /// Write passwords.
    pub secure: bool,
    /// The form that travels to another host.
    pub migratable: bool,
}

impl FormatOptions {
    /// All that is known of a running guest, but for secrets.
    pub const LIVE: Self = Self { inactive: false, secure: false, migratable: false };
    /// The definition, but for secrets.
    pub const INACTIVE: Self = Self { inactive: true, secure: false, migratable: false };
    /// The running guest as it travels.
    pub const MIGRATION: Self = Self { inactive: false, secure: true, migratable: true };
}
