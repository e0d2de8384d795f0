//! What a domain says about itself, one fact a call.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::{Array, CharsUpTo, Opaque};

use super::DomainRef;
use crate::values::DomainState;

calls! {
    /// Memory in KiB, processor time in nanoseconds.
    DomainGetInfo {
        domain: DomainRef,
    } -> DomainGetInfoReply;

    DomainGetMaxMemory {
        domain: DomainRef,
    } -> u64;

    DomainGetMaxVcpus {
        domain: DomainRef,
    } -> i32;

    DomainGetOsType {
        domain: DomainRef,
    } -> String;

    DomainGetVcpus {
        domain: DomainRef,
        maxinfo: i32,
        maplen: i32,
    } -> DomainGetVcpusReply;

    DomainGetSchedulerType {
        domain: DomainRef,
    } -> DomainGetSchedulerTypeReply;

    DomainGetSecurityLabel {
        domain: DomainRef,
    } -> DomainGetSecurityLabelReply;

    DomainIsActive {
        domain: DomainRef,
    } -> bool;

    DomainIsPersistent {
        domain: DomainRef,
    } -> bool;

    DomainIsUpdated {
        domain: DomainRef,
    } -> bool;

    /// State and the number of its reason, whose meaning depends on the state.
    DomainGetState {
        domain: DomainRef,
        flags: u32,
    } -> DomainGetStateReply;

    DomainGetControlInfo {
        domain: DomainRef,
        flags: u32,
    } -> DomainGetControlInfoReply;

    DomainGetMessages {
        domain: DomainRef,
        flags: u32,
    } -> DomainGetMessagesReply;
}

parts! {
    pub struct DomainGetInfoReply {
        pub state: u8,
        pub max_memory: u64,
        pub memory: u64,
        pub vcpus: u16,
        pub cpu_time: u64,
    }

    pub struct VcpuInfo {
        pub number: u32,
        pub state: i32,
        pub cpu_time: u64,
        pub cpu: i32,
    }

    pub struct DomainGetVcpusReply {
        pub info: Vec<VcpuInfo> as Array<16384>,
        pub cpumaps: Vec<u8> as Opaque<8388608>,
    }

    pub struct DomainGetSchedulerTypeReply {
        pub kind: String,
        pub nparams: i32,
    }

    pub struct DomainGetSecurityLabelReply {
        pub label: String as CharsUpTo<4097>,
        pub enforcing: i32,
    }

    pub struct DomainGetStateReply {
        pub state: DomainState,
        pub reason: i32,
    }

    pub struct DomainGetControlInfoReply {
        pub state: u32,
        pub details: u32,
        pub state_time: u64,
    }

    pub struct DomainGetMessagesReply {
        pub msgs: Vec<String> as Array<2048>,
    }
}
