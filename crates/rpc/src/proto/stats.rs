//! Statistics, of one domain or of many.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::DomainRef;
use crate::flags::{StatsFlags, StatsGroups};
use crate::typed_param::TypedParam;

calls! {
    DomainBlockStats {
        domain: DomainRef,
        path: String,
    } -> DomainBlockStatsReply;

    DomainInterfaceStats {
        domain: DomainRef,
        device: String,
    } -> DomainInterfaceStatsReply;

    DomainMemoryStats {
        domain: DomainRef,
        max_stats: u32,
        flags: u32,
    } -> DomainMemoryStatsReply;

    DomainBlockStatsFlags {
        domain: DomainRef,
        path: String,
        nparams: i32,
        flags: u32,
    } -> DomainBlockStatsFlagsReply;

    DomainGetCpuStats {
        domain: DomainRef,
        nparams: u32,
        start_cpu: i32,
        ncpus: u32,
        flags: u32,
    } -> DomainGetCpuStatsReply;

    DomainGetDiskErrors {
        domain: DomainRef,
        maxerrors: u32,
        flags: u32,
    } -> DomainGetDiskErrorsReply;

    DomainSetMemoryStatsPeriod {
        domain: DomainRef,
        period: i32,
        flags: u32,
    } -> ();

    /// Statistics of these domains, or of all that the flags select when none is named.
    ConnectGetAllDomainStats {
        domains: Vec<DomainRef> as Array<16384>,
        stats: StatsGroups,
        flags: StatsFlags,
    } -> ConnectGetAllDomainStatsReply;

    DomainGetPerfEvents {
        domain: DomainRef,
        flags: u32,
    } -> DomainGetPerfEventsReply;

    DomainStartDirtyRateCalc {
        domain: DomainRef,
        seconds: i32,
        flags: u32,
    } -> ();
}

parts! {
    pub struct DomainBlockStatsReply {
        pub rd_req: i64,
        pub rd_bytes: i64,
        pub wr_req: i64,
        pub wr_bytes: i64,
        pub errs: i64,
    }

    pub struct DomainInterfaceStatsReply {
        pub rx_bytes: i64,
        pub rx_packets: i64,
        pub rx_errs: i64,
        pub rx_drop: i64,
        pub tx_bytes: i64,
        pub tx_packets: i64,
        pub tx_errs: i64,
        pub tx_drop: i64,
    }

    pub struct DomainMemoryStat {
        pub tag: i32,
        pub val: u64,
    }

    pub struct DomainMemoryStatsReply {
        pub stats: Vec<DomainMemoryStat> as Array<1024>,
    }

    pub struct DomainBlockStatsFlagsReply {
        pub params: Vec<TypedParam> as Array<16>,
        pub nparams: i32,
    }

    pub struct DomainGetCpuStatsReply {
        pub params: Vec<TypedParam> as Array<2048>,
        pub nparams: i32,
    }

    pub struct DomainDiskError {
        pub disk: String,
        pub error: i32,
    }

    pub struct DomainGetDiskErrorsReply {
        pub errors: Vec<DomainDiskError> as Array<256>,
        pub nerrors: i32,
    }

    pub struct DomainStatsRecord {
        pub domain: DomainRef,
        pub params: Vec<TypedParam> as Array<262144>,
    }

    pub struct ConnectGetAllDomainStatsReply {
        pub records: Vec<DomainStatsRecord> as Array<16384>,
    }

    pub struct DomainGetPerfEventsReply {
        pub params: Vec<TypedParam> as Array<64>,
    }
}
