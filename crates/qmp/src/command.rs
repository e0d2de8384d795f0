//! What a command is: its name, its arguments, the type of its reply, and how it can fail.
//!
//! [`crate::commands`] implements [`Command`] for every command in use; the daemon turns one into a [`Request`],
//! hands that to a [`crate::Session`], and decodes the reply with the same type.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;
use std::fmt;
use thiserror::Error;

/// One QMP command. The value itself is its arguments and must serialize to a JSON object.
pub trait Command: Serialize {
    /// The name on the wire, as `query-commands` lists it.
    const NAME: &'static str;
    /// What QEMU answers when it accepts.
    type Reply: DeserializeOwned;
    /// Ask for out-of-band execution where the session has it: the command then overtakes others and works
    /// while QEMU's main loop is stuck. Only for commands whose schema entry says `allow-oob`.
    const OUT_OF_BAND: bool = false;
    /// A file descriptor travels with the command, as ancillary data of its first byte.
    const CARRIES_FD: bool = false;
}

/// A command made ready to send; its arguments are text already. Debug output leaves them out: some are secrets.
#[derive(Clone)]
pub struct Request {
    pub(crate) name: Cow<'static, str>,
    pub(crate) arguments: Box<RawValue>,
    pub(crate) out_of_band: bool,
    pub(crate) carries_fd: bool,
}

impl Request {
    /// Makes a typed command ready to send.
    ///
    /// # Errors
    /// [`EncodeError`] when the arguments have no JSON form.
    pub fn new<C: Command>(command: &C) -> Result<Self, EncodeError> {
        let name = Cow::Borrowed(C::NAME);
        let mut request = Self::encode(name, command)?;
        request.out_of_band = C::OUT_OF_BAND;
        request.carries_fd = C::CARRIES_FD;
        Ok(request)
    }

    /// A command that is known at run time only, as an operator types one in. `arguments` is a JSON object.
    ///
    /// # Errors
    /// [`EncodeError`] when the arguments have no JSON form.
    pub fn raw(
        name: impl Into<String>,
        arguments: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, EncodeError> {
        Self::encode(Cow::Owned(name.into()), arguments)
    }

    /// The command's name on the wire.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn encode(name: Cow<'static, str>, arguments: &impl Serialize) -> Result<Self, EncodeError> {
        match to_raw_value(arguments) {
            Ok(arguments) => Ok(Self { name, arguments, out_of_band: false, carries_fd: false }),
            Err(source) => Err(EncodeError { command: name.into_owned(), source }),
        }
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A command's arguments have no JSON form.
#[derive(Debug, Error)]
#[error("cannot encode the arguments of QMP command {command}")]
pub struct EncodeError {
    /// The command's name.
    pub command: String,
    /// What the encoder says.
    #[source]
    pub source: serde_json::Error,
}

/// The reply of a command that returns nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Nothing {}

lenient_enum! {
    /// The class of an error answer. Everything but these few is `GenericError`.
    pub enum ErrorClass {
        GenericError = "GenericError",
        CommandNotFound = "CommandNotFound",
        DeviceNotActive = "DeviceNotActive",
        DeviceNotFound = "DeviceNotFound",
        KvmMissingCap = "KVMMissingCap",
    }
}

/// QEMU's error answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Error)]
#[error("{desc}")]
pub struct Refusal {
    /// The class, for programs.
    pub class: ErrorClass,
    /// The text, for people. Its wording changes between versions.
    pub desc: String,
}

/// Why a command has no reply of its type.
#[derive(Debug, Error)]
pub enum CommandError {
    /// QEMU refused it.
    #[error("QEMU refused {command}")]
    Refused {
        /// The command's name.
        command: &'static str,
        /// What QEMU said.
        #[source]
        refusal: Refusal,
    },
    /// QEMU answered something that is not the reply's type.
    #[error("QEMU's answer to {command} is not understood")]
    Malformed {
        /// The command's name.
        command: &'static str,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
}

impl CommandError {
    /// The refusal, when QEMU gave one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal),
            Self::Malformed { .. } => None,
        }
    }
}

/// Reads the outcome of a command as the command's own reply type.
pub(crate) fn decode<C: Command>(outcome: Result<&RawValue, &Refusal>) -> Result<C::Reply, CommandError> {
    match outcome {
        Ok(body) => serde_json::from_str(body.get())
            .map_err(|source| CommandError::Malformed { command: C::NAME, source }),
        Err(refusal) => Err(CommandError::Refused { command: C::NAME, refusal: refusal.clone() }),
    }
}
