//! `<cpu>` and `<vcpu>`: what processor the guest sees, and how many of them.

use crate::memory::CpuSet;
use crate::model::{Input, Model, OnOff, Output, Refusal, Rest, Text, Value, YesNo, element, values};

element! {
    /// The processor that the guest sees.
    pub struct Cpu {
        /// Where the model comes from. `None`: custom when a model is named.
        mode: Option<CpuMode> => Attr("mode"),
        /// How the features are to be read.
        match_: Option<CpuMatch> => Attr("match"),
        /// How closely the running CPU was compared with this one.
        check: Option<CpuCheck> => Attr("check"),
        /// Whether features that block migration are left out (host-passthrough, maximum).
        migratable: Option<OnOff> => Attr("migratable"),
        /// The named model.
        model: Option<CpuModel> => Child("model"),
        /// Vendor that the host must have.
        vendor: Option<String> => TextChild("vendor"),
        /// Sockets, cores, threads.
        topology: Option<Topology> => Child("topology"),
        /// Caches shown to the guest.
        cache: Option<CpuCache> => Child("cache"),
        /// Address width shown to the guest.
        max_phys_addr: Option<MaxPhysAddr> => Child("maxphysaddr"),
        /// Single features.
        features: Vec<CpuFeature> => Child("feature"),
        /// Memory cells.
        numa: Option<crate::numa::Numa> => Child("numa"),
    }
    order ["arch", "model", "vendor", "topology", "cache", "maxphysaddr", "feature", "numa"]
}

impl Cpu {
    /// The `<cpu>` element as a text of its own, as a migration's cookie carries it.
    pub fn to_xml(&self) -> String {
        let mut out = Output::new("cpu", crate::FormatOptions::MIGRATION);
        self.write(&mut out);
        crate::writer::write_document(&out)
    }

    /// The mode, with the default filled in.
    pub fn mode(&self) -> CpuMode {
        self.mode.unwrap_or(CpuMode::Custom)
    }
}

values! {
    /// Where the CPU model comes from.
    pub enum CpuMode {
        /// named
        Custom = "custom",
        /// the named model nearest to the host, expanded at start
        HostModel = "host-model",
        /// the host itself
        HostPassthrough = "host-passthrough",
        /// all that QEMU can give
        Maximum = "maximum",
    }
}

values! {
    /// How features are to be read.
    pub enum CpuMatch {
        /// at least these
        Minimum = "minimum",
        /// these and no others
        Exact = "exact",
        /// these, and the host must have no others
        Strict = "strict",
    }
}

values! {
    /// How closely the running CPU is compared with the XML.
    pub enum CpuCheck {
        /// not at all
        None = "none",
        /// by libvirt's own tables
        Partial = "partial",
        /// QEMU must give exactly this
        Full = "full",
    }
}

element! {
    /// `<model>` of a CPU.
    pub struct CpuModel {
        /// What happens when the host cannot give it.
        fallback: Option<CpuFallback> => Attr("fallback"),
        /// Vendor shown to the guest, 12 characters.
        vendor_id: Option<String> => Attr("vendor_id"),
        /// Name of the model. `None` only with host-model.
        name: Option<String> => Text(),
    }
}

values! {
    /// What happens when the host cannot give a CPU model.
    pub enum CpuFallback {
        /// a near one will do
        Allow = "allow",
        /// the guest does not start
        Forbid = "forbid",
    }
}

element! {
    /// `<topology>`: the product is the number of CPUs.
    pub struct Topology {
        /// Sockets.
        sockets: u32 => Attr("sockets"),
        /// Dies in a socket; `None`: 1.
        dies: Option<u32> => Attr("dies"),
        /// Clusters in a die; `None`: 1.
        clusters: Option<u32> => Attr("clusters"),
        /// Cores in a cluster.
        cores: u32 => Attr("cores"),
        /// Threads in a core.
        threads: u32 => Attr("threads"),
    }
}

impl Topology {
    /// The number of CPUs, or `None` when it passes what 32 bits hold.
    pub fn cpus(&self) -> Option<u32> {
        let factors = [self.dies.unwrap_or(1), self.clusters.unwrap_or(1), self.cores, self.threads];
        factors.into_iter().try_fold(self.sockets, u32::checked_mul)
    }
}

element! {
    /// `<cache>` of a CPU.
    pub struct CpuCache {
        /// 1..=3; only with `emulate`, where it is 3.
        level: Option<u32> => Attr("level"),
        /// What is shown.
        mode: CacheModeOfCpu => Attr("mode"),
    }
}

