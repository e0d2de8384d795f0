//! Comparing processors that clients write down with what this host gives its guests, and finding what several have in common.
//!
//! What a named model holds is QEMU's to know: it says for each which of its features are missing here. There is no table
//! of models in this program, so different models are not compared with each other; that is refused.

use crate::capabilities::{Accelerator, Capabilities, CpuModel};
use crate::host_model::{FEATURES, qemu_feature};
use crate::tree::element;
use ferry_domxml::{Domain, DomainKind, Element};
use std::collections::BTreeSet;
use thiserror::Error;

/// A processor as a client wrote it down: of a guest, or of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    arch: Option<String>,
    mode: Option<String>,
    model: Option<String>,
    features: Vec<(String, Policy)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    Require,
    Disable,
    Forbid,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CpuError {
    /// It cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// QEMU has no such model.
    #[error("Unknown CPU model {0}")]
    Model(String),
    /// Nobody has such a feature.
    #[error("Unknown CPU feature {0}")]
    Feature(String),
    /// It names no model.
    #[error("no CPU model specified at index {0}")]
    NoModel(usize),
    /// The models differ.
    #[error("CPU models {0} and {1} are not compared with each other")]
    Different(String, String),
    /// QEMU does not say what the model lacks here.
    #[error("QEMU cannot tell whether CPU model {0} can be used")]
    Untold(String),
}

/// What this host lacks for a processor, and what it has that it must not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Features in libvirt's spelling.
    pub missing: Vec<String>,
    /// As those.
    pub forbidden: Vec<String>,
    /// It is of another architecture.
    pub other_arch: Option<String>,
}

impl Verdict {
    /// Whether a guest can have such a processor.
    pub fn is_compatible(&self) -> bool {
        *self == Self::default()
    }

    /// What stands in the way, in words that clients show.
    pub fn reason(&self) -> String {
        if let Some(arch) = &self.other_arch {
            return format!("CPU arch {arch} does not match host arch");
        }
        match self.missing.is_empty() {
            false => format!("Host CPU does not provide required features: {}", self.missing.join(", ")),
            true => format!("Host CPU provides forbidden features: {}", self.forbidden.join(", ")),
        }
    }
}

impl Cpu {
    /// Reads a `cpu` element.
    ///
    /// # Errors
    /// [`CpuError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, CpuError> {
        let root = Element::parse(text).map_err(|error| CpuError::Malformed(error.to_string()))?;
        if root.name != "cpu" {
            return Err(CpuError::Malformed(format!(
                "unexpected root element <{}>, expecting <cpu>",
                root.name
            )));
        }
        let text = |name: &str| root.child(name).map(Element::text).filter(|text| !text.is_empty());
        let mut features = Vec::new();
        for feature in root.elements().filter(|child| child.name == "feature") {
            let name = feature.attribute("name").unwrap_or_default().to_owned();
            let policy = match feature.attribute("policy") {
                None | Some("require" | "force") => Policy::Require,
                Some("disable") => Policy::Disable,
                Some("forbid") => Policy::Forbid,
                Some("optional") => continue,
                Some(other) => {
                    return Err(CpuError::Malformed(format!("Invalid CPU feature policy '{other}'")));
                }
            };
            features.push((name, policy));
        }
        Ok(Self {
            arch: text("arch"),
            mode: root.attribute("mode").map(str::to_owned),
            model: text("model"),
            features,
        })
    }

    /// Whether it is the host's own, whatever that is.
    fn is_hosts(&self) -> bool {
        matches!(self.mode.as_deref(), Some("host-model" | "host-passthrough" | "maximum"))
    }

    fn policy(&self, feature: &str) -> Option<Policy> {
        self.features.iter().find(|(name, _)| name == feature).map(|(_, policy)| *policy)
    }
}

/// Whether guests of this host can have `cpu`.
///
/// # Errors
/// [`CpuError`] for a model or a feature that nobody knows.
pub fn compare(
    cpu: &Cpu,
    accelerator: Accelerator,
    capabilities: &Capabilities,
) -> Result<Verdict, CpuError> {
    if let Some(arch) = cpu.arch.as_ref().filter(|arch| **arch != capabilities.arch) {
        return Ok(Verdict { other_arch: Some(arch.clone()), ..Verdict::default() });
    }
    let mut verdict = Verdict::default();
    if cpu.is_hosts() {
        return Ok(verdict);
    }
    if let Some(name) = &cpu.model {
        let lacks = lacks(model(name, accelerator, capabilities)?)?;
        verdict.missing.extend(lacks.into_iter().filter(|name| cpu.policy(name) != Some(Policy::Disable)));
    }
    for (name, policy) in &cpu.features {
        let has = provides(name, accelerator, capabilities)?;
        match policy {
            Policy::Require if !has && !verdict.missing.contains(name) => verdict.missing.push(name.clone()),
            Policy::Forbid if has => verdict.forbidden.push(name.clone()),
            Policy::Require | Policy::Forbid | Policy::Disable => {}
        }
    }
    Ok(verdict)
}

