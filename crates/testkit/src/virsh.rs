//! Unmodified virsh, run on a host against a daemon.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::command::{Output, run};
use crate::lab::Host;
use crate::tree::{Launch, Tree};

/// How long a command may take when nothing else is said.
const LIMIT: Duration = Duration::from_secs(60);

/// virsh with a host to run on and a URI to connect to.
#[derive(Clone, Debug)]
pub struct Virsh {
    host: Arc<Host>,
    uri: String,
    limit: Duration,
}

impl Virsh {
    /// The virsh of the host's tools.
    pub fn new(host: &Arc<Host>, uri: impl Into<String>) -> Self {
        Self { host: Arc::clone(host), uri: uri.into(), limit: LIMIT }
    }

    /// The same with another limit for each command.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs a command to its end, however it ends.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> Result<Output> {
        let mut command = self.host.command("env");
        command.args(["LC_ALL=C".as_ref(), self.program().as_os_str()]).args(["-c", &self.uri]).args(words);
        run(&mut command, self.limit)
    }

    /// Runs a command that must succeed, gives its standard output.
    ///
    /// # Errors
    /// As [`Output::ok`].
    pub fn ok<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> Result<String> {
        self.run(words)?.ok()
    }

    /// Runs a command that must fail, gives its standard error.
    ///
    /// # Errors
    /// As [`Output::err`].
    pub fn fails<Word: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = Word>) -> Result<String> {
        self.run(words)?.err()
    }

    /// Starts a command and lets it run: a migration to interfere with, `event --all --loop`, `console`. Its output is in
    /// the tree's log.
    ///
    /// # Errors
    /// As [`Tree::start`].
    pub fn start<Word: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = Word>,
        name: &str,
    ) -> Result<Tree> {
        let launch = Launch::new(self.program()).args(["-c", &self.uri]).args(words).env("LC_ALL", "C");
        self.host.start(launch, name)
    }

    /// Defines and starts a domain from an XML file.
    ///
    /// # Errors
    /// As [`ok`](Self::ok).
    pub fn define_and_start(&self, name: &str, xml: &Path) -> Result<()> {
        self.ok(["define".as_ref(), xml.as_os_str()])?;
        self.ok(["start", name])?;
        Ok(())
    }

    /// `domstate`, such as `running` or `shut off`.
    ///
    /// # Errors
    /// As [`ok`](Self::ok).
    pub fn state(&self, domain: &str) -> Result<String> {
        self.ok(["domstate", domain])
    }

    /// Names of all domains, running or not, sorted.
    ///
    /// # Errors
    /// As [`ok`](Self::ok).
    pub fn domains(&self) -> Result<Vec<String>> {
        let list = self.ok(["list", "--all", "--name"])?;
        let mut names: Vec<String> =
            list.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    fn program(&self) -> std::path::PathBuf {
        self.host.tool("virsh")
    }
}
