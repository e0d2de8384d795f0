//! Which guests a QEMU of this host can run, and which processors they can have: `domcapabilities`, `cpu-compare` and the like.
//!
//! What QEMU says is in its capabilities; `ferry_qemu::domain_caps` and `ferry_qemu::cpu_match` make the answers.

use std::path::Path;
use std::sync::Arc;

use ferry_domxml::DomainKind;
use ferry_qemu::capabilities::{Accelerator, Capabilities};
use ferry_qemu::cpu_match::{self, Cpu, CpuError};
use ferry_qemu::domain_caps;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::proto::{
    ConnectBaselineCpu, ConnectBaselineHypervisorCpu, ConnectCompareCpu, ConnectCompareHypervisorCpu,
    ConnectGetCpuModelNames, ConnectGetCpuModelNamesReply, ConnectGetDomainCapabilities,
};

use super::{Context, accept_flags, int};
use crate::perform::tpm;
use crate::probe::DEFAULT_EMULATOR;

/// The only architecture whose guests run here.
const ARCH: &str = "x86_64";

/// Architectures that clients may ask about. Of the others nothing is known.
const KNOWN_ARCHS: &[&str] = &[
    "aarch64",
    "alpha",
    "armv6l",
    "armv7b",
    "armv7l",
    "cris",
    "i686",
    "ia64",
    "lm32",
    "loongarch64",
    "m68k",
    "microblaze",
    "microblazeel",
    "mips",
    "mips64",
    "mips64el",
    "mipsel",
    "openrisc",
    "parisc",
    "parisc64",
    "ppc",
    "ppc64",
    "ppc64le",
    "ppcemb",
    "riscv32",
    "riscv64",
    "s390",
    "s390x",
    "sh4",
    "sh4eb",
    "sparc",
    "sparc64",
    "unicore32",
    "x86_64",
    "xtensa",
    "xtensaeb",
];

/// `VIR_CONNECT_COMPARE_CPU_*`: an error instead of "incompatible"; the element is checked.
const FAIL_INCOMPATIBLE: u32 = 1;
const VALIDATE_XML: u32 = 2;

/// `VIR_CONNECT_BASELINE_CPU_*`: with the features that the model implies; without those that block a migration.
const EXPAND_FEATURES: u32 = 1;
const MIGRATABLE: u32 = 2;

/// `VIR_CPU_COMPARE_*`.
const INCOMPATIBLE: i32 = 0;
const SUPERSET: i32 = 2;

/// Where Debian has firmware that a definition can name.
const LOADERS: &[&str] = &[
    "/usr/share/OVMF/OVMF_CODE_4M.ms.fd",
    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
];

/// A QEMU, and what runs the guests that a client asks about.
struct Hypervisor {
    emulator: String,
    capabilities: Arc<Capabilities>,
    kind: DomainKind,
}

impl Hypervisor {
    /// The one that a client describes; what it leaves out is the default.
    async fn find(
        context: &Context,
        emulator: Option<String>,
        arch: Option<&str>,
        kind: Option<&str>,
    ) -> Result<Self, Error> {
        match arch {
            None | Some(ARCH) => {}
            Some(arch) if KNOWN_ARCHS.contains(&arch) => {
                let text = format!("unable to find any emulator to serve '{arch}' architecture");
                return Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text));
            }
            Some(arch) => return Err(invalid(format!("unknown architecture: {arch}"))),
        }
        let emulator = emulator.unwrap_or_else(|| DEFAULT_EMULATOR.to_owned());
        let capabilities = context.host.capabilities(Some(&emulator)).await?;
        let has_kvm = capabilities.has_accelerator(Accelerator::Kvm);
        let kind = match kind {
            None if has_kvm => DomainKind::Kvm,
            None | Some("qemu") => DomainKind::Qemu,
            Some("kvm") if has_kvm => DomainKind::Kvm,
            Some(known @ ("kvm" | "xen" | "lxc" | "hvf" | "vmware" | "bhyve" | "test" | "vz")) => {
                let text = format!("Emulator '{emulator}' does not support virt type '{known}'");
                return Err(invalid(text));
            }
            Some(other) => return Err(invalid(format!("unknown virttype: {other}"))),
        };
        Ok(Self { emulator, capabilities, kind })
    }

    fn accelerator(&self) -> Accelerator {
        match self.kind {
            DomainKind::Qemu => Accelerator::Tcg,
            DomainKind::Kvm => Accelerator::Kvm,
        }
    }
}

/// What a guest can have.
pub(super) async fn domain_capabilities(
    context: Context,
    call: ConnectGetDomainCapabilities,
) -> Result<String, Error> {
    /// `VIR_CONNECT_GET_DOMAIN_CAPABILITIES_DISABLE_DEPRECATED_FEATURES`; there are none on this architecture.
    const WITHOUT_DEPRECATED: u32 = 1;
    accept_flags(call.flags, WITHOUT_DEPRECATED, "qemuConnectGetDomainCapabilities")?;
    let hypervisor =
        Hypervisor::find(&context, call.emulatorbin, call.arch.as_deref(), call.virttype.as_deref()).await?;
    let capabilities = &hypervisor.capabilities;
    let machine = match &call.machine {
        Some(name) => capabilities.machine(name),
        None => capabilities.default_machine(),
    };
    let machine = machine.ok_or_else(|| {
        let name = call.machine.as_deref().unwrap_or_default();
        invalid(format!("the machine '{name}' is not supported by emulator '{}'", hypervisor.emulator))
    })?;
    let loaders = LOADERS.iter().filter(|path| Path::new(path).exists());
    let loaders: Vec<String> = loaders.map(|path| (*path).to_owned()).collect();
    let asked = domain_caps::Asked {
        emulator: &hypervisor.emulator,
        kind: hypervisor.kind,
        machine,
        loaders: &loaders,
        plays_tpm: tpm::is_played(&context.host),
    };
    Ok(domain_caps::document(&asked, capabilities))
}

