//! The installed QEMU takes every fixture's command line: it is started paused, asked over QMP how it is,
//! and told to quit. Passed by where no QEMU is installed. `FERRY_TEST_QEMU` names another binary.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ferry_domxml::Domain;
use ferry_domxml::chardev::{Backend, ChardevSource, Log};
use ferry_domxml::display::{Graphics, Listen};
use ferry_domxml::filesystem::{FileSystemServer, FileSystemSource};
use ferry_domxml::firmware::LoaderType;
use ferry_domxml::interface::Network;
use ferry_domxml::storage::{BackingStore, ImageFormat, Location, Source};
use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::{Launch, command_line};

use super::common::{absent_among, capabilities, defined, launch, memory_folders, started};
use super::fixtures::{input, names};
use super::{corpus, corpus_lines};

const INSTALLED: &str = "/usr/bin/qemu-system-x86_64";
const QEMU_IMG: &str = "/usr/bin/qemu-img";
const DEADLINE: Duration = Duration::from_secs(60);

/// The QEMU that is installed, and what such a one has.
fn installed() -> Option<(String, Capabilities)> {
    let qemu = std::env::var("FERRY_TEST_QEMU").unwrap_or_else(|_| INSTALLED.to_owned());
    if !Path::new(&qemu).exists() || !Path::new(QEMU_IMG).exists() {
        eprintln!("no QEMU is installed: passed by");
        return None;
    }
    let version = Command::new(&qemu).arg("--version").output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let known = ["7.2", "10.0"].into_iter().find(|known| version.contains(&format!("version {known}.")));
    let Some(known) = known else {
        eprintln!("no captured capabilities of {version}: passed by");
        return None;
    };
    Some((qemu, capabilities(known)))
}

/// Starts a definition, paused, and ends it. Gives how it stood, and the names of the devices that QEMU has.
fn begin(
    mut domain: Domain,
    qemu: &str,
    capabilities: &Capabilities,
    incoming: bool,
) -> (Domain, Result<Standing, String>) {
    let folder = tempfile::tempdir().unwrap();
    domain.devices.emulator = Some(qemu.to_owned());
    settle_in(&mut domain, folder.path());
    let mut live = started(&domain, capabilities);
    move_ends(&mut live, folder.path());
    let memory = memory_folders(folder.path().to_str().unwrap());
    let launch = Launch { incoming, memory, chardevs: Default::default(), ..launch(&live) };
    let line = command_line(&live, capabilities, &launch).unwrap();
    let monitor = folder.path().join("qmp");
    let argv = line.argv.iter().map(|word| {
        word.replace("id=charmonitor,fd=3,", &format!("id=charmonitor,path={},", monitor.display()))
    });
    let argv: Vec<String> = argv.collect();
    let standing = run(&argv, &monitor);
    (live, standing)
}

