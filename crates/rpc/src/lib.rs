//! libvirt's wire protocol, both sides, as pure sessions: bytes, calls and instants in; bytes and events out.
//!
//! `ferryd` drives [`server::Session`], the `client` crate [`client::Session`]; the migration core takes its
//! vocabulary from here (typed parameters, flags, error codes), so that every number of the wire stands in one
//! place. There is no socket, clock or runtime in here, and no knowledge of what a domain is.
//!
//! In reading order: a frame ([`header`]), what its procedure number means ([`procedure`]), its arguments and
//! results ([`proto`], [`typed_param`], [`flags`], [`values`]), its errors ([`error`]), and the two sessions.

pub mod client;
pub mod error;
pub mod flags;
pub mod header;
mod link;
mod numbers;
pub mod procedure;
pub mod proto;
pub mod server;
pub mod typed_param;
pub mod values;

pub use error::{Error, ErrorCode, Origin};
pub use procedure::Procedure;
pub use typed_param::{ParamValue, TypedParam};
