//! Clients other than virsh: libvirt's Python binding, virt-install and virt-xml, as Debian ships them.
//!
//! None of them may print an error, and the binding prints each that it meets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test fail as the test does")]

use std::fs::{self, File};
use std::time::Duration;

use ferry_testkit::cache::Cache;
use ferry_testkit::command::Output;
use ferry_testkit::ferryd::Ferryd;
use ferry_testkit::tools::Tools;
use ferry_tests::{Pair, SOON};

/// How long a client may take over everything that it does.
const LIMIT: Duration = Duration::from_secs(120);

/// Two hosts that have the clients, where there are namespaces to have them in.
fn pair() -> Option<Pair> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("passed by: clients are laid over /usr, which needs namespaces");
        return None;
    }
    let tools = Cache::open().and_then(|cache| Tools::with_clients(&cache)).expect("the clients");
    let pair = Pair::new(&tools).expect("two hosts");
    // A list of names that one of the packages keeps outside /usr, and its reader insists on.
    pair.host(0)
        .sh("mkdir -p /var/lib/usbutils && touch /var/lib/usbutils/usb.ids")
        .expect("a list of names");
    Some(pair)
}

/// Runs a program on the first host, to its good end, with nothing said on standard error.
fn run(pair: &Pair, words: &[&str]) -> String {
    let home = format!("HOME={}", pair.lab().shared().display());
    let words = [&["LC_ALL=C.UTF-8", &home][..], words].concat();
    let Output { status, stdout, stderr, .. } = pair.host(0).run("env", &words, LIMIT).unwrap();
    assert!(status.success() && stderr.trim().is_empty(), "{words:?}: {status}\n{stdout}\n{stderr}");
    stdout
}

/// Has Python execute `script` with libvirt's binding; `uri` and `other` are the two hosts', `kept` is what it says by
/// `say`.
fn python(pair: &Pair, script: &str) -> Vec<String> {
    let head =
        "import sys, libvirt\nuri, other = sys.argv[1:]\ndef say(*words):\n    print(*words, flush=True)\n";
    let path = pair.lab().shared().join("script.py");
    fs::write(&path, format!("{head}{script}")).unwrap();
    let uris = [0, 1].map(|number| uri(pair.daemon(number)));
    let said = run(pair, &["/usr/bin/python3", path.to_str().unwrap(), &uris[0], &pair.uri(1)]);
    said.lines().map(str::to_owned).collect()
}

fn uri(daemon: &Ferryd) -> String {
    daemon.uri().to_owned()
}

#[test]
fn python_looks_at_hosts_and_domains() {
    let Some(pair) = pair() else { return };
    let _serial = pair.boot_sector("vm").unwrap();
    let said = python(
        &pair,
        "
conn = libvirt.open(uri)
say(conn.getType(), conn.isAlive(), conn.isSecure(), conn.getHostname())
say(len(conn.getInfo()), conn.getLibVersion(), conn.getVersion() // 1000000 >= 7)
say([domain.name() for domain in conn.listAllDomains()], conn.numOfDomains(), conn.listDefinedDomains())
domain = conn.lookupByName('vm')
say(conn.lookupByUUIDString(domain.UUIDString()).name(), conn.lookupByID(domain.ID()).name())
say('<name>vm</name>' in domain.XMLDesc(), 'id=' in domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE).split('>')[0])
say(domain.state(), domain.isActive(), domain.isPersistent(), domain.isUpdated(), domain.autostart(), domain.OSType())
say(domain.info()[0], domain.maxMemory(), domain.maxVcpus(), len(domain.vcpus()[0]), domain.hasManagedSaveImage())
say(sorted(domain.memoryStats())[:2], domain.blockInfo('vda')[0] > 0, len(domain.blockStats('vda')), domain.jobInfo()[0])
say(domain.snapshotNum(), domain.listAllSnapshots(), conn.listAllNetworks(), conn.listAllDevices(), conn.listAllSecrets())
stats = conn.getAllDomainStats()
say(len(stats), stats[0][1]['state.state'])
say('<cpus num=' in conn.getCapabilities(), '<domainCapabilities>' in conn.getDomainCapabilities())
say('qemu64' in conn.getCPUModelNames('x86_64'), conn.compareCPU('<cpu mode=\"host-model\"/>'))
say(conn.getFreeMemory() > 0, len(conn.getCPUMap()), conn.getMemoryStats(-1)['total'] > 0)
conn.close()
",
    );
    assert_eq!(
        said,
        [
            "QEMU 1 1 h1",
            "8 11003000 True",
            "['vm'] 1 []",
            "vm vm",
            "True False",
            "[1, 1] 1 1 0 0 hvm",
            "1 32768 1 1 0",
            "['actual', 'last_update'] True 5 0",
            "0 [] [] [] []",
            "1 1",
            "True True",
            "True 2",
            "True 3 True",
        ]
    );
}

