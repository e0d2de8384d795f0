//! The storage checks on real file systems, in another kernel ([`ferry_testkit::uml`]) that has them all: what a host says of
//! a disk on each, and whole migrations over those that two hosts can share.
//!
//! One boot for everything, since the boot and the mounts are what costs. Each step prints when it is done.

#![expect(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use ferry_testkit::boot_sector;
use ferry_testkit::cache::Cache;
use ferry_testkit::command::{Output, run};
use ferry_testkit::deadline::wait_until;
use ferry_testkit::ferryd::Options;
use ferry_testkit::guest::{Boot, Domain, Port};
use ferry_testkit::serial::Serial;
use ferry_testkit::uml::{self, Uml};
use ferry_tests::aftermath::Asking as _;
use ferry_tests::{Pair, SOON};
use serde_json::Value;

/// Long enough for a very busy machine; an idle one needs about a tenth of it.
const LIMIT: Duration = Duration::from_secs(600);

/// How long one of the scripts below may take.
const SCRIPT_LIMIT: Duration = Duration::from_secs(60);

/// What a host must say of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Only this host sees it.
    Local,
    /// Others see it, once caches are written back and dropped.
    Shared,
    /// All caches are coherent.
    Clustered,
}
use Verdict::{Clustered, Local, Shared};

/// Every file system that can be had: its folder below `/mnt`, its type in mountinfo, what it is, and how it is made.
/// `device NAME SIZE` gives a block device of its own.
const PLACES: [(&str, &str, Verdict, &str); 17] = [
    ("ext4", "ext4", Local, "d=$(device ext4 16M); mkfs.ext4 -q $d; mount $d /mnt/ext4"),
    ("xfs", "xfs", Local, "d=$(device xfs 320M); mkfs.xfs -q $d; mount $d /mnt/xfs"),
    ("btrfs", "btrfs", Local, "d=$(device btrfs 120M); mkfs.btrfs -q $d; mount $d /mnt/btrfs"),
    ("tmpfs", "tmpfs", Local, "mount -t tmpfs tmpfs /mnt/tmpfs"),
    (
        "overlay",
        "overlay",
        Local,
        "mkdir /mnt/tmpfs/upper /mnt/tmpfs/work; echo lower > /mnt/ext4/lower.img
         mount -t overlay -o lowerdir=/mnt/ext4,upperdir=/mnt/tmpfs/upper,workdir=/mnt/tmpfs/work o /mnt/overlay",
    ),
    ("hostfs", "hostfs", Local, "mount -t hostfs -o /usr hostfs /mnt/hostfs"),
    ("bindfs", "fuse", Local, "bindfs /mnt/tmpfs /mnt/bindfs"),
    (
        "gfs2",
        "gfs2",
        Clustered,
        "d=$(device gfs2 64M); mkfs.gfs2 -q -O -p lock_nolock -j 1 -J 8 $d; mount -t gfs2 $d /mnt/gfs2",
    ),
    (
        "ocfs2",
        "ocfs2",
        Clustered,
        "d=$(device ocfs2 64M); mkfs.ocfs2 -q -F -M local -N 1 -T mail -J size=4M $d; mount -t ocfs2 $d /mnt/ocfs2",
    ),
    (
        "glusterfs",
        "fuse.glusterfs",
        Clustered,
        "mkdir /mnt/ext4/brick
         printf 'volume brick\\ntype storage/posix\\noption directory /mnt/ext4/brick\\nend-volume\\n' > /run/volume
         glusterfs -f /run/volume -l /run/glusterfs.log /mnt/glusterfs",
    ),
    ("nfs3", "nfs", Shared, "mount -t nfs -o vers=3,nolock 127.0.0.1:/srv /mnt/nfs3"),
    ("nfs41", "nfs4", Shared, "mount -t nfs -o vers=4.1 127.0.0.1:/ /mnt/nfs41"),
    ("nfs42", "nfs4", Shared, "mount -t nfs -o vers=4.2 127.0.0.1:/ /mnt/nfs42"),
    ("smb1", "cifs", Shared, "mount -t cifs -o vers=1.0,sec=none,ip=127.0.0.1 //127.0.0.1/images /mnt/smb1"),
    ("smb2", "cifs", Shared, "mount -t cifs -o vers=2.1,sec=none,ip=127.0.0.1 //127.0.0.1/images /mnt/smb2"),
    ("smb3", "cifs", Shared, "mount -t cifs -o vers=3.1.1,sec=none,ip=127.0.0.1 //127.0.0.1/images /mnt/smb3"),
    (
        "sshfs",
        "fuse.sshfs",
        Shared,
        "mkfifo /run/to /run/from; /usr/lib/openssh/sftp-server < /run/to > /run/from 2> /run/sftp.log &
         sshfs -o passive :/srv /mnt/sshfs > /run/to < /run/from 2> /run/sshfs.log &
         until mountpoint -q /mnt/sshfs; do sleep 0.1; done",
    ),
];

