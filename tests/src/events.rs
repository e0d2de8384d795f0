//! What a stock client that listens to all events is told: `virsh event --all --loop`.

use std::fs;
use std::path::PathBuf;

use ferry_testkit::Result;
use ferry_testkit::deadline::wait_until;
use ferry_testkit::tree::Tree;

use crate::{Pair, SOON};

/// A domain that is defined and undefined until the listener has heard of it; it is never started.
const SOUND: &str =
    "<domain type='qemu'><name>sound</name><memory>32768</memory><os><type>hvm</type></os></domain>";

/// A listener on one host.
#[derive(Debug)]
pub struct Events {
    virsh: Tree,
}

impl Events {
    /// Starts to listen on host `number` of a pair; returns once events are heard.
    ///
    /// # Errors
    /// virsh's, or [`ferry_testkit::Error::Late`].
    pub fn on(pair: &Pair, number: usize) -> Result<Self> {
        let virsh = pair.virsh(number);
        let name = format!("events{number}");
        let events = Self { virsh: virsh.start(["event", "--all", "--loop"], &name)? };
        let xml: PathBuf = pair.lab().shared().join("sound.xml");
        fs::write(&xml, SOUND).map_err(ferry_testkit::Error::io("the sound's definition"))?;
        wait_until("the first event", SOON, || {
            let sounded = virsh.ok(["define".as_ref(), xml.as_os_str()]).and(virsh.ok(["undefine", "sound"]));
            sounded.is_ok() && events.text().contains("'sound'")
        })?;
        Ok(events)
    }

    /// Lifecycle events of `domain` so far, such as `Suspended Paused`.
    pub fn lifecycle(&self, domain: &str) -> Vec<String> {
        self.named("lifecycle", domain)
    }

    /// Everything that was heard of one kind of event of `domain`: what stands behind the colon.
    pub fn named(&self, kind: &str, domain: &str) -> Vec<String> {
        let head = format!("event '{kind}' for domain '{domain}'");
        let text = self.text();
        let found = text.lines().filter_map(|line| line.strip_prefix(&head));
        found.map(|rest| rest.trim_start_matches(':').trim().to_owned()).collect()
    }

    /// Waits until the last lifecycle event of `domain` is `last`.
    ///
    /// # Errors
    /// [`ferry_testkit::Error::Late`].
    pub fn wait_lifecycle(&self, domain: &str, last: &str) -> Result<()> {
        let what = format!("lifecycle event {last:?} of {domain}");
        wait_until(&what, SOON, || self.lifecycle(domain).last().is_some_and(|heard| heard == last))
    }

    /// All that was printed.
    pub fn text(&self) -> String {
        fs::read_to_string(self.virsh.log()).unwrap_or_default()
    }
}
