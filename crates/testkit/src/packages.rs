//! Debian packages, unpacked into the cache and never installed.
//!
//! apt runs with lists and a cache of its own, so the machine's are neither read nor changed; what the machine has
//! installed is taken into account, so that only what is missing comes. The sources are the machine's own, with
//! backports added: no host is named here.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cache::{Cache, digest};
use crate::command::run;
use crate::{Error, Result};

/// How long apt may take for one thing.
const APT_LIMIT: Duration = Duration::from_secs(300);

/// How long lists that were fetched once are good, seconds.
const LISTS_AGE_MAX: u64 = 12 * 3600;

/// Packages of the base system: a solver that wants to upgrade them for a test is not followed.
const BASE: [&str; 12] = [
    "base-files",
    "dpkg",
    "libc-",
    "libc6",
    "libnss-systemd",
    "libpam-systemd",
    "libsystemd",
    "libudev",
    "locales",
    "logrotate",
    "systemd",
    "udev",
];

/// Where packages come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// The machine's own release, its updates and its security updates.
    Own,
    /// Backports to that release.
    Backports,
}

/// Packages that were unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Holds `usr/…` as it would lie on an installed machine. Empty when the machine has everything installed.
    pub root: PathBuf,
    /// `name=version` of each package in there, sorted.
    pub packages: Vec<String>,
}

/// Unpacks `wanted` and what they depend on, less what the machine has installed in the versions needed.
///
/// # Errors
/// [`Error::Command`] with apt's words: no network, no such package, or a release that is not Debian's.
pub fn unpack(cache: &Cache, wanted: &[&str], suite: Suite) -> Result<Unpacked> {
    let installed = fs::read("/var/lib/dpkg/status").map_err(Error::io("/var/lib/dpkg/status"))?;
    // What the solver says holds as long as the same is installed.
    let key = format!("solved-{}", digest(&(wanted, suite, installed)));
    let solved = cache.entry(&key, |draft| {
        let apt = Apt::open(cache)?;
        let packages = apt.missing(wanted, suite)?;
        fs::write(draft.join("packages"), packages.join("\n"))
            .map_err(Error::io("writing the packages' names"))
    })?;
    let list = fs::read_to_string(solved.join("packages")).map_err(Error::io(format!("{solved:?}")))?;
    let packages: Vec<String> = list.lines().map(str::to_owned).collect();
    let root = unpack_exactly(cache, wanted[0], &packages)?;
    Ok(Unpacked { root, packages })
}

/// Unpacks the one package that `meta` (such as a kernel's metapackage) depends on and whose name begins with `prefix`.
///
/// # Errors
/// As [`unpack`], and [`Error::Unexpected`] when there is no such dependency.
pub fn unpack_dependency(cache: &Cache, meta: &str, prefix: &str) -> Result<Unpacked> {
    // Any version of it will do, so an entry that is there is used without asking apt.
    if let Some(root) = newest_entry(cache, prefix)? {
        return Ok(Unpacked { root, packages: vec![prefix.to_owned()] });
    }
    let apt = Apt::open(cache)?;
    let depends = apt.run("apt-cache", &["depends", meta])?;
    let name = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with(prefix))
        .ok_or_else(|| Error::Unexpected {
            what: format!("dependencies of {meta}"),
            detail: depends.clone(),
        })?;
    let packages = vec![name.to_owned()];
    Ok(Unpacked { root: unpack_exactly(cache, name, &packages)?, packages })
}

/// A `.deb` for each of `packages` (`name` or `name=version`), all unpacked over each other.
fn unpack_exactly(cache: &Cache, label: &str, packages: &[String]) -> Result<PathBuf> {
    // The number is the layout's: count it up when what is made of the same packages changes.
    let key = format!("{label}-{}", digest(&(1, packages)));
    cache.entry(&key, |draft| {
        if packages.is_empty() {
            return Ok(());
        }
        let apt = Apt::open(cache)?;
        let debs = tempfile::tempdir_in(cache.root()).map_err(Error::io("a folder to download to"))?;
        let download = ["download"].into_iter().chain(packages.iter().map(String::as_str));
        run(apt.command("apt-get", download).current_dir(debs.path()), APT_LIMIT)?.ok()?;
        for deb in fs::read_dir(debs.path()).map_err(Error::io("reading what was downloaded"))?.flatten() {
            run(Command::new("dpkg-deb").arg("-x").arg(deb.path()).arg(draft), APT_LIMIT)?.ok()?;
        }
        merge_usr(draft)
    })
}

/// Moves what older packages have in `/lib` and the like to where the installed system has it: `/usr/lib`.
fn merge_usr(root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let top = root.join(name);
        if top.is_dir() {
            let merged = root.join("usr").join(name);
            fs::create_dir_all(&merged).map_err(Error::io(format!("making {merged:?}")))?;
            let mut copy = Command::new("cp");
            run(copy.arg("-a").arg(top.join(".")).arg(&merged), APT_LIMIT)?.ok()?;
            fs::remove_dir_all(&top).map_err(Error::io(format!("removing {top:?}")))?;
        }
    }
    Ok(())
}

fn newest_entry(cache: &Cache, prefix: &str) -> Result<Option<PathBuf>> {
    let entries = fs::read_dir(cache.root()).map_err(Error::io("reading the cache"))?.flatten();
    let found = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    Ok(found.map(|entry| entry.path()).max())
}

/// apt with a private configuration.
struct Apt {
    options: Vec<String>,
    /// The machine's release, such as `bookworm`.
    codename: String,
}

