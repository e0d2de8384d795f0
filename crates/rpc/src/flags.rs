//! Flag words of calls, as small bit types.
//!
//! The numbers are those of libvirt 11.3.0's public headers. Wherever an unknown bit must be refused, the text
//! and code are stock's: [`Flags::accept`].

use ferry_xdr::{Decode, DecodeError, Encode, EncodeError, Reader, Writer};

use crate::error::{Error, ErrorCode, Origin};

/// What all flag words have in common.
pub trait Flags: Copy {
    /// Every bit that has a meaning.
    const KNOWN: u32;

    /// The word as it travels.
    fn bits(self) -> u32;

    /// Keeps a received word only when no bit is set that `accepted` lacks.
    ///
    /// `function` is the name that stock's text shows, such as `qemuDomainGetXMLDesc`.
    ///
    /// # Errors
    /// 8/10, `unsupported flags (0x1000) in function qemuDomainGetXMLDesc`.
    fn accept(self, accepted: Self, function: &str) -> Result<Self, Error> {
        match self.bits() & !accepted.bits() {
            0 => Ok(self),
            unknown => Err(unsupported(unknown.into(), function)),
        }
    }
}

/// Defines one flag word. Received words keep bits that have no name here, so that they can be refused.
macro_rules! flags {
    ($(#[$meta:meta])* $type:ident { $($(#[$bit_meta:meta])* $name:ident = $bit:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $type(u32);

        impl $type {
            $(
                $(#[$bit_meta])*
                #[doc = concat!("`", stringify!($name), "`, ", stringify!($bit), ".")]
                pub const $name: Self = Self($bit);
            )*

            /// No flag.
            pub const NONE: Self = Self(0);

            /// Every flag that is known.
            pub const ALL: Self = Self(0 $(| $bit)*);

            /// A word as it travels.
            #[must_use]
            pub const fn from_bits(bits: u32) -> Self {
                Self(bits)
            }

            /// The word as it travels.
            #[must_use]
            pub const fn bits(self) -> u32 {
                self.0
            }

            /// Whether all of `other`'s bits are set.
            #[must_use]
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether any of `other`'s bits is set.
            #[must_use]
            pub const fn intersects(self, other: Self) -> bool {
                self.0 & other.0 != 0
            }

            /// These bits and those of `other`.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// These bits but for those of `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }
        }

        impl Flags for $type {
            const KNOWN: u32 = Self::ALL.0;

            fn bits(self) -> u32 {
                self.0
            }
        }

        impl std::ops::BitOr for $type {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let named = [$((stringify!($name), $bit)),*];
                let names = named.iter().filter(|(_, bit)| self.0 & bit != 0).map(|(name, _)| *name);
                write!(f, "0x{:x}({})", self.0, names.collect::<Vec<_>>().join("|"))
            }
        }

        impl Encode for $type {
            fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
                writer.u32(self.0);
                Ok(())
            }
        }

        impl Decode for $type {
            fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.u32().map(Self)
            }
        }
    };
}

flags! {
    /// How to migrate (`VIR_MIGRATE_*`).
    MigrateFlags {
        /// Guest runs during the copy.
        LIVE = 0x1,
        /// Source daemon drives the destination itself.
        PEER2PEER = 0x2,
        /// Memory stream inside the RPC connection; needs PEER2PEER.
        TUNNELLED = 0x4,
        /// Destination keeps the definition.
        PERSIST_DEST = 0x8,
        /// Source forgets the definition after success.
        UNDEFINE_SOURCE = 0x10,
        /// Leave the guest paused on the destination; the client adds it by itself when the guest is paused before Prepare.
        PAUSED = 0x20,
        /// Copy full disks.
        NON_SHARED_DISK = 0x40,
        /// Copy the top layer only.
        NON_SHARED_INC = 0x80,
        /// Begin opens a job that lives until Confirm or until the client's connection closes; sent to the source only, the caller adds it when feature 7 is supported.
        CHANGE_PROTECTION = 0x100,
        /// Skip the storage and cache safety check.
        UNSAFE = 0x200,
        /// Move a definition without running it; needs PERSIST_DEST.
        OFFLINE = 0x400,
        /// Compress pages (xbzrle by default).
        COMPRESSED = 0x800,
        /// Abort on a guest I/O error during the copy; source only.
        ABORT_ON_ERROR = 0x1000,
        /// Throttle the guest; source only.
        AUTO_CONVERGE = 0x2000,
        /// Pin all memory, rdma:// only.
        RDMA_PIN_ALL = 0x4000,
        /// Allow a later switch to post-copy; needs LIVE, not with TUNNELLED or PAUSED.
        POSTCOPY = 0x8000,
        /// Encrypt the memory stream.
        TLS = 0x10000,
        /// Several connections.
        PARALLEL = 0x20000,
        /// Mirror writes synchronously during the disk copy.
        NON_SHARED_SYNCHRONOUS_WRITES = 0x40000,
        /// Resume a broken post-copy.
        POSTCOPY_RESUME = 0x80000,
        /// Zero copy send; needs PARALLEL.
        ZEROCOPY = 0x100000,
    }
}