/// The processors that a definition can name. None for a foreign architecture: whatever is named is accepted.
pub(super) async fn model_names(
    context: Context,
    call: ConnectGetCpuModelNames,
) -> Result<ConnectGetCpuModelNamesReply, Error> {
    accept_flags(call.flags, 0, "qemuConnectGetCPUModelNames")?;
    if !KNOWN_ARCHS.contains(&call.arch.as_str()) {
        return Err(invalid(format!("cannot find architecture {}", call.arch)));
    }
    let mut models = match call.arch == ARCH {
        true => cpu_match::model_names(&*context.host.capabilities(None).await?),
        false => Vec::new(),
    };
    let count = int(models.len());
    if !call.need_results {
        models.clear();
    }
    Ok(ConnectGetCpuModelNamesReply { models, count })
}

/// Whether guests can have a processor, with the best that this host gives.
pub(super) async fn compare(context: Context, call: ConnectCompareCpu) -> Result<i32, Error> {
    accept_flags(call.flags, FAIL_INCOMPATIBLE | VALIDATE_XML, "qemuConnectCompareCPU")?;
    let hypervisor = Hypervisor::find(&context, None, None, None).await?;
    verdict(&hypervisor, &call.xml, call.flags)
}

/// Whether guests can have a processor with a certain QEMU.
pub(super) async fn compare_with(context: Context, call: ConnectCompareHypervisorCpu) -> Result<i32, Error> {
    accept_flags(call.flags, FAIL_INCOMPATIBLE | VALIDATE_XML, "qemuConnectCompareHypervisorCPU")?;
    let hypervisor =
        Hypervisor::find(&context, call.emulator, call.arch.as_deref(), call.virttype.as_deref()).await?;
    verdict(&hypervisor, &call.xml_cpu, call.flags)
}

fn verdict(hypervisor: &Hypervisor, xml: &str, flags: u32) -> Result<i32, Error> {
    let cpu = Cpu::parse(xml).map_err(refused)?;
    let verdict =
        cpu_match::compare(&cpu, hypervisor.accelerator(), &hypervisor.capabilities).map_err(refused)?;
    if verdict.is_compatible() {
        return Ok(SUPERSET);
    }
    if flags & FAIL_INCOMPATIBLE != 0 {
        return Err(Error::of(ErrorCode::CPU_INCOMPATIBLE, Origin::CPU, verdict.reason()));
    }
    Ok(INCOMPATIBLE)
}

/// What several processors have in common.
pub(super) async fn baseline(context: Context, call: ConnectBaselineCpu) -> Result<String, Error> {
    accept_flags(call.flags, EXPAND_FEATURES | MIGRATABLE, "qemuConnectBaselineCPU")?;
    let hypervisor = Hypervisor::find(&context, None, None, None).await?;
    common(&hypervisor, None, &call.xml_cpus, call.flags, "virConnectBaselineCPU")
}

/// What several processors and a certain QEMU have in common.
pub(super) async fn baseline_with(
    context: Context,
    call: ConnectBaselineHypervisorCpu,
) -> Result<String, Error> {
    accept_flags(call.flags, EXPAND_FEATURES | MIGRATABLE, "qemuConnectBaselineHypervisorCPU")?;
    let hypervisor =
        Hypervisor::find(&context, call.emulator, call.arch.as_deref(), call.virttype.as_deref()).await?;
    let accelerator = Some(hypervisor.accelerator());
    common(&hypervisor, accelerator, &call.xml_cpus, call.flags, "virConnectBaselineHypervisorCPU")
}

fn common(
    hypervisor: &Hypervisor,
    accelerator: Option<Accelerator>,
    cpus: &[String],
    flags: u32,
    function: &str,
) -> Result<String, Error> {
    if flags & EXPAND_FEATURES != 0 {
        // What a model implies stands in no table here.
        return Err(Error::of(ErrorCode::NO_SUPPORT, Origin::NONE, function));
    }
    let cpus: Vec<Cpu> = cpus.iter().map(|cpu| Cpu::parse(cpu)).collect::<Result<_, _>>().map_err(refused)?;
    cpu_match::baseline(&cpus, accelerator, &hypervisor.capabilities).map_err(refused)
}

fn refused(error: CpuError) -> Error {
    let code = match &error {
        CpuError::Malformed(_) => ErrorCode::XML_ERROR,
        CpuError::Model(_) | CpuError::Feature(_) => ErrorCode::INTERNAL_ERROR,
        CpuError::NoModel(_) => ErrorCode::INVALID_ARG,
        CpuError::Different(..) | CpuError::Untold(_) => ErrorCode::CONFIG_UNSUPPORTED,
    };
    Error::of(code, Origin::CPU, error.to_string())
}

fn invalid(text: String) -> Error {
    Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text)
}
