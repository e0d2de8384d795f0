//! `<domain>`: the whole definition, and the forms in which it is written.

use uuid::Uuid;

use crate::clock::Clock;
use crate::cpu::{Cpu, EachVcpu, Vcpus};
use crate::cpu_tune::CpuTune;
use crate::devices::Devices;
use crate::features::{Features, PowerManagement};
use crate::iothreads::{DefaultIoThread, IoThreadIds};
use crate::memory::{Memory, Size};
use crate::memory_backing::{MaxMemory, MemoryBacking};
use crate::metadata::{Metadata, settle_namespaces};
use crate::model::{Input, Model, Output, Refusal, element, read, values};
use crate::numa::{NumaCell, NumaTune};
use crate::os::Os;
use crate::passthrough::{QemuCommandLine, settle_prefix};
use crate::reader::{read_document, shorten};
use crate::sysinfo::Sysinfo;
use crate::throttle::ThrottleGroups;
use crate::writer::write_document;
use crate::{Element, Node, ParseError, consistency};

element! {
    /// A domain: the definition of one guest.
    pub struct Domain {
        /// Who runs the guest's instructions.
        kind: DomainKind => Attr("type"),
        /// Number of a running guest on this host (live XML only).
        id: Option<u32> => Attr("id"),
        /// Name, unique on a host.
        name: String => NeededText("name"),
        /// Identity of the guest wherever it runs. `None`: made up at define.
        uuid: Option<Uuid> => TextChild("uuid"),
        /// Tells the guest's system that it is another run of itself.
        genid: Option<GenId> => Child("genid"),
        /// A short line for people.
        title: Option<String> => TextChild("title"),
        /// Anything for people.
        description: Option<String> => TextChild("description"),
        /// Other programs' data; opaque.
        metadata: Option<Metadata> => Flatten(),
        /// How far memory can grow.
        max_memory: Option<MaxMemory> => Child("maxMemory"),
        /// What the guest has at boot. With memory cells: what they have together.
        memory: Memory => ChildOrDefault("memory"),
        /// What the balloon leaves it. `None`: all.
        current_memory: Option<Size> => Child("currentMemory"),
        /// What memory is made of on the host.
        memory_backing: Option<MemoryBacking> => Child("memoryBacking"),
        /// Number of processors.
        vcpus: Vcpus => ChildOrDefault("vcpu"),
        /// Each of them. `None`: those that are plugged in come first, and stay.
        each_vcpu: Option<EachVcpu> => Child("vcpus"),
        /// How many threads serve disks.
        iothreads: Option<u32> => TextChild("iothreads"),
        /// Those of them that the definition says more of.
        iothread_ids: Option<IoThreadIds> => Child("iothreadids"),
        /// QEMU's main loop.
        default_iothread: Option<DefaultIoThread> => Child("defaultiothread"),
        /// Limits that disks share.
        throttle_groups: Option<ThrottleGroups> => Child("throttlegroups"),
        /// Where on the host the guest's threads run.
        cpu_tune: Option<CpuTune> => Child("cputune"),
        /// Where on the host memory lies.
        numa_tune: Option<NumaTune> => Child("numatune"),
        /// What the firmware is told about the machine.
        sysinfos: Vec<Sysinfo> => Child("sysinfo"),
        /// What boots.
        os: Os => Child("os"),
        /// What the board can do.
        features: Option<Features> => Child("features"),
        /// The processor. `None`: QEMU's default.
        cpu: Option<Cpu> => Child("cpu"),
        /// The clock. `None`: UTC.
        clock: Option<Clock> => Child("clock"),
        /// When the guest powers off. `None`: destroy.
        on_poweroff: Option<OnEvent> => TextChild("on_poweroff"),
        /// When the guest reboots. `None`: restart.
        on_reboot: Option<OnEvent> => TextChild("on_reboot"),
        /// When the guest crashes. `None`: destroy.
        on_crash: Option<OnCrash> => TextChild("on_crash"),
        /// Sleep states.
        pm: Option<PowerManagement> => Child("pm"),
        /// Everything that is plugged in.
        devices: Devices => ChildOrDefault("devices"),
        /// Words for QEMU that no element has.
        qemu_command_line: Option<QemuCommandLine> => Child("qemu:commandline"),
    }
    order [
        "name", "uuid", "hwuuid", "genid", "title", "description", "metadata", "maxMemory", "memory",
        "currentMemory", "blkiotune", "memtune", "memoryBacking", "vcpu", "vcpus", "iothreads", "iothreadids",
        "defaultiothread", "throttlegroups", "cputune", "numatune", "resource", "sysinfo", "bootloader", "bootloader_args", "os",
        "idmap", "features", "cpu", "clock", "on_poweroff", "on_reboot", "on_crash", "on_lockfailure", "pm",
        "perf", "devices", "seclabel", "keywrap", "launchSecurity",
        "qemu:commandline",
    ]
}

