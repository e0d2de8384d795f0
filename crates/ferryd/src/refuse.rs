//! Every error of the rooms below, as a client sees it: code, origin, text. And what is written down of a domain.
//!
//! One function for each kind of failure, so that one glance shows which code it gets. The codes and texts are those
//! that stock's clients know.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;

use ferry_domain::State;
use ferry_domxml::abi::AbiMismatch;
use ferry_domxml::{Domain, FormatOptions, ParseError};
use ferry_qemu::blockgraph::ChainError;
use ferry_qemu::command_line::{CommandLine, CommandLineError};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_store::{Definition, GuestRecord};
use uuid::Uuid;

use crate::driver::Guest;
use crate::perform::hook::HookError;
use crate::perform::monitor::MonitorError;
use crate::perform::vcpus::PinError;

/// An error and all its causes, as one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = words(error);
    let mut cause = error.source();
    while let Some(next) = cause {
        // A transparent error shows its cause already.
        let shown = words(next);
        if !text.ends_with(&shown) {
            let _ = write!(text, ": {shown}");
        }
        cause = next.source();
    }
    text
}

/// An error's own text; the system's words are left without the number that Rust puts behind them.
fn words(error: &dyn StdError) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, number)) if number.ends_with(')') => words.to_owned(),
        Some(_) | None => text,
    }
}

/// Reads a definition.
pub(crate) fn parse(xml: &str) -> Result<Domain, Error> {
    Domain::parse(xml).map_err(|error| {
        let origin = match error {
            ParseError::Malformed { .. } | ParseError::TooLarge { .. } => Origin::XML,
            _ => Origin::DOMAIN,
        };
        let code = i32::try_from(error.code()).map_or(ErrorCode::XML_ERROR, ErrorCode);
        Error::new(code, origin, error.to_string())
    })
}

/// Longest definition, bytes. With all that a running guest adds to it, it still fits into a string of the wire.
const DEFINITION_MAX: usize = 3 << 20;

/// Writes a definition that is to be kept, and so must be short enough to be shown again.
pub(crate) fn showable(domain: &Domain) -> Result<String, Error> {
    let text = domain.format(FormatOptions { secure: true, ..FormatOptions::LIVE });
    if text.len() <= DEFINITION_MAX {
        return Ok(text);
    }
    let detail = format!("a definition of {} bytes; {DEFINITION_MAX} is the most", text.len());
    Err(Error::of(ErrorCode::XML_ERROR, Origin::DOMAIN, detail))
}

/// A definition holds something that is not supported.
pub(crate) fn unsupported(error: ferry_domxml::Unsupported) -> Error {
    Error::new(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, error.to_string())
}

/// A definition cannot be completed.
pub(crate) fn incomplete(error: ferry_qemu::CompleteError) -> Error {
    Error::new(ErrorCode::XML_ERROR, Origin::DOMAIN, error.to_string())
}

/// The host has no firmware that a definition would have.
pub(crate) fn no_firmware(error: ferry_qemu::firmware::NoFirmware) -> Error {
    Error::new(ErrorCode::OPERATION_FAILED, Origin::QEMU, error.to_string())
}

/// A definition asks for what the binary cannot do.
pub(crate) fn invalid_definition(error: ferry_qemu::ValidateError) -> Error {
    let (code, origin) = match &error {
        ferry_qemu::ValidateError::DiskName { .. } => (ErrorCode::INTERNAL_ERROR, Origin::DOMAIN),
        ferry_qemu::ValidateError::BiosSerial | ferry_qemu::ValidateError::UsbMaster => {
            (ErrorCode::XML_ERROR, Origin::QEMU)
        }
        _ => (ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU),
    };
    Error::new(code, origin, error.to_string())
}

/// The host's CPU has no name that QEMU knows.
pub(crate) fn no_host_model(error: ferry_qemu::host_model::NoHostModel) -> Error {
    Error::new(ErrorCode::CPU_INCOMPATIBLE, Origin::QEMU, error.to_string())
}

/// The machine type is of no family that we know.
pub(crate) fn machine(error: ferry_qemu::machine::MachineError) -> Error {
    Error::new(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, error.to_string())
}

/// The guest's threads do not run where they are to.
pub(crate) fn not_pinned(error: PinError) -> Error {
    match error {
        PinError::Monitor(error) => monitor(error),
        PinError::Threads(_) | PinError::Affinity { .. } => {
            Error::of(ErrorCode::SYSTEM_ERROR, Origin::NONE, chain(&error))
        }
    }
}

/// There is no command line for a definition.
pub(crate) fn no_command_line(error: CommandLineError) -> Error {
    let code = match error {
        CommandLineError::Machine(_) | CommandLineError::Unsupported(_) => ErrorCode::CONFIG_UNSUPPORTED,
        CommandLineError::Graph(_)
        | CommandLineError::Incomplete { .. }
        | CommandLineError::NoSecret(_)
        | CommandLineError::NoFd(_)
        | CommandLineError::NoLargePages
        | CommandLineError::NoPagesOfSize { .. } => ErrorCode::INTERNAL_ERROR,
    };
    Error::new(code, Origin::QEMU, error.to_string())
}