/// An NFS server for versions 3 and 4 and an SMB server for all its dialects, both with the ext4 at `/srv`.
const SERVERS: &str = r#"
modprobe -a loop fuse nfsd
d=$(device srv 64M); mkfs.ext4 -q $d; mount $d /srv; chmod 777 /srv
mount -t nfsd nfsd /proc/fs/nfsd
mkdir -p /run/rpcbind /run/sendsigs.omit.d /var/lib/nfs/v4recovery
echo '_rpc:x:130:65534::/run/rpcbind:/usr/sbin/nologin' >> /etc/passwd
chmod 777 /run/rpcbind
touch /var/lib/nfs/etab /var/lib/nfs/rmtab
echo '/srv 127.0.0.1(rw,no_root_squash,insecure,no_subtree_check,fsid=0)' > /etc/exports
rpcbind -w
exportfs -ra
rpc.mountd
rpc.nfsd --grace-time 10 --lease-time 10 2
mkdir -p /run/samba /var/lib/samba/private /var/log/samba /var/cache/samba
cat > /run/smb.conf << 'END'
[global]
server role = standalone server
map to guest = bad user
guest account = root
server min protocol = NT1
interfaces = lo
bind interfaces only = yes
disable netbios = yes
smb ports = 445
load printers = no
disable spoolss = yes
log file = /run/smbd.log
[images]
path = /srv
guest ok = yes
read only = no
END
smbd -D -s /run/smb.conf
until bash -c 'exec 3<>/dev/tcp/127.0.0.1/445' 2> /dev/null; do sleep 0.1; done
"#;

/// Places that are not what their paths look like, and the hosts' own mounts of the export.
const LINKS: &str = "
ln -s /mnt/nfs42 /mnt/ext4/to-nfs
ln -s /mnt/xfs /mnt/nfs42/to-xfs
btrfs -q subvolume create /mnt/btrfs/subvolume
mkdir /mnt/xfs/declared /mnt/xfs/declared2
ln -s xfs/declared /mnt/declared
mkdir -p /vm /mnt/export0 /mnt/export1
for number in 0 1; do
    mount -t nfs -o vers=4.2,nosharecache 127.0.0.1:/ /mnt/export$number
done
";

/// Stock's words for a disk that the other host does not see.
const NOT_SHARED: &str = "Unsafe migration: Migration without shared storage is unsafe";

/// Stock's words for what a cache may keep.
const CACHED: &str = "Unsafe migration: Migration may lead to data corruption if disks use cache other than none or directsync";

