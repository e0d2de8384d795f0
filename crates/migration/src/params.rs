//! The arguments of a migration call: flags and typed parameters, checked once, with stock's refusals.
//!
//! Called by the dispatcher with what a client or a source daemon sent, for each of the five phases. All user
//! parameters travel in every phase, used or not, so every phase reads the same set. What is not built is
//! refused by its name; nothing is ignored that would change what happens to the guest.

use ferry_rpc::flags::{Flags as _, MigrateFlags};
use ferry_rpc::typed_param::{Accepted, ParamKind, Schema};
use ferry_rpc::{Error, ErrorCode, Origin, ParamValue, TypedParam};

use crate::plan::{Coordination, Plan};
use crate::uri::DataUri;

/// Largest bandwidth, MiB/s: in bytes it must fit QEMU's 64 bits.
pub const BANDWIDTH_MIB_MAX: u64 = 17_592_186_044_416;

/// The phase that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Source: 302, 213.
    Begin,
    /// Destination: 303, 214.
    Prepare,
    /// Source: 305, 216. With a destination URI and PEER2PEER it is the whole migration.
    Perform,
    /// Destination: 306, 217.
    Finish,
    /// Source: 307, 218.
    Confirm,
}

impl Phase {
    /// The function that stock names when it refuses unknown flags.
    const fn function(self) -> &'static str {
        match self {
            Self::Begin => "qemuDomainMigrateBegin3Params",
            Self::Prepare => "qemuDomainMigratePrepare3Params",
            Self::Perform => "qemuDomainMigratePerform3Params",
            Self::Finish => "qemuDomainMigrateFinish3Params",
            Self::Confirm => "qemuDomainMigrateConfirm3Params",
        }
    }
}

/// A checked migration call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Only flags that are served.
    pub flags: MigrateFlags,
    /// Where the memory stream goes: as the client wished it (prepare), as the destination answered it (perform).
    pub migrate_uri: Option<String>,
    /// The guest's name on the destination, when it changes.
    pub destination_name: Option<String>,
    /// The guest's definition for the destination: the user's at Begin, Begin's answer afterwards.
    pub destination_xml: Option<String>,
    /// The definition to keep on the destination, instead of the guest's own.
    pub persistent_xml: Option<String>,
    /// Most MiB/s of the copy. 0 is "as if not given".
    pub bandwidth_mib: Option<u64>,
    /// Most MiB/s after the switch to post-copy. 0 is "as if not given".
    pub postcopy_bandwidth_mib: Option<u64>,
    /// MiB/s to reckon with for the last pass.
    pub switchover_bandwidth_mib: Option<u64>,
    /// The address on which the destination's QEMU listens.
    pub listen_address: Option<String>,
    /// Where a graphics client is to go. Without SPICE nobody can be told, so it changes nothing.
    pub graphics_uri: Option<String>,
    /// Percent of CPU time that auto-converge takes away first.
    pub auto_converge_initial: Option<i32>,
    /// Percent that it adds each time.
    pub auto_converge_increment: Option<i32>,
}

