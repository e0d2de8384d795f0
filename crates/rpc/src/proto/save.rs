//! Saving a guest to a file, managed save, core dumps.
//!
//! Layouts only; the daemon and the client say what they do with them.

use ferry_xdr::Array;

use super::DomainRef;
use crate::flags::{DumpFlags, SaveFlags};
use crate::typed_param::TypedParam;

calls! {
    DomainCoreDump {
        domain: DomainRef,
        to: String,
        flags: DumpFlags,
    } -> ();

    DomainRestore {
        from: String,
    } -> ();

    DomainSave {
        domain: DomainRef,
        to: String,
    } -> ();

    DomainManagedSave {
        domain: DomainRef,
        flags: SaveFlags,
    } -> ();

    DomainHasManagedSaveImage {
        domain: DomainRef,
        flags: u32,
    } -> i32;

    DomainManagedSaveRemove {
        domain: DomainRef,
        flags: u32,
    } -> ();

    DomainSaveFlags {
        domain: DomainRef,
        to: String,
        xml: Option<String>,
        flags: SaveFlags,
    } -> ();

    DomainRestoreFlags {
        from: String,
        xml: Option<String>,
        flags: SaveFlags,
    } -> ();

    DomainSaveImageGetXmlDesc {
        file: String,
        flags: u32,
    } -> String;

    DomainSaveImageDefineXml {
        file: String,
        xml: String,
        flags: u32,
    } -> ();

    DomainManagedSaveGetXmlDesc {
        domain: DomainRef,
        flags: u32,
    } -> String;

    DomainSaveParams {
        domain: DomainRef,
        params: Vec<TypedParam> as Array<64>,
        flags: SaveFlags,
    } -> ();

    DomainRestoreParams {
        params: Vec<TypedParam> as Array<64>,
        flags: SaveFlags,
    } -> ();
}
