//! The daemon: the room of sockets, processes and files.
//!
//! Start: read the configuration, take the host's lock, open the store, find the guests that live ([`restart`]),
//! open the doors ([`listen`]), serve. A client that can connect finds every domain in its place. End: on SIGTERM or
//! SIGINT the doors close; guests are processes of their own and go on.

mod cli;
mod config;
mod dispatch;
mod driver;
mod events;
mod fault;
mod handover;
mod host;
mod layout;
mod listen;
mod man;
mod peer;
mod perform;
mod probe;
mod process;
mod refuse;
mod registry;
mod restart;
mod secrets;
mod sys;
mod usage;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use ferry_store::Store;
use thiserror::Error;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use uuid::Uuid;

use cli::Cli;
use config::Config;
use host::Host;
use layout::Layout;
use listen::Doors;
use perform::ownership::Account;

/// Why the daemon cannot run. The chain of causes is printed once, in [`main`].
#[derive(Debug, Error)]
enum StartError {
    #[error("--log {filter:?} is not a log filter")]
    Log {
        filter: String,
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Layout(#[from] layout::LayoutError),
    #[error(transparent)]
    Account(#[from] perform::ownership::AccountError),
    #[error("cannot open the store")]
    Store(#[from] ferry_store::StoreError),
    #[error("the stored host UUID {0:?} is damaged")]
    StoredUuid(String),
    #[error(transparent)]
    Restart(#[from] restart::RestartError),
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    #[error("cannot write the manual page to {dir:?}")]
    Man {
        dir: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ferryd: {}", refuse::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Stack of a worker thread. A driver's step holds whole definitions, of some KiB each and several times over in a build
/// that is not optimised; only what is touched takes memory.
const STACK_BYTES: usize = 16 << 20;

fn run(cli: Cli) -> Result<(), StartError> {
    let filter =
        EnvFilter::try_new(&cli.log).map_err(|source| StartError::Log { filter: cli.log.clone(), source })?;
    // Colours for a terminal only: a journal or a file would keep their codes as text.
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build()
        .map_err(StartError::Runtime)?;
    runtime.block_on(serve(cli))
}

async fn serve(cli: Cli) -> Result<(), StartError> {
    if let Some(dir) = &cli.man {
        return man::write(dir).map_err(|source| StartError::Man { dir: dir.clone(), source });
    }
    let layout = match &cli.root {
        Some(root) => Layout::private(root)?,
        None => Layout::packaged(),
    };
    let mut config = match &cli.config {
        Some(path) => Config::read(path, true)?,
        None => Config::read(&layout.config, false)?,
    };
    config.listen_tcp = cli.listen_tcp.or(config.listen_tcp);
    config.libvirt_sockets |= cli.libvirt_sockets;
    config.host_uuid = cli.host_uuid.or(config.host_uuid);
    if !config.check_disk_cache {
        tracing::warn!(
            "check_disk_cache is off: guests may leave although a cache keeps what they wrote to shared disks"
        );
    }
    if let Some(hook) = config.migration_hook.as_deref().filter(|hook| !perform::hook::is_there(hook)) {
        tracing::warn!(?hook, "migration_hook is not there: no guest can arrive");
    }
    let account = Account::resolve(config.user.as_deref(), config.group.as_deref())?;
    let lock = layout.occupy()?;
    // From here on a signal is heard, also while the doors are being opened: what was made is taken away again.
    let told = Told::listen().map_err(StartError::Signals)?;
    let store = Store::open(&layout.database)?;
    let uuid = host_uuid(config.host_uuid, &store)?;

    let secrets = store.secrets()?;

    let host = Arc::new(Host::new(config, layout, uuid, hostname(), account, store, secrets));
    let found = restart::find_domains(&host).await?;
    let doors = Doors::open(
        &host.layout.socket,
        &host.layout.socket_read_only,
        host.config.libvirt_sockets,
        host.config.listen_tcp,
    )
    .await?;
    let tcp = doors.tcp_address();
    if let Some(bound) = tcp {
        host.tcp_address.get_or_init(|| bound);
    }
    let served = doors.serve(&host);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        host_uuid = %host.uuid,
        hostname = host.hostname,
        socket = %host.layout.socket.display(),
        tcp = tcp.map(tracing::field::display),
        defined = found.defined,
        running = found.running,
        "ready"
    );
    restart::autostart(&host).await;

    told.wait().await;
    tracing::info!("stopping; guests go on");
    drop(served);
    drop(lock);
    Ok(())
}

/// The host's UUID: the operator's, else the one of the first start.
fn host_uuid(wanted: Option<Uuid>, store: &Store) -> Result<Uuid, StartError> {
    const KEY: &str = "host_uuid";
    if let Some(uuid) = wanted {
        return Ok(uuid);
    }
    if let Some(stored) = store.host_value(KEY)? {
        return stored.parse().map_err(|_| StartError::StoredUuid(stored));
    }
    let uuid = Uuid::new_v4();
    store.set_host_value(KEY, &uuid.to_string())?;
    Ok(uuid)
}

fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// SIGTERM and SIGINT: the daemon is told to stop.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    fn listen() -> io::Result<Told> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Told { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
