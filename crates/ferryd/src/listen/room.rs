//! How much room clients get: places for connections, and memory for what they sent and what they do not read.
//!
//! Clients that may only look come in through a door that is open to every user of the machine. They have places of their
//! own, so that they cannot keep out those that may act.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Descriptors when the system names no limit: more than anybody asks for.
const UNLIMITED: u64 = 1 << 20;

/// Bytes that every connection may hold: no call of everyday use has more.
const FREE: usize = 64 * 1024;

/// Bytes that all connections together may hold beyond that. One frame has 32 MiB at most.
const MOST: usize = 512 << 20;

/// Clients that may be told at the same time that there is no place for them; more just find the door shut.
const PORCH: usize = 64;

/// Room for all clients of a daemon.
#[derive(Debug)]
pub(crate) struct Room {
    acting: Arc<Semaphore>,
    looking: Arc<Semaphore>,
    porch: Arc<Semaphore>,
    held: Arc<AtomicUsize>,
}

/// The room of one connection; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _place: OwnedSemaphorePermit,
    held: Arc<AtomicUsize>,
    own: usize,
}

impl Room {
    /// Room for `clients` connections of each kind, or as many as there are descriptors for: at least half of them are left to
    /// guests.
    pub(crate) fn new(clients: usize, descriptors: u64) -> Room {
        let affordable = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
        if affordable < clients {
            tracing::warn!(
                descriptors,
                "fewer clients than configured: {affordable} instead of {clients}, for want of file descriptors"
            );
        }
        let places = || Arc::new(Semaphore::new(clients.min(affordable).min(Semaphore::MAX_PERMITS)));
        Room {
            acting: places(),
            looking: places(),
            porch: Arc::new(Semaphore::new(PORCH)),
            held: Arc::default(),
        }
    }

    /// A place for a connection, if one is left.
    pub(crate) fn place(&self, read_only: bool) -> Option<Place> {
        let places = if read_only { &self.looking } else { &self.acting };
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        Some(Place { _place: place, held: Arc::clone(&self.held), own: 0 })
    }

    /// Where a client may stand while it is sent away.
    pub(crate) fn porch(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.porch).try_acquire_owned().ok()
    }

    /// Waits until all connections of each kind, of which there are `places` at most, have ended.
    #[cfg(test)]
    pub(crate) async fn emptied(&self, places: u32) {
        for places_of_kind in [&self.acting, &self.looking] {
            drop(places_of_kind.acquire_many(places).await.unwrap());
        }
    }
}

impl Place {
    /// Notes that the connection holds `bytes` bytes now; `false` when that is more than there is room for.
    pub(crate) fn hold(&mut self, bytes: usize) -> bool {
        let before = std::mem::replace(&mut self.own, bytes.saturating_sub(FREE));
        if self.own <= before {
            self.held.fetch_sub(before - self.own, Ordering::Relaxed);
            return true;
        }
        let more = self.own - before;
        self.held.fetch_add(more, Ordering::Relaxed) + more <= MOST
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// Lets this process have as many descriptors as it may: each client needs one, each guest several. Gives their number.
pub(crate) fn raise_descriptors() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
        match raised.map_err(io::Error::from) {
            Ok(()) => limit.current = limit.maximum,
            Err(error) => tracing::warn!(%error, "cannot raise the number of file descriptors"),
        }
    }
    limit.current.unwrap_or(UNLIMITED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_look_do_not_keep_out_those_who_act() {
        let room = Room::new(2, 1000);
        let looking = [room.place(true), room.place(true), room.place(true)];
        assert_eq!(looking.each_ref().map(Option::is_some), [true, true, false]);
        let acting = room.place(false);
        assert!(acting.is_some());
        drop(looking);
        assert!(room.place(true).is_some());
    }

    #[test]
    fn half_of_the_descriptors_are_the_guests() {
        let room = Room::new(5000, 8);
        let places: Vec<_> = [false, false, false, true, true, true]
            .map(|look| room.place(look))
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(places.len(), 4);
    }

    #[test]
    fn what_all_hold_together_is_bounded_and_comes_back() {
        let room = Room::new(3, 1000);
        let [mut one, mut two, mut three] = [(); 3].map(|()| room.place(false).unwrap());
        assert!(one.hold(MOST + FREE));
        assert!(two.hold(FREE), "what everybody may have");
        assert!(!two.hold(FREE + 1));
        drop(two);
        assert!(one.hold(FREE));
        assert!(three.hold(MOST));
        drop(three);
        assert!(one.hold(MOST + FREE));
    }
}
