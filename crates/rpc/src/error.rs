//! Errors as they travel: a code, the component that raised it, a text.
//!
//! Every refusal that reaches a client ends as an [`Error`]; the crates below the daemon map their own errors
//! to it in one `match` each. Clients test code and origin. The text is for the operator, with one exception:
//! a code 39 from origin 7 or 13 whose text begins with `unknown procedure` becomes code 3 in the client
//! library, which is how clients fall back to older calls.
//!
//! The numbers are those of the public headers of libvirt 11.3.0; the templates are the texts that its clients
//! print, since operators search for them.

use ferry_xdr::{Decode, DecodeError, Encode, EncodeError, Reader, Writer, xdr_struct};

use crate::numbers::numbers;
use crate::proto::{DomainRef, NetworkRef};

/// An error that a client receives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What went wrong, as a number that clients test.
    pub code: ErrorCode,
    /// The component that raised it; clients test this too.
    pub origin: Origin,
    /// The complete text for the user.
    pub message: String,
}

impl Error {
    /// An error with a complete text.
    pub fn new(code: ErrorCode, origin: Origin, message: impl Into<String>) -> Self {
        Self { code, origin, message: message.into() }
    }

    /// An error whose text is the code's own template with `detail` in its place, as stock builds it:
    /// `Domain not found: no domain with matching name 'x'`.
    pub fn of(code: ErrorCode, origin: Origin, detail: impl AsRef<str>) -> Self {
        Self::new(code, origin, code.template().replacen("%s", detail.as_ref(), 1))
    }
}

numbers! {
    /// What went wrong (`VIR_ERR_*`). A number from a newer peer is kept as it is.
    ErrorCode {
        OK = 0,
        INTERNAL_ERROR = 1,
        NO_MEMORY = 2,
        NO_SUPPORT = 3,
        UNKNOWN_HOST = 4,
        NO_CONNECT = 5,
        INVALID_CONN = 6,
        INVALID_DOMAIN = 7,
        INVALID_ARG = 8,
        OPERATION_FAILED = 9,
        GET_FAILED = 10,
        POST_FAILED = 11,
        HTTP_ERROR = 12,
        SEXPR_SERIAL = 13,
        NO_XEN = 14,
        XEN_CALL = 15,
        OS_TYPE = 16,
        NO_KERNEL = 17,
        NO_ROOT = 18,
        NO_SOURCE = 19,
        NO_TARGET = 20,
        NO_NAME = 21,
        NO_OS = 22,
        NO_DEVICE = 23,
        NO_XENSTORE = 24,
        DRIVER_FULL = 25,
        CALL_FAILED = 26,
        XML_ERROR = 27,
        DOM_EXIST = 28,
        OPERATION_DENIED = 29,
        OPEN_FAILED = 30,
        READ_FAILED = 31,
        PARSE_FAILED = 32,
        CONF_SYNTAX = 33,
        WRITE_FAILED = 34,
        XML_DETAIL = 35,
        INVALID_NETWORK = 36,
        NETWORK_EXIST = 37,
        SYSTEM_ERROR = 38,
        RPC = 39,
        GNUTLS_ERROR = 40,
        WAR_NO_NETWORK = 41,
        NO_DOMAIN = 42,
        NO_NETWORK = 43,
        INVALID_MAC = 44,
        AUTH_FAILED = 45,
        INVALID_STORAGE_POOL = 46,
        INVALID_STORAGE_VOL = 47,
        WAR_NO_STORAGE = 48,
        NO_STORAGE_POOL = 49,
        NO_STORAGE_VOL = 50,
        WAR_NO_NODE = 51,
        INVALID_NODE_DEVICE = 52,
        NO_NODE_DEVICE = 53,
        NO_SECURITY_MODEL = 54,
        OPERATION_INVALID = 55,
        WAR_NO_INTERFACE = 56,
        NO_INTERFACE = 57,
        INVALID_INTERFACE = 58,
        MULTIPLE_INTERFACES = 59,
        WAR_NO_NWFILTER = 60,
        INVALID_NWFILTER = 61,
        NO_NWFILTER = 62,
        BUILD_FIREWALL = 63,
        WAR_NO_SECRET = 64,
        INVALID_SECRET = 65,
        NO_SECRET = 66,
        CONFIG_UNSUPPORTED = 67,
        OPERATION_TIMEOUT = 68,
        MIGRATE_PERSIST_FAILED = 69,
        HOOK_SCRIPT_FAILED = 70,
        INVALID_DOMAIN_SNAPSHOT = 71,
        NO_DOMAIN_SNAPSHOT = 72,
        INVALID_STREAM = 73,
        ARGUMENT_UNSUPPORTED = 74,
        STORAGE_PROBE_FAILED = 75,
        STORAGE_POOL_BUILT = 76,
        SNAPSHOT_REVERT_RISKY = 77,
        OPERATION_ABORTED = 78,
        AUTH_CANCELLED = 79,
        NO_DOMAIN_METADATA = 80,
        MIGRATE_UNSAFE = 81,
        OVERFLOW = 82,
        BLOCK_COPY_ACTIVE = 83,
        OPERATION_UNSUPPORTED = 84,
        SSH = 85,
        AGENT_UNRESPONSIVE = 86,
        RESOURCE_BUSY = 87,
        ACCESS_DENIED = 88,
        DBUS_SERVICE = 89,
        STORAGE_VOL_EXIST = 90,
        CPU_INCOMPATIBLE = 91,
        XML_INVALID_SCHEMA = 92,
        MIGRATE_FINISH_OK = 93,
        AUTH_UNAVAILABLE = 94,
        NO_SERVER = 95,
        NO_CLIENT = 96,
        AGENT_UNSYNCED = 97,
        LIBSSH = 98,
        DEVICE_MISSING = 99,
        INVALID_NWFILTER_BINDING = 100,
        NO_NWFILTER_BINDING = 101,
        INVALID_DOMAIN_CHECKPOINT = 102,
        NO_DOMAIN_CHECKPOINT = 103,
        NO_DOMAIN_BACKUP = 104,
        INVALID_NETWORK_PORT = 105,
        NETWORK_PORT_EXIST = 106,
        NO_NETWORK_PORT = 107,
        NO_HOSTNAME = 108,
        CHECKPOINT_INCONSISTENT = 109,
        MULTIPLE_DOMAINS = 110,
        NO_NETWORK_METADATA = 111,
        AGENT_COMMAND_TIMEOUT = 112,
        AGENT_COMMAND_FAILED = 113,
    }
}

