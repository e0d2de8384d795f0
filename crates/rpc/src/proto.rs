//! Arguments, results and event messages of every procedure in the table, one file per family.
//!
//! A call is a structure named after its [`Procedure`]; its fields in order are the wire's. It says what it is
//! answered with ([`Arguments::Reply`]), so neither side can pair a call with another's reply:
//!
//! ```
//! use ferry_rpc::proto::{Arguments, DomainGetState};
//! assert_eq!(DomainGetState::PROCEDURE.number(), 212);
//! ```
//!
//! A result of one field is that field's type: a lookup answers a [`DomainRef`], a void procedure `()`.
//! Fields are named in this project's words: `dom` is `domain`, `ret` beside a list is `count`.

use ferry_xdr::{Decode, DecodeError, Encode};

use crate::procedure::Procedure;

/// The arguments of a procedure.
pub trait Arguments: Encode + Decode {
    /// What is called.
    const PROCEDURE: Procedure;

    /// What it is answered with when all is well.
    type Reply: Encode + Decode;
}

/// A message that a server sends unasked.
pub trait Message: Encode + Decode {
    /// Under which number it is sent.
    const PROCEDURE: Procedure;
}

/// Decodes received bytes and encodes the value again. The bytes come back without surplus ones, so tests and
/// fuzzing can go through every layout by number.
pub type Recode = fn(&[u8]) -> Result<Vec<u8>, DecodeError>;

/// The layouts of one procedure.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Whose they are.
    pub procedure: Procedure,
    /// Its arguments, or an event's message.
    pub arguments: Recode,
    /// Its result; an event's is void.
    pub reply: Recode,
}

/// The layouts of all procedures in the table.
pub fn layouts() -> impl Iterator<Item = &'static Layout> {
    FAMILIES.iter().copied().flatten()
}

/// Decodes as `T` and encodes again.
fn recode<T: Encode + Decode>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let value: T = ferry_xdr::from_bytes(bytes)?;
    // What was within its bounds when it arrived still is.
    Ok(ferry_xdr::to_bytes(&value).unwrap_or_default())
}

