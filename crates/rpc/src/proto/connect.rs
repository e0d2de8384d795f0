//! Opening and closing, and what a connection says about its host.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use crate::flags::OpenFlags;
use crate::values::Feature;

calls! {
    ConnectOpen {
        name: Option<String>,
        flags: OpenFlags,
    } -> ();

    ConnectClose {} -> ();

    ConnectGetType {} -> String;

    ConnectGetVersion {} -> u64;

    ConnectGetMaxVcpus {
        kind: Option<String>,
    } -> i32;

    ConnectGetCapabilities {} -> String;

    ConnectGetHostname {} -> String;

    ConnectSupportsFeature {
        feature: Feature,
    } -> bool;

    ConnectGetUri {} -> String;

    ConnectDomainXmlToNative {
        format: String,
        xml: String,
        flags: u32,
    } -> String;

    ConnectIsSecure {} -> bool;

    ConnectGetLibVersion {} -> u64;

    ConnectCompareCpu {
        xml: String,
        flags: u32,
    } -> i32;

    ConnectBaselineCpu {
        xml_cpus: Vec<String> as Array<256>,
        flags: u32,
    } -> String;

    ConnectGetSysinfo {
        flags: u32,
    } -> String;

    ConnectGetCpuModelNames {
        arch: String,
        need_results: bool,
        flags: u32,
    } -> ConnectGetCpuModelNamesReply;

    ConnectGetDomainCapabilities {
        emulatorbin: Option<String>,
        arch: Option<String>,
        machine: Option<String>,
        virttype: Option<String>,
        flags: u32,
    } -> String;

    ConnectRegisterCloseCallback {} -> ();

    ConnectUnregisterCloseCallback {} -> ();

    ConnectCompareHypervisorCpu {
        emulator: Option<String>,
        arch: Option<String>,
        machine: Option<String>,
        virttype: Option<String>,
        xml_cpu: String,
        flags: u32,
    } -> i32;

    ConnectBaselineHypervisorCpu {
        emulator: Option<String>,
        arch: Option<String>,
        machine: Option<String>,
        virttype: Option<String>,
        xml_cpus: Vec<String> as Array<256>,
        flags: u32,
    } -> String;
}

parts! {
    pub struct ConnectGetCpuModelNamesReply {
        pub models: Vec<String> as Array<8192>,
        pub count: i32,
    }
}