/// Each of the 200 whole definitions is started, and QEMU's own tree of devices has every device of it.
///
/// Left to `./dev proof`, and to whoever tries another QEMU: among all tests a daemon starts the same definitions, and is asked more.
#[test]
#[ignore = "the end-to-end test `corpus` starts the same definitions"]
fn corpus_starts_with_every_device_in_the_tree_of_the_installed_qemu() {
    let Some((qemu, capabilities)) = installed() else { return };
    let definitions = corpus::all();
    let wrong_with = |definition: &corpus::Definition| {
        let mut domain = defined(&definition.xml, &capabilities);
        corpus_lines::choose_firmware(&mut domain);
        // A TPM needs its program beside QEMU, which the daemon starts.
        domain.devices.tpms.clear();
        let (live, standing) = begin(domain, &qemu, &capabilities, false);
        match standing {
            Err(words) => Some(format!("{}: {words}", definition.name)),
            Ok(standing) => {
                let absent = absent_among(&live, &standing.devices);
                let is_right = standing.status == "prelaunch" && absent.is_empty();
                (!is_right)
                    .then(|| format!("{}: {}, QEMU has no {absent:?}", definition.name, standing.status))
            }
        }
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let halves = definitions.chunks(definitions.len() / 2);
        let begun: Vec<_> = halves
            .map(|half| scope.spawn(|| half.iter().filter_map(wrong_with).collect::<Vec<_>>()))
            .collect();
        begun.into_iter().flat_map(|begun| begun.join().unwrap()).collect()
    });
    println!(
        "{} of {} whole definitions start with {qemu}, every device in its tree",
        definitions.len() - wrong.len(),
        definitions.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_installed_qemu_takes_every_fixture() {
    let Some((qemu, capabilities)) = installed() else { return };
    for name in names() {
        if input(&name).contains("<vsock") && !Path::new("/dev/vhost-vsock").exists() {
            eprintln!("{name}: this host has no vsock, passed by");
            continue;
        }
        if ["type='network'", "<encryption"].iter().any(|part| input(&name).contains(part)) {
            eprintln!("{name}: needs servers, or values that the daemon encrypts; passed by");
            continue;
        }
        if input(&name).contains("<tpm") {
            eprintln!("{name}: a TPM needs its program beside QEMU, which the daemon starts: passed by");
            continue;
        }
        for incoming in [false, true] {
            let domain = defined(&input(&name), &capabilities);
            let (_, standing) = begin(domain, &qemu, &capabilities, incoming);
            let status = standing.unwrap_or_else(|words| panic!("{name}: {words}")).status;
            assert_eq!(status, if incoming { "inmigrate" } else { "prelaunch" }, "{name}");
        }
    }
}

/// What a QEMU that was just started says of itself.
struct Standing {
    status: String,
    devices: Vec<String>,
}

/// Images in the folder, and no back end that needs the host's network.
fn settle_in(domain: &mut Domain, folder: &Path) {
    for disk in &mut domain.devices.disks {
        let format = disk.format();
        image(&mut disk.source, format, folder);
        let mut below = disk.backing_store.as_mut();
        while let Some(BackingStore::Image(backing)) = below {
            image(&mut backing.source, backing.format.unwrap_or(ImageFormat::Raw), folder);
            below = backing.backing_store.as_mut();
        }
    }
    // A server of its own is not started here.
    domain.devices.filesystems.retain(|one| one.served_by() == FileSystemServer::Path);
    for file_system in &mut domain.devices.filesystems {
        let dir = Some(folder.to_str().unwrap().to_owned());
        file_system.source = Some(FileSystemSource { dir, ..FileSystemSource::default() });
    }
    firmware(domain, folder);
    for memory in &mut domain.devices.memories {
        let size = memory.target.size.kib * 1024;
        let Some(path) = memory.source.as_mut().and_then(|source| source.path.as_mut()) else { continue };
        let file = folder.join(path.trim_start_matches("/images/"));
        std::fs::File::create(&file).unwrap().set_len(size).unwrap();
        *path = file.to_str().unwrap().to_owned();
    }
    // Pages of any size do as well to try the words.
    for pages in ["ram", "2M", "1G"] {
        std::fs::create_dir(folder.join(pages)).unwrap();
    }
    if let Some(pstore) = &mut domain.devices.pstore {
        pstore.path = Some(folder.join("pstore").to_str().unwrap().to_owned());
    }
    for card in &mut domain.devices.interfaces {
        card.source.network = Network::User;
    }
}

/// Flash chips of sizes that QEMU takes, with nothing in them; a program in a ROM is the distribution's.
fn firmware(domain: &mut Domain, folder: &Path) {
    const CHIP_BYTES: u64 = 1 << 20;
    let chip = |name: &str| {
        let path = folder.join(name);
        std::fs::File::create(&path).unwrap().set_len(CHIP_BYTES).unwrap();
        Some(path.to_str().unwrap().to_owned())
    };
    if domain.os.loader_type() == Some(LoaderType::Pflash) {
        domain.os.loader.as_mut().unwrap().path = chip("code.fd");
        domain.os.nvram.as_mut().unwrap().path = chip("vars.fd");
    }
}

fn image(source: &mut Source, format: ImageFormat, folder: &Path) {
    let Some(path) = source.path() else { return };
    let path = folder.join(path.rsplit('/').next().unwrap()).to_str().unwrap().to_owned();
    // As much as the largest floppy has, unless a part of it is a disk.
    let size = if source.slices.is_some() { "8M" } else { "1440k" };
    let made =
        Command::new(QEMU_IMG).args(["create", "-q", "-f", format.as_str(), &path, size]).status().unwrap();
    assert!(made.success());
    source.location = Location::File(Some(path));
}

/// Sockets and logs in the folder, a VNC port that is free.
fn move_ends(live: &mut Domain, folder: &Path) {
    let inside = |path: &mut String| {
        let file = path.rsplit('/').next().unwrap().to_owned();
        *path = folder.join(file).to_str().unwrap().to_owned();
    };
    let end = |source: &mut ChardevSource, log: &mut Option<Log>| {
        match &mut source.backend {
            Backend::File { path, .. } | Backend::Unix { path: Some(path), .. } => inside(path),
            _ => {}
        }
        if let Some(log) = log {
            inside(&mut log.file);
        }
    };
    live.devices.serials.iter_mut().for_each(|device| end(&mut device.source, &mut device.log));
    live.devices.channels.iter_mut().for_each(|device| end(&mut device.source, &mut device.log));
    live.devices.redirdevs.iter_mut().for_each(|device| end(&mut device.source, &mut None));
    for Graphics::Vnc(vnc) in &mut live.devices.graphics {
        for listen in &mut vnc.listens {
            if let Listen::Socket(Some(path)) = listen {
                inside(path);
            }
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        vnc.port = Some(free.into());
    }
}

/// Starts QEMU, asks for its state, ends it. `Err` has its last words.
fn run(argv: &[String], monitor: &Path) -> Result<Standing, String> {
    let mut qemu = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = status(&mut qemu, monitor);
    if status.is_none() {
        let _ = qemu.kill();
    }
    let output = qemu.wait_with_output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    match status {
        Some(status) if output.status.success() => Ok(status),
        _ => Err(format!("{words}\n{}", argv.join("\n"))),
    }
}

fn status(qemu: &mut Child, monitor: &Path) -> Option<Standing> {
    let begin = Instant::now();
    let stream = loop {
        match UnixStream::connect(monitor) {
            Ok(stream) => break stream,
            Err(_) if qemu.try_wait().unwrap().is_some() || begin.elapsed() > DEADLINE => return None,
            Err(_) => std::thread::yield_now(),
        }
    };
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = |command: &str| {
        writeln!(&stream, "{{\"execute\":{command}}}").ok()?;
        loop {
            let reply: serde_json::Value = serde_json::from_str(&replies.next()?.ok()?).ok()?;
            if let Some(answer) = reply.get("return") {
                return Some(answer.clone());
            }
        }
    };
    ask(r#""qmp_capabilities""#)?;
    let status = ask(r#""query-status""#)?["status"].as_str()?.to_owned();
    let mut devices = Vec::new();
    // Those that have a name, and the kinds of those that have none.
    for (path, key) in [("/machine/peripheral", "name"), ("/machine/peripheral-anon", "type")] {
        let found = ask(&format!(r#""qom-list","arguments":{{"path":"{path}"}}"#))?;
        let entries = found.as_array()?.iter().filter_map(|entry| entry[key].as_str());
        devices
            .extend(entries.map(|entry| entry.trim_start_matches("child<").trim_end_matches('>').to_owned()));
    }
    ask(r#""quit""#)?;
    Some(Standing { status, devices })
}