impl Request {
    /// Reads and checks one call.
    ///
    /// # Errors
    /// 74/0 unknown parameter, 8/0 wrong type or repeated, 8/10 unknown flags; what the combination of flags and
    /// parameters forbids, and what is not built, with stock's code and a text that names it.
    pub fn parse(phase: Phase, params: &[TypedParam], flags: MigrateFlags) -> Result<Self, Error> {
        let flags = flags.accept(MigrateFlags::ALL, phase.function())?;
        SCHEMA.check(params)?;
        // Finish and Confirm clean up: what was refused before is not refused again.
        if matches!(phase, Phase::Begin | Phase::Prepare | Phase::Perform) {
            refuse_flags(phase, flags)?;
            refuse_params(phase, params, flags)?;
        }
        let text = |name: &str| {
            params.iter().find(|param| param.name == name).and_then(|param| match &param.value {
                ParamValue::String(text) => Some(text.clone()),
                _ => None,
            })
        };
        let mib = |name: &'static str| match params
            .iter()
            .find(|param| param.name == name)
            .map(|param| &param.value)
        {
            Some(ParamValue::ULLong(mib)) if *mib >= BANDWIDTH_MIB_MAX => Err(overflow(name)),
            Some(ParamValue::ULLong(mib)) if *mib > 0 => Ok(Some(*mib)),
            _ => Ok(None),
        };
        let int = |name: &str| {
            params.iter().find(|param| param.name == name).and_then(|param| match param.value {
                ParamValue::Int(value) => Some(value),
                _ => None,
            })
        };
        let request = Self {
            flags,
            migrate_uri: text(names::MIGRATE_URI),
            destination_name: text(names::DESTINATION_NAME).filter(|name| !name.is_empty()),
            destination_xml: text(names::DESTINATION_XML),
            persistent_xml: text(names::PERSISTENT_XML),
            bandwidth_mib: mib(names::BANDWIDTH)?,
            postcopy_bandwidth_mib: mib(names::BANDWIDTH_POSTCOPY)?,
            switchover_bandwidth_mib: mib(names::BANDWIDTH_SWITCHOVER)?,
            listen_address: text(names::LISTEN_ADDRESS),
            graphics_uri: text(names::GRAPHICS_URI),
            auto_converge_initial: int(names::AUTO_CONVERGE_INITIAL),
            auto_converge_increment: int(names::AUTO_CONVERGE_INCREMENT),
        };
        if phase == Phase::Prepare && request.destination_xml.is_none() {
            return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, "no domain XML passed"));
        }
        Ok(request)
    }

    /// The data URI, checked. In the older forms of Perform the same field holds what Prepare answered.
    pub fn data_uri(&self) -> Result<Option<DataUri>, Error> {
        Ok(self.migrate_uri.as_deref().map(DataUri::parse).transpose()?)
    }

    /// Only the definition moves.
    pub const fn is_offline(&self) -> bool {
        self.flags.contains(MigrateFlags::OFFLINE)
    }

    /// Goes on with a migration whose channel broke after the switch to post-copy.
    pub const fn resumes(&self) -> bool {
        self.flags.contains(MigrateFlags::POSTCOPY_RESUME)
    }

    /// The unchanging facts that the machines need.
    pub const fn plan(&self, was_running: bool) -> Plan {
        let peer_to_peer = self.flags.contains(MigrateFlags::PEER2PEER);
        Plan {
            coordination: if peer_to_peer { Coordination::PeerToPeer } else { Coordination::Direct },
            live: self.flags.contains(MigrateFlags::LIVE),
            postcopy: self.flags.contains(MigrateFlags::POSTCOPY),
            leave_paused: self.flags.contains(MigrateFlags::PAUSED),
            was_running,
        }
    }
}

/// The older calls carry four values as plain fields: the same as parameters.
pub fn from_plain(
    xml: Option<&str>,
    uri: Option<&str>,
    destination_name: Option<&str>,
    bandwidth_mib: u64,
) -> Vec<TypedParam> {
    let texts = [
        (names::DESTINATION_XML, xml),
        (names::MIGRATE_URI, uri),
        (names::DESTINATION_NAME, destination_name),
    ];
    let mut params: Vec<_> =
        texts.into_iter().filter_map(|(name, text)| text.map(|text| TypedParam::new(name, text))).collect();
    if bandwidth_mib > 0 {
        params.push(TypedParam::new(names::BANDWIDTH, bandwidth_mib));
    }
    params
}

/// The 64-bit flag word of the older calls.
///
/// # Errors
/// 8/10 when bits above 32 are set.
pub fn plain_flags(flags: u64) -> Result<MigrateFlags, Error> {
    u32::try_from(flags).map(MigrateFlags::from_bits).map_err(|_| {
        let text = format!("unsupported flags (0x{flags:x})");
        Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text)
    })
}

/// The parameters' names.
pub mod names {
    /// Text: where the memory stream goes.
    pub const MIGRATE_URI: &str = "migrate_uri";
    /// Text: the guest's name on the destination.
    pub const DESTINATION_NAME: &str = "destination_name";
    /// Text: its definition there.
    pub const DESTINATION_XML: &str = "destination_xml";
    /// Text: the definition to keep there.
    pub const PERSISTENT_XML: &str = "persistent_xml";
    /// 64 bits, MiB/s.
    pub const BANDWIDTH: &str = "bandwidth";
    /// 64 bits, MiB/s.
    pub const BANDWIDTH_POSTCOPY: &str = "bandwidth.postcopy";
    /// 64 bits, MiB/s.
    pub const BANDWIDTH_SWITCHOVER: &str = "bandwidth.avail.switchover";
    /// Text: for graphics clients.
    pub const GRAPHICS_URI: &str = "graphics_uri";
    /// Text: an address of the destination.
    pub const LISTEN_ADDRESS: &str = "listen_address";
    /// Percent.
    pub const AUTO_CONVERGE_INITIAL: &str = "auto_converge.initial";
    /// Percent.
    pub const AUTO_CONVERGE_INCREMENT: &str = "auto_converge.increment";
    /// Text, repeated: disk targets.
    pub const MIGRATE_DISKS: &str = "migrate_disks";
    /// Text, repeated: disk targets.
    pub const MIGRATE_DISKS_DETECT_ZEROES: &str = "migrate_disks_detect_zeroes";
}

