//! The job of a domain: progress and abort.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::DomainRef;
use crate::flags::{AbortJobFlags, JobStatsFlags};
use crate::typed_param::TypedParam;
use crate::values::JobType;

calls! {
    /// The job of a domain in the older form; 55/20 when the guest does not run.
    DomainGetJobInfo {
        domain: DomainRef,
    } -> DomainGetJobInfoReply;

    /// Tells the job of a domain to stop; answered when it was told. 55/10 without a job.
    DomainAbortJob {
        domain: DomainRef,
    } -> ();

    /// The job of a domain, or the last completed one, which is forgotten when it was read unless a flag
    /// keeps it.
    DomainGetJobStats {
        domain: DomainRef,
        flags: JobStatsFlags,
    } -> DomainGetJobStatsReply;

    /// As [`DomainAbortJob`], with flags.
    DomainAbortJobFlags {
        domain: DomainRef,
        flags: AbortJobFlags,
    } -> ();
}

parts! {
    pub struct DomainGetJobInfoReply {
        pub kind: JobType,
        pub time_elapsed: u64,
        pub time_remaining: u64,
        pub data_total: u64,
        pub data_processed: u64,
        pub data_remaining: u64,
        pub mem_total: u64,
        pub mem_processed: u64,
        pub mem_remaining: u64,
        pub file_total: u64,
        pub file_processed: u64,
        pub file_remaining: u64,
    }

    pub struct DomainGetJobStatsReply {
        pub kind: JobType,
        pub params: Vec<TypedParam> as Array<64>,
    }
}
