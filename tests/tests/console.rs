//! `virsh console`: a terminal of one's own to the guest's first serial port.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};

use ferry_testkit::boot_sector;
use ferry_testkit::deadline::{wait_for, wait_until};
use ferry_testkit::guest::{Boot, Domain, Port};
use ferry_tests::{Pair, SOON};

/// What virsh's user types to leave.
const LEAVE: &str = "\u{1d}";

/// virsh on a terminal of its own. Dropping it hangs up.
struct Console {
    script: Child,
    shown: PathBuf,
}

impl Console {
    fn open(pair: &Pair, name: &str, flag: &str) -> Self {
        let shown = pair.lab().shared().join(format!("{name}.console"));
        let virsh = pair.host(0).tool("virsh");
        let command =
            format!("env LC_ALL=C '{}' -c '{}' console vm {flag}", virsh.display(), pair.daemon(0).uri());
        let script = pair
            .host(0)
            .command("script")
            .args(["-qefc", &command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(File::create(&shown).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { script, shown }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.shown).unwrap()).into_owned()
    }

    fn until(&self, part: &str) {
        let shown = wait_until(part, SOON, || self.text().contains(part));
        assert!(shown.is_ok(), "{part:?} is not in {}", self.text());
    }

    fn say(&mut self, words: &str) {
        self.script.stdin.as_mut().unwrap().write_all(words.as_bytes()).unwrap();
    }

    /// Leaves as a person does: virsh wants the key by itself, so it is pressed until that is so.
    fn leave(&mut self) -> ExitStatus {
        wait_for("the end of the console", SOON, || {
            // A console that has just ended takes no more keys.
            let _ = self.script.stdin.as_mut().unwrap().write_all(LEAVE.as_bytes());
            self.script.try_wait().unwrap()
        })
        .unwrap()
    }

    fn end(&mut self) -> ExitStatus {
        wait_for("the end of the console", SOON, || self.script.try_wait().unwrap()).unwrap()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// A guest that gives back what it is told on its console.
fn echoing() -> Pair {
    let pair = Pair::new(&Pair::distribution()).unwrap();
    let image = pair.lab().shared().join("vm.img");
    std::fs::write(&image, boot_sector::echo_image()).unwrap();
    let log = pair.lab().shared().join("vm.log");
    let domain = Domain::new("vm", Boot::Disk, Port::Terminal { log }).disk(image, "raw");
    pair.start("vm", domain).unwrap();
    pair
}

/// Says `word` until the guest has given it back: at first it may not listen yet.
fn talk(console: &mut Console, word: &str) {
    let heard = wait_until("the guest's word", SOON, || {
        console.say(word);
        console.text().contains(&word.to_uppercase())
    });
    assert!(heard.is_ok(), "{word:?}: {}", console.text());
}

#[test]
fn what_is_typed_comes_back_until_the_user_leaves() {
    let pair = echoing();
    let mut console = Console::open(&pair, "first", "");
    console.until("Escape character is ^]");
    talk(&mut console, "ferry");
    assert!(console.leave().success(), "{}", console.text());
    // It is free for the next.
    let mut console = Console::open(&pair, "second", "--safe");
    talk(&mut console, "again");
}

#[test]
fn a_second_user_is_refused_unless_by_force() {
    let pair = echoing();
    let mut first = Console::open(&pair, "first", "");
    talk(&mut first, "ferry");
    let mut second = Console::open(&pair, "second", "");
    assert!(!second.end().success());
    second.until("Active console session exists for this domain");
    talk(&mut first, "still");

    let mut third = Console::open(&pair, "third", "--force");
    talk(&mut third, "mine");
    first.end();
    talk(&mut third, "alone");
}

#[test]
fn a_console_ends_with_its_guest_and_comes_with_no_other() {
    let pair = echoing();
    let mut console = Console::open(&pair, "first", "");
    talk(&mut console, "ferry");
    pair.virsh(0).ok(["destroy", "vm"]).unwrap();
    console.end();
    let mut late = Console::open(&pair, "late", "");
    assert!(!late.end().success());
    late.until("The domain is not running");

    // The terminal is named in the live definition.
    pair.virsh(0).ok(["start", "vm"]).unwrap();
    let terminal = pair.virsh(0).ok(["ttyconsole", "vm"]).unwrap();
    assert!(terminal.starts_with("/dev/pts/"), "{terminal}");
}