/// `<genid>`: an identity that changes whenever the guest becomes another run of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GenId {
    /// The identity. `None`: to be made up at define.
    pub id: Option<Uuid>,
}

impl Model for GenId {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let id = input.text()?;
        input.finish()?;
        Ok(Self { id })
    }

    fn write(&self, out: &mut Output) {
        if let Some(id) = &self.id {
            out.text(id);
        }
    }
}

values! {
    /// Who runs the guest's instructions.
    pub enum DomainKind {
        /// QEMU itself
        Qemu = "qemu",
        /// the host's processor
        Kvm = "kvm",
    }
}

values! {
    /// What the daemon does when the guest powers off or reboots.
    pub enum OnEvent {
        /// end it
        Destroy = "destroy",
        /// start it again
        Restart = "restart",
        /// start it again under another name
        RenameRestart = "rename-restart",
        /// keep what is left of it
        Preserve = "preserve",
    }
}

values! {
    /// What the daemon does when the guest crashes.
    pub enum OnCrash {
        /// end it
        Destroy = "destroy",
        /// start it again
        Restart = "restart",
        /// start it again under another name
        RenameRestart = "rename-restart",
        /// keep what is left of it
        Preserve = "preserve",
        /// dump its memory, then end it
        CoredumpDestroy = "coredump-destroy",
        /// dump its memory, then start it again
        CoredumpRestart = "coredump-restart",
    }
}

