//! `host-model`: the CPU of the host as a named model with a list of features.
//!
//! A definition that asks for the host's CPU gets it spelled out in the live definition when it starts, so
//! that a migration carries what the guest really has and the other host can tell whether it has it too.
//! The daemon calls [`expand`] on the live copy before it asks for the command line. What the host has comes
//! from the probe of the binary; no CPU is looked at here.

use ferry_domxml::cpu::{CpuFallback, CpuFeature, CpuMatch, CpuMode, CpuModel, FeaturePolicy};
use ferry_domxml::{Domain, DomainKind, Rest};

use crate::capabilities::{Accelerator, AcceleratorCapabilities, Capabilities};
use crate::host_caps;

/// The host has no model that could be named.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unsupported configuration: CPU mode 'host-model' for x86_64 {kind} domain on x86_64 host is not supported by hypervisor"
)]
pub struct NoHostModel {
    /// `qemu` or `kvm`.
    pub kind: &'static str,
}

/// Replaces host-model by what it stands for; every other mode stays.
///
/// Features that the definition asks for or forbids keep its word.
///
/// # Errors
/// No named model is usable here.
pub fn expand(domain: &mut Domain, capabilities: &Capabilities) -> Result<(), NoHostModel> {
    let kind = domain.kind;
    let Some(cpu) = domain.cpu.as_mut().filter(|cpu| cpu.mode == Some(CpuMode::HostModel)) else {
        return Ok(());
    };
    let (model, features) = host_model(kind, capabilities)?;
    let stated = |name: &str| cpu.features.iter().any(|feature| feature.name == name);
    let added: Vec<CpuFeature> = features
        .into_iter()
        .filter(|name| !stated(name))
        .map(|name| CpuFeature {
            policy: Some(FeaturePolicy::Require),
            name: name.to_owned(),
            rest: Rest::default(),
        })
        .collect();
    cpu.features.extend(added);
    cpu.mode = Some(CpuMode::Custom);
    cpu.match_ = Some(CpuMatch::Exact);
    let vendor_id = cpu.model.take().and_then(|model| model.vendor_id);
    cpu.model = Some(CpuModel {
        fallback: Some(CpuFallback::Forbid),
        vendor_id,
        name: Some(model.to_owned()),
        rest: Rest::default(),
    });
    Ok(())
}

/// The model and the features that the host has, in libvirt's spelling.
///
/// # Errors
/// No named model is usable here.
pub fn host_model(
    kind: DomainKind,
    capabilities: &Capabilities,
) -> Result<(&str, Vec<&'static str>), NoHostModel> {
    let (accelerator, word) = match kind {
        DomainKind::Qemu => (Accelerator::Tcg, "qemu"),
        DomainKind::Kvm => (Accelerator::Kvm, "kvm"),
    };
    let refused = NoHostModel { kind: word };
    let known = capabilities.accelerators.get(&accelerator).ok_or(refused.clone())?;
    let vendor = known.max_cpu_vendor.as_deref().unwrap_or_default();
    let model = match kind {
        DomainKind::Kvm => host_caps::host_model(vendor, capabilities),
        // The emulator has no host to resemble; its plainest model carries any feature.
        DomainKind::Qemu => usable(known, "qemu64"),
    };
    let model = model.ok_or(refused)?;
    let has = |name: &&str| known.max_cpu.get(&qemu_feature(name)) == Some(&true);
    Ok((model, FEATURES.split_ascii_whitespace().filter(has).collect()))
}

fn usable<'a>(known: &'a AcceleratorCapabilities, name: &str) -> Option<&'a str> {
    let model = known.cpu_models.iter().find(|model| model.name == name)?;
    model.lacks.as_ref().is_some_and(Vec::is_empty).then_some(model.name.as_str())
}

/// A feature's name as QEMU spells it.
#[must_use]
pub fn qemu_feature(name: &str) -> String {
    match name {
        "pclmuldq" => "pclmulqdq".to_owned(),
        name => name.replace('_', "-"),
    }
}

