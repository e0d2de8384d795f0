//! The door of a plan: the destination listens for a moment where it would receive the guest, and the source tries
//! whether it gets through, and how fast.
//!
//! ```text
//!   source                              destination
//!     connect, 16 bytes of token ──────>  [listens on a port of the pool for 3 s at most]
//!     <────────────────────────── 'F'     [listens no more; the port is free again]
//!     bytes, as many as go in 0.2 s ───>  counts them ([`Count`])
//!     <─────── u64 bytes, u64 µs          closes
//! ```
//!
//! Without the token nobody is answered, so that a name which leads to another host's port is found out. Both ends have a
//! time limit for each step and a bound of what they move; what is left of a door when nobody comes is nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ferry_migration::params::Request as Parameters;
use ferry_migration::uri::{DataUri, Listen};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::PlanDoor;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use uuid::Uuid;

use crate::host::{Host, Port};
use crate::perform::network;
use crate::refuse;

/// Doors that may be open at once; a port of the pool each.
static DOORS: Semaphore = Semaphore::const_new(8);

/// How long a door is open for somebody who has not come.
const OPEN_LIMIT: Duration = Duration::from_secs(3);

/// How long each step may take, beside the measurement.
const STEP_LIMIT: Duration = Duration::from_secs(2);

/// How long is measured.
const MEASURE: Duration = Duration::from_millis(200);

/// Most that a measurement moves, bytes.
const BYTES_MAX: u64 = 64 << 20;

/// What is sent at once, bytes.
const CHUNK: usize = 64 << 10;

/// What is timed by itself, bytes.
const BLOCK: u64 = 2 << 20;

/// So many blocks tell which of them are out of the ordinary.
const BLOCKS_MIN: usize = 4;

/// The destination's answer to the token.
const GREETING: u8 = b'F';

/// What [`open`] came to.
pub(super) enum Door {
    /// The source may try it.
    Open(PlanDoor),
    /// There is none, and this is why.
    None(&'static str),
}

/// Opens a door where a guest with these parameters would be received. It closes by itself.
///
/// # Errors
/// Nothing can be listened on there: no guest could be received either.
pub(super) async fn open(host: &Arc<Host>, parameters: &Parameters) -> Result<Door, Error> {
    let uri = parameters.data_uri()?;
    let listen = Listen::plan(uri.as_ref(), parameters.listen_address.as_deref())?;
    let Listen::Tcp { address, port: fixed } = listen else {
        return Ok(Door::None("the memory goes through a UNIX socket"));
    };
    let Ok(permit) = DOORS.try_acquire() else {
        return Ok(Door::None("too many plans are being made on the destination at once"));
    };
    let any = host.config.migration_address.as_deref().unwrap_or(network::any_address());
    let address = address.unwrap_or_else(|| any.to_owned());
    let (listener, number, port) = match fixed {
        Some(number) => (listen_at(&address, number).await?, number, None),
        None => listen_in_pool(host, &address).await?,
    };
    let name = match uri {
        Some(DataUri::Tcp { host, .. }) => host,
        Some(DataUri::Unix { .. }) | None => {
            host.config.migration_host.clone().unwrap_or_else(|| host.hostname.clone())
        }
    };
    let token = *Uuid::new_v4().as_bytes();
    tokio::spawn(async move {
        let _permit = permit;
        // Nobody who came is nothing to tell: the source says what it met.
        let _ = timeout(OPEN_LIMIT + 2 * STEP_LIMIT, serve(listener, port, token)).await;
    });
    Ok(Door::Open(PlanDoor { uri: DataUri::Tcp { host: name, port: Some(number) }.to_string(), token }))
}

async fn listen_in_pool(host: &Host, address: &str) -> Result<(TcpListener, u16, Option<Port>), Error> {
    let mut at_least = 0;
    loop {
        let port = host.ports.take(at_least)?;
        match listen_on(address, port.number()).await {
            Ok(listener) => return Ok((listener, port.number(), Some(port))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                at_least = port.number().saturating_add(1);
            }
            Err(error) => return Err(unable(address, port.number(), &error)),
        }
    }
}

async fn listen_at(address: &str, port: u16) -> Result<TcpListener, Error> {
    listen_on(address, port).await.map_err(|error| unable(address, port, &error))
}

async fn listen_on(address: &str, port: u16) -> io::Result<TcpListener> {
    let places: Vec<SocketAddr> = lookup_host((address.trim_matches(['[', ']']), port)).await?.collect();
    TcpListener::bind(&places[..]).await
}

fn unable(address: &str, port: u16, error: &io::Error) -> Error {
    let text = format!("unable to listen for the guest on {address}:{port}: {}", refuse::chain(error));
    Error::of(ErrorCode::OPERATION_FAILED, Origin::QEMU, text)
}

/// Waits for the one with the token, and counts what it sends.
async fn serve(listener: TcpListener, port: Option<Port>, token: [u8; 16]) -> io::Result<()> {
    let until = Instant::now() + OPEN_LIMIT;
    let mut stream = loop {
        let (mut stream, _) = timeout_at(until, listener.accept()).await??;
        let mut said = [0; 16];
        let read = timeout_at(until.min(Instant::now() + STEP_LIMIT), stream.read_exact(&mut said)).await;
        if matches!(read, Ok(Ok(_))) && said == token {
            break stream;
        }
    };
    // Before anything is answered: who has the answer finds the port free.
    drop(listener);
    drop(port);
    stream.write_all(&[GREETING]).await?;
    let mut chunk = vec![0; CHUNK];
    let (began, mut count) = (Instant::now(), Count::default());
    let until = began + STEP_LIMIT;
    while count.bytes <= BYTES_MAX {
        // A slow way still holds what the source has sent: what came in time is counted.
        let Ok(read) = timeout_at(until, stream.read(&mut chunk)).await else { break };
        let read = read?;
        if read == 0 {
            break;
        }
        count.add(began.elapsed(), u64::try_from(read).unwrap_or(0));
    }
    let (bytes, took) = count.told();
    let mut counted = bytes.to_be_bytes().to_vec();
    counted.extend(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).to_be_bytes());
    stream.write_all(&counted).await
}