numbers! {
    /// The component that raised an error (`VIR_FROM_*`, called "domain" in the headers).
    Origin {
        NONE = 0,
        XEN = 1,
        XEND = 2,
        XENSTORE = 3,
        SEXPR = 4,
        XML = 5,
        DOM = 6,
        RPC = 7,
        PROXY = 8,
        CONF = 9,
        QEMU = 10,
        NET = 11,
        TEST = 12,
        REMOTE = 13,
        OPENVZ = 14,
        XENXM = 15,
        STATS_LINUX = 16,
        LXC = 17,
        STORAGE = 18,
        NETWORK = 19,
        DOMAIN = 20,
        UML = 21,
        NODEDEV = 22,
        XEN_INOTIFY = 23,
        SECURITY = 24,
        VBOX = 25,
        INTERFACE = 26,
        ONE = 27,
        ESX = 28,
        PHYP = 29,
        SECRET = 30,
        CPU = 31,
        XENAPI = 32,
        NWFILTER = 33,
        HOOK = 34,
        DOMAIN_SNAPSHOT = 35,
        AUDIT = 36,
        SYSINFO = 37,
        STREAMS = 38,
        VMWARE = 39,
        EVENT = 40,
        LIBXL = 41,
        LOCKING = 42,
        HYPERV = 43,
        CAPABILITIES = 44,
        URI = 45,
        AUTH = 46,
        DBUS = 47,
        PARALLELS = 48,
        DEVICE = 49,
        SSH = 50,
        LOCKSPACE = 51,
        INITCTL = 52,
        IDENTITY = 53,
        CGROUP = 54,
        ACCESS = 55,
        SYSTEMD = 56,
        BHYVE = 57,
        CRYPTO = 58,
        FIREWALL = 59,
        POLKIT = 60,
        THREAD = 61,
        ADMIN = 62,
        LOGGING = 63,
        XENXL = 64,
        PERF = 65,
        LIBSSH = 66,
        RESCTRL = 67,
        FIREWALLD = 68,
        DOMAIN_CHECKPOINT = 69,
        TPM = 70,
        BPF = 71,
        CH = 72,
    }
}

