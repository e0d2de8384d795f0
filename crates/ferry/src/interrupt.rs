//! The operator's wish to stop: Ctrl-C, a terminal that hangs up, a polite kill.
//!
//! Called by the commands that have to tidy up first. Once it listens, none of the three ends the process by itself.

use std::future::pending;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals.
pub(crate) struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Interrupts {
    /// Listens from now on.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        let heard = tokio::select! {
            heard = self.interrupt.recv() => heard,
            heard = self.terminate.recv() => heard,
            heard = self.hangup.recv() => heard,
        };
        if heard.is_none() {
            // No more signals can come.
            pending::<()>().await;
        }
    }
}
