//! Servers of shared folders that are programs of their own (virtiofs): one for each folder, started before its QEMU.
//!
//! ```text
//!   socket in the run folder ── listening descriptor ──▶ server ◀── QEMU connects, once
//! ```
//!
//! A server lives as long as its one connection: it ends with the guest, and lives on when the daemon does not. Until
//! QEMU has connected it would wait for ever, and so whoever makes a launch that fails ends it. Called by
//! [`super::launch`].

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ferry_domxml::filesystem::{FileSystem, FileSystemBinary, FileSystemServer};
use ferry_domxml::{Domain, OnOff};
use serde::Deserialize;

use super::ownership::Account;
use super::rundir::RunDir;
use crate::process::Process;
use crate::sys;

/// Where packages describe the servers that they bring; a file of the same name further down replaces it.
const FOLDERS: [&str; 2] = ["/usr/share/qemu/vhost-user", "/etc/qemu/vhost-user"];

/// Servers that nobody is connected to yet.
#[derive(Debug, Default)]
pub(crate) struct Servers(Vec<(Child, Process)>);

impl Servers {
    /// QEMU has them. They are seen off when they end.
    pub(crate) fn leave(self) {
        for (mut child, process) in self.0 {
            tokio::spawn(async move {
                process.exited().await;
                let _ = child.wait();
            });
        }
    }

    /// Nobody will connect.
    pub(crate) fn end(self) {
        for (mut child, process) in self.0 {
            process.kill();
            let _ = child.wait();
        }
    }
}

/// Starts the servers of a domain whose devices have names. Tells the socket of each by its folder's alias. May block.
///
/// # Errors
/// One of them cannot be started; none runs then.
pub(crate) fn start(
    domain: &Domain,
    run_dir: &RunDir,
    account: &Account,
    logs: &Path,
) -> Result<(Servers, BTreeMap<String, String>), String> {
    let (mut servers, mut sockets) = (Servers::default(), BTreeMap::new());
    for folder in &domain.devices.filesystems {
        let source = folder.source.as_ref().and_then(|source| source.dir.as_deref());
        let (FileSystemServer::Virtiofs, Some(source)) = (folder.served_by(), source) else { continue };
        let alias = folder.info.alias.clone().unwrap_or_default();
        let socket = run_dir.channel(&format!("{alias}-fs.sock"));
        let log = logs.join(format!("{}-{alias}-virtiofsd.log", domain.name));
        let started = program(folder).and_then(|program| {
            one(&program, folder, source, &socket, account, &log)
                .map_err(|error| format!("cannot execute {}: {error}", program.display()))
        });
        match started {
            Ok(server) => servers.0.push(server),
            Err(text) => {
                servers.end();
                return Err(format!("unable to serve '{source}': {text}"));
            }
        }
        sockets.insert(alias, socket.to_string_lossy().into_owned());
    }
    Ok((servers, sockets))
}

fn one(
    program: &Path,
    folder: &FileSystem,
    source: &str,
    socket: &Path,
    account: &Account,
    log: &Path,
) -> io::Result<(Child, Process)> {
    // A folder that is not there would only be found missing when QEMU has connected.
    if !fs::metadata(source)?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{source} is no folder")));
    }
    let listener = OwnedFd::from(RunDir::listen(socket, account)?);
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(program);
    command.arg(format!("--fd={}", listener.as_raw_fd())).args(arguments(folder, source));
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    let mut child = sys::spawn_session(command, &[listener])?;
    match Process::of_child(&child) {
        Ok(process) => Ok((child, process)),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// What a server is told, in the words that both of its generations know.
fn arguments(folder: &FileSystem, source: &str) -> Vec<String> {
    let none = FileSystemBinary::default();
    let binary = folder.binary.as_ref().unwrap_or(&none);
    // The only escape that its list of options has.
    let mut options = format!("source={}", source.replace(',', "\\,"));
    let mut add = |option: String| {
        options.push(',');
        options.push_str(&option);
    };
    binary.cache.iter().for_each(|cache| add(format!("cache={cache}")));
    binary.sandbox.iter().for_each(|sandbox| add(format!("sandbox={sandbox}")));
    let switch = |name: &str, on: Option<OnOff>| match on {
        Some(OnOff::On) => Some(name.to_owned()),
        Some(OnOff::Off) => Some(format!("no_{name}")),
        None => None,
    };
    let lock = binary.lock.as_ref();
    let switches = [
        switch("xattr", binary.xattr),
        switch("flock", lock.and_then(|lock| lock.flock)),
        switch("posix_lock", lock.and_then(|lock| lock.posix)),
    ];
    switches.into_iter().flatten().for_each(add);
    let mut arguments = vec!["-o".to_owned(), options];
    arguments.extend(binary.thread_pool.map(|threads| format!("--thread-pool-size={threads}")));
    arguments
}

#[derive(Deserialize)]
struct Description {
    #[serde(rename = "type")]
    kind: String,
    binary: PathBuf,
}

/// The program that serves a folder: the definition's, or the first that a package describes.
fn program(folder: &FileSystem) -> Result<PathBuf, String> {
    if let Some(path) = folder.binary.as_ref().and_then(|binary| binary.path.as_deref()) {
        return Ok(PathBuf::from(path));
    }
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in FOLDERS {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if let Ok(name) = entry.file_name().into_string()
                && name.ends_with(".json")
            {
                files.insert(name, entry.path());
            }
        }
    }
    let described = files.values().filter_map(|path| {
        let description: Description = serde_json::from_str(&fs::read_to_string(path).ok()?).ok()?;
        Some(description).filter(|description| description.kind == "fs")
    });
    let mut programs = described.map(|description| description.binary);
    programs.next().ok_or_else(|| {
        "no server for virtiofs is installed (none is described in /usr/share/qemu/vhost-user)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(inner: &str) -> FileSystem {
        let xml = format!(
            "<domain type='qemu'><name>a</name><memory>65536</memory><memoryBacking><source type='memfd'/>\
             <access mode='shared'/></memoryBacking><os><type>hvm</type></os><devices><filesystem type='mount'>\
             <driver type='virtiofs'/>{inner}<source dir='/a,b'/><target dir='t'/></filesystem></devices></domain>"
        );
        Domain::parse(&xml).unwrap().devices.filesystems.remove(0)
    }

    #[test]
    fn a_server_is_told_what_the_definition_says() {
        assert_eq!(arguments(&folder(""), "/a"), ["-o", "source=/a"]);
        let all = folder(
            "<binary path='/x' xattr='on'><cache mode='always'/><sandbox mode='chroot'/>\
             <lock posix='off' flock='on'/><thread_pool size='16'/></binary>",
        );
        assert_eq!(
            arguments(&all, "/a,b"),
            [
                "-o",
                "source=/a\\,b,cache=always,sandbox=chroot,xattr,flock,no_posix_lock",
                "--thread-pool-size=16"
            ]
        );
        assert_eq!(program(&all).unwrap(), Path::new("/x"));
    }
}
