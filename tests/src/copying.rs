//! A copy that goes on as long as a test wants: the boot-sector guest dirties its memory faster than 1 MiB/s carries it away, and
//! a pause of 1 ms is never enough for the rest.

use ferry_testkit::deadline::wait_until;
use ferry_testkit::tree::Tree;
use ferry_testkit::virsh::Virsh;
use ferry_testkit::{Error, Result};

use crate::{Pair, SOON};

impl Pair {
    /// Starts a live migration of the boot-sector guest `name` from the first host that goes on until
    /// [`let_go`](Self::let_go), an abort, or a suspend. Returns once memory is on its way.
    ///
    /// # Errors
    /// virsh's, or [`Error::Late`].
    pub fn slow_copy(&self, name: &str, words: &[&str]) -> Result<Tree> {
        let (virsh, uri) = (self.virsh(0), self.uri(1));
        virsh.ok(["migrate-setmaxdowntime", name, "1"])?;
        let all = ["migrate", name, &uri, "--live", "--unsafe", "--bandwidth", "1"].into_iter();
        let copy = virsh.start(all.chain(words.iter().copied()), &format!("copy-{name}"))?;
        until_copying(&virsh, name)
            .map_err(|late| Error::Unexpected { what: late.to_string(), detail: copy.log_tail(5) })?;
        Ok(copy)
    }

    /// Lets a slow copy end: its last pass may take its time now.
    ///
    /// # Errors
    /// virsh's.
    pub fn let_go(&self, name: &str) -> Result<()> {
        self.virsh(0).ok(["migrate-setmaxdowntime", name, "2000"]).map(drop)
    }
}

/// Waits until memory of `name` is on its way.
///
/// # Errors
/// [`Error::Late`].
pub fn until_copying(virsh: &Virsh, name: &str) -> Result<()> {
    wait_until("memory on its way", SOON, || {
        let told = virsh.ok(["domjobinfo", name]).unwrap_or_default();
        let sent = told.lines().find_map(|line| line.strip_prefix("Memory processed:"));
        sent.is_some_and(|amount| !amount.trim().starts_with("0.000"))
    })
}
