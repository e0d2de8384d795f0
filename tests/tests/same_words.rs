//! The life of one guest in the words of stock virsh, said to Ferry and to stock libvirt side by side: both must answer the
//! same, on standard output, on standard error and by exit code.
//!
//! Each host has the guest for itself. What differs on purpose is in `docs/differences.md` and not said here.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs;
use std::time::Duration;

use ferry_testkit::deadline::{wait_for, wait_until};
use ferry_testkit::ferryd::{Ferryd, Options};
use ferry_testkit::guest::{Boot, Domain, Port};
use ferry_testkit::lab::Lab;
use ferry_testkit::stock::Libvirtd;
use ferry_testkit::tools::{EMULATOR, Tools};
use ferry_testkit::virsh::Virsh;
use ferry_testkit::{boot_sector, command::Output};
use ferry_tests::Pair;
use ferry_tests::bench::DEVICES;

/// Beside the devices of every test guest: a screen to look at.
const SCREEN: &str = "<graphics type='vnc' port='-1' autoport='yes'/>";

/// What is said, in this order. `=` the answers are the same; `~` but for numbers; `$` only how it ends is. `XML` is the guest's
/// definition, `CARD` and `DOWN` a card whose link is up and down, `SHOT` a file.
const LIFE: &str = "
    ~ version --daemon
    = hostname
    = nodeinfo
    = nodecpumap
    ~ nodecpustats
    ~ nodememstats
    ~ node-memory-tune
    ~ freecell --all
    = maxvcpus
    $ capabilities
    $ domcapabilities --virttype qemu
    = list --all
    = define XML
    = list
    = list --all
    = list --inactive
    = list --transient
    = list --persistent
    = list --with-snapshot --all
    = list --without-snapshot --all
    = list --with-checkpoint --all
    = list --without-checkpoint --all
    = list --state-running
    = list --state-paused --all
    = list --state-shutoff
    = list --state-other
    = list --with-managed-save --all
    = list --without-managed-save --all
    = list --uuid --all
    = list --name --all
    = list --uuid --name --all
    = list --table --all
    = list --managed-save --all
    = dominfo vm
    = domid vm
    = domuuid vm
    = domname 11111111-2222-4333-8444-555555555555
    = vcpuinfo vm
    = vcpucount vm
    = vcpupin vm
    = emulatorpin vm
    = iothreadinfo vm
    = blkiotune vm
    = memtune vm
    = schedinfo vm
    = numatune vm
    = perf vm
    = domlaunchsecinfo vm
    = nodesevinfo
    = domiflist vm
    = domblklist vm --details
    = domblkinfo vm vda
    = domblkinfo vm --all
    = domblkinfo vm sda
    = domblkstat vm vda
    = domifstat vm vnet0
    = dommemstat vm
    = domdisplay vm
    = domtime vm
    = domfsfreeze vm
    = blockjob vm vda
    = managedsave-dumpxml vm
    = managedsave-remove vm
    = autostart vm
    = list --autostart --all
    = autostart vm --disable
    = list --no-autostart --all
    = setmem vm 16M --config
    = setmem vm 32M --config
    = setmem vm 16M
    = setvcpus vm 2
    = setvcpus vm 5 --config
    $ domxml-to-native qemu-argv --domain vm
    $ domxml-to-native qemu-argv XML
    = domxml-to-native nonsense --domain vm
    = metadata vm http://a.b/c
    = metadata vm http://a.b/c --key k --set <x/>
    = metadata vm http://a.b/c
    = desc vm
    = desc vm --title --new-desc Title
    = desc vm --new-desc Text
    = desc vm --title
    = desc vm
    = setmem vm 16M --config
    = start vm --paused
    = domstate vm --reason
    ~ dommemstat vm
    ~ domstats vm --balloon
    = list --state-paused
    = resume vm
    = domstate vm --reason
    = list --title
    = domid vm
    ~ vcpuinfo vm
    ~ vcpuinfo vm --pretty
    = vcpucount vm
    = vcpupin vm
    = emulatorpin vm
    = iothreadinfo vm
    = blkiotune vm
    = memtune vm
    = schedinfo vm
    = schedinfo vm --config
    = numatune vm
    = perf vm
    = domlaunchsecinfo vm
    ~ domstats vm
    ~ domstats vm --raw
    ~ domstats vm --cpu-total --balloon
    = domstats vm --iothread
    = domstats vm --vm
    = domstats vm --enforce --perf
    = domiflist vm
    = domifstat vm nonsense
    = domif-getlink vm 52:54:00:00:00:51
    = domifaddr vm --source agent
    = domblklist vm
    = domblkinfo vm vda --human
    ~ domblkstat vm vda
    ~ domblkstat vm vda --human
    ~ domblkstat vm
    = domblkerror vm
    ~ dommemstat vm
    = domcontrol vm
    = domdisplay vm
    = domdisplay vm --all --include-password
    = domhostname vm --source agent
    = domfsinfo vm
    = domfsfreeze vm
    = domfsthaw vm
    = domfstrim vm
    = domtime vm
    = domtime vm --now
    = guestvcpus vm
    = guestinfo vm
    = set-user-password vm root x
    = get-user-sshkeys vm root
    = qemu-agent-command vm {\"execute\":\"guest-ping\"}
    $ qemu-monitor-command vm {\"execute\":\"query-status\"}
    = qemu-monitor-command vm --hmp info status
    $ qemu-monitor-command vm --pretty query-name
    = qemu-monitor-event vm --timeout 1
    ~ screenshot vm SHOT
    = send-key vm KEY_LEFTCTRL KEY_LEFTALT KEY_DELETE
    = inject-nmi vm
    = setmem vm 999G
    = setmem vm 24M --live
    = setvcpus vm 2
    = setvcpus vm 2 --config
    = setvcpus vm 2 --guest
    = setmaxmem vm 64M
    = attach-device vm CARD
    = domiflist vm
    = update-device vm DOWN
    = domif-getlink vm 52:54:00:00:00:77
    = change-media vm sda --eject
    = domblkthreshold vm vda 100000
    = domblkthreshold vm vdz 100000
    = blockjob vm vda
    = blockjob vm vda --info
    $ blockjob vm vda --abort
    = domjobinfo vm
    = domjobabort vm
    = managedsave-dumpxml vm
    = snapshot-list vm
    = snapshot-current vm
    = checkpoint-list vm
    = reboot vm
    = reboot vm --mode acpi
    = reboot vm --mode nonsense
    = reboot vm --mode agent
    = shutdown vm --mode agent
    = reset vm
    = suspend vm
    = suspend vm
    = resume vm
    = resume vm
    = start vm
    = undefine vm --managed-save --snapshots-metadata --checkpoints-metadata --nvram
    = list --transient
    = dumpxml vm --inactive --xpath //name
    = define XML
    = destroy vm
    = destroy vm
    = undefine vm --keep-nvram
    = undefine vm
    = define XML
    = undefine vm --tpm
    = define XML
    = undefine vm --tpm --keep-tpm
    = undefine vm --nvram --keep-nvram
    = undefine vm --keep-tpm
    = create XML --paused
    = domstate vm --reason
    = create XML
    = destroy vm --graceful
    = create XML --autodestroy
    = define XML
    = start vm --autodestroy
    = start vm --force-boot --bypass-cache
    = destroy vm
    = reset vm
    = reboot vm
    = reboot vm --mode agent
    = screenshot vm SHOT
    = send-key vm KEY_A
    = qemu-monitor-command vm query-status
    = qemu-agent-command vm x
    = domblkthreshold vm vda 100000
    = setmem vm 16M --live
    = setvcpus vm 1 --live
    = attach-device vm CARD --live
    = attach-device vm CARD --config
    = detach-device vm CARD --config
    = attach-device vm CARD --current
    = undefine vm
    = dumpxml vm
";

/// What the newer one says in the same words too: the older one knows fewer elements.
const FORMS: &str = "
    = define XML
    = dumpxml vm
    = dumpxml vm --inactive
    = dumpxml vm --security-info
    = dumpxml vm --update-cpu
    = undefine vm
";

/// What the newer one leaves to daemons of their own, which are not there.
const ELSEWHERE: &str = "
    = net-list --all
    = pool-list --all
    = secret-list
    = nwfilter-list
    = net-info nosuch
    = pool-info nosuch
    = define XML
    = start vm
    = domifaddr vm
    = destroy vm
    = undefine vm
";

/// How long the end of a guest may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Two hosts, the first with Ferry.
struct Sides {
    // The daemons end before their hosts.
    virsh: [Virsh; 2],
    _ferry: Ferryd,
    _stock: Libvirtd,
    lab: Lab,
}

impl Sides {
    fn new(tools: &Tools) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("passed by: stock libvirt needs hosts in namespaces");
            return None;
        }
        let lab = Lab::new(&[("h1", tools), ("h2", tools)]).unwrap();
        let ferry = Ferryd::start(lab.host(0), Options::default()).unwrap();
        let stock = Libvirtd::start(lab.host(1)).unwrap();
        let virsh = [Virsh::new(lab.host(0), ferry.uri()), Virsh::new(lab.host(1), stock.uri())];
        let image = "/run/vm.img";
        for number in [0, 1] {
            boot_sector::write_image(lab.host(number).seen(image)).unwrap();
        }
        let domain = Domain::new("vm", Boot::Disk, Port::File("/run/vm.log".into()));
        let domain = domain
            .uuid("11111111-2222-4333-8444-555555555555")
            .disk(image, "raw")
            .device(DEVICES)
            .device(SCREEN);
        domain.emulator(lab.host(0).tool(EMULATOR)).write(lab.shared().join("XML")).unwrap();
        let card = |link: &str| {
            format!(
                "<interface type='user'><mac address='52:54:00:00:00:77'/><model type='virtio'/>\
                 <link state='{link}'/></interface>"
            )
        };
        fs::write(lab.shared().join("CARD"), card("up")).unwrap();
        fs::write(lab.shared().join("DOWN"), card("down")).unwrap();
        Some(Self { virsh, _ferry: ferry, _stock: stock, lab })
    }

    /// Says everything to both; what is answered otherwise.
    fn say(&self, lines: &str) -> Vec<String> {
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        lines.filter_map(|line| self.differs(line)).collect()
    }

    fn differs(&self, line: &str) -> Option<String> {
        let (alike, line) = line.split_once(' ').unwrap();
        let file = |word: &str| match word {
            "XML" | "CARD" | "DOWN" | "SHOT" => self.lab.shared().join(word).display().to_string(),
            _ => word.to_owned(),
        };
        let words: Vec<String> = line.split(' ').map(file).collect();
        let [ours, theirs] = [0, 1].map(|number| {
            let Output { status, stdout, stderr, .. } = self.said(number, &words);
            if line.contains("--autodestroy") {
                self.wait_until_none_runs(number);
            }
            // The hosts' own names are no difference.
            (status.code(), format!("{}\n{}", stdout.trim(), stderr.trim()).replace("h2", "h1"))
        });
        let same = ours.0 == theirs.0
            && match alike {
                "=" => ours.1 == theirs.1,
                "~" => without_numbers(&ours.1) == without_numbers(&theirs.1),
                _ => true,
            };
        (!same).then(|| format!("{line}\nFerry: {ours:?}\nstock: {theirs:?}"))
    }

    /// Says it to one; to stock again for as long as it is still removing what it ended before.
    fn said(&self, number: usize, words: &[String]) -> Output {
        let say = || {
            let told = self.virsh[number].run(words).unwrap();
            (number == 0 || !told.stderr.contains("is already being removed")).then_some(told)
        };
        wait_for("an earlier guest's removal", PATIENCE, say).unwrap()
    }

    /// A daemon learns some time after virsh has ended that its client is gone, and only then ends the client's guests.
    fn wait_until_none_runs(&self, number: usize) {
        let none_runs = || self.virsh[number].ok(["list", "--name"]).unwrap().trim().is_empty();
        wait_until("a client's guest to end with its client", PATIENCE, none_runs).unwrap();
    }
}

/// Words alone: numbers are left out, and how far they push what is beside them.
fn without_numbers(text: &str) -> String {
    let words = text.split_whitespace();
    words
        .map(|word| word.chars().filter(|letter| !letter.is_ascii_digit()).collect::<String>() + " ")
        .collect()
}

#[test]
fn ferry_answers_as_the_distributions_libvirt_does() {
    let Some(sides) = Sides::new(&Pair::distribution()) else { return };
    let found = [sides.say(LIFE), sides.say(ELSEWHERE)].concat();
    assert!(found.is_empty(), "{} answers differ:\n{}", found.len(), found.join("\n\n"));
}

#[test]
fn ferry_answers_as_backports_libvirt_does() {
    let Some(sides) = Sides::new(&Pair::newer()) else { return };
    let found = [sides.say(FORMS), sides.say(LIFE)].concat();
    assert!(found.is_empty(), "{} answers differ:\n{}", found.len(), found.join("\n\n"));
}