impl MigrateFlags {
    /// The flags of the calls without parameters, where they take a 64-bit word.
    ///
    /// # Errors
    /// As [`Flags::accept`] for a bit beyond the 32 that exist.
    pub fn from_wide(word: u64, function: &str) -> Result<Self, Error> {
        u32::try_from(word)
            .map(Self::from_bits)
            .map_err(|_| unsupported(word & !u64::from(u32::MAX), function))
    }
}

flags! {
    /// How to open a connection (`VIR_CONNECT_*`).
    OpenFlags {
        RO = 0x1,
        NO_ALIASES = 0x2,
    }
}

flags! {
    /// Which form of the XML is wanted (`VIR_DOMAIN_XML_*`).
    XmlFlags {
        SECURE = 0x1,
        INACTIVE = 0x2,
        UPDATE_CPU = 0x4,
        MIGRATABLE = 0x8,
    }
}

flags! {
    /// Which domains a list holds (`VIR_CONNECT_LIST_DOMAINS_*`). No bit of a pair means both.
    ListFlags {
        ACTIVE = 0x1,
        INACTIVE = 0x2,
        PERSISTENT = 0x4,
        TRANSIENT = 0x8,
        RUNNING = 0x10,
        PAUSED = 0x20,
        SHUTOFF = 0x40,
        OTHER = 0x80,
        MANAGEDSAVE = 0x100,
        NO_MANAGEDSAVE = 0x200,
        AUTOSTART = 0x400,
        NO_AUTOSTART = 0x800,
        HAS_SNAPSHOT = 0x1000,
        NO_SNAPSHOT = 0x2000,
        HAS_CHECKPOINT = 0x4000,
        NO_CHECKPOINT = 0x8000,
    }
}

flags! {
    /// How to start a domain (`VIR_DOMAIN_START_*`).
    StartFlags {
        PAUSED = 0x1,
        AUTODESTROY = 0x2,
        BYPASS_CACHE = 0x4,
        FORCE_BOOT = 0x8,
        VALIDATE = 0x10,
        RESET_NVRAM = 0x20,
    }
}

flags! {
    /// How to define a domain (`VIR_DOMAIN_DEFINE_*`).
    DefineFlags {
        VALIDATE = 0x1,
    }
}

flags! {
    /// What to forget with a definition (`VIR_DOMAIN_UNDEFINE_*`).
    UndefineFlags {
        MANAGED_SAVE = 0x1,
        SNAPSHOTS_METADATA = 0x2,
        NVRAM = 0x4,
        KEEP_NVRAM = 0x8,
        CHECKPOINTS_METADATA = 0x10,
        TPM = 0x20,
        KEEP_TPM = 0x40,
    }
}

flags! {
    /// How to end a guest (`VIR_DOMAIN_DESTROY_*`).
    DestroyFlags {
        GRACEFUL = 0x1,
        REMOVE_LOGS = 0x2,
    }
}

flags! {
    /// How to ask a guest to shut down or reboot (`VIR_DOMAIN_SHUTDOWN_*`).
    ShutdownFlags {
        ACPI_POWER_BTN = 0x1,
        GUEST_AGENT = 0x2,
        INITCTL = 0x4,
        SIGNAL = 0x8,
        PARAVIRT = 0x10,
    }
}

flags! {
    /// What a change applies to (`VIR_DOMAIN_AFFECT_*`). None is the current state.
    AffectFlags {
        LIVE = 0x1,
        CONFIG = 0x2,
    }
}

flags! {
    /// How to save and restore (`VIR_DOMAIN_SAVE_*`).
    SaveFlags {
        BYPASS_CACHE = 0x1,
        RUNNING = 0x2,
        PAUSED = 0x4,
        RESET_NVRAM = 0x8,
    }
}

flags! {
    /// How to dump a guest (`VIR_DUMP_*`).
    DumpFlags {
        CRASH = 0x1,
        LIVE = 0x2,
        BYPASS_CACHE = 0x4,
        RESET = 0x8,
        MEMORY_ONLY = 0x10,
    }
}

flags! {
    /// Which job statistics (`VIR_DOMAIN_JOB_STATS_*`).
    JobStatsFlags {
        COMPLETED = 0x1,
        KEEP_COMPLETED = 0x2,
    }
}

flags! {
    /// How to abort a job (`VIR_DOMAIN_ABORT_JOB_*`).
    AbortJobFlags {
        POSTCOPY = 0x1,
    }
}

flags! {
    /// Which bandwidth limit a call means.
    MaxSpeedFlags {
        POSTCOPY = 0x1,
    }
}

flags! {
    /// How to open a console (`VIR_DOMAIN_CONSOLE_*`).
    ConsoleFlags {
        FORCE = 0x1,
        SAFE = 0x2,
    }
}

flags! {
    /// Groups of bulk statistics (`VIR_DOMAIN_STATS_*`). None means all.
    StatsGroups {
        STATE = 0x1,
        CPU_TOTAL = 0x2,
        BALLOON = 0x4,
        VCPU = 0x8,
        INTERFACE = 0x10,
        BLOCK = 0x20,
        PERF = 0x40,
        IOTHREAD = 0x80,
        MEMORY = 0x100,
        DIRTYRATE = 0x200,
        VM = 0x400,
    }
}