impl Domain {
    /// Reads a definition: from a client, from a peer, or from our own store.
    ///
    /// What is not modelled is kept; [`Domain::check_supported`] says whether that matters. Nothing is filled
    /// in, and nothing that only a running guest has is left out: see [`Domain::inactive`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut root = read_document(text)?;
        if root.name != "domain" {
            return Err(ParseError::RootElement { found: shorten(&root.name) });
        }
        settle_prefix(&mut root)?;
        settle_namespaces(&mut root);
        // Words for people that are none, as some tools write them.
        root.children.retain(|child| !is_empty_word(child));
        match () {
            () if root.attribute("type").is_none() => return Err(ParseError::MissingDomainType),
            () if root.child("name").is_none_or(|name| name.text().is_empty()) => {
                return Err(ParseError::MissingName);
            }
            () if root.child("memory").is_none() && !has_cells(&root) => {
                return Err(ParseError::MissingMemory);
            }
            () if root.child("os").and_then(|os| os.child("type")).is_none() => {
                return Err(ParseError::MissingOsType);
            }
            () => {}
        }
        let mut domain: Self = match read(&root) {
            Ok(domain) => domain,
            Err(Refusal::Invalid(error)) => return Err(error),
            // The only part without which there is no domain, and which can be there and unknown.
            Err(Refusal::Unmodelled) => {
                let found = root.attribute("type").unwrap_or_default();
                return Err(ParseError::DomainType { found: shorten(found) });
            }
        };
        domain.devices.arrange();
        consistency::check(&domain)?;
        Ok(domain)
    }

    /// Like [`Domain::parse`] for bytes that may not be UTF-8.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => {
                let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                Err(ParseError::Malformed { line, reason: "the document must be in UTF-8".to_owned() })
            }
        }
    }

    /// The definition as text, laid out as stock does. `parse` of it gives the same domain again.
    pub fn format(&self, options: FormatOptions) -> String {
        if !options.inactive && !options.migratable {
            return write_document(&self.open(options));
        }
        let mut domain = if options.inactive { self.inactive() } else { self.clone() };
        if options.migratable {
            domain.devices.forget_chipset_watchdog();
        }
        write_document(&domain.open(options))
    }

    /// The definition as plain elements, whether they are modelled or only kept: for a look at what is there.
    pub fn elements(&self) -> Element {
        self.open(FormatOptions::LIVE).into_element()
    }

    /// The guest's memory cells.
    pub fn cells(&self) -> &[NumaCell] {
        self.cpu.as_ref().and_then(|cpu| cpu.numa.as_ref()).map_or(&[][..], |numa| &numa.cells)
    }

    /// Numbers of the processors that are plugged in one by one once the machine is there, in their order. The others are the
    /// machine's own.
    pub fn plugged_vcpus(&self) -> Vec<u32> {
        let all = self.each_vcpu.as_ref().map_or(&[][..], |each| &each.vcpus);
        let mut plugged: Vec<_> = all.iter().filter(|vcpu| vcpu.is_plugged()).collect();
        plugged.sort_by_key(|vcpu| (vcpu.order.unwrap_or(u32::MAX), vcpu.id));
        plugged.into_iter().map(|vcpu| vcpu.id).collect()
    }

    /// KiB that the guest has without its memory devices. What `<memory>` says is all of it.
    pub fn memory_at_boot_kib(&self) -> u64 {
        match self.cells() {
            [] => self.memory.kib.saturating_sub(self.devices.memory_kib()),
            cells => cells.iter().fold(0, |sum: u64, cell| sum.saturating_add(cell.kib)),
        }
    }

    /// Numbers of the threads for disks: those that are listed, then the lowest free ones up to the count.
    pub fn iothread_numbers(&self) -> Vec<u32> {
        let listed = self.iothread_ids.iter().flat_map(|ids| &ids.threads).map(|thread| thread.id);
        let mut numbers: Vec<u32> = listed.collect();
        let taken: std::collections::BTreeSet<u32> = numbers.iter().copied().collect();
        let missing = (self.iothreads.unwrap_or(0) as usize).saturating_sub(numbers.len());
        numbers.extend((1..).filter(|number| !taken.contains(number)).take(missing));
        numbers
    }

    /// The element that is about to be written.
    pub(crate) fn open(&self, options: FormatOptions) -> Output {
        let mut out = Output::new("domain", options);
        self.write(&mut out);
        out
    }
}

fn is_empty_word(child: &Node) -> bool {
    match child {
        Node::Element(element) => {
            ["title", "description"].contains(&element.name.as_str())
                && element.attributes.is_empty()
                && element.children.is_empty()
        }
        Node::Text(_) | Node::Comment(_) | Node::Instruction(_) => false,
    }
}

/// Whether memory is given by cells, which say how much it is.
fn has_cells(root: &Element) -> bool {
    root.child("cpu").and_then(|cpu| cpu.child("numa")).is_some_and(|numa| numa.child("cell").is_some())
}

/// Which parts of a domain are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FormatOptions {
    /// Leave out what only a running guest has: id, given-out aliases, detected chains, chosen ports and nodes.
    pub inactive: bool,
    /// Write passwords.
    pub secure: bool,
    /// The form that travels to another host: without what every host adds and older ones do not know.
    pub migratable: bool,
}

impl FormatOptions {
    /// All that is known of a running guest, but for secrets.
    pub const LIVE: Self = Self { inactive: false, secure: false, migratable: false };
    /// The definition, but for secrets.
    pub const INACTIVE: Self = Self { inactive: true, secure: false, migratable: false };
    /// The running guest as it travels.
    pub const MIGRATION: Self = Self { inactive: false, secure: true, migratable: true };
}
