//! The tests' guests: their images, their kernel command lines, and the domain XML that an operator would write.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, digest};
use crate::initramfs::Archive;
use crate::{Error, Result, boot_sector, kernel, programs};

/// What the Linux guest boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinuxImage {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial ramdisk with our init.
    pub initrd: PathBuf,
}

impl LinuxImage {
    /// Makes it, or finds it in the cache: a stock kernel, and a ramdisk with our init and the kernel's virtio modules.
    /// `FERRY_GUEST_KERNEL` and `FERRY_GUEST_INITRD` name one that was made before.
    ///
    /// # Errors
    /// What [`kernel::stock`] and [`programs::guest_init`] give.
    pub fn ready(cache: &Cache) -> Result<Self> {
        if let (Some(kernel), Some(initrd)) =
            (env::var_os("FERRY_GUEST_KERNEL"), env::var_os("FERRY_GUEST_INITRD"))
        {
            return Ok(Self { kernel: kernel.into(), initrd: initrd.into() });
        }
        let kernel = kernel::stock(cache)?;
        let init_path = programs::guest_init()?;
        let init = fs::read(&init_path).map_err(Error::io(format!("{init_path:?}")))?;
        let key = format!("initramfs-{}", digest(&(&kernel.modules, &init)));
        let entry = cache.entry(&key, |draft| {
            let mut archive = Archive::new();
            for folder in ["dev", "proc", "sys", "modules"] {
                archive = archive.directory(folder);
            }
            archive = archive.character_device("dev/console", 5, 1).file("init", 0o755, &init);
            for (number, path) in kernel.modules.iter().enumerate() {
                let name =
                    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                let name = name.split_once(".ko").map_or(name.as_str(), |(stem, _)| stem);
                let module = kernel::read_module(path)?;
                archive = archive.file(&format!("modules/{number:02}-{name}.ko"), 0o644, &module);
            }
            fs::write(draft.join("initrd"), archive.finish()).map_err(Error::io("writing the ramdisk"))
        })?;
        Ok(Self { kernel: kernel.image, initrd: entry.join("initrd") })
    }
}

/// What the Linux guest does; goes on its kernel command line. See the guest's own documentation for the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Period of the heartbeat, microseconds.
    pub beat_us: u64,
    /// Working set, MiB.
    pub memory_mib: u64,
    /// Pages dirtied, MiB/s.
    pub memory_rate: u64,
    /// Part of the disk that is written, MiB; 0 for none.
    pub disk_mib: u64,
    /// Blocks written, MiB/s.
    pub disk_rate: u64,
    /// Address and prefix length of its network card, such as `192.0.2.50/24`.
    pub address: Option<String>,
}

impl Default for Work {
    /// Light: a beat every 2 ms, 4 MiB/s of 16 MiB, 1 MiB/s of 4 MiB of disk.
    fn default() -> Self {
        Self { beat_us: 2000, memory_mib: 16, memory_rate: 4, disk_mib: 4, disk_rate: 1, address: None }
    }
}

impl Work {
    /// The kernel command line.
    pub fn command_line(&self) -> String {
        let mut line = format!(
            "console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable no_timer_check \
             ferry.beat_us={} ferry.mem={} ferry.rate={} ferry.disk={} ferry.disk_rate={}",
            self.beat_us, self.memory_mib, self.memory_rate, self.disk_mib, self.disk_rate
        );
        if let Some(address) = &self.address {
            let _ = write!(line, " ferry.ip={address}");
        }
        line
    }
}

/// What the domain boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// Linux, with its work.
    Linux(LinuxImage, Work),
    /// The first disk.
    Disk,
}

/// Where the first serial port goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// A file that is appended to.
    File(PathBuf),
    /// A terminal (`virsh console`), and a file that all output goes to as well.
    Terminal {
        /// The file.
        log: PathBuf,
    },
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Disk {
    path: PathBuf,
    format: String,
}

/// A domain XML in the making: what a careful operator would write, nothing filled in that a daemon fills in.
///
/// ```
/// use ferry_testkit::guest::{Boot, Domain, Port};
/// let xml = Domain::new("vm", Boot::Disk, Port::File("/tmp/vm.log".into())).disk("/tmp/vm.img", "raw").xml();
/// assert!(xml.starts_with("<domain type='qemu'>"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    name: String,
    uuid: Option<String>,
    memory_mib: u64,
    vcpus: u32,
    machine: String,
    emulator: PathBuf,
    boot: Boot,
    port: Port,
    command_port: Option<PathBuf>,
    disks: Vec<Disk>,
    bridges: Vec<String>,
    devices: String,
    beside: String,
}

impl Domain {
    /// A q35 guest with one CPU and, for Linux, 256 MiB, else 32 MiB, emulated by the distribution's QEMU.
    pub fn new(name: &str, boot: Boot, port: Port) -> Self {
        let memory_mib = if matches!(boot, Boot::Disk) { 32 } else { 256 };
        Self {
            name: name.to_owned(),
            uuid: None,
            memory_mib,
            vcpus: 1,
            machine: "q35".to_owned(),
            emulator: "/usr/bin/qemu-system-x86_64".into(),
            boot,
            port,
            command_port: None,
            disks: Vec::new(),
            bridges: Vec::new(),
            devices: String::new(),
            beside: String::new(),
        }
    }

    /// The guest of one sector, with its image written to `image`, 32 MiB, and its beats going to `log`.
    ///
    /// # Errors
    /// [`Error::Io`] when the image cannot be written.
    pub fn boot_sector(name: &str, image: &Path, log: impl Into<PathBuf>) -> Result<Self> {
        boot_sector::write_image(image)?;
        Ok(Self::new(name, Boot::Disk, Port::File(log.into())).disk(image, "raw"))
    }