values! {
    /// Which caches a guest sees.
    pub enum CacheModeOfCpu {
        /// made up
        Emulate = "emulate",
        /// the host's
        Passthrough = "passthrough",
        /// none
        Disable = "disable",
    }
}

element! {
    /// `<maxphysaddr>`
    pub struct MaxPhysAddr {
        /// Whose width.
        mode: PhysAddrMode => Attr("mode"),
        /// Bits (emulate).
        bits: Option<u32> => Attr("bits"),
        /// At most these bits (passthrough).
        limit: Option<u32> => Attr("limit"),
    }
}

values! {
    /// Whose address width a guest sees.
    pub enum PhysAddrMode {
        /// the host's
        Passthrough = "passthrough",
        /// the number given
        Emulate = "emulate",
    }
}

element! {
    /// `<feature>` of a CPU.
    pub struct CpuFeature {
        /// What is wanted. `None`: require.
        policy: Option<FeaturePolicy> => Attr("policy"),
        /// Name, in libvirt's spelling.
        name: String => Attr("name"),
    }
}

values! {
    /// What is wanted of a CPU feature.
    pub enum FeaturePolicy {
        /// shown, whether the host has it or not
        Force = "force",
        /// shown, and the host must have it
        Require = "require",
        /// shown if the host has it
        Optional = "optional",
        /// not shown
        Disable = "disable",
        /// not shown, and the host must not have it
        Forbid = "forbid",
    }
}

/// `<vcpu>`: the number of processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vcpus {
    /// How host CPUs are chosen.
    pub placement: Option<VcpuPlacement>,
    /// Host CPUs that the guest may run on.
    pub cpuset: Option<CpuSet>,
    /// How many are plugged in. `None`: all.
    pub current: Option<u32>,
    /// How many there can be, at least 1.
    pub max: u32,
    /// What else stands in the element.
    pub rest: Rest,
}

impl Default for Vcpus {
    /// One, which is what a domain without the element has.
    fn default() -> Self {
        Self { placement: None, cpuset: None, current: None, max: 1, rest: Rest::default() }
    }
}

impl Vcpus {
    /// How many are plugged in.
    pub fn current(&self) -> u32 {
        self.current.unwrap_or(self.max)
    }
}

element! {
    /// `<vcpus>`: every processor that there can be.
    #[derive(Default)]
    pub struct EachVcpu {
        /// One each, in order of their numbers once they are completed.
        vcpus: Vec<Vcpu> => Child("vcpu"),
    }
}

element! {
    /// `<vcpu>` of `<vcpus>`.
    pub struct Vcpu {
        /// Number, from 0.
        id: u32 => Attr("id"),
        /// Whether the guest has it.
        enabled: YesNo => Attr("enabled"),
        /// Whether it can come and go while the guest runs. `None`: one that is there cannot, another can.
        hotpluggable: Option<YesNo> => Attr("hotpluggable"),
        /// Which it is among those that are there, from 1.
        order: Option<u32> => Attr("order"),
    }
}

impl Vcpu {
    /// Whether it is there and was plugged in, and can be taken out.
    pub fn is_plugged(&self) -> bool {
        self.enabled.is_yes() && self.hotpluggable.is_some_and(|hotpluggable| hotpluggable.is_yes())
    }
}

values! {
    /// How host CPUs are chosen.
    pub enum VcpuPlacement {
        /// by the XML
        Static = "static",
        /// by an advice daemon
        Auto = "auto",
    }
}

impl Model for Vcpus {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let vcpus = Self {
            placement: input.attribute("placement")?,
            cpuset: input.attribute("cpuset")?,
            current: input.attribute("current")?,
            max: Text::take(input)?,
            rest: Rest::default(),
        };
        if vcpus.max == 0 {
            return Err(input.invalid_text("0"));
        }
        if let Some(current) = vcpus.current
            && !(1..=vcpus.max).contains(&current)
        {
            let text = "maximum vCPU count must not be less than current vCPU count".to_owned();
            return Err(Refusal::Invalid(crate::ParseError::Unsupported(text)));
        }
        Ok(Self { rest: input.rest(), ..vcpus })
    }

    fn write(&self, out: &mut Output) {
        out.optional("placement", &self.placement);
        out.optional("cpuset", &self.cpuset);
        out.optional("current", &self.current.filter(|current| *current != self.max));
        out.children.push(crate::model::Piece::Text(self.max.to_text()));
        out.rest(&self.rest);
    }
}
