//! Disks: block jobs, resize, peek.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::{Array, Opaque};

use super::DomainRef;
use crate::flags::{
    BlockCommitFlags, BlockCopyFlags, BlockJobAbortFlags, BlockJobInfoFlags, BlockPullFlags, BlockResizeFlags,
};
use crate::typed_param::TypedParam;
use crate::values::BlockJobType;

calls! {
    DomainBlockPeek {
        domain: DomainRef,
        path: String,
        offset: u64,
        size: u32,
        flags: u32,
    } -> DomainBlockPeekReply;

    DomainMemoryPeek {
        domain: DomainRef,
        offset: u64,
        size: u32,
        flags: u32,
    } -> DomainMemoryPeekReply;

    DomainGetBlockInfo {
        domain: DomainRef,
        path: String,
        flags: u32,
    } -> DomainGetBlockInfoReply;

    DomainBlockJobAbort {
        domain: DomainRef,
        path: String,
        flags: BlockJobAbortFlags,
    } -> ();

    DomainGetBlockJobInfo {
        domain: DomainRef,
        path: String,
        flags: BlockJobInfoFlags,
    } -> DomainGetBlockJobInfoReply;

    DomainBlockJobSetSpeed {
        domain: DomainRef,
        path: String,
        bandwidth: u64,
        flags: u32,
    } -> ();

    DomainBlockPull {
        domain: DomainRef,
        path: String,
        bandwidth: u64,
        flags: BlockPullFlags,
    } -> ();

    DomainBlockResize {
        domain: DomainRef,
        disk: String,
        size: u64,
        flags: BlockResizeFlags,
    } -> ();

    DomainBlockCommit {
        domain: DomainRef,
        disk: String,
        base: Option<String>,
        top: Option<String>,
        bandwidth: u64,
        flags: BlockCommitFlags,
    } -> ();

    DomainBlockCopy {
        domain: DomainRef,
        path: String,
        destxml: String,
        params: Vec<TypedParam> as Array<16>,
        flags: BlockCopyFlags,
    } -> ();

    DomainSetBlockThreshold {
        domain: DomainRef,
        device: String,
        threshold: u64,
        flags: u32,
    } -> ();
}

parts! {
    pub struct DomainBlockPeekReply {
        pub buffer: Vec<u8> as Opaque<4194304>,
    }

    pub struct DomainMemoryPeekReply {
        pub buffer: Vec<u8> as Opaque<4194304>,
    }

    pub struct DomainGetBlockInfoReply {
        pub allocation: u64,
        pub capacity: u64,
        pub physical: u64,
    }

    pub struct DomainGetBlockJobInfoReply {
        pub found: bool,
        pub kind: BlockJobType,
        pub bandwidth: u64,
        pub cur: u64,
        pub end: u64,
    }
}