/// Features that guests of this host cannot have, of those that a definition's processor asks for; in libvirt's spelling.
/// Nothing for a processor that is the host's own, and where nobody can tell.
pub fn lacking(domain: &Domain, capabilities: &Capabilities) -> Vec<String> {
    let accelerator = match domain.kind {
        DomainKind::Qemu => Accelerator::Tcg,
        DomainKind::Kvm => Accelerator::Kvm,
    };
    let Some(cpu) = &domain.cpu else { return Vec::new() };
    let verdict = Cpu::parse(&cpu.to_xml()).and_then(|cpu| compare(&cpu, accelerator, capabilities));
    verdict.map(|verdict| verdict.missing).unwrap_or_default()
}

/// The processor that all of `cpus` have in common, as an element. With an accelerator also what that lacks is left out.
///
/// # Errors
/// [`CpuError`]; different models have nothing in common that could be told here.
pub fn baseline(
    cpus: &[Cpu],
    accelerator: Option<Accelerator>,
    capabilities: &Capabilities,
) -> Result<String, CpuError> {
    let mut names = cpus.iter().enumerate().map(|(at, cpu)| cpu.model.clone().ok_or(CpuError::NoModel(at)));
    let name = names.next().unwrap_or(Err(CpuError::NoModel(0)))?;
    for other in names {
        let other = other?;
        if other != name {
            return Err(CpuError::Different(name, other));
        }
    }
    let known = model(&name, accelerator.unwrap_or(Accelerator::Tcg), capabilities)?;
    let lacking = if accelerator.is_some() { lacks(known)? } else { Vec::new() };
    let all = |feature: &str, policy: Policy| cpus.iter().all(|cpu| cpu.policy(feature) == Some(policy));
    let any = |feature: &str, policy: Policy| cpus.iter().any(|cpu| cpu.policy(feature) == Some(policy));
    let stated: BTreeSet<&str> =
        cpus.iter().flat_map(|cpu| cpu.features.iter().map(|(name, _)| name.as_str())).collect();
    let (mut required, mut disabled) = (Vec::new(), lacking.clone());
    for feature in stated {
        let has = match accelerator {
            Some(accelerator) => provides(feature, accelerator, capabilities)?,
            None => provides(feature, Accelerator::Tcg, capabilities).map(|_| true)?,
        };
        if all(feature, Policy::Require) && has && !lacking.iter().any(|lack| lack == feature) {
            required.push(feature.to_owned());
        } else if (any(feature, Policy::Disable) || any(feature, Policy::Forbid))
            && !disabled.iter().any(|lack| lack == feature)
        {
            disabled.push(feature.to_owned());
        }
    }
    let features = |policy: &'static str, names: Vec<String>| {
        names
            .into_iter()
            .map(move |name| element("feature").attribute("policy", policy).attribute("name", name))
    };
    let cpu = element("cpu")
        .attribute("mode", "custom")
        .attribute("match", "exact")
        .with(element("model").attribute("fallback", "forbid").text(name))
        .with_all(features("require", required))
        .with_all(features("disable", disabled));
    Ok(cpu.format())
}

/// The names of the models that definitions can use, as QEMU has them.
pub fn model_names(capabilities: &Capabilities) -> Vec<String> {
    let known = capabilities.accelerators.get(&Accelerator::Tcg).map(|known| &known.cpu_models[..]);
    let named = known.unwrap_or_default().iter().map(|model| &model.name);
    named.filter(|name| !matches!(name.as_str(), "base" | "host" | "max")).cloned().collect()
}

fn model<'a>(
    name: &str,
    accelerator: Accelerator,
    capabilities: &'a Capabilities,
) -> Result<&'a CpuModel, CpuError> {
    capabilities.cpu_model(accelerator, name).ok_or_else(|| CpuError::Model(name.to_owned()))
}

/// What a model lacks here, in libvirt's spelling.
fn lacks(model: &CpuModel) -> Result<Vec<String>, CpuError> {
    let lacks = model.lacks.as_ref().ok_or_else(|| CpuError::Untold(model.name.clone()))?;
    let spelled = |lack: &String| {
        let known = FEATURES.split_ascii_whitespace().find(|name| qemu_feature(name) == *lack);
        known.unwrap_or(lack).to_owned()
    };
    Ok(lacks.iter().map(spelled).collect())
}

