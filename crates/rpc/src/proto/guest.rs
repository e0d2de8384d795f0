//! What the agent inside a guest does or tells.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::DomainRef;
use crate::typed_param::TypedParam;

calls! {
    DomainGetHostname {
        domain: DomainRef,
        flags: u32,
    } -> String;

    DomainFstrim {
        domain: DomainRef,
        mount_point: Option<String>,
        minimum: u64,
        flags: u32,
    } -> ();

    DomainFsfreeze {
        domain: DomainRef,
        mountpoints: Vec<String> as Array<256>,
        flags: u32,
    } -> i32;

    DomainFsthaw {
        domain: DomainRef,
        mountpoints: Vec<String> as Array<256>,
        flags: u32,
    } -> i32;

    DomainGetTime {
        domain: DomainRef,
        flags: u32,
    } -> DomainGetTimeReply;

    DomainSetTime {
        domain: DomainRef,
        seconds: i64,
        nseconds: u32,
        flags: u32,
    } -> ();

    DomainGetFsinfo {
        domain: DomainRef,
        flags: u32,
    } -> DomainGetFsinfoReply;

    DomainInterfaceAddresses {
        domain: DomainRef,
        source: u32,
        flags: u32,
    } -> DomainInterfaceAddressesReply;

    DomainSetUserPassword {
        domain: DomainRef,
        user: Option<String>,
        password: Option<String>,
        flags: u32,
    } -> ();

    DomainGetLaunchSecurityInfo {
        domain: DomainRef,
        flags: u32,
    } -> DomainGetLaunchSecurityInfoReply;

    DomainGetGuestInfo {
        domain: DomainRef,
        types: u32,
        flags: u32,
    } -> DomainGetGuestInfoReply;

    DomainAuthorizedSshKeysGet {
        domain: DomainRef,
        user: String,
        flags: u32,
    } -> DomainAuthorizedSshKeysGetReply;

    DomainAuthorizedSshKeysSet {
        domain: DomainRef,
        user: String,
        keys: Vec<String> as Array<2048>,
        flags: u32,
    } -> ();

    /// Processors as `0-3,7`.
    DomainSetGuestVcpus {
        domain: DomainRef,
        cpumap: String,
        online: bool,
        flags: u32,
    } -> ();
}

parts! {
    pub struct DomainGetTimeReply {
        pub seconds: i64,
        pub nseconds: u32,
    }

    pub struct DomainFsinfo {
        pub mountpoint: String,
        pub name: String,
        pub fstype: String,
        pub dev_aliases: Vec<String> as Array<256>,
    }

    pub struct DomainGetFsinfoReply {
        pub info: Vec<DomainFsinfo> as Array<256>,
        pub count: u32,
    }

    pub struct DomainInterface {
        pub name: String,
        pub hwaddr: Option<String>,
        pub addrs: Vec<DomainIpAddr> as Array<2048>,
    }

    pub struct DomainInterfaceAddressesReply {
        pub interfaces: Vec<DomainInterface> as Array<2048>,
    }

    pub struct DomainGetLaunchSecurityInfoReply {
        pub params: Vec<TypedParam> as Array<64>,
    }

    pub struct DomainGetGuestInfoReply {
        pub params: Vec<TypedParam> as Array<2048>,
    }

    pub struct DomainAuthorizedSshKeysGetReply {
        pub keys: Vec<String> as Array<2048>,
    }

    pub struct DomainIpAddr {
        pub kind: i32,
        pub address: String,
        pub prefix: u32,
    }
}
