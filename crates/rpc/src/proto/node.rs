//! The host: processors, memory, security model.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::{Array, Chars, CharsUpTo, Opaque};

use crate::typed_param::TypedParam;

calls! {
    NodeGetInfo {} -> NodeGetInfoReply;

    NodeGetCellsFreeMemory {
        start_cell: i32,
        maxcells: i32,
    } -> NodeGetCellsFreeMemoryReply;

    NodeGetFreeMemory {} -> u64;

    NodeGetSecurityModel {} -> NodeGetSecurityModelReply;

    NodeGetCpuStats {
        cpu_num: i32,
        nparams: i32,
        flags: u32,
    } -> NodeGetCpuStatsReply;

    NodeGetMemoryStats {
        nparams: i32,
        cell_num: i32,
        flags: u32,
    } -> NodeGetMemoryStatsReply;

    NodeGetMemoryParameters {
        nparams: i32,
        flags: u32,
    } -> NodeGetMemoryParametersReply;

    NodeGetCpuMap {
        need_map: bool,
        need_online: bool,
        flags: u32,
    } -> NodeGetCpuMapReply;

    NodeGetSevInfo {
        nparams: i32,
        flags: u32,
    } -> NodeGetSevInfoReply;
}

parts! {
    pub struct NodeGetInfoReply {
        pub model: String as Chars<32>,
        pub memory: u64,
        pub cpus: i32,
        pub mhz: i32,
        pub nodes: i32,
        pub sockets: i32,
        pub cores: i32,
        pub threads: i32,
    }

    pub struct NodeGetCellsFreeMemoryReply {
        pub cells: Vec<u64> as Array<1024>,
    }

    pub struct NodeGetSecurityModelReply {
        pub model: String as CharsUpTo<257>,
        pub doi: String as CharsUpTo<257>,
    }

    pub struct NodeCpuStat {
        pub field: String,
        pub value: u64,
    }

    pub struct NodeGetCpuStatsReply {
        pub params: Vec<NodeCpuStat> as Array<16>,
        pub nparams: i32,
    }

    pub struct NodeMemoryStat {
        pub field: String,
        pub value: u64,
    }

    pub struct NodeGetMemoryStatsReply {
        pub params: Vec<NodeMemoryStat> as Array<16>,
        pub nparams: i32,
    }

    pub struct NodeGetMemoryParametersReply {
        pub params: Vec<TypedParam> as Array<64>,
        pub nparams: i32,
    }

    pub struct NodeGetCpuMapReply {
        pub cpumap: Vec<u8> as Opaque<2048>,
        pub online: u32,
        pub count: i32,
    }

    pub struct NodeGetSevInfoReply {
        pub params: Vec<TypedParam> as Array<64>,
        pub nparams: i32,
    }
}
