//! Another kernel, for what the machine's own lacks: User-Mode Linux, which boots in two seconds as an ordinary process.
//!
//! ```text
//! test ── starts ──> linux.uml   its / is the machine's own, only read, with the unpacked packages and a folder in
//!                      │         memory laid over it: whatever is written there is gone when it ends
//!                      └── init ──> the same test again, alone, as root; it finds itself inside and goes on
//! ```
//!
//! A test that needs it begins by asking [`is_inside`]; outside it hands itself to [`Uml::run`]. It is a kernel with one
//! CPU, loadable file systems, namespaces and a loopback of its own, so that [`crate::lab`] works there too, with QEMU's TCG.
//! Nothing is mounted, loaded or listened to on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cache::Cache;
use crate::packages::{Suite, unpack};
use crate::tree::{Launch, Tree};
use crate::{Error, Result, programs};

/// The kernel, what loads its modules, and whatever makes and serves the file systems of the tests.
const PACKAGES: [&str; 13] = [
    "user-mode-linux",
    "kmod",
    "nfs-kernel-server",
    "samba",
    "e2fsprogs",
    "gfs2-utils",
    "ocfs2-tools",
    "xfsprogs",
    "btrfs-progs",
    "bindfs",
    "sshfs",
    "openssh-sftp-server",
    "glusterfs-client",
];

/// Set for everything that runs inside.
const INSIDE: &str = "FERRY_TEST_IN_UML";

/// Memory of the other kernel, MiB. What it does not touch costs nothing.
const MEMORY_MIB: u32 = 1536;

/// What the last line of the console begins with; the test's exit status follows.
const ENDED: &str = "ferry-uml: the test ended with ";

/// Whether this process runs inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// The kernel and the packages.
#[derive(Clone, Debug)]
pub struct Uml {
    cache: Cache,
    /// Empty folder when the machine has all of it installed.
    unpacked: PathBuf,
}

impl Uml {
    /// Gets the packages when they are not there.
    ///
    /// # Errors
    /// What [`unpack`] gives.
    pub fn ready(cache: &Cache) -> Result<Self> {
        let unpacked = unpack(cache, &PACKAGES, Suite::Own)?.root;
        Ok(Self { cache: cache.clone(), unpacked })
    }

    /// Runs test `name` of this very program inside, and gives the console's text. The programs under test are those of
    /// this build.
    ///
    /// # Errors
    /// [`Error::Unexpected`] with the end of the console when the test fails or the kernel dies, [`Error::Late`] when all of
    /// it is not over within `limit`.
    pub fn run(&self, name: &str, limit: Duration) -> Result<String> {
        let folder = tempfile::Builder::new().prefix("ferry-uml").tempdir();
        let folder = folder.map_err(Error::io("a folder for the kernel's files"))?;
        let (init, console) = (folder.path().join("init"), folder.path().join("console"));
        let script = self.init(name)?;
        fs::write(&init, script).map_err(Error::io(format!("writing {init:?}")))?;
        let kernel = Launch::new(self.path("usr/bin/linux.uml")).args([
            &format!("mem={MEMORY_MIB}M"),
            &format!("uml_dir={}", folder.path().display()),
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            "con=null",
            "con0=null,fd:1",
            "ssl=null",
            "loglevel=1",
            "panic=1",
            "init=/bin/sh",
            "--",
            &init.display().to_string(),
        ]);
        let kernel =
            if rustix::process::geteuid().is_root() { kernel.inside(memory_of_its_own()) } else { kernel };
        let mut tree = Tree::start(&kernel, &console)?;
        let ended = tree.wait_end(limit);
        let told = fs::read_to_string(&console).unwrap_or_default();
        tree.end()?;
        let ended = ended.map_err(|late| failed(name, &late.to_string(), &told))?;
        match told.lines().rev().find_map(|line| line.trim_end().strip_prefix(ENDED)) {
            Some("0") => Ok(told),
            Some(status) => Err(failed(name, &format!("exit code {status}"), &told)),
            None => Err(failed(name, &format!("the kernel ended with {ended}"), &told)),
        }
    }