/// A disk's images cannot be followed.
pub(crate) fn chain_unreadable(error: ChainError<io::Error>) -> Error {
    let code = match error {
        ChainError::Read { .. } => ErrorCode::SYSTEM_ERROR,
        ChainError::Format { .. } | ChainError::Reference { .. } | ChainError::DataFileName(_) => {
            ErrorCode::CONFIG_UNSUPPORTED
        }
        ChainError::Header { .. }
        | ChainError::FormatNotRecorded { .. }
        | ChainError::Loop(_)
        | ChainError::TooLong(_) => ErrorCode::OPERATION_FAILED,
    };
    Error::new(code, Origin::QEMU, chain(&error))
}

/// The host refuses something.
pub(crate) fn system(what: &str, error: &io::Error) -> Error {
    Error::new(ErrorCode::SYSTEM_ERROR, Origin::QEMU, format!("{what}: {}", words(error)))
}

/// A definition would show the guest another machine.
pub(crate) fn abi(error: AbiMismatch) -> Error {
    Error::new(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, error.to_string())
}

/// The operator's hook refuses a guest, or cannot be asked.
pub(crate) fn hook(error: HookError) -> Error {
    Error::of(ErrorCode::HOOK_SCRIPT_FAILED, Origin::HOOK, error.to_string())
}

/// Our own fault.
pub(crate) fn internal(text: &str) -> Error {
    Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text)
}

/// QEMU refused, is silent, or is gone.
pub(crate) fn monitor(error: MonitorError) -> Error {
    match &error {
        MonitorError::Command(command) => {
            let text = match command {
                ferry_qmp::CommandError::Refused { command, refusal } => {
                    format!("unable to execute QEMU command '{command}': {}", refusal.desc)
                }
                ferry_qmp::CommandError::Malformed { .. } => chain(&error),
            };
            internal(&text)
        }
        MonitorError::Deadline { .. } => {
            Error::of(ErrorCode::OPERATION_TIMEOUT, Origin::QEMU, error.to_string())
        }
        MonitorError::Closed => Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, "domain is not running"),
        MonitorError::Encode(_) => internal(&chain(&error)),
    }
}

/// What QEMU says about a copy that failed, in the words that clients know where they have some.
pub(crate) fn copy_words(said: &str) -> String {
    let unresolved = said.strip_prefix("address resolution failed for ").and_then(|rest| {
        let (address, reason) = rest.split_once(": ")?;
        let (host, port) = address.rsplit_once(':')?;
        Some(format!("Unable to resolve address '{host}' service '{port}': {reason}"))
    });
    unresolved.unwrap_or_else(|| said.to_owned())
}

/// The guest does not run.
pub(crate) fn not_running() -> Error {
    Error::of(ErrorCode::OPERATION_INVALID, Origin::DOMAIN, "domain is not running")
}

/// Nobody has defined or started such a domain.
pub(crate) fn no_such_domain(uuid: Uuid, name: &str) -> Error {
    let text = format!("no domain with matching uuid '{uuid}' ({name})");
    Error::of(ErrorCode::NO_DOMAIN, Origin::QEMU, text)
}

/// What is kept of a definition.
pub(crate) fn definition_record(uuid: Uuid, domain: &Domain, autostart: bool) -> Definition {
    let options = FormatOptions { inactive: true, secure: true, migratable: false };
    Definition { uuid, name: domain.name.clone(), xml: domain.format(options), autostart }
}

/// What is kept of a running guest.
pub(crate) fn guest_record(uuid: Uuid, guest: &Guest, state: State, transient: bool) -> GuestRecord {
    let identity = guest.process.identity();
    let options = FormatOptions { inactive: false, secure: true, migratable: false };
    GuestRecord {
        uuid,
        name: guest.domain.name.clone(),
        id: guest.id,
        launch_id: guest.launch_id.clone(),
        pid: identity.pid,
        start_ticks: identity.start_ticks,
        boot_id: identity.boot_id.clone(),
        run_dir: guest.run_dir.path().to_owned(),
        xml: guest.domain.format(options),
        state: state.numbers().0.0,
        reason: state.numbers().1,
        transient,
        next_node: guest.next_node,
        driver: serde_json::Value::Null,
    }
}

/// A command line as a person may read it in the log, quoted where needed. It is never given to a shell.
pub(crate) fn shell_like(line: &CommandLine) -> String {
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=,.:/+@%".contains(&b))
    };
    let quoted = line.argv.iter().map(|argument| {
        if plain(argument) { argument.clone() } else { format!("'{}'", argument.replace('\'', r"'\''")) }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_qemu::ValidateError;

    #[test]
    fn a_definition_that_is_wrong_in_itself_has_the_code_for_that() {
        for error in [ValidateError::BiosSerial, ValidateError::UsbMaster] {
            let error = invalid_definition(error);
            assert_eq!(error.code, ErrorCode::XML_ERROR);
            assert!(error.message.starts_with("XML error: "), "{error:?}");
        }
        assert_eq!(invalid_definition(ValidateError::SecureBoot).code, ErrorCode::CONFIG_UNSUPPORTED);
    }
}