/// Every parameter that the protocol has. Those of features that are not built are known, and refused by name.
const SCHEMA: Schema = Schema(&[
    single(names::MIGRATE_URI, ParamKind::String),
    single(names::DESTINATION_NAME, ParamKind::String),
    single(names::DESTINATION_XML, ParamKind::String),
    single(names::PERSISTENT_XML, ParamKind::String),
    single(names::BANDWIDTH, ParamKind::ULLong),
    single(names::BANDWIDTH_POSTCOPY, ParamKind::ULLong),
    single(names::BANDWIDTH_SWITCHOVER, ParamKind::ULLong),
    single(names::GRAPHICS_URI, ParamKind::String),
    single(names::LISTEN_ADDRESS, ParamKind::String),
    repeated(names::MIGRATE_DISKS),
    repeated(names::MIGRATE_DISKS_DETECT_ZEROES),
    single("disks_port", ParamKind::Int),
    single("disks_uri", ParamKind::String),
    repeated("compression"),
    single("compression.mt.level", ParamKind::Int),
    single("compression.mt.threads", ParamKind::Int),
    single("compression.mt.dthreads", ParamKind::Int),
    single("compression.xbzrle.cache", ParamKind::ULLong),
    single("compression.zlib.level", ParamKind::Int),
    single("compression.zstd.level", ParamKind::Int),
    single(names::AUTO_CONVERGE_INITIAL, ParamKind::Int),
    single(names::AUTO_CONVERGE_INCREMENT, ParamKind::Int),
    single("parallel.connections", ParamKind::Int),
    single("tls.destination", ParamKind::String),
]);

/// Parameters of features that are not built: their presence asks for something that would not happen.
const NOT_BUILT: &[&str] = &[
    "disks_port",
    "disks_uri",
    "compression",
    "compression.mt.level",
    "compression.mt.threads",
    "compression.mt.dthreads",
    "compression.xbzrle.cache",
    "compression.zlib.level",
    "compression.zstd.level",
    "parallel.connections",
    "tls.destination",
];

/// Flags of features that are not built, with the words that name them.
const FLAGS_NOT_BUILT: &[(MigrateFlags, &str)] = &[
    (MigrateFlags::TUNNELLED, "tunnelled migration (VIR_MIGRATE_TUNNELLED)"),
    (MigrateFlags::NON_SHARED_DISK, "copying of disks (VIR_MIGRATE_NON_SHARED_DISK)"),
    (MigrateFlags::NON_SHARED_INC, "copying of disks (VIR_MIGRATE_NON_SHARED_INC)"),
    (
        MigrateFlags::NON_SHARED_SYNCHRONOUS_WRITES,
        "copying of disks (VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES)",
    ),
    (MigrateFlags::COMPRESSED, "compression (VIR_MIGRATE_COMPRESSED)"),
    (MigrateFlags::RDMA_PIN_ALL, "RDMA (VIR_MIGRATE_RDMA_PIN_ALL)"),
    (MigrateFlags::TLS, "encryption of the memory stream (VIR_MIGRATE_TLS)"),
    (MigrateFlags::PARALLEL, "parallel migration (VIR_MIGRATE_PARALLEL)"),
    (MigrateFlags::ZEROCOPY, "zero-copy migration (VIR_MIGRATE_ZEROCOPY)"),
];

const fn single(name: &'static str, kind: ParamKind) -> Accepted {
    Accepted { name, kind, repeats: false }
}

const fn repeated(name: &'static str) -> Accepted {
    Accepted { name, kind: ParamKind::String, repeats: true }
}

