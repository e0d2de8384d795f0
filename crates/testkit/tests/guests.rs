//! The guests themselves, in bare QEMUs: they boot, beat, find their memory and disk whole, and survive a migration by raw
//! QMP, which is the floor that managers are measured against.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ferry_testkit::cache::Cache;
use ferry_testkit::floor::{self, Bare, Options};
use ferry_testkit::guest::{LinuxImage, Work};
use ferry_testkit::serial::Serial;
use ferry_testkit::tools::{EMULATOR, Tools};

const BOOT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);

fn bare(folder: &Path, linux: Option<(LinuxImage, Work)>) -> Bare {
    Bare {
        emulator: emulator(),
        machine: "q35".into(),
        memory_mib: if linux.is_some() { 256 } else { 32 },
        disk: linux.is_some().then(|| empty_disk(folder)),
        linux,
        log: folder.join("serial.log"),
        folder: folder.to_path_buf(),
    }
}

fn emulator() -> PathBuf {
    let tools = Cache::open().and_then(|cache| Tools::distribution(&cache)).expect("the distribution's QEMU");
    tools.emulator().map_or_else(|| tools.path(EMULATOR), Path::to_path_buf)
}

fn empty_disk(folder: &Path) -> PathBuf {
    let disk = folder.join("disk.img");
    let made = File::create(&disk).and_then(|file| file.set_len(16 << 20));
    made.map(|()| disk).expect("an empty disk")
}

#[test]
fn the_boot_sector_beats_and_migrates_whole() {
    let folder = tempfile::tempdir().unwrap();
    let bare = bare(folder.path(), None);
    let serial = Serial::follow([("here", &bare.log)]).unwrap();
    let guest = bare.start(None).unwrap();
    serial.wait_beats(200, SOON).unwrap();

    let (guest, timings) = floor::migrate(&bare, guest, None, Options::default()).unwrap();
    serial.wait_beats(200, SOON).unwrap();
    serial.verdict().whole().unwrap();
    assert!(timings.qemu_total <= timings.wall, "{timings:?}");
    assert!(serial.verdict().longest_pause() < Duration::from_secs(10));
    drop(guest);
    serial.wait_silence(Duration::from_millis(200), SOON).unwrap();
}

#[test]
fn the_linux_guest_works_under_load_and_migrates_whole() {
    let cache = Cache::open().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let work = Work { memory_rate: 8, ..Work::default() };
    let bare = bare(folder.path(), Some((LinuxImage::ready(&cache).unwrap(), work)));
    let serial = Serial::follow([("here", &bare.log)]).unwrap();
    let guest = bare.start(None).unwrap();
    serial.wait_ready(BOOT).unwrap();

    let mut port = UnixStream::connect(guest.command_port()).unwrap();
    serial.ask(&mut port, "rate 20", SOON).unwrap();
    serial.wait_beats(500, SOON).unwrap();
    let before = serial.ask(&mut port, "check", SOON).unwrap();
    assert_eq!(before["pages"], "4096");
    assert!(before["blocks"].parse::<u32>().unwrap() > 0, "{before:?}");

    let (guest, timings) =
        floor::migrate(&bare, guest, None, Options { streams: 2, ..Options::default() }).unwrap();
    serial.wait_beats(300, SOON).unwrap();
    let mut port = UnixStream::connect(guest.command_port()).unwrap();
    let after = serial.ask(&mut port, "check", SOON).unwrap();
    assert_eq!((after["damaged"].as_str(), after["pages"].as_str()), ("0", "4096"));
    let stat = serial.ask(&mut port, "stat", SOON).unwrap();
    assert!(stat["dirtied"].parse::<u64>().unwrap() > 5000, "{stat:?}");
    serial.verdict().whole().unwrap();
    assert!(timings.own_cost() < timings.wall, "{timings:?}");

    let mut guest = guest;
    guest.qmp.execute("system_powerdown", serde_json::json!({})).unwrap();
    let end = guest.tree().wait_end(SOON).unwrap();
    assert_eq!(end, "exit code 0");
}
