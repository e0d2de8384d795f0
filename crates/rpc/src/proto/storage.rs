//! Storage pools and volumes.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::{PoolRef, VolumeRef};

calls! {
    ConnectNumOfStoragePools {} -> i32;

    ConnectListStoragePools {
        maxnames: i32,
    } -> ConnectListStoragePoolsReply;

    StoragePoolDefineXml {
        xml: String,
        flags: u32,
    } -> PoolRef;

    StoragePoolCreate {
        pool: PoolRef,
        flags: u32,
    } -> ();

    StoragePoolDestroy {
        pool: PoolRef,
    } -> ();

    StoragePoolUndefine {
        pool: PoolRef,
    } -> ();

    StoragePoolRefresh {
        pool: PoolRef,
        flags: u32,
    } -> ();

    StoragePoolLookupByName {
        name: String,
    } -> PoolRef;

    StoragePoolLookupByVolume {
        vol: VolumeRef,
    } -> PoolRef;

    StoragePoolGetInfo {
        pool: PoolRef,
    } -> StoragePoolGetInfoReply;

    StoragePoolGetXmlDesc {
        pool: PoolRef,
        flags: u32,
    } -> String;

    StoragePoolGetAutostart {
        pool: PoolRef,
    } -> bool;

    StorageVolCreateXml {
        pool: PoolRef,
        xml: String,
        flags: u32,
    } -> VolumeRef;

    StorageVolDelete {
        vol: VolumeRef,
        flags: u32,
    } -> ();

    StorageVolLookupByName {
        pool: PoolRef,
        name: String,
    } -> VolumeRef;

    StorageVolLookupByPath {
        path: String,
    } -> VolumeRef;

    StorageVolGetInfo {
        vol: VolumeRef,
    } -> StorageVolGetInfoReply;

    StorageVolGetXmlDesc {
        vol: VolumeRef,
        flags: u32,
    } -> String;

    StorageVolGetPath {
        vol: VolumeRef,
    } -> String;

    StoragePoolIsActive {
        pool: PoolRef,
    } -> bool;

    StoragePoolIsPersistent {
        pool: PoolRef,
    } -> bool;

    StorageVolUpload {
        vol: VolumeRef,
        offset: u64,
        length: u64,
        flags: u32,
    } -> ();

    StorageVolDownload {
        vol: VolumeRef,
        offset: u64,
        length: u64,
        flags: u32,
    } -> ();

    ConnectListAllStoragePools {
        need_results: bool,
        flags: u32,
    } -> ConnectListAllStoragePoolsReply;

    StoragePoolListAllVolumes {
        pool: PoolRef,
        need_results: bool,
        flags: u32,
    } -> StoragePoolListAllVolumesReply;

    ConnectStoragePoolEventRegisterAny {
        event_id: i32,
        pool: Option<PoolRef>,
    } -> i32;

    ConnectStoragePoolEventDeregisterAny {
        callback_id: i32,
    } -> ();
}

events! {
    StoragePoolEventLifecycle {
        callback_id: i32,
        pool: PoolRef,
        event: i32,
        detail: i32,
    }

    StoragePoolEventRefresh {
        callback_id: i32,
        pool: PoolRef,
    }
}

parts! {
    pub struct ConnectListStoragePoolsReply {
        pub names: Vec<String> as Array<16384>,
    }

    pub struct StoragePoolGetInfoReply {
        pub state: u8,
        pub capacity: u64,
        pub allocation: u64,
        pub available: u64,
    }

    pub struct StorageVolGetInfoReply {
        pub kind: i8,
        pub capacity: u64,
        pub allocation: u64,
    }

    pub struct ConnectListAllStoragePoolsReply {
        pub pools: Vec<PoolRef> as Array<16384>,
        pub count: u32,
    }

    pub struct StoragePoolListAllVolumesReply {
        pub volumes: Vec<VolumeRef> as Array<16384>,
        pub count: u32,
    }
}