    /// Sets the UUID; otherwise the daemon makes one.
    pub fn uuid(mut self, uuid: &str) -> Self {
        self.uuid = Some(uuid.to_owned());
        self
    }

    /// Sets the memory, MiB.
    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Sets the number of CPUs.
    pub fn vcpus(mut self, count: u32) -> Self {
        self.vcpus = count;
        self
    }

    /// Sets the machine, such as `pc` or `pc-q35-7.2`.
    pub fn machine(mut self, machine: &str) -> Self {
        self.machine = machine.to_owned();
        self
    }

    /// Sets the QEMU binary.
    pub fn emulator(mut self, path: impl Into<PathBuf>) -> Self {
        self.emulator = path.into();
        self
    }

    /// Adds a virtio disk (`raw`, `qcow2`) with the host's page cache left out.
    pub fn disk(mut self, path: impl Into<PathBuf>, format: &str) -> Self {
        self.disks.push(Disk { path: path.into(), format: format.to_owned() });
        self
    }

    /// Adds a virtio card on a host's bridge.
    pub fn bridge(mut self, bridge: &str) -> Self {
        self.bridges.push(bridge.to_owned());
        self
    }

    /// Adds a second serial port that listens on a UNIX socket; the Linux guest takes commands there.
    pub fn command_port(mut self, socket: impl Into<PathBuf>) -> Self {
        self.command_port = Some(socket.into());
        self
    }

    /// Adds anything to `<devices>`.
    pub fn device(mut self, xml: &str) -> Self {
        self.devices.push_str(xml);
        self
    }

    /// Adds anything beside `<devices>`.
    pub fn beside(mut self, xml: &str) -> Self {
        self.beside.push_str(xml);
        self
    }

    /// The XML.
    pub fn xml(&self) -> String {
        let mut xml = format!("<domain type='qemu'>\n  <name>{}</name>\n", escape(&self.name));
        if let Some(uuid) = &self.uuid {
            let _ = writeln!(xml, "  <uuid>{uuid}</uuid>");
        }
        let _ = writeln!(xml, "  <memory unit='MiB'>{}</memory>", self.memory_mib);
        let _ = writeln!(xml, "  <vcpu>{}</vcpu>", self.vcpus);
        xml.push_str("  <os>\n");
        let _ = writeln!(xml, "    <type arch='x86_64' machine='{}'>hvm</type>", escape(&self.machine));
        match &self.boot {
            Boot::Linux(image, work) => {
                let _ = writeln!(xml, "    <kernel>{}</kernel>", path(&image.kernel));
                let _ = writeln!(xml, "    <initrd>{}</initrd>", path(&image.initrd));
                let _ = writeln!(xml, "    <cmdline>{}</cmdline>", escape(&work.command_line()));
            }
            Boot::Disk => xml.push_str("    <boot dev='hd'/>\n"),
        }
        xml.push_str(
            "  </os>\n  <features>\n    <acpi/>\n    <apic/>\n  </features>\n  <clock offset='utc'/>\n",
        );
        xml.push_str(&self.beside);
        xml.push_str("  <devices>\n");
        let _ = writeln!(xml, "    <emulator>{}</emulator>", path(&self.emulator));
        for (disk, letter) in self.disks.iter().zip('a'..='z') {
            let _ = write!(
                xml,
                "    <disk type='file' device='disk'>\n      <driver name='qemu' type='{}' cache='none'/>\n      \
                 <source file='{}'/>\n      <target dev='vd{letter}' bus='virtio'/>\n    </disk>\n",
                escape(&disk.format),
                path(&disk.path)
            );
        }
        for bridge in &self.bridges {
            let _ = write!(
                xml,
                "    <interface type='bridge'>\n      <source bridge='{}'/>\n      <model type='virtio'/>\n    \
                 </interface>\n",
                escape(bridge)
            );
        }
        match &self.port {
            Port::File(log) => {
                let _ = write!(
                    xml,
                    "    <serial type='file'>\n      <source path='{}' append='on'/>\n      <target port='0'/>\n    \
                     </serial>\n",
                    path(log)
                );
            }
            Port::Terminal { log } => {
                let _ = write!(
                    xml,
                    "    <serial type='pty'>\n      <log file='{}' append='on'/>\n      <target port='0'/>\n    \
                     </serial>\n",
                    path(log)
                );
            }
        }
        if let Some(socket) = &self.command_port {
            let _ = write!(
                xml,
                "    <serial type='unix'>\n      <source mode='bind' path='{}'/>\n      <target port='1'/>\n    \
                 </serial>\n",
                path(socket)
            );
        }
        xml.push_str(&self.devices);
        xml.push_str("    <memballoon model='virtio'/>\n  </devices>\n</domain>\n");
        xml
    }

    /// Writes the XML to a file, for `virsh define`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, file: impl AsRef<Path>) -> Result<PathBuf> {
        let file = file.as_ref().to_path_buf();
        fs::write(&file, self.xml()).map_err(Error::io(format!("writing {file:?}")))?;
        Ok(file)
    }
}

fn path(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_xml_has_what_was_asked_for_and_is_escaped() {
        let xml = Domain::new("a<b", Boot::Disk, Port::Terminal { log: "/x/'y'".into() })
            .disk("/d1", "raw")
            .disk("/d2", "qcow2")
            .bridge("br0")
            .command_port("/s")
            .machine("pc")
            .xml();
        for part in [
            "<name>a&lt;b</name>",
            "machine='pc'",
            "<log file='/x/&apos;y&apos;' append='on'/>",
            "dev='vda'",
            "dev='vdb'",
            "bridge='br0'",
            "path='/s'",
        ] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
    }
}