/// Declares the calls of a family: `Name { arguments } -> Reply;`.
macro_rules! calls {
    ($($(#[$meta:meta])* $name:ident { $($field:ident : $type:ty $(as $codec:ty)?),* $(,)? } -> $reply:ty;)*) => {
        $(
            ferry_xdr::xdr_struct! {
                $(#[$meta])*
                #[doc = ""]
                #[doc = concat!("Arguments of [`", stringify!($name), "`](crate::procedure::Procedure::", stringify!($name), "); answered with [`", stringify!($reply), "`].")]
                #[allow(missing_docs, reason = "the fields are the wire's; where one needs a word, the call has it")]
                pub struct $name {
                    $(pub $field: $type $(as $codec)?,)*
                }
            }

            impl crate::proto::Arguments for $name {
                const PROCEDURE: crate::procedure::Procedure = crate::procedure::Procedure::$name;
                type Reply = $reply;
            }
        )*

        /// The layouts of this family's calls.
        pub(super) const CALLS: &[crate::proto::Layout] = &[$(crate::proto::Layout {
            procedure: crate::procedure::Procedure::$name,
            arguments: crate::proto::recode::<$name>,
            reply: crate::proto::recode::<$reply>,
        }),*];
    };
}

/// Declares the events of a family.
macro_rules! events {
    ($($(#[$meta:meta])* $name:ident { $($field:ident : $type:ty $(as $codec:ty)?),* $(,)? })*) => {
        $(
            ferry_xdr::xdr_struct! {
                $(#[$meta])*
                #[doc = ""]
                #[doc = concat!("The message [`", stringify!($name), "`](crate::procedure::Procedure::", stringify!($name), ").")]
                #[allow(missing_docs, reason = "the fields are the wire's; where one needs a word, the message has it")]
                pub struct $name {
                    $(pub $field: $type $(as $codec)?,)*
                }
            }

            impl crate::proto::Message for $name {
                const PROCEDURE: crate::procedure::Procedure = crate::procedure::Procedure::$name;
            }
        )*

        /// The layouts of this family's messages.
        pub(super) const EVENTS: &[crate::proto::Layout] = &[$(crate::proto::Layout {
            procedure: crate::procedure::Procedure::$name,
            arguments: crate::proto::recode::<$name>,
            reply: crate::proto::recode::<()>,
        }),*];
    };
}

/// Declares the structures that calls and replies of a family are made of.
macro_rules! parts {
    ($($(#[$meta:meta])* pub struct $name:ident { $(pub $field:ident : $type:ty $(as $codec:ty)?),* $(,)? })*) => {$(
        ferry_xdr::xdr_struct! {
            #[doc = concat!("Part of the wire: `", stringify!($name), "`.")]
            $(#[$meta])*
            #[allow(missing_docs, reason = "the fields are the wire's; where one needs a word, the structure has it")]
            pub struct $name {
                $(pub $field: $type $(as $codec)?,)*
            }
        }
    )*};
}

mod auth;
mod block;
mod connect;
mod console;
mod define;
mod device;
mod guest;
mod handover;
mod host;
mod info;
mod job;
mod lifecycle;
mod lookup;
mod message;
mod migrate;
mod migrate_v3;
mod network;
mod node;
mod plan;
mod qemu;
mod reference;
mod register;
mod save;
mod snapshot;
mod stats;
mod storage;
mod tune;

pub use reference::{
    COOKIE_MAX, CheckpointRef, Cookie, DomainRef, FilterRef, InterfaceRef, NetworkRef, NodeDeviceRef,
    PoolRef, RawUuid, SecretRef, SnapshotRef, VolumeRef,
};

pub use auth::*;
pub use block::*;
pub use connect::*;
pub use console::*;
pub use define::*;
pub use device::*;
pub use guest::*;
pub use handover::*;
pub use host::*;
pub use info::*;
pub use job::*;
pub use lifecycle::*;
pub use lookup::*;
pub use message::*;
pub use migrate::*;
pub use migrate_v3::*;
pub use network::*;
pub use node::*;
pub use plan::*;
pub use qemu::*;
pub use register::*;
pub use save::*;
pub use snapshot::*;
pub use stats::*;
pub use storage::*;
pub use tune::*;

/// The families in reading order.
#[allow(unused_qualifications, reason = "all of them have the same names, and the globs above show one")]
const FAMILIES: &[&[Layout]] = &[
    auth::CALLS,
    connect::CALLS,
    node::CALLS,
    lookup::CALLS,
    define::CALLS,
    lifecycle::CALLS,
    info::CALLS,
    stats::CALLS,
    console::CALLS,
    save::CALLS,
    job::CALLS,
    migrate::CALLS,
    migrate_v3::CALLS,
    register::CALLS,
    message::EVENTS,
    device::CALLS,
    block::CALLS,
    tune::CALLS,
    snapshot::CALLS,
    guest::CALLS,
    network::CALLS,
    network::EVENTS,
    storage::CALLS,
    storage::EVENTS,
    host::CALLS,
    host::EVENTS,
    qemu::CALLS,
    qemu::EVENTS,
    handover::CALLS,
    plan::CALLS,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{ListFlags, MigrateFlags};
    use crate::procedure::{Access, Program};
    use crate::typed_param::TypedParam;
    use ferry_xdr::{from_bytes, to_bytes};
    use proptest::prelude::*;
    use uuid::Uuid;

    const ID: [u8; 16] =
        [0x6f, 0x2c, 0x1f, 0x0a, 0x58, 0xb1, 0x4d, 0x0e, 0x9d, 0x6b, 0x0c, 0x2a, 0x4a, 0x7f, 0x1e, 0x11];

    fn guest1() -> DomainRef {
        DomainRef { name: "guest1".to_owned(), uuid: Uuid::from_bytes(ID), id: -1 }
    }

    /// `guest1` by hand.
    fn guest1_bytes() -> Vec<u8> {
        [&[0, 0, 0, 6], b"guest1\0\0".as_slice(), &ID, &[0xff; 4]].concat()
    }

    #[test]
    fn every_procedure_has_its_layout_and_only_one() {
        let mut with_layout: Vec<_> = layouts().map(|layout| layout.procedure).collect();
        with_layout.sort_unstable();
        assert_eq!(with_layout, Procedure::ALL);
    }

    #[test]
    fn open_as_virsh_sends_it() {
        let open =
            ConnectOpen { name: Some("qemu:///system".to_owned()), flags: crate::flags::OpenFlags::NONE };
        let golden = [&[0, 0, 0, 1, 0, 0, 0, 14], b"qemu:///system\0\0".as_slice(), &[0; 4]].concat();
        assert_eq!(to_bytes(&open).unwrap(), golden);
        assert_eq!(ConnectOpen::PROCEDURE, Procedure::from_number(Program::Remote, 1).unwrap());
    }

    #[test]
    fn a_list_of_domains() {
        let list =
            ConnectListAllDomains { need_results: true, flags: ListFlags::ACTIVE | ListFlags::INACTIVE };
        assert_eq!(to_bytes(&list).unwrap(), [0, 0, 0, 1, 0, 0, 0, 3]);
        let reply = ConnectListAllDomainsReply { domains: vec![guest1()], count: 1 };
        let golden = [&[0, 0, 0, 1], guest1_bytes().as_slice(), &[0, 0, 0, 1]].concat();
        assert_eq!(to_bytes(&reply).unwrap(), golden);
        assert_eq!(from_bytes::<ConnectListAllDomainsReply>(&golden).unwrap(), reply);
    }

    #[test]
    fn node_info_takes_a_word_for_each_character() {
        let info = NodeGetInfoReply {
            model: "x86_64".to_owned(),
            memory: 1,
            cpus: 2,
            mhz: 3,
            nodes: 4,
            sockets: 5,
            cores: 6,
            threads: 7,
        };
        let bytes = to_bytes(&info).unwrap();
        assert_eq!(bytes.len(), 128 + 8 + 6 * 4);
        assert_eq!(bytes[..8], [0, 0, 0, b'x', 0, 0, 0, b'8']);
    }

    #[test]
    fn begin_and_finish_of_a_migration() {
        let begin = DomainMigrateBegin3Params {
            domain: guest1(),
            params: vec![TypedParam::new("migrate_uri", "tcp:b")],
            flags: MigrateFlags::LIVE | MigrateFlags::CHANGE_PROTECTION,
        };
        let param =
            [&[0, 0, 0, 11], b"migrate_uri\0".as_slice(), &[0, 0, 0, 7, 0, 0, 0, 5], b"tcp:b\0\0\0"].concat();
        let golden = [guest1_bytes(), vec![0, 0, 0, 1], param, vec![0, 0, 1, 1]].concat();
        assert_eq!(to_bytes(&begin).unwrap(), golden);

        let finish = DomainMigrateFinish3Params {
            params: vec![],
            cookie: Cookie(b"<q/>\0".to_vec()),
            flags: MigrateFlags::LIVE,
            cancelled: true,
        };
        let golden =
            [&[0; 4], &[0, 0, 0, 5], b"<q/>\0\0\0\0".as_slice(), &[0, 0, 0, 1], &[0, 0, 0, 1]].concat();
        assert_eq!(to_bytes(&finish).unwrap(), golden);
    }

    #[test]
    fn a_lifecycle_message_begins_with_its_callback() {
        let message = DomainEventCallbackLifecycle {
            callback_id: 7,
            domain: guest1(),
            event: crate::values::LifecycleEvent::STOPPED,
            detail: 3,
        };
        let golden = [&[0, 0, 0, 7], guest1_bytes().as_slice(), &[0, 0, 0, 5], &[0, 0, 0, 3]].concat();
        assert_eq!(to_bytes(&message).unwrap(), golden);
    }

    #[test]
    fn sixty_five_migration_parameters_are_too_many() {
        let params = vec![TypedParam::new("bandwidth", 1_u64); 65];
        let begin = DomainMigrateBegin3Params { domain: guest1(), params, flags: MigrateFlags::NONE };
        assert!(to_bytes(&begin).is_err());
        let bytes = [guest1_bytes(), 65_u32.to_be_bytes().to_vec(), vec![0; 4096]].concat();
        let refused = DecodeError::TooLong { len: 65, max: 64 };
        assert_eq!(from_bytes::<DomainMigrateBegin3Params>(&bytes), Err(refused));
    }

    #[test]
    fn surplus_bytes_are_ignored() {
        let bytes = [guest1_bytes(), vec![1, 2, 3]].concat();
        assert_eq!(from_bytes::<DomainCreate>(&bytes).unwrap().domain, guest1());
    }

    #[test]
    fn cookies_do_not_show() {
        assert_eq!(format!("{:?}", Cookie(b"secret\0".to_vec())), "Cookie(7 bytes)");
    }

    #[test]
    fn events_are_messages_and_calls_are_not() {
        for layout in layouts() {
            let void = (layout.reply)(&[]).is_ok_and(|bytes| bytes.is_empty());
            assert!(void || layout.procedure.access() != Access::Event, "{:?}", layout.procedure);
        }
    }

    proptest! {
        /// Whatever arrives is refused or is a value that, sent again, reads the same.
        #[test]
        fn any_bytes_are_refused_or_come_back(
            at in any::<prop::sample::Index>(),
            words in proptest::collection::vec(prop_oneof![0_u32..4, any::<u32>()], 0..64),
        ) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            let all: Vec<_> = layouts().collect();
            let layout = at.get(&all);
            for recode in [layout.arguments, layout.reply] {
                if let Ok(once) = recode(&bytes) {
                    prop_assert_eq!(recode(&once), Ok(once));
                }
            }
        }
    }
}