    /// Where `file` of the packages lies.
    fn path(&self, file: &str) -> PathBuf {
        let unpacked = self.unpacked.join(file);
        if unpacked.exists() { unpacked } else { Path::new("/").join(file) }
    }

    /// What the kernel runs as its first process: makes the root, runs the test, turns itself off.
    fn init(&self, name: &str) -> Result<String> {
        let modules = self.path("usr/lib/uml/modules");
        let own = std::env::current_exe().map_err(Error::io("where this program lies"))?;
        let daemon = programs::ferryd()?;
        programs::ferry()?;
        let holder = programs::program("ferry-testkit", "ferry-hold")?;
        let programs = daemon.parent().unwrap_or(Path::new("/"));
        if holder.parent() != Some(programs) {
            return Err(Error::Missing {
                what: format!("{holder:?} beside {daemon:?}"),
                needed_for: "one folder of programs for the other kernel".into(),
            });
        }
        let text = |path: &Path| path.display().to_string();
        Ok(INIT
            .replace("@MODULES@", &text(&modules))
            .replace("@KMOD@", &text(&self.path("usr/bin/kmod")))
            .replace("@PACKAGES@", &text(&self.unpacked))
            .replace("@CACHE@", &text(self.cache.root()))
            .replace("@PROGRAMS@", &text(programs))
            .replace("@INSIDE@", INSIDE)
            .replace("@TEST@", &text(&own))
            .replace("@NAME@", name)
            .replace("@ENDED@", ENDED))
    }
}

/// The other kernel's memory is a file in `/dev/shm`, which in a container is small.
fn memory_of_its_own() -> [String; 8] {
    let mount = format!("mount -t tmpfs -o size={}m ferry-uml /dev/shm && exec \"$@\"", 2 * MEMORY_MIB);
    ["unshare", "--mount", "--propagation", "private", "sh", "-c", &mount, "sh"].map(str::to_owned)
}

fn failed(name: &str, how: &str, console: &str) -> Error {
    let lines: Vec<&str> = console.lines().collect();
    let tail = lines[lines.len().saturating_sub(150)..].join("\n");
    Error::Unexpected { what: format!("{name} in User-Mode Linux"), detail: format!("{how}\n{tail}") }
}

/// The first process. Paths are the machine's until the roots are swapped, and the same after that.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# Whatever fails ends this script, and with it the kernel.
set -e
mount -t proc proc /proc
mount -t tmpfs -o mode=755 run /run
mkdir /run/packages /run/upper /run/work /run/root
# Mounted once more, since no layer may lie within another.
mount -t hostfs -o '@PACKAGES@' packages /run/packages
ln -s '@KMOD@' /run/insmod
for module in '@MODULES@'/*/kernel/fs/overlayfs/overlay.ko; do /run/insmod "$module"; done
mount -t overlay -o 'lowerdir=/run/packages:/,upperdir=/run/upper,workdir=/run/work' root /run/root
cd /run/root
mkdir -p old proc sys dev run usr/lib
[ -e usr/lib/modules ] || ln -s uml/modules usr/lib/modules
pivot_root . old
cd /
umount -l /old
mount -t proc proc /proc
mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o ptmxmode=666 pts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
ip link set lo up
set +e
export HOME=/root RUST_BACKTRACE=1 @INSIDE@=1 FERRY_TEST_CACHE='@CACHE@' FERRY_BIN_DIR='@PROGRAMS@'
'@TEST@' --exact '@NAME@' --nocapture --test-threads=1 2>&1
status=$?
[ $status = 0 ] || dmesg | tail -n 40
echo
echo "@ENDED@$status"
echo o > /proc/sysrq-trigger
sleep 60
"#;
