//! The machine that is measured on: its load, its disk, its versions. Without them no figure can be compared with another.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ferry_testkit::lab::Host;
use ferry_testkit::{Error, Result, command, programs};

/// How long a program may take to say its version.
const LIMIT: Duration = Duration::from_secs(20);

/// The load average of the last minute.
///
/// # Errors
/// [`Error::Io`], [`Error::Unexpected`].
pub(crate) fn load() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg").map_err(Error::io("/proc/loadavg"))?;
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.ok_or(Error::Unexpected { what: "/proc/loadavg".into(), detail: text })
}

/// A file on the disk where the daemons keep their journals.
#[derive(Debug)]
pub(crate) struct Disk(File);

impl Disk {
    /// A new file in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("fdatasync");
        Ok(Self(File::create(&path).map_err(Error::io(format!("making {path:?}")))?))
    }

    /// Appends 4 KiB, as a journal does, and gives the time until `fdatasync` has returned.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn sync(&mut self) -> Result<Duration> {
        let began = Instant::now();
        self.0.write_all(&[0x5a; 4096]).and_then(|()| self.0.sync_data()).map_err(Error::io("fdatasync"))?;
        Ok(began.elapsed())
    }
}

/// Kernel and CPUs.
pub(crate) fn described() -> String {
    let system = rustix::system::uname();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{} {}, {cpus} CPUs, TCG", system.sysname().to_string_lossy(), system.release().to_string_lossy())
}

/// What `program` on `host` says of its version, in one line.
pub(crate) fn version(host: &Host, program: impl AsRef<Path>) -> String {
    let program = program.as_ref();
    let said = host.run(program, ["--version"], LIMIT).and_then(command::Output::ok);
    let line = said.map(|text| text.lines().next().unwrap_or_default().to_owned());
    line.unwrap_or_else(|error| format!("{} of unknown version: {error}", program.display()))
}

/// The commit that is measured, marked when there are changes on top of it; and how `ferryd` was built, by where it lies.
pub(crate) fn build(ferryd: &Path) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(programs::workspace()).args(["describe", "--always", "--dirty"]);
    let commit = command::run(&mut git, LIMIT).and_then(command::Output::ok);
    let commit = commit.unwrap_or_else(|_| "an unknown commit".to_owned());
    let release = ferryd.parent().is_some_and(|folder| folder.ends_with("release"));
    let profile = if release { "release build" } else { "no release build: NOT TO BE QUOTED" };
    format!("{commit}, {profile}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_can_be_described() {
        assert!(load().unwrap() >= 0.0);
        assert!(described().starts_with("Linux "));
        assert!(build(Path::new("/x/release/ferryd")).ends_with(", release build"));
        assert!(build(Path::new("/x/debug/ferryd")).contains("NOT TO BE QUOTED"));
        let folder = std::env::temp_dir().join(format!("ferry-disk-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let mut disk = Disk::open(&folder).unwrap();
        disk.sync().unwrap();
        disk.sync().unwrap();
        assert_eq!(fs::metadata(folder.join("fdatasync")).unwrap().len(), 8192);
        fs::remove_dir_all(&folder).unwrap();
    }
}