impl ErrorCode {
    /// The text that clients print for this code; `%s` stands for what the caller adds.
    #[must_use]
    pub const fn template(self) -> &'static str {
        match self {
            Self::INTERNAL_ERROR => "internal error: %s",
            Self::NO_MEMORY => "out of memory: %s",
            Self::NO_SUPPORT => "this function is not supported by the connection driver: %s",
            Self::UNKNOWN_HOST => "unknown host %s",
            Self::NO_CONNECT => "no connection driver available for %s",
            Self::INVALID_CONN => "invalid connection pointer in %s",
            Self::INVALID_DOMAIN => "invalid domain pointer in %s",
            Self::INVALID_ARG => "invalid argument: %s",
            Self::OPERATION_FAILED => "operation failed: %s",
            Self::GET_FAILED => "GET operation failed: %s",
            Self::POST_FAILED => "POST operation failed: %s",
            Self::OS_TYPE => "unknown OS type %s",
            Self::NO_KERNEL => "missing kernel information: %s",
            Self::NO_ROOT => "missing root device information in %s",
            Self::NO_SOURCE => "missing source information for device %s",
            Self::NO_TARGET => "missing target information for device %s",
            Self::NO_NAME => "missing name information in %s",
            Self::NO_OS => "missing operating system information for %s",
            Self::NO_DEVICE => "missing devices information for %s",
            Self::CALL_FAILED => "library call failed: %s",
            Self::XML_ERROR => "XML error: %s",
            Self::DOM_EXIST => "domain %s exists already",
            Self::OPERATION_DENIED => "operation forbidden: %s",
            Self::OPEN_FAILED => "failed to open configuration file %s",
            Self::READ_FAILED => "failed to read configuration file %s",
            Self::PARSE_FAILED => "failed to parse configuration file %s",
            Self::CONF_SYNTAX => "configuration file syntax error: %s",
            Self::WRITE_FAILED => "failed to write configuration file: %s",
            Self::INVALID_NETWORK => "invalid network pointer in %s",
            Self::NETWORK_EXIST => "network %s exists already",
            Self::NO_DOMAIN => "Domain not found: %s",
            Self::NO_NETWORK => "Network not found: %s",
            Self::INVALID_MAC => "invalid MAC address: %s",
            Self::AUTH_FAILED => "authentication failed: %s",
            Self::INVALID_STORAGE_POOL => "invalid storage pool pointer in %s",
            Self::INVALID_STORAGE_VOL => "invalid storage volume pointer in %s",
            Self::NO_STORAGE_POOL => "Storage pool not found: %s",
            Self::NO_STORAGE_VOL => "Storage volume not found: %s",
            Self::INVALID_NODE_DEVICE => "invalid node device pointer in %s",
            Self::NO_NODE_DEVICE => "Node device not found: %s",
            Self::NO_SECURITY_MODEL => "Security model not found: %s",
            Self::OPERATION_INVALID => "Requested operation is not valid: %s",
            Self::NO_INTERFACE => "Interface not found: %s",
            Self::INVALID_INTERFACE => "invalid interface pointer in %s",
            Self::MULTIPLE_INTERFACES => "multiple matching interfaces found: %s",
            Self::INVALID_NWFILTER => "Invalid network filter: %s",
            Self::NO_NWFILTER => "Network filter not found: %s",
            Self::BUILD_FIREWALL => "Error while building firewall: %s",
            Self::INVALID_SECRET => "Invalid secret: %s",
            Self::NO_SECRET => "Secret not found: %s",
            Self::CONFIG_UNSUPPORTED => "unsupported configuration: %s",
            Self::OPERATION_TIMEOUT => "Timed out during operation: %s",
            Self::MIGRATE_PERSIST_FAILED => "Failed to make domain persistent after migration: %s",
            Self::HOOK_SCRIPT_FAILED => "Hook script execution failed: %s",
            Self::INVALID_DOMAIN_SNAPSHOT => "Invalid domain snapshot: %s",
            Self::NO_DOMAIN_SNAPSHOT => "Domain snapshot not found: %s",
            Self::INVALID_STREAM => "invalid stream pointer in %s",
            Self::ARGUMENT_UNSUPPORTED => "argument unsupported: %s",
            Self::STORAGE_PROBE_FAILED => "Storage pool probe failed: %s",
            Self::STORAGE_POOL_BUILT => "Storage pool already built: %s",
            Self::SNAPSHOT_REVERT_RISKY => "revert requires force: %s",
            Self::OPERATION_ABORTED => "operation aborted: %s",
            Self::AUTH_CANCELLED => "authentication cancelled: %s",
            Self::NO_DOMAIN_METADATA => "metadata not found: %s",
            Self::MIGRATE_UNSAFE => "Unsafe migration: %s",
            Self::OVERFLOW => "numerical overflow: %s",
            Self::BLOCK_COPY_ACTIVE => "block copy still active: %s",
            Self::OPERATION_UNSUPPORTED => "Operation not supported: %s",
            Self::SSH => "SSH transport error: %s",
            Self::AGENT_UNRESPONSIVE => "Guest agent is not responding: %s",
            Self::RESOURCE_BUSY => "resource busy: %s",
            Self::ACCESS_DENIED => "access denied: %s",
            Self::DBUS_SERVICE => "error from service: %s",
            Self::STORAGE_VOL_EXIST => "storage volume %s exists already",
            Self::CPU_INCOMPATIBLE => "the CPU is incompatible with host CPU: %s",
            Self::XML_INVALID_SCHEMA => "XML document failed to validate against schema: %s",
            Self::MIGRATE_FINISH_OK => "migration successfully aborted: %s",
            Self::AUTH_UNAVAILABLE => "authentication unavailable: %s",
            Self::NO_SERVER => "Server not found: %s",
            Self::NO_CLIENT => "Client not found: %s",
            Self::AGENT_COMMAND_TIMEOUT => "guest agent command timed out: %s",
            Self::AGENT_COMMAND_FAILED => "guest agent command failed: %s",
            Self::AGENT_UNSYNCED => "guest agent replied with wrong id to guest-sync command: %s",
            Self::LIBSSH => "libssh transport error: %s",
            Self::DEVICE_MISSING => "device not found: %s",
            Self::INVALID_NWFILTER_BINDING => "Invalid network filter binding: %s",
            Self::NO_NWFILTER_BINDING => "Network filter binding not found: %s",
            Self::INVALID_DOMAIN_CHECKPOINT => "Invalid domain checkpoint: %s",
            Self::NO_DOMAIN_CHECKPOINT => "Domain checkpoint not found: %s",
            Self::NO_DOMAIN_BACKUP => "Domain backup job id not found: %s",
            Self::INVALID_NETWORK_PORT => "Invalid network port pointer: %s",
            Self::NETWORK_PORT_EXIST => "network port %s exists already",
            Self::NO_NETWORK_PORT => "network port not found: %s",
            Self::NO_HOSTNAME => "no hostname found: %s",
            Self::CHECKPOINT_INCONSISTENT => "checkpoint inconsistent: %s",
            Self::MULTIPLE_DOMAINS => "multiple matching domains found: %s",
            _ => "%s",
        }
    }
}