/// Runs a script of this file.
fn sh(script: &str) -> String {
    let device = "device() { truncate -s \"$2\" \"/images/$1\"; losetup -f --show \"/images/$1\"; }\n";
    run(Command::new("sh").args(["-ec", &format!("{device}{script}")]), SCRIPT_LIMIT)
        .and_then(Output::ok)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// Says how long a step took.
fn step<Made>(what: &str, work: impl FnOnce() -> Made) -> Made {
    let began = Instant::now();
    let made = work();
    eprintln!("{:5.1} s  {what}", began.elapsed().as_secs_f32());
    made
}

#[test]
fn the_checks_know_real_file_systems() {
    if !uml::is_inside() {
        return outside();
    }
    step("servers", || sh(&format!("mkdir /images; mount -t tmpfs images /images\n{SERVERS}")));
    for (name, _, _, script) in PLACES {
        step(name, || sh(&format!("mkdir -p /mnt/{name}\n{script}")));
    }
    step("links", || sh(LINKS));
    let pair = step("hosts", hosts);
    step("every disk is judged by where it lies", || survey(&pair));
    step("over NFS 4.2, cache none", || over_nfs(&pair, "none", &["ab"]));
    step("there and back over NFS 4.2, cache writeback", || over_nfs(&pair, "writeback", &["ab", "cd"]));
    for place in ["gfs2", "ocfs2", "smb3"] {
        step(&format!("a migration on {place}"), || on_the_same(&pair, place));
    }
    step("ext4 keeps its guest", || stays(&pair));
    step("a server that is gone", || server_gone(&pair));
}

/// Boots the other kernel with this test in it.
fn outside() {
    let cache = Cache::open().unwrap();
    // What the hosts inside will look for.
    step("QEMU and virsh", Pair::distribution);
    let told = match step("User-Mode Linux", || Uml::ready(&cache)) {
        Ok(uml) => step("inside", || uml.run("the_checks_know_real_file_systems", LIMIT)),
        // Where the packages should be, it is a failure.
        Err(error) if !is_debian() => {
            return eprintln!("passed by, for want of Debian's packages: {error}");
        }
        Err(error) => Err(error),
    };
    eprint!("{}", told.unwrap_or_else(|error| panic!("{error}")));
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

/// Two hosts with their own mounts of the NFS export at `/vm`, as two machines have them. The first one's operator declares a
/// tree by a link to it, and one that is not there.
fn hosts() -> Pair {
    let config = "shared_filesystems = [\"/mnt/declared\", \"/mnt/not/there\"]\n".to_owned();
    let options = Options { config: Some(config), ..Options::default() };
    let pair = Pair::with([&Pair::distribution(); 2], [options, Options::default()]).unwrap();
    for number in [0, 1] {
        pair.host(number).sh(&format!("mount --bind /mnt/export{number} /vm")).unwrap();
    }
    pair
}

/// A disk of a definition: where it lies, its cache mode, and what else is to be in the element.
struct Disk {
    path: String,
    cache: &'static str,
    more: &'static str,
    verdict: Option<Verdict>,
    kind: &'static str,
}

impl Disk {
    /// One whose verdict its cache mode does not better.
    fn on(path: &str, verdict: Verdict, kind: &'static str) -> Self {
        Self { path: path.to_owned(), cache: "writeback", more: "", verdict: Some(verdict), kind }
    }

    /// One that nothing is said of.
    fn harmless(path: &str, cache: &'static str, more: &'static str) -> Self {
        Self { path: path.to_owned(), cache, more, verdict: None, kind: "" }
    }

    fn xml(&self, target: &str) -> String {
        let device = if self.more.contains("cdrom") { "cdrom" } else { "disk" };
        format!(
            "<disk type='file' device='{device}'><driver name='qemu' type='raw' cache='{}'/><source file='{}'/>\
             <target dev='{target}' bus='scsi'/>{}</disk>",
            self.cache, self.path, self.more
        )
    }

    /// What stock says of it, and we behind.
    fn finding(&self, target: &str) -> Option<String> {
        let path = &self.path;
        match self.verdict? {
            Local => Some(format!(
                "{NOT_SHARED} (disk {target}: {path} is on {}, which the other host does not see)",
                self.kind
            )),
            Shared => Some(format!("{CACHED} (disk {target}: {path})")),
            Clustered => None,
        }
    }
}

/// One guest with a disk on each, which does not run: so it has no QEMU that drops caches, and all kinds differ.
fn survey(pair: &Pair) {
    let mut disks: Vec<Disk> = PLACES
        .iter()
        .map(|(name, kind, verdict, _)| Disk::on(&format!("/mnt/{name}/disk.img"), *verdict, kind))
        .collect();
    disks.extend([
        // Where it really lies.
        Disk::on("/mnt/ext4/to-nfs/disk.img", Shared, "nfs4"),
        Disk::on("/mnt/nfs42/to-xfs/disk.img", Local, "xfs"),
        Disk::on("/mnt/nfs42/not/there/yet.img", Shared, "nfs4"),
        Disk::on("/mnt/gfs2/not/there/yet.img", Clustered, "gfs2"),
        Disk::on("/mnt/btrfs/not/there/yet.img", Local, "btrfs"),
        // Places whose device number stands in no line of mountinfo.
        Disk::on("/mnt/btrfs/subvolume/disk.img", Local, "btrfs"),
        Disk::on("/mnt/overlay/lower.img", Local, "overlay"),
        // What the operator declares, and what is only beside it.
        Disk::on("/mnt/xfs/declared/disk.img", Shared, "xfs"),
        Disk::on("/mnt/xfs/declared2/disk.img", Local, "xfs"),
        // Nothing can be written, or nothing stale is kept.
        Disk::harmless("/mnt/ext4/disk.img", "writeback", "<readonly/>"),
        Disk::harmless("/mnt/ext4/disk.img", "writeback", "<readonly/><!-- cdrom -->"),
        Disk::harmless("/mnt/nfs42/disk.img", "writeback", "<shareable/>"),
    ]);
    for path in ["/mnt/nfs3/disk.img", "/mnt/smb3/disk.img"] {
        disks.extend(["none", "directsync"].map(|cache| Disk::harmless(path, cache, "")));
        let stale = ["writethrough", "unsafe", "default"];
        disks.extend(stale.map(|cache| Disk { cache, ..Disk::on(path, Shared, "") }));
    }
    for path in ["/mnt/gfs2/disk.img", "/mnt/ocfs2/disk.img", "/mnt/glusterfs/disk.img"] {
        let every = ["none", "directsync", "writethrough", "unsafe", "default"];
        disks.extend(every.map(|cache| Disk::harmless(path, cache, "")));
    }
    let targets: Vec<String> = ('a'..='z')
        .flat_map(|first| ('a'..='z').map(move |second| format!("sd{first}{second}")))
        .take(disks.len())
        .collect();
    let named = || disks.iter().zip(&targets);
    let devices: String = named().map(|(disk, target)| disk.xml(target)).collect();
    let (domain, _) = pair.sector("survey").unwrap();
    let xml = pair.write("survey", &domain.device(&devices)).unwrap();
    pair.virsh(0).ok(["define".as_ref(), xml.as_os_str()]).unwrap();

    let told = pair.ferry(0, &["plan", "survey", &pair.uri(1), "--json"]);
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let found: BTreeSet<&str> = told["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|finding| finding["text"].as_str())
        .filter(|text| text.contains("(disk sd"))
        .collect();
    let expected: Vec<String> = named().filter_map(|(disk, target)| disk.finding(target)).collect();
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    let surplus: Vec<_> = found.difference(&expected).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    assert!(surplus.is_empty() && missing.is_empty(), "surplus: {surplus:#?}\nmissing: {missing:#?}");
}

/// Starts the guest of one sector on the first host, its image at `path` with this cache mode. `written` is where this
/// process finds the image.
fn boot(pair: &Pair, name: &str, path: &str, written: &str, cache: &str) -> Serial {
    boot_sector::write_image(written).unwrap();
    let (log, serial) = pair.listen(name).unwrap();
    let domain = Domain::new(name, Boot::Disk, Port::File(log)).emulator(pair.emulator());
    let xml = pair.write(name, &domain.disk(path, "raw")).unwrap();
    let text = fs::read_to_string(&xml).unwrap().replace("cache='none'", &format!("cache='{cache}'"));
    fs::write(&xml, text).unwrap();
    pair.virsh(0).ok(["create".as_ref(), xml.as_os_str()]).unwrap();
    serial.wait_beats_on(pair.ear(0), 10, SOON).unwrap();
    serial
}

fn migrate(pair: &Pair, from: usize, name: &str) {
    pair.virsh(from).ok(["migrate", name, &pair.uri(1 - from), "--live"]).unwrap();
}

/// What a host keeps of the image in its cache is not what the guest finds there when it comes. One migration for each of
/// `patterns`, two hexadecimal digits, which is written before it.
fn over_nfs(pair: &Pair, cache: &str, patterns: &[&str]) {
    let name = format!("nfs-{cache}");
    let file = format!("{name}.img");
    let serial = boot(pair, &name, &format!("/vm/{file}"), &format!("/mnt/export0/{file}"), cache);
    for (from, pattern) in [0, 1].into_iter().zip(patterns) {
        pair.host(1 - from).sh(&format!("cat /vm/{file} > /dev/null")).unwrap();
        disk_io(pair, from, &name, &format!("write -P 0x{pattern} 512k 64k"));
        migrate(pair, from, &name);
        pair.moved(from, &name, "running (migrated)", &serial);
        // What QEMU prints is in its log; less than this it would keep to itself for now.
        disk_io(pair, 1 - from, &name, "read -v 512k 64k");
        let log = pair.daemon(1 - from).root().join(format!("log/{name}.log"));
        let log = pair.host(1 - from).seen(log);
        let line = format!("00080000:  {pattern} {pattern} {pattern} {pattern} ");
        wait_until("what was written", SOON, || fs::read_to_string(&log).unwrap().contains(&line)).unwrap();
    }
    pair.virsh(patterns.len() % 2).ok(["destroy", &name]).unwrap();
}

/// Has the guest's QEMU on host `number` read or write, as the guest would.
fn disk_io(pair: &Pair, number: usize, name: &str, words: &str) {
    let line = format!("qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \"{words}\"");
    assert_eq!(pair.virsh(number).ok(["qemu-monitor-command", name, "--hmp", &line]).unwrap(), "", "{words}");
}

/// Both hosts see one mount of it.
fn on_the_same(pair: &Pair, place: &str) {
    let path = format!("/mnt/{place}/vm.img");
    let serial = boot(pair, place, &path, &path, "writeback");
    migrate(pair, 0, place);
    pair.moved(0, place, "running (migrated)", &serial);
    pair.virsh(1).ok(["destroy", place]).unwrap();
}

/// With every cache mode, and however it is asked for.
fn stays(pair: &Pair) {
    let path = "/mnt/ext4/vm.img";
    let serial = boot(pair, "local", path, path, "none");
    for more in [&["--live"][..], &["--live", "--p2p"]] {
        let there = pair.uri(1);
        let words = [&["migrate", "local", &there], more].concat();
        pair.virsh(0).refused(
            &words,
            &format!("{NOT_SHARED} (disk vda: {path} is on ext4, which the other host does not see)"),
        );
        pair.stayed("local", &serial);
    }
    pair.virsh(0).ok(["destroy", "local"]).unwrap();
}

/// The check comes to its end although nothing that looks at the export does, and the guest can be asked about meanwhile.
fn server_gone(pair: &Pair) {
    let serial = boot(pair, "vm", "/vm/vm.img", "/mnt/export0/vm.img", "none");
    let there = pair.uri(1);
    let plan = || pair.ferry(0, &["plan", "vm", &there]);
    sh("rpc.nfsd 0");
    let began = Instant::now();
    let silent = "the file system of a disk does not answer (disk vda: /vm/vm.img)";
    pair.virsh(0).refused(&["migrate", "vm", &there, "--live"], silent);
    let first = began.elapsed();
    pair.virsh(0).refused(&["migrate", "vm", &there, "--live"], silent);
    let second = began.elapsed() - first;
    eprintln!(
        "       refused after {:.1} s, and again after {:.1} s",
        first.as_secs_f32(),
        second.as_secs_f32()
    );
    assert!(first < SOON && second < first, "{first:?}, {second:?}");
    pair.stayed("vm", &serial);
    sh("rpc.nfsd 2");
    let fine = || !plan().stdout.contains("Unsafe migration");
    wait_until("the server's answer", SOON, fine).unwrap();
    pair.virsh(0).ok(["destroy", "vm"]).unwrap();
}