/// What has come through a door, and when.
///
/// A host may be busy with something else for a moment, which is long beside a probe and nothing beside a copy; what came
/// meanwhile is then read at once. So of many blocks neither the slowest quarter counts nor the fastest.
#[derive(Debug, Default)]
struct Count {
    /// All but those of the first read, which were on their way before the clock ran.
    bytes: u64,
    /// When the first and the last read were, since the clock ran.
    first: Option<Duration>,
    last: Duration,
    /// The block that is not full yet: its bytes, and when it began.
    open: (u64, Duration),
    /// The full ones: their bytes, and what they took.
    blocks: Vec<(u64, Duration)>,
}

impl Count {
    fn add(&mut self, at: Duration, bytes: u64) {
        self.last = at;
        if self.first.is_none() {
            self.first = Some(at);
            self.open.1 = at;
            return;
        }
        self.bytes += bytes;
        self.open.0 += bytes;
        if self.open.0 >= BLOCK {
            let (full, began) = std::mem::replace(&mut self.open, (0, at));
            self.blocks.push((full, at.saturating_sub(began)));
        }
    }

    /// Bytes and the time for them.
    fn told(mut self) -> (u64, Duration) {
        if self.blocks.len() < BLOCKS_MIN {
            return (self.bytes, self.last.saturating_sub(self.first.unwrap_or(self.last)));
        }
        self.blocks.sort_unstable_by_key(|(_, took)| *took);
        let quarter = self.blocks.len() / 4;
        let middle = self.blocks.iter().skip(quarter).take(self.blocks.len() - 2 * quarter);
        middle.fold((0, Duration::ZERO), |(bytes, took), block| (bytes + block.0, took + block.1))
    }
}

/// Goes through a door. With `measures` it also tells how fast, bytes per second: no faster than the limit in it. `None`:
/// it was not to be told, or could not be.
///
/// # Errors
/// The source does not reach it.
pub(super) async fn pass(door: &PlanDoor, measures: Option<Option<u64>>) -> io::Result<Option<u64>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    let DataUri::Tcp { host, port: Some(port) } = DataUri::parse(&door.uri).map_err(invalid)? else {
        return Ok(None);
    };
    let mut stream = soon(TcpStream::connect((host.as_str(), port))).await?;
    soon(stream.write_all(&door.token)).await?;
    let mut greeting = [0];
    let greeted = soon(stream.read_exact(&mut greeting)).await;
    if greeted.is_err() || greeting != [GREETING] {
        return Err(io::Error::other("something else than the destination answers there"));
    }
    let Some(limit) = measures else { return Ok(None) };
    // The way is open; one that is too slow to be measured is no reason to refuse it.
    Ok(measure(&mut stream, limit).await.unwrap_or(None))
}

async fn measure(stream: &mut TcpStream, limit: Option<u64>) -> io::Result<Option<u64>> {
    send(stream, limit).await?;
    stream.shutdown().await?;
    let mut counted = [0; 16];
    // As long as the destination counts, and its answer.
    timeout(2 * STEP_LIMIT, stream.read_exact(&mut counted)).await??;
    let [bytes, micros] = [&counted[..8], &counted[8..]].map(|half| {
        let mut number = [0; 8];
        number.copy_from_slice(half);
        u64::from_be_bytes(number)
    });
    Ok((bytes > 0 && micros > 0).then(|| bytes.saturating_mul(1_000_000) / micros))
}

/// Sends for as long as is measured. A limit is kept chunk by chunk.
async fn send(stream: &mut TcpStream, limit: Option<u64>) -> io::Result<()> {
    let chunk = vec![0; CHUNK];
    let (began, mut sent) = (Instant::now(), 0_u64);
    while began.elapsed() < MEASURE && sent < BYTES_MAX {
        if let Some(limit) = limit {
            // The pace of a limit, not a wait for something to happen.
            let due = began + Duration::from_secs_f64(sent as f64 / limit.max(1) as f64);
            if due >= began + MEASURE {
                break;
            }
            sleep_until(due).await;
        }
        soon(stream.write_all(&chunk)).await?;
        sent += CHUNK as u64;
    }
    Ok(())
}

