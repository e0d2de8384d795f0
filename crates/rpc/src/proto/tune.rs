//! Processors, memory and I/O limits of a domain.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::{Array, Opaque};

use super::DomainRef;
use crate::flags::AffectFlags;
use crate::typed_param::TypedParam;

calls! {
    /// KiB.
    DomainSetMaxMemory {
        domain: DomainRef,
        memory: u64,
    } -> ();

    /// KiB.
    DomainSetMemory {
        domain: DomainRef,
        memory: u64,
    } -> ();

    DomainSetVcpus {
        domain: DomainRef,
        nvcpus: u32,
    } -> ();

    DomainPinVcpu {
        domain: DomainRef,
        vcpu: u32,
        cpumap: Vec<u8> as Opaque<2048>,
    } -> ();

    DomainGetSchedulerParameters {
        domain: DomainRef,
        nparams: i32,
    } -> DomainGetSchedulerParametersReply;

    DomainGetSchedulerParametersFlags {
        domain: DomainRef,
        nparams: i32,
        flags: u32,
    } -> DomainGetSchedulerParametersReply;

    DomainGetMemoryParameters {
        domain: DomainRef,
        nparams: i32,
        flags: u32,
    } -> DomainGetMemoryParametersReply;

    DomainSetVcpusFlags {
        domain: DomainRef,
        nvcpus: u32,
        flags: AffectFlags,
    } -> ();

    DomainGetVcpusFlags {
        domain: DomainRef,
        flags: u32,
    } -> i32;

    DomainSetMemoryFlags {
        domain: DomainRef,
        memory: u64,
        flags: AffectFlags,
    } -> ();

    DomainSetBlkioParameters {
        domain: DomainRef,
        params: Vec<TypedParam> as Array<16>,
        flags: u32,
    } -> ();

    DomainGetBlkioParameters {
        domain: DomainRef,
        nparams: i32,
        flags: u32,
    } -> DomainGetBlkioParametersReply;

    DomainGetVcpuPinInfo {
        domain: DomainRef,
        ncpumaps: i32,
        maplen: i32,
        flags: u32,
    } -> DomainGetVcpuPinInfoReply;

    DomainSetBlockIoTune {
        domain: DomainRef,
        disk: String,
        params: Vec<TypedParam> as Array<32>,
        flags: u32,
    } -> ();

    DomainGetBlockIoTune {
        domain: DomainRef,
        disk: Option<String>,
        nparams: i32,
        flags: u32,
    } -> DomainGetBlockIoTuneReply;

    DomainGetNumaParameters {
        domain: DomainRef,
        nparams: i32,
        flags: u32,
    } -> DomainGetNumaParametersReply;

    DomainGetEmulatorPinInfo {
        domain: DomainRef,
        maplen: i32,
        flags: u32,
    } -> DomainGetEmulatorPinInfoReply;

    DomainGetIothreadInfo {
        domain: DomainRef,
        flags: u32,
    } -> DomainGetIothreadInfoReply;

    DomainGetGuestVcpus {
        domain: DomainRef,
        flags: u32,
    } -> DomainGetGuestVcpusReply;
}

parts! {
    pub struct DomainGetSchedulerParametersReply {
        pub params: Vec<TypedParam> as Array<16>,
    }

    pub struct DomainGetMemoryParametersReply {
        pub params: Vec<TypedParam> as Array<16>,
        pub nparams: i32,
    }

    pub struct DomainGetBlkioParametersReply {
        pub params: Vec<TypedParam> as Array<16>,
        pub nparams: i32,
    }

    pub struct DomainGetVcpuPinInfoReply {
        pub cpumaps: Vec<u8> as Opaque<8388608>,
        pub num: i32,
    }

    pub struct DomainGetBlockIoTuneReply {
        pub params: Vec<TypedParam> as Array<32>,
        pub nparams: i32,
    }

    pub struct DomainGetNumaParametersReply {
        pub params: Vec<TypedParam> as Array<16>,
        pub nparams: i32,
    }

    pub struct DomainGetEmulatorPinInfoReply {
        pub cpumaps: Vec<u8> as Opaque<8388608>,
        pub count: i32,
    }

    pub struct DomainIothreadInfo {
        pub iothread_id: u32,
        pub cpumap: Vec<u8> as Opaque<2048>,
    }

    pub struct DomainGetIothreadInfoReply {
        pub info: Vec<DomainIothreadInfo> as Array<16384>,
        pub count: u32,
    }

    pub struct DomainGetGuestVcpusReply {
        pub params: Vec<TypedParam> as Array<64>,
    }
}