/// First what no daemon does, with stock's words; then what this one does not do yet.
fn refuse_flags(phase: Phase, flags: MigrateFlags) -> Result<(), Error> {
    use MigrateFlags as F;
    let storage = F::NON_SHARED_DISK | F::NON_SHARED_INC;
    let invalid = |text: &str| Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
    let unsupported = |text: &str| Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
    if flags.contains(F::OFFLINE) {
        if flags.intersects(storage) {
            return invalid("offline migration cannot handle non-shared storage");
        }
        if !flags.contains(F::PERSIST_DEST) {
            return invalid("offline migration must be specified with the persistent flag set");
        }
        if flags.contains(F::TUNNELLED) {
            return invalid("tunnelled offline migration does not make sense");
        }
    }
    if flags.contains(F::TUNNELLED) && phase == Phase::Prepare {
        let text = "Tunnelled migration requested but invalid RPC method called";
        return Err(Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text));
    }
    if flags.contains(F::TUNNELLED) && !flags.contains(F::PEER2PEER) {
        return invalid("cannot perform tunnelled migration without using peer2peer flag");
    }
    if flags.contains(F::POSTCOPY_RESUME) {
        if !flags.contains(F::POSTCOPY) {
            return unsupported("resuming failed post-copy migration requires post-copy to be enabled");
        }
        // Older than the flag is only a client that makes its own calls.
        if phase == Phase::Begin && !flags.intersects(F::CHANGE_PROTECTION | F::PEER2PEER) {
            return unsupported("resuming failed post-copy migration requires change protection");
        }
    } else if flags.contains(F::POSTCOPY) {
        if !flags.contains(F::LIVE) || flags.contains(F::PAUSED) {
            return unsupported("post-copy migration is not supported with non-live or paused migration");
        }
        if flags.contains(F::TUNNELLED) {
            return unsupported("post-copy is not supported with tunnelled migration");
        }
    }
    if flags.contains(F::ZEROCOPY) && !flags.contains(F::PARALLEL) {
        return invalid("zero-copy is only available for parallel migration");
    }
    if flags.contains(F::TUNNELLED) && flags.intersects(storage) {
        let text = "migration of non-shared storage is not supported with tunnelled migration and this QEMU";
        return Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text));
    }
    match FLAGS_NOT_BUILT.iter().find(|(flag, _)| flags.contains(*flag)) {
        Some((_, what)) => unsupported(&format!("{what} is not supported")),
        None => Ok(()),
    }
}

fn refuse_params(phase: Phase, params: &[TypedParam], flags: MigrateFlags) -> Result<(), Error> {
    use MigrateFlags as F;
    let has = |name: &str| params.iter().any(|param| param.name == name);
    if (has(names::MIGRATE_DISKS) || has(names::MIGRATE_DISKS_DETECT_ZEROES))
        && !flags.intersects(F::NON_SHARED_DISK | F::NON_SHARED_INC)
    {
        let text = "use of 'migrate_disks' requires a flag for migration of non-shared storage";
        return Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text));
    }
    // The flag is the source's; the destination is sent the parameters without it.
    if (has(names::AUTO_CONVERGE_INITIAL) || has(names::AUTO_CONVERGE_INCREMENT))
        && !flags.contains(F::AUTO_CONVERGE)
        && phase != Phase::Prepare
    {
        return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, "Turn auto convergence on to tune it"));
    }
    match NOT_BUILT.iter().find(|name| has(name)) {
        Some(name) => {
            let text = format!("migration parameter '{name}' is not supported");
            Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text))
        }
        None => Ok(()),
    }
}

