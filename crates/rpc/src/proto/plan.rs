//! The program of our own: a migration that is only thought of. Who coordinates asks the source, then the destination, then
//! the source once more, and nothing is begun.
//!
//! Times are microseconds since 1970 by the clock of the host that says them. A reply's `received_us` and `answered_us`
//! are the call's arrival and the answer's departure: with them the clocks of two hosts can be compared.
//!
//! There is no release yet that these forms would have to be kept for. From the first one on, what is added to them is a
//! procedure of its own.

use ferry_xdr::Array;
use uuid::Uuid;

use super::handover::Raw;
use super::{DomainRef, RawUuid};
use crate::flags::MigrateFlags;
use crate::typed_param::TypedParam;

calls! {
    /// Source: everything that stands in the way of a migration with these flags and parameters (those of Begin), and what
    /// the guest has.
    PlanLeaving {
        domain: DomainRef,
        params: Vec<TypedParam> as Array<64>,
        flags: MigrateFlags,
    } -> PlanLeavingReply;

    /// Destination: the same for a guest that arrives, with the parameters of Prepare and the source's `guest`. With
    /// `opens_door` it listens for some seconds where it would receive the guest.
    PlanArriving {
        params: Vec<TypedParam> as Array<64>,
        flags: MigrateFlags,
        guest: PlanGuest,
        opens_door: bool,
    } -> PlanArrivingReply;

    /// Source: whether it gets through the `door` of the host `destination`; with `predicts` also what the copy will take.
    PlanProbe {
        domain: DomainRef,
        params: Vec<TypedParam> as Array<64>,
        flags: MigrateFlags,
        destination: Uuid as RawUuid,
        door: Option<PlanDoor>,
        predicts: bool,
    } -> PlanProbeReply;

    /// Source: asks the daemon at `uri` what [`PlanArriving`] asks, as it would for a peer-to-peer migration.
    PlanPeer {
        uri: String,
        params: Vec<TypedParam> as Array<64>,
        flags: MigrateFlags,
        guest: PlanGuest,
        opens_door: bool,
    } -> PlanPeerReply;
}

parts! {
    /// One problem: whether it only warns, stock's code and origin for it, the text that a client would be shown, and what
    /// would help.
    pub struct PlanFinding {
        pub warns: bool,
        pub code: i32,
        pub origin: i32,
        pub message: String,
        pub remedy: String,
    }

    /// One place where bytes of a disk are. `role`: `image`, `data file`, `backing image`. `sharing`: `local`, `shared`,
    /// `clustered`, or empty where there is no file system. `why` is the reason of the verdict.
    pub struct PlanDisk {
        pub target: String,
        pub role: String,
        pub place: String,
        pub kind: String,
        pub sharing: String,
        pub cache: String,
        pub safe: bool,
        pub why: String,
        pub remedy: String,
    }

    /// The guest as the source has it: devices with their places, features that its processor lacks there, and images
    /// that hold nothing but bitmaps.
    pub struct PlanGuest {
        pub devices: Vec<String> as Array<4096>,
        pub lacks: Vec<String> as Array<1024>,
        pub overlays: Vec<PlanOverlay> as Array<256>,
    }

    /// The image of a disk that holds nothing but bitmaps: its size in bytes, and its data file.
    pub struct PlanOverlay {
        pub disk: String,
        pub size: u64,
        pub data: String,
    }

    /// `xml` is the definition for the destination, when the source could make one. `has_address`: the daemon can be asked
    /// by the other one.
    pub struct PlanLeavingReply {
        pub host: Uuid as RawUuid,
        pub has_address: bool,
        pub received_us: u64,
        pub answered_us: u64,
        pub xml: Option<String>,
        pub guest: PlanGuest,
        pub findings: Vec<PlanFinding> as Array<1024>,
        pub disks: Vec<PlanDisk> as Array<4096>,
    }

    /// Where the guest's memory would be received, and by what a probe is known.
    pub struct PlanDoor {
        pub uri: String,
        pub token: [u8; 16] as Raw<16>,
    }

    /// `unprobed`: why there is no door.
    pub struct PlanArrivingReply {
        pub host: Uuid as RawUuid,
        pub has_address: bool,
        pub received_us: u64,
        pub answered_us: u64,
        pub findings: Vec<PlanFinding> as Array<1024>,
        pub door: Option<PlanDoor>,
        pub unprobed: String,
    }

    /// `prediction` is a JSON object, and empty where none was asked for or none can be made; `unpredicted` says why.
    pub struct PlanProbeReply {
        pub findings: Vec<PlanFinding> as Array<1024>,
        pub prediction: String,
        pub unpredicted: String,
    }

    /// The destination's reply, and when the source asked and heard it.
    pub struct PlanPeerReply {
        pub asked_us: u64,
        pub heard_us: u64,
        pub reply: PlanArrivingReply,
    }
}