/// The features that libvirt 9.0 has names for, so that its hosts understand a definition that lists them.
/// What `vmx` is made of is left to QEMU's model, and what KVM adds for its guests to KVM.
pub(crate) const FEATURES: &str = "\
     3dnow 3dnowext 3dnowprefetch abm acpi adx aes amd-no-ssb amd-ssbd amd-stibp amx-bf16 amx-int8 \
     amx-tile apic arat arch-capabilities arch-lbr avic avx avx-vnni avx2 avx512-4fmaps avx512-4vnniw \
     avx512-bf16 avx512-fp16 avx512-vp2intersect avx512-vpopcntdq avx512bitalg avx512bw avx512cd \
     avx512dq avx512er avx512f avx512ifma avx512pf avx512vbmi avx512vbmi2 avx512vl avx512vnni bmi1 \
     bmi2 bus-lock-detect cid cldemote clflush clflushopt clwb clzero cmov cmp_legacy core-capability \
     cr8legacy cx16 cx8 dca de decodeassists ds ds_cpl dtes64 erms est extapic f16c flushbyasid fma \
     fma4 fpu fsgsbase fsrm fxsr fxsr_opt gfni hle ht hypervisor ia64 ibpb ibrs ibrs-all ibs intel-pt \
     intel-pt-lip invpcid invtsc la57 lahf_lm lbrv lm lwp mca mce md-clear mds-no misalignsse mmx \
     mmxext monitor movbe movdir64b movdiri mpx msr mtrr nodeid_msr npt nrip-save nx osvw pae pat \
     pause-filter pbe pcid pclmuldq pcommit pdcm pdpe1gb perfctr_core perfctr_nb pfthreshold pge pks \
     pku pn pni popcnt pschange-mc-no pse pse36 rdctl-no rdpid rdrand rdseed rdtscp rsba rtm sep \
     serialize sgx sgx-debug sgx-exinfo sgx-kss sgx-mode64 sgx-provisionkey sgx-tokenkey sgx1 sgx2 \
     sgxlc sha-ni skinit skip-l1dfl-vmentry smap smep smx spec-ctrl split-lock-detect ss ssb-no ssbd \
     sse sse2 sse4.1 sse4.2 sse4a ssse3 stibp svm svm-lock svme-addr-chk syscall taa-no tbm tce tm \
     tm2 topoext tsc tsc-deadline tsc-scale tsc_adjust tsx-ctrl tsx-ldtrk umip v-vmsave-vmload vaes \
     vgif virt-ssbd vmcb-clean vme vmx vpclmulqdq waitpkg wbnoinvd wdt x2apic xfd xgetbv1 xop xsave \
     xsavec xsaveerptr xsaveopt xsaves xtpr";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::CpuModel as KnownModel;

    fn capabilities() -> Capabilities {
        let model = |name: &str, lacks: &[&str]| KnownModel {
            name: name.to_owned(),
            alias_of: None,
            deprecated: false,
            lacks: Some(lacks.iter().map(|lack| (*lack).to_owned()).collect()),
        };
        let features =
            [("aes", true), ("avx512f", false), ("lahf-lm", true), ("pclmulqdq", true), ("made-up", true)];
        let emulated = AcceleratorCapabilities {
            cpu_models: vec![model("qemu64", &[]), model("EPYC", &["sha-ni"])],
            max_cpu: features.into_iter().map(|(name, on)| (name.to_owned(), on)).collect(),
            max_cpu_vendor: Some("AuthenticAMD".to_owned()),
        };
        let mut capabilities = Capabilities::default();
        capabilities.accelerators.insert(Accelerator::Tcg, emulated);
        capabilities
    }

    fn domain(kind: &str, features: &str) -> Domain {
        let text = format!(
            "<domain type='{kind}'><name>h</name><memory>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os>
             <cpu mode='host-model'>{features}</cpu></domain>"
        );
        Domain::parse(&text).unwrap()
    }

    #[test]
    fn the_hosts_cpu_is_spelled_out_and_the_users_word_stays() {
        let mut domain = domain("qemu", "<feature policy='disable' name='aes'/>");
        expand(&mut domain, &capabilities()).unwrap();
        let cpu = domain.cpu.unwrap();
        assert_eq!((cpu.mode, cpu.model.unwrap().name.as_deref()), (Some(CpuMode::Custom), Some("qemu64")));
        let features: Vec<_> =
            cpu.features.iter().map(|one| (one.policy.unwrap(), one.name.as_str())).collect();
        let expected = [
            (FeaturePolicy::Disable, "aes"),
            (FeaturePolicy::Require, "lahf_lm"),
            (FeaturePolicy::Require, "pclmuldq"),
        ];
        assert_eq!(features, expected);
    }

    #[test]
    fn without_a_usable_model_it_is_refused() {
        let error = expand(&mut domain("kvm", ""), &capabilities()).unwrap_err();
        assert_eq!(error, NoHostModel { kind: "kvm" });
    }

    #[test]
    fn another_mode_stays() {
        let mut domain = domain("qemu", "");
        domain.cpu.as_mut().unwrap().mode = Some(CpuMode::Maximum);
        let before = domain.clone();
        expand(&mut domain, &Capabilities::default()).unwrap();
        assert_eq!(domain, before);
    }
}
