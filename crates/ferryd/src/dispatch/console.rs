//! The serial console: a pseudo terminal or UNIX socket of QEMU's, carried both ways over a stream.
//!
//! ```text
//!   client ──data──▶ pending ──▶ device        the guest goes: end ─▶ client finishes ─▶ confirmed
//!   client ◀──data──────────────  device       another client forces its way in: failed
//! ```
//!
//! A console has one user at a time. What the guest writes waits in QEMU for a slow client; what a client
//! writes waits here for a guest that does not read, up to a bound, and no other call of the connection waits
//! with it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferry_domxml::{Backend, ChardevSource, Domain, SocketMode};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::{ConsoleFlags, Flags as _};
use ferry_rpc::proto::DomainOpenConsole;
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

use super::{Context, running};
use crate::listen::{Pump, Received, Stream};

/// Bytes that a client may type ahead of a guest that does not read.
const PENDING_MAX: usize = 1 << 20;

/// Bytes that one read of the device takes.
const READ_SIZE: usize = 8 * 1024;

/// Opens a console: the named character device, else the first console, else the first serial port.
pub(super) async fn open(context: Context, call: DomainOpenConsole) -> Result<((), Pump), Error> {
    let flags = call.flags.accept(ConsoleFlags::ALL, "qemuDomainOpenConsole")?;
    let view = context.view(&call.domain)?;
    let place = find(&running(&view)?.domain, call.dev_name.as_deref())?;
    let (lease, evicted) = context.host.consoles.lease(place.path(), flags.contains(ConsoleFlags::FORCE))?;
    let device = Device::open(&place).await.map_err(|error| {
        let text = format!("Unable to open stream for '{}': {error}", place.path().display());
        Error::new(ErrorCode::SYSTEM_ERROR, Origin::STREAMS, text)
    })?;
    Ok(((), Box::new(move |stream| Box::pin(carry(stream, device, lease, evicted)))))
}

/// Where a character device can be reached.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Terminal(PathBuf),
    Socket(PathBuf),
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Place::Terminal(path) | Place::Socket(path) => path,
        }
    }
}

fn find(domain: &Domain, name: Option<&str>) -> Result<Place, Error> {
    let devices = &domain.devices;
    // The first console is the first serial port once more; it may not have the path itself.
    let serial = devices.serials.first();
    let consoles = devices.consoles.iter().map(|console| {
        let place = reach(&console.source).or_else(|| console.tty.as_deref().map(terminal));
        (console.info.alias.as_deref(), place.or_else(|| serial.and_then(|serial| reach(&serial.source))))
    });
    let serials = devices.serials.iter().map(|serial| (serial.info.alias.as_deref(), reach(&serial.source)));
    let channels =
        devices.channels.iter().map(|channel| (channel.info.alias.as_deref(), reach(&channel.source)));
    let found = match name {
        None => consoles.chain(serials).next(),
        Some(name) => consoles.chain(serials).chain(channels).find(|(alias, _)| *alias == Some(name)),
    };
    let refused = |text: String| Error::of(ErrorCode::INTERNAL_ERROR, Origin::QEMU, text);
    let (alias, place) =
        found.ok_or_else(|| refused(format!("cannot find character device {}", name.unwrap_or("<null>"))))?;
    place.ok_or_else(|| {
        let alias = alias.unwrap_or("<null>");
        refused(format!("character device {alias} is not using a PTY or UNIX socket"))
    })
}

fn reach(source: &ChardevSource) -> Option<Place> {
    match &source.backend {
        Backend::Pty(Some(path)) => Some(terminal(path)),
        Backend::Unix { path: Some(path), mode: SocketMode::Bind } => {
            Some(Place::Socket(PathBuf::from(path)))
        }
        Backend::Pty(None)
        | Backend::Unix { .. }
        | Backend::Null
        | Backend::Dev(_)
        | Backend::Pipe(_)
        | Backend::File { .. }
        | Backend::Stdio
        | Backend::Tcp { .. } => None,
    }
}

fn terminal(path: &str) -> Place {
    Place::Terminal(PathBuf::from(path))
}

/// Who uses which console of this host, by the device's path.
#[derive(Debug, Clone, Default)]
pub(crate) struct Consoles {
    users: Arc<Mutex<Users>>,
}

#[derive(Debug, Default)]
struct Users {
    last: u64,
    by_path: HashMap<PathBuf, User>,
}

#[derive(Debug)]
struct User {
    number: u64,
    /// Dropped to evict it.
    _stays: oneshot::Sender<()>,
}

/// The use of one console, until it is dropped or another takes it by force.
#[derive(Debug)]
struct Lease {
    consoles: Consoles,
    path: PathBuf,
    number: u64,
}

/// Resolves, with an error, when the lease was taken by force.
type Evicted = oneshot::Receiver<()>;

