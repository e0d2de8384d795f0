//! Opening and closing, and what a connection says about its host.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use crate::flags::OpenFlags;
use crate::values::Feature;

calls! {
    /// Opens the connection. Without a name stock picks a driver by itself; we refuse that as it does: 1/7.
    ConnectOpen {
        name: Option<String>,
        flags: OpenFlags,
    } -> ();

    /// Closes the connection. Answered before the socket goes.
    ConnectClose {} -> ();

    /// The driver: `QEMU`.
    ConnectGetType {} -> String;

    /// The hypervisor's version: major x 1,000,000 + minor x 1,000 + micro.
    ConnectGetVersion {} -> u64;

    ConnectGetMaxVcpus {
        kind: Option<String>,
    } -> i32;

    /// What the host can do, as XML.
    ConnectGetCapabilities {} -> String;

    ConnectGetHostname {} -> String;

    /// Whether the daemon knows a feature; the only question allowed before opening is that for keepalive.
    ConnectSupportsFeature {
        feature: Feature,
    } -> bool;

    ConnectGetUri {} -> String;

    ConnectDomainXmlFromNative {
        format: String,
        config: String,
        flags: u32,
    } -> String;

    ConnectDomainXmlToNative {
        format: String,
        xml: String,
        flags: u32,
    } -> String;

    /// Also the answer to "is encrypted".
    ConnectIsSecure {} -> bool;

    /// The daemon's version, in the same form as the hypervisor's. Nova's liveness probe.
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

    /// Arms the message that the daemon's own backend has gone away.
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