impl Apt {
    /// Writes the configuration and fetches the lists, unless that was done lately.
    fn open(cache: &Cache) -> Result<Self> {
        let _held = cache.lock("apt")?;
        let folder = cache.root().join("apt");
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part)).map_err(Error::io("making apt's folders"))?;
        }
        let sources = folder.join("sources.list");
        let codename = codename()?;
        fs::write(&sources, private_sources(&codename)?).map_err(Error::io(format!("{sources:?}")))?;
        let path = |part: &str| folder.join(part).display().to_string();
        let options = [
            format!("Dir::State::lists={}", path("lists")),
            format!("Dir::Cache={}", path("cache")),
            format!("Dir::Etc::sourcelist={}", path("sources.list")),
            "Dir::Etc::sourceparts=-".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Retries=3".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ];
        let options = options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect();
        let apt = Self { options, codename };
        let fetched = folder.join("fetched");
        if !fresh(&fetched) {
            apt.run("apt-get", &["update", "--error-on=any"])?;
            fs::write(&fetched, "").map_err(Error::io(format!("{fetched:?}")))?;
        }
        Ok(apt)
    }

    fn command<Word: AsRef<OsStr>>(&self, program: &str, words: impl IntoIterator<Item = Word>) -> Command {
        let mut command = Command::new(program);
        command.args(words).args(&self.options).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn run(&self, program: &str, words: &[&str]) -> Result<String> {
        run(&mut self.command(program, words), APT_LIMIT)?.ok()
    }

    /// `name=version` of what an installation of `wanted` would bring, by a simulated one.
    fn missing(&self, wanted: &[&str], suite: Suite) -> Result<Vec<String>> {
        let backports = format!("{}-backports", self.codename);
        let mut words = vec!["-s", "install", "--no-install-recommends"];
        if suite == Suite::Backports {
            words.extend(["-t", &backports]);
        }
        words.extend(wanted);
        Ok(parse_simulation(&self.run("apt-get", &words)?))
    }
}

fn fresh(marker: &Path) -> bool {
    let age = fs::metadata(marker).and_then(|data| data.modified()).map(|at| at.elapsed());
    matches!(age, Ok(Ok(age)) if age.as_secs() < LISTS_AGE_MAX)
}

/// The machine's own sources as apt itself reads them, and backports from the same places.
fn private_sources(codename: &str) -> Result<String> {
    let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)";
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--format", format, "Created-By: Packages"]);
    Ok(derive_sources(&run(&mut targets, APT_LIMIT)?.ok()?, codename))
}

fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").map_err(Error::io("/etc/os-release"))?;
    let line = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    line.map(|name| name.trim_matches('"').to_owned()).ok_or_else(|| Error::Missing {
        what: "VERSION_CODENAME in /etc/os-release".into(),
        needed_for: "the tests run on Debian".into(),
    })
}

/// One-line sources for the release's main component, its updates, its security updates and its backports.
fn derive_sources(targets: &str, codename: &str) -> String {
    let mut lines = BTreeSet::new();
    for line in targets.lines() {
        let &[uri, release, "main"] = line.split('|').collect::<Vec<_>>().as_slice() else { continue };
        let own = release == codename;
        if own || release.strip_prefix(codename).is_some_and(|rest| matches!(rest, "-updates" | "-security"))
        {
            lines.insert(source_line(uri, release));
        }
        if own {
            lines.insert(source_line(uri, &format!("{codename}-backports")));
        }
    }
    lines.into_iter().collect()
}

fn source_line(uri: &str, suite: &str) -> String {
    format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {uri} {suite} main\n")
}

/// Reads the `Inst name [old] (version origin …)` lines of a simulated installation.
fn parse_simulation(text: &str) -> Vec<String> {
    let mut packages: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
            let version = rest.split_once('(')?.1.split(' ').next()?;
            let base = BASE.iter().any(|base| name.starts_with(base)) || name.ends_with("-dev");
            (!base).then(|| format!("{name}={version}"))
        })
        .collect();
    packages.sort();
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backports_are_derived_from_the_release_and_from_nothing_else() {
        let targets = "http://mirror.example/debian/|bookworm|main\n\
                       http://mirror.example/debian/|bookworm|contrib\n\
                       http://mirror.example/debian/|bookworm-updates|main\n\
                       http://mirror.example/debian-security/|bookworm-security|main\n\
                       http://vendor.example/apt/|tool-bookworm|main\n";
        let sources = derive_sources(targets, "bookworm");
        let suites: Vec<&str> = sources.lines().filter_map(|line| line.split(' ').nth(3)).collect();
        assert_eq!(suites, ["bookworm-security", "bookworm", "bookworm-backports", "bookworm-updates"]);
        assert!(!sources.contains("vendor"));
    }

    #[test]
    fn a_simulated_installation_is_read_and_the_base_system_is_left_alone() {
        let text = "Reading package lists...\n\
                    Inst libpopt0 (1.19+dfsg-1 Debian:12.15/oldstable [amd64])\n\
                    Inst libsystemd0 [252] (254 Debian Backports:oldstable-backports [amd64]) []\n\
                    Inst qemu-system-x86 [1:7.2] (1:10.0.2 Debian Backports:oldstable-backports [amd64]) []\n\
                    Conf libpopt0 (1.19+dfsg-1 Debian:12.15/oldstable [amd64])\n";
        assert_eq!(parse_simulation(text), ["libpopt0=1.19+dfsg-1", "qemu-system-x86=1:10.0.2"]);
    }
}