impl Consoles {
    fn lease(&self, path: &Path, force: bool) -> Result<(Lease, Evicted), Error> {
        let mut users = self.lock();
        if users.by_path.contains_key(path) && !force {
            let text = "Active console session exists for this domain";
            return Err(Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text));
        }
        users.last += 1;
        let number = users.last;
        let (stays, evicted) = oneshot::channel();
        users.by_path.insert(path.to_owned(), User { number, _stays: stays });
        Ok((Lease { consoles: self.clone(), path: path.to_owned(), number }, evicted))
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        // A panic while the lock was held cannot leave the table half changed.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut users = self.consoles.lock();
        if users.by_path.get(&self.path).is_some_and(|user| user.number == self.number) {
            users.by_path.remove(&self.path);
        }
    }
}

/// The host's end of a character device.
struct Device {
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Device {
    async fn open(place: &Place) -> io::Result<Device> {
        match place {
            Place::Terminal(path) => {
                let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let read = File::from(rustix::fs::open(path, flags, Mode::empty())?);
                let write = read.try_clone()?;
                // A pipe's ends do for a terminal: all that they ask for is a descriptor that can be waited
                // for.
                Ok(Device {
                    reader: Box::new(pipe::Receiver::from_file_unchecked(read)?),
                    writer: Box::new(pipe::Sender::from_file_unchecked(write)?),
                })
            }
            Place::Socket(path) => {
                let (reader, writer) = UnixStream::connect(path).await?.into_split();
                Ok(Device { reader: Box::new(reader), writer: Box::new(writer) })
            }
        }
    }
}

/// Carries bytes both ways until the client is through, the console is taken, or the connection ends.
async fn carry(mut stream: Stream, device: Device, lease: Lease, mut evicted: Evicted) {
    let mut buffer = vec![0; READ_SIZE];
    let mut pending: Vec<u8> = Vec::new();
    // Gone with the guest, so that the next one's console can be opened while this client still finishes.
    let mut guest = Some((device, lease));
    loop {
        let step = match &mut guest {
            Some((Device { reader, writer }, _)) => tokio::select! {
                biased;
                _ = &mut evicted => Step::Evicted,
                received = stream.next() => Step::Received(received),
                written = writer.write(&pending), if !pending.is_empty() => Step::Written(written),
                read = reader.read(&mut buffer) => Step::Read(read),
            },
            None => Step::Received(stream.next().await),
        };
        match step {
            Step::Evicted => {
                drop(guest);
                return stream
                    .fail(Error::new(ErrorCode::RPC, Origin::STREAMS, "stream had I/O failure"))
                    .await;
            }
            Step::Received(None) => return,
            Step::Received(Some(Received::Finish)) => {
                drop(guest);
                return stream.finish().await;
            }
            Step::Received(Some(Received::Data(bytes))) => {
                if guest.is_some() {
                    pending.extend_from_slice(&bytes);
                }
                if pending.len() > PENDING_MAX {
                    drop(guest);
                    let text = "the guest does not read its console";
                    return stream.fail(Error::of(ErrorCode::OPERATION_FAILED, Origin::STREAMS, text)).await;
                }
            }
            Step::Written(Ok(len)) => drop(pending.drain(..len)),
            Step::Read(Ok(len)) if len > 0 => {
                if stream.send(buffer[..len].to_vec()).await.is_err() {
                    return;
                }
            }
            // A terminal whose QEMU has gone fails, a socket ends.
            Step::Read(_) | Step::Written(Err(_)) => {
                guest = None;
                pending.clear();
                if stream.end().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// What happened first.
enum Step {
    Evicted,
    Received(Option<Received>),
    Written(io::Result<usize>),
    Read(io::Result<usize>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::connection::far::{self, Came, FarEnd};
    use std::time::Duration;
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;

    /// How long anything here may take.
    const DEADLINE: Duration = Duration::from_secs(20);

    async fn soon<F: Future>(work: F) -> F::Output {
        tokio::time::timeout(DEADLINE, work).await.expect("in time")
    }

    /// A guest's end of a console, and a client's.
    struct Bench {
        guest: UnixStream,
        far: FarEnd,
        served: JoinHandle<()>,
        consoles: Consoles,
        path: PathBuf,
        _folder: tempfile::TempDir,
    }

    async fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("console");
        let listener = UnixListener::bind(&path).unwrap();
        let device = Device::open(&Place::Socket(path.clone())).await.unwrap();
        let (guest, _) = listener.accept().await.unwrap();
        let consoles = Consoles::default();
        let (lease, evicted) = consoles.lease(&path, false).unwrap();
        let (stream, far) = far::stream();
        let served = tokio::spawn(carry(stream, device, lease, evicted));
        Bench { guest, far, served, consoles, path, _folder: folder }
    }

    async fn read(guest: &mut (impl AsyncRead + Unpin), len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        soon(guest.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn bytes_go_both_ways_until_the_client_finishes() {
        let mut bench = bench().await;
        bench.guest.write_all(b"login: ").await.unwrap();
        assert_eq!(soon(bench.far.next()).await, Some(Came::Data(b"login: ".to_vec())));
        bench.far.send(b"root\n");
        assert_eq!(read(&mut bench.guest, 5).await, b"root\n");
        bench.far.finish();
        assert_eq!(soon(bench.far.next()).await, Some(Came::Finish));
        soon(bench.served).await.unwrap();
        assert!(bench.consoles.lease(&bench.path, false).is_ok(), "free again");
    }

    #[tokio::test]
    async fn a_guest_that_goes_ends_the_stream_and_frees_the_console() {
        let mut bench = bench().await;
        drop(bench.guest);
        assert_eq!(soon(bench.far.next()).await, Some(Came::End));
        assert!(bench.consoles.lease(&bench.path, false).is_ok(), "before the client has finished");
        bench.far.send(b"nobody hears this");
        bench.far.finish();
        assert_eq!(soon(bench.far.next()).await, Some(Came::Finish));
    }

    #[tokio::test]
    async fn a_console_has_one_user_unless_another_forces_its_way_in() {
        let mut bench = bench().await;
        let refused = bench.consoles.lease(&bench.path, false).unwrap_err();
        assert_eq!((refused.code.0, refused.origin.0), (9, 10));
        let (lease, mut evicted) = bench.consoles.lease(&bench.path, true).unwrap();
        assert_eq!(soon(bench.far.next()).await, Some(Came::Failure(39, 38)));
        soon(bench.served).await.unwrap();
        assert!(
            bench.consoles.lease(&bench.path, false).is_err(),
            "the loser's end does not end the winner's use"
        );
        assert!(evicted.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
        drop(lease);
    }

    #[tokio::test]
    async fn a_guest_that_does_not_read_is_not_written_to_without_bound() {
        let mut bench = bench().await;
        for _ in 0..64 {
            bench.far.send(&[b'x'; 64 * 1024]);
        }
        assert_eq!(soon(bench.far.next()).await, Some(Came::Failure(9, 38)));
        soon(bench.served).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_is_gone_leaves_the_console_free() {
        let mut bench = bench().await;
        bench.far.abort();
        soon(bench.served).await.unwrap();
        assert!(bench.consoles.lease(&bench.path, false).is_ok());
    }

    #[tokio::test]
    async fn a_terminal_is_carried_like_a_socket_and_ends_with_its_master() {
        let master =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let device = Device::open(&terminal(&name)).await.unwrap();
        let (lease, evicted) = Consoles::default().lease(Path::new(&name), false).unwrap();
        let (stream, mut far) = far::stream();
        let served = tokio::spawn(carry(stream, device, lease, evicted));
        rustix::io::write(&master, b"hello\n").unwrap();
        assert_eq!(soon(far.next()).await, Some(Came::Data(b"hello\n".to_vec())));
        drop(master);
        assert_eq!(soon(far.next()).await, Some(Came::End));
        far.finish();
        assert_eq!(soon(far.next()).await, Some(Came::Finish));
        soon(served).await.unwrap();
    }

    #[test]
    fn the_first_console_is_the_one_and_names_find_the_others() {
        let xml = |devices: &str| {
            let xml = format!(
                "<domain type='qemu'><name>a</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os>\
                 <devices>{devices}</devices></domain>"
            );
            Domain::parse(&xml).unwrap()
        };
        let serial = "<serial type='pty'><source path='/dev/pts/1'/><alias name='serial0'/></serial>";
        let console = "<console type='pty' tty='/dev/pts/2'><target type='virtio' port='0'/>\
                       <alias name='console0'/></console>";
        let file =
            "<serial type='file'><source path='/tmp/x'/><target port='0'/><alias name='serial0'/></serial>";
        let both = xml(&format!("{serial}{console}"));
        assert_eq!(find(&xml(serial), None), Ok(terminal("/dev/pts/1")));
        assert_eq!(find(&both, None), Ok(terminal("/dev/pts/2")));
        assert_eq!(find(&both, Some("serial0")), Ok(terminal("/dev/pts/1")));
        let refusal = |devices: &str, name| find(&xml(devices), name).unwrap_err().message;
        assert_eq!(refusal("", None), "internal error: cannot find character device <null>");
        assert_eq!(refusal(serial, Some("x")), "internal error: cannot find character device x");
        let not_reachable = "internal error: character device serial0 is not using a PTY or UNIX socket";
        assert_eq!(refusal(file, None), not_reachable);
    }
}