async fn soon<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STEP_LIMIT, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn door() -> (PlanDoor, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = listen_on("127.0.0.1", 0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let door = PlanDoor { uri: format!("tcp:127.0.0.1:{port}"), token: [7; 16] };
        (door, tokio::spawn(serve(listener, None, [7; 16])))
    }

    #[tokio::test]
    async fn a_door_opens_once_and_counts_what_comes_through() {
        let (door, served) = door().await;
        let speed = pass(&door, Some(None)).await.unwrap().unwrap();
        assert!(speed > 1 << 20, "{speed}");
        served.await.unwrap().unwrap();
        let again = pass(&door, None).await.unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_limit_is_kept() {
        let (door, served) = door().await;
        let limit = 4 << 20;
        let speed = pass(&door, Some(Some(limit))).await.unwrap().unwrap();
        assert!(speed <= limit + limit / 4, "{speed}");
        served.await.unwrap().unwrap();
    }

    #[test]
    fn a_busy_moment_does_not_count_and_a_slow_way_does() {
        let told = |reads: &[(u64, u64)]| {
            let mut count = Count::default();
            for (at_ms, bytes) in reads {
                count.add(Duration::from_millis(*at_ms), *bytes);
            }
            count.told()
        };
        let steady: Vec<(u64, u64)> = (0..=8).map(|block| (block * 10, BLOCK)).collect();
        assert_eq!(told(&steady), (4 * BLOCK, Duration::from_millis(40)));
        let stalled: Vec<_> =
            steady.iter().map(|(at, bytes)| (if *at > 40 { at + 1000 } else { *at }, *bytes)).collect();
        assert_eq!(told(&stalled), told(&steady));
        // Two blocks waited while nobody read them.
        let caught_up: Vec<_> =
            steady.iter().map(|(at, bytes)| (if (20..40).contains(at) { 40 } else { *at }, *bytes)).collect();
        assert_eq!(told(&caught_up), told(&steady));
        let slow: Vec<_> = steady.iter().map(|(at, bytes)| (at * 100, *bytes)).collect();
        assert_eq!(told(&slow), (4 * BLOCK, Duration::from_secs(4)));
        // Too few to tell: all of it counts, but for what was on its way before.
        assert_eq!(told(&[(5, 999), (10, 50), (25, 50)]), (100, Duration::from_millis(20)));
        assert_eq!(told(&[(5, 999)]), (0, Duration::ZERO));
        assert_eq!(told(&[]), (0, Duration::ZERO));
    }

    #[tokio::test]
    async fn who_only_looks_leaves_the_port_free() {
        let (door, served) = door().await;
        assert_eq!(pass(&door, None).await.unwrap(), None);
        let port = door.uri.rsplit(':').next().unwrap().parse().unwrap();
        listen_on("127.0.0.1", port).await.unwrap();
        served.await.unwrap().unwrap();
    }

    /// Both ends of a way on which nothing more goes: the destination has said its greeting, and then stands still.
    #[tokio::test]
    async fn a_way_that_cannot_be_measured_is_open_all_the_same() {
        let listener = listen_on("127.0.0.1", 0).await.unwrap();
        let uri = format!("tcp:127.0.0.1:{}", listener.local_addr().unwrap().port());
        let served = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 16]).await.unwrap();
            stream.write_all(&[GREETING]).await.unwrap();
        });
        let speed = pass(&PlanDoor { uri, token: [7; 16] }, Some(None)).await.unwrap();
        assert_eq!(speed, None);
        served.await.unwrap();
    }

    /// A source whose bytes are still on their way when the destination stops counting.
    #[tokio::test]
    async fn what_came_in_time_is_counted() {
        let (door, served) = door().await;
        let port = door.uri.rsplit(':').next().unwrap().parse::<u16>().unwrap();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(&door.token).await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        for _ in 0..2 {
            stream.write_all(&[0; 1000]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut counted = [0; 16];
        stream.read_exact(&mut counted).await.unwrap();
        assert_eq!(counted[..8], 1000_u64.to_be_bytes());
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn nobody_else_is_taken_for_the_destination_or_for_the_source() {
        let (door, served) = door().await;
        let stranger = PlanDoor { token: [8; 16], ..door.clone() };
        let refused = pass(&stranger, None).await.unwrap_err();
        assert!(refused.to_string().contains("something else"), "{refused}");
        pass(&door, None).await.unwrap();
        served.await.unwrap().unwrap();
        let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let uri = format!("tcp:127.0.0.1:{}", silent.local_addr().unwrap().port());
        let answered = std::thread::spawn(move || silent.accept().map(drop));
        assert!(pass(&PlanDoor { uri, ..door }, None).await.is_err());
        answered.join().unwrap().unwrap();
    }
}