fn provides(feature: &str, accelerator: Accelerator, capabilities: &Capabilities) -> Result<bool, CpuError> {
    let spelled = qemu_feature(feature);
    let known = capabilities.accelerators.get(&accelerator).and_then(|known| known.max_cpu.get(&spelled));
    match known {
        Some(on) => Ok(*on),
        None if FEATURES.split_ascii_whitespace().any(|name| name == feature) => Ok(false),
        None => Err(CpuError::Feature(feature.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured() -> Capabilities {
        Capabilities::from_json(include_str!("../tests/data/qemu-7.2.json")).unwrap()
    }

    fn verdict(text: &str) -> Result<Verdict, CpuError> {
        compare(&Cpu::parse(text)?, Accelerator::Tcg, &captured())
    }

    #[test]
    fn what_the_host_lacks_is_named() {
        assert!(verdict("<cpu><model>qemu64</model></cpu>").unwrap().is_compatible());
        assert!(verdict("<cpu mode='host-model'/>").unwrap().is_compatible());
        let lacking = verdict("<cpu><model>Skylake-Server</model></cpu>").unwrap();
        assert!(lacking.missing.contains(&"avx512f".to_owned()), "{lacking:?}");
        assert!(lacking.reason().starts_with("Host CPU does not provide required features: "));
        let without: String =
            lacking.missing.iter().map(|name| format!("<feature policy='disable' name='{name}'/>")).collect();
        assert!(
            verdict(&format!("<cpu><model>Skylake-Server</model>{without}</cpu>")).unwrap().is_compatible()
        );
        let other = verdict("<cpu><arch>aarch64</arch></cpu>").unwrap();
        assert_eq!(other.reason(), "CPU arch aarch64 does not match host arch");
        let forbidden =
            verdict("<cpu><model>qemu64</model><feature policy='forbid' name='aes'/></cpu>").unwrap();
        assert_eq!(forbidden.reason(), "Host CPU provides forbidden features: aes");
    }

    #[test]
    fn a_definition_is_asked_for_what_it_requires() {
        let lacks = |cpu: &str| {
            let text = format!(
                "<domain type='qemu'><name>vm</name><memory>1024</memory><os><type arch='x86_64'>hvm</type></os>{cpu}</domain>"
            );
            lacking(&Domain::parse(&text).unwrap(), &captured())
        };
        assert_eq!(lacks(""), [""; 0]);
        assert_eq!(lacks("<cpu mode='host-model'/>"), [""; 0]);
        assert_eq!(lacks("<cpu mode='custom'><model>Foo</model></cpu>"), [""; 0], "validate refuses it");
        let cpu = "<cpu mode='custom' match='exact'><model>qemu64</model><feature policy='require' name='avx512f'/></cpu>";
        assert_eq!(lacks(cpu), ["avx512f"]);
        assert_eq!(lacks(&cpu.replace("require", "disable")), [""; 0]);
    }

    #[test]
    fn what_nobody_knows_is_an_error() {
        assert_eq!(verdict("<cpu><model>Foo</model></cpu>"), Err(CpuError::Model("Foo".to_owned())));
        let feature = verdict("<cpu><model>qemu64</model><feature name='nonsense'/></cpu>");
        assert_eq!(feature, Err(CpuError::Feature("nonsense".to_owned())));
        for bad in ["", "<domain/>", "<cpu><feature name='aes' policy='x'/></cpu>"] {
            assert!(matches!(verdict(bad), Err(CpuError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn several_have_in_common_what_all_have() {
        let cpus = |texts: &[&str]| texts.iter().map(|text| Cpu::parse(text).unwrap()).collect::<Vec<_>>();
        let (one, other) = (
            "<cpu><model>Nehalem</model><feature name='aes'/><feature name='pcid'/></cpu>",
            "<cpu><model>Nehalem</model><feature name='aes'/></cpu>",
        );
        let common = baseline(&cpus(&[one, other]), None, &captured()).unwrap();
        let expected = "<cpu mode='custom' match='exact'>\n  <model fallback='forbid'>Nehalem</model>\n  \
                        <feature policy='require' name='aes'/>\n</cpu>\n";
        assert_eq!(common, expected);
        let given = baseline(
            &cpus(&["<cpu><model>Skylake-Server</model></cpu>"]),
            Some(Accelerator::Tcg),
            &captured(),
        );
        assert!(given.unwrap().contains("<feature policy='disable' name='avx512f'/>"));
        let penryn = "<cpu><model>Penryn</model></cpu>";
        assert!(matches!(baseline(&cpus(&[one, penryn]), None, &captured()), Err(CpuError::Different(..))));
        assert_eq!(baseline(&cpus(&["<cpu/>"]), None, &captured()), Err(CpuError::NoModel(0)));
    }
}