#[test]
fn python_moves_a_guest_and_hears_of_it() {
    let Some(pair) = pair() else { return };
    let serial = pair.boot_sector("vm").unwrap();
    let said = python(
        &pair,
        "
import threading, time
libvirt.virEventRegisterDefaultImpl()
def loop():
    while True:
        libvirt.virEventRunDefaultImpl()
threading.Thread(target=loop, daemon=True).start()
conn, there = libvirt.open(uri), libvirt.open(other)
conn.setKeepAlive(5, 3)
heard, ended = [], threading.Event()
def tell(conn, domain, event, detail, data):
    heard.append((domain.name(), event, detail))
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
        ended.set()
conn.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, tell, None)
domain = conn.lookupByName('vm')
domain.suspend()
domain.resume()
moved = domain.migrate3(there, {libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: 1000}, libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_UNSAFE)
say(moved.name(), moved.state(), domain.state())
say(ended.wait(20), heard[0][1], heard[-1][1:])
say(domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)['type'])
moved.migrateToURI3('qemu+tcp://h1/system', {}, libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_UNSAFE)
say(conn.lookupByName('vm').state())
",
    );
    assert_eq!(said, ["vm [1, 2] [5, 4]", "True 3 (5, 3)", "3", "[1, 2]"]);
    serial.wait_beats_on(pair.ear(0), 50, SOON).unwrap();
    serial.verdict().whole().unwrap();
}

#[test]
fn virt_install_imports_a_guest_and_virt_xml_changes_it() {
    let Some(pair) = pair() else { return };
    let image = pair.lab().shared().join("imported.img");
    File::create(&image).and_then(|file| file.set_len(1 << 20)).unwrap();
    let disk = format!("path={}", image.display());
    let uri = uri(pair.daemon(0));
    let connect = ["--connect", &uri];
    let install = [
        &["virt-install"][..],
        &connect,
        &["--import", "--name", "imported", "--memory", "1024", "--vcpus", "2", "--virt-type", "qemu"],
        &["--osinfo", "debian11", "--disk", &disk, "--network", "none", "--graphics", "vnc"],
        &["--noautoconsole"],
    ]
    .concat();
    let said = run(&pair, &install);
    assert!(said.contains("Domain creation completed."), "{said}");
    let virsh = pair.virsh(0);
    assert_eq!(virsh.state("imported").unwrap(), "running");
    assert!(virsh.ok(["dumpxml", "imported"]).unwrap().contains("imported.img"));

    let xml = |words: &[&str]| run(&pair, &[&["virt-xml"][..], &connect, &["imported"], words].concat());
    assert!(xml(&["--edit", "--memory", "1024,maxmemory=1280"]).contains("defined successfully"));
    assert!(xml(&["--edit", "--metadata", "title=imported by a tool"]).contains("defined successfully"));
    virsh.ok(["destroy", "imported"]).unwrap();
    virsh.ok(["start", "imported"]).unwrap();
    let memory = virsh.ok(["dumpxml", "imported", "--xpath", "//memory"]).unwrap();
    assert!(memory.contains(">1310720<"), "{memory}");
    let title = virsh.ok(["desc", "imported", "--title"]).unwrap();
    assert_eq!(title, "imported by a tool");
}