fn overflow(name: &str) -> Error {
    let text = format!("migration parameter '{name}' must be less than {BANDWIDTH_MIB_MAX}");
    Error::of(ErrorCode::OVERFLOW, Origin::QEMU, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use MigrateFlags as F;

    fn codes(phase: Phase, params: &[TypedParam], flags: MigrateFlags) -> (ErrorCode, Origin) {
        let error = Request::parse(phase, params, flags).unwrap_err();
        (error.code, error.origin)
    }

    #[test]
    fn what_virsh_sends_is_read() {
        let params = [
            TypedParam::new("migrate_uri", "tcp://h2"),
            TypedParam::new("destination_name", "renamed"),
            TypedParam::new("bandwidth", 12_u64),
        ];
        let request =
            Request::parse(Phase::Begin, &params, F::LIVE | F::CHANGE_PROTECTION | F::PERSIST_DEST).unwrap();
        assert_eq!(request.destination_name.as_deref(), Some("renamed"));
        assert_eq!(request.bandwidth_mib, Some(12));
        assert_eq!(request.data_uri().unwrap(), Some(DataUri::Tcp { host: "h2".into(), port: None }));
        assert!(request.plan(true).live && request.plan(true).coordination == Coordination::Direct);
    }

    #[test]
    fn refusals_have_the_codes_of_stock() {
        let of = |code, origin| (code, origin);
        let qemu = Origin::QEMU;
        for (flags, code) in [
            (F::OFFLINE, ErrorCode::OPERATION_INVALID),
            (F::OFFLINE | F::PERSIST_DEST | F::NON_SHARED_DISK, ErrorCode::OPERATION_INVALID),
            (F::OFFLINE | F::PERSIST_DEST | F::TUNNELLED, ErrorCode::OPERATION_INVALID),
            (F::POSTCOPY, ErrorCode::ARGUMENT_UNSUPPORTED),
            (F::POSTCOPY | F::LIVE | F::PAUSED, ErrorCode::ARGUMENT_UNSUPPORTED),
            (F::POSTCOPY | F::LIVE | F::PEER2PEER | F::TUNNELLED, ErrorCode::ARGUMENT_UNSUPPORTED),
            (F::ZEROCOPY, ErrorCode::OPERATION_INVALID),
            (F::LIVE | F::TUNNELLED, ErrorCode::OPERATION_INVALID),
            (F::PEER2PEER | F::TUNNELLED | F::NON_SHARED_INC, ErrorCode::OPERATION_UNSUPPORTED),
            (MigrateFlags::from_bits(1 << 25), ErrorCode::INVALID_ARG),
        ] {
            assert_eq!(codes(Phase::Begin, &[], flags), of(code, qemu), "{flags:?}");
        }
        for (flag, _) in FLAGS_NOT_BUILT {
            let flags = *flag | F::LIVE | F::PEER2PEER | F::PARALLEL;
            assert_eq!(
                codes(Phase::Perform, &[], flags),
                of(ErrorCode::ARGUMENT_UNSUPPORTED, qemu),
                "{flag:?}"
            );
        }
        assert_eq!(codes(Phase::Prepare, &[], F::LIVE), of(ErrorCode::INTERNAL_ERROR, qemu));
        let disks = [TypedParam::new("migrate_disks", "vda"), TypedParam::new("migrate_disks", "vdb")];
        assert_eq!(codes(Phase::Begin, &disks, F::LIVE), of(ErrorCode::OPERATION_UNSUPPORTED, qemu));
        let tune = [TypedParam::new("auto_converge.initial", 10)];
        assert_eq!(codes(Phase::Begin, &tune, F::LIVE), of(ErrorCode::INVALID_ARG, qemu));
        assert!(Request::parse(Phase::Begin, &tune, F::LIVE | F::AUTO_CONVERGE).is_ok());
        let prepare =
            [TypedParam::new("auto_converge.initial", 10), TypedParam::new("destination_xml", "<x/>")];
        assert!(Request::parse(Phase::Prepare, &prepare, F::LIVE).is_ok());
        let unknown = [TypedParam::new("nonsense", 10)];
        assert_eq!(
            codes(Phase::Confirm, &unknown, F::LIVE),
            of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::NONE)
        );
        let wrong = [TypedParam::new("bandwidth", 10)];
        assert_eq!(codes(Phase::Finish, &wrong, F::LIVE), of(ErrorCode::INVALID_ARG, Origin::NONE));
        let wide = [TypedParam::new("bandwidth", BANDWIDTH_MIB_MAX)];
        assert_eq!(codes(Phase::Perform, &wide, F::LIVE), of(ErrorCode::OVERFLOW, qemu));
    }

    #[test]
    fn cleaning_up_is_not_refused_for_the_flags_of_the_beginning() {
        let flags = F::LIVE | F::TLS;
        assert!(Request::parse(Phase::Finish, &[], flags).is_ok());
        assert!(Request::parse(Phase::Confirm, &[], flags).is_ok());
    }

    #[test]
    fn plain_fields_are_the_same_parameters() {
        let params = from_plain(Some("<domain/>"), None, Some("new"), 3);
        let request = Request::parse(Phase::Prepare, &params, plain_flags(1).unwrap()).unwrap();
        assert_eq!(request.destination_xml.as_deref(), Some("<domain/>"));
        assert_eq!(request.bandwidth_mib, Some(3));
        assert_eq!(plain_flags(1 << 40).unwrap_err().code, ErrorCode::INVALID_ARG);
    }
}