xdr_struct! {
    /// The payload of a reply, or of a server's stream frame, with status 1.
    struct WireError {
        code: ErrorCode,
        origin: Origin,
        message: Option<String>,
        level: i32,
        domain: Option<DomainRef>,
        template: Option<String>,
        argument1: Option<String>,
        argument2: Option<String>,
        number1: i32,
        number2: i32,
        network: Option<NetworkRef>,
    }
}

/// The longest text that is sent, bytes. Much of a text may be a peer's own words, and they may be megabytes.
const TEXT_MAX: usize = 16 * 1024;

/// The only level that is sent.
const LEVEL_ERROR: i32 = 2;

impl Encode for Error {
    /// A text above 16 KiB is cut; a NUL in it becomes a space.
    fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        let mut end = TEXT_MAX.min(self.message.len());
        while !self.message.is_char_boundary(end) {
            end -= 1;
        }
        let wire = WireError {
            code: self.code,
            origin: self.origin,
            message: Some(self.message[..end].replace('\0', " ")),
            level: LEVEL_ERROR,
            domain: None,
            template: None,
            argument1: None,
            argument2: None,
            number1: -1,
            number2: -1,
            network: None,
        };
        wire.encode(writer)
    }
}

impl Decode for Error {
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wire = WireError::decode(reader)?;
        let message =
            wire.message.unwrap_or_else(|| "An error occurred, but the cause is unknown".to_owned());
        Ok(Self { code: wire.code, origin: wire.origin, message })
    }
}
