//! An asynchronous, typed client of the wire.
//!
//! `ferry` uses it towards its daemon, `ferryd` towards the destination of a peer-to-peer migration, the tests
//! towards both. It drives [`ferry_rpc::client::Session`] over a socket and knows nothing of what its calls mean.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use ferry_client::{Connection, OpenOptions, Uri};
//!
//! let uri: Uri = "qemu+tcp://[::1]:16509/system".parse()?;
//! let connection = Connection::open(&uri, OpenOptions::default()).await?;
//! let domain = connection.domain_lookup_by_name("guest1").await?;
//! let (state, reason) = connection.domain_state(&domain).await?;
//! println!("{state:?} {reason}");
//! connection.close().await?;
//! # Ok(()) }
//! ```
//!
//! Any number of calls may be under way on one [`Connection`]; a migration that takes minutes does not hold up a
//! question about it.

mod connection;
pub mod coordinate;
mod dial;
mod domain;
mod driver;
mod host;
mod migrate;
mod stream;
mod subscription;
mod uri;

pub use connection::{CallError, Connection, Features, OpenError, OpenOptions};
pub use dial::DialError;
pub use driver::Lost;
pub use ferry_rpc::client::{Closed, Keepalive, Received};
pub use stream::{Stream, StreamReader, StreamWriter};
pub use subscription::{Missed, Subscription};
pub use uri::{ParseUriError, TCP_PORT, Transport, Uri};
