//! The wire: header, framing, procedures, typed parameters, errors, streams, keepalive.

pub mod error;
pub mod flags;
pub mod header;
mod numbers;
pub mod procedure;
pub mod proto;
pub mod typed_param;
pub mod values;

pub use error::{Error, ErrorCode, Origin};
pub use procedure::Procedure;
pub use typed_param::{ParamValue, TypedParam};