flags! {
    /// Which domains bulk statistics cover (`VIR_CONNECT_GET_ALL_DOMAINS_STATS_*`).
    StatsFlags {
        ACTIVE = 0x1,
        INACTIVE = 0x2,
        PERSISTENT = 0x4,
        TRANSIENT = 0x8,
        RUNNING = 0x10,
        PAUSED = 0x20,
        SHUTOFF = 0x40,
        OTHER = 0x80,
        NOWAIT = 0x20000000,
        BACKING = 0x40000000,
        ENFORCE_STATS = 0x80000000,
    }
}

flags! {
    /// How to take a snapshot (`VIR_DOMAIN_SNAPSHOT_CREATE_*`).
    SnapshotCreateFlags {
        REDEFINE = 0x1,
        CURRENT = 0x2,
        NO_METADATA = 0x4,
        HALT = 0x8,
        DISK_ONLY = 0x10,
        REUSE_EXT = 0x20,
        QUIESCE = 0x40,
        ATOMIC = 0x80,
        LIVE = 0x100,
        VALIDATE = 0x200,
    }
}

flags! {
    /// How to copy a disk (`VIR_DOMAIN_BLOCK_COPY_*`).
    BlockCopyFlags {
        SHALLOW = 0x1,
        REUSE_EXT = 0x2,
        TRANSIENT_JOB = 0x4,
        SYNCHRONOUS_WRITES = 0x8,
    }
}

flags! {
    /// How to commit a layer (`VIR_DOMAIN_BLOCK_COMMIT_*`).
    BlockCommitFlags {
        SHALLOW = 0x1,
        DELETE = 0x2,
        ACTIVE = 0x4,
        RELATIVE = 0x8,
        BANDWIDTH_BYTES = 0x10,
    }
}

flags! {
    /// How to pull a backing chain (`VIR_DOMAIN_BLOCK_PULL_*`).
    BlockPullFlags {
        BANDWIDTH_BYTES = 0x40,
    }
}

flags! {
    /// How to end a block job (`VIR_DOMAIN_BLOCK_JOB_ABORT_*`).
    BlockJobAbortFlags {
        ASYNC = 0x1,
        PIVOT = 0x2,
    }
}

flags! {
    /// In which unit block job figures are (`VIR_DOMAIN_BLOCK_JOB_INFO_*`).
    BlockJobInfoFlags {
        BANDWIDTH_BYTES = 0x1,
    }
}

flags! {
    /// How to resize a disk (`VIR_DOMAIN_BLOCK_RESIZE_*`).
    BlockResizeFlags {
        BYTES = 0x1,
        CAPACITY = 0x2,
    }
}

/// Set by clients in the flags of several statistics and tuning calls once they know that strings may be
/// among typed parameters (`VIR_TYPED_PARAM_STRING_OKAY`).
pub const TYPED_PARAM_STRING_OKAY: u32 = 4;

/// Stock's refusal of unknown bits.
fn unsupported(bits: u64, function: &str) -> Error {
    let text = format!("unsupported flags (0x{bits:x}) in function {function}");
    Error::new(ErrorCode::INVALID_ARG, Origin::QEMU, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_bit_is_refused_with_the_text_of_stock() {
        let error = XmlFlags::from_bits(0x1001).accept(XmlFlags::ALL, "qemuDomainGetXMLDesc").unwrap_err();
        assert_eq!((error.code, error.origin), (ErrorCode::INVALID_ARG, Origin::QEMU));
        assert_eq!(error.message, "unsupported flags (0x1000) in function qemuDomainGetXMLDesc");
        assert!(XmlFlags::SECURE.accept(XmlFlags::ALL, "x").is_ok());
        assert!(XmlFlags::SECURE.accept(XmlFlags::INACTIVE, "x").is_err(), "known, but not to this call");
    }

    #[test]
    fn a_wide_word_is_refused_beyond_32_bits() {
        assert_eq!(MigrateFlags::from_wide(3, "x"), Ok(MigrateFlags::LIVE | MigrateFlags::PEER2PEER));
        let error = MigrateFlags::from_wide(1 << 40 | 1, "x").unwrap_err();
        assert_eq!(error.message, "unsupported flags (0x10000000000) in function x");
    }

    #[test]
    fn words_combine() {
        let flags = MigrateFlags::LIVE | MigrateFlags::PEER2PEER;
        assert_eq!(flags.bits(), 3);
        assert!(
            flags.contains(MigrateFlags::LIVE) && !flags.contains(MigrateFlags::LIVE | MigrateFlags::TLS)
        );
        assert!(flags.intersects(MigrateFlags::LIVE | MigrateFlags::TLS));
        assert_eq!(flags.without(MigrateFlags::LIVE), MigrateFlags::PEER2PEER);
        assert_eq!(format!("{flags:?}"), "0x3(LIVE|PEER2PEER)");
        assert_eq!(MigrateFlags::ALL.bits(), 0x1f_ffff);
    }
}
