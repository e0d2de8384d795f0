//! Which UEFI a guest gets: the host's descriptors, and the choice among them.
//!
//! The distribution describes each firmware in a JSON file of a form that QEMU's project defined
//! (`docs/interop/firmware.json`). The daemon reads the files and calls [`choose`] when a definition is completed: what was
//! chosen is written into the definition, because the image and its size are what the guest has from then on.
//! Nothing here opens a file.

use ferry_domxml::features::Smm;
use ferry_domxml::firmware::{
    FirmwareFeature, FirmwareFeatureName, FirmwareFormat, FirmwareWish, Loader, LoaderType, Nvram,
};
use ferry_domxml::{Domain, OnOff, Rest, YesNo};
use serde::Deserialize;

/// What the distribution says of one firmware. Fields that no choice depends on are passed over.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Descriptor {
    interface_types: Vec<String>,
    mapping: Mapping,
    targets: Vec<Target>,
    #[serde(default)]
    features: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Mapping {
    device: String,
    mode: Option<String>,
    executable: Option<Image>,
    nvram_template: Option<Image>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Image {
    filename: String,
    format: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Target {
    architecture: String,
    machines: Vec<String>,
}

/// No firmware of the host fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("operation failed: Unable to find any firmware to satisfy 'efi'")]
pub struct NoFirmware;

impl Descriptor {
    /// Reads one file.
    ///
    /// # Errors
    /// It is not such a description.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Code and variables' template, when it is a plain pair of flash images for UEFI.
    fn pair(&self) -> Option<(&str, &str)> {
        let is_uefi = self.interface_types.iter().any(|kind| kind == "uefi");
        let is_split = self.mapping.mode.as_deref().is_none_or(|mode| mode == "split");
        let raw = |image: &'_ Image| image.format == "raw";
        let code = self.mapping.executable.as_ref().filter(|image| raw(image))?;
        let variables = self.mapping.nvram_template.as_ref().filter(|image| raw(image))?;
        (is_uefi && is_split && self.mapping.device == "flash")
            .then_some((&code.filename, &variables.filename))
    }

    fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|name| name == feature)
    }

    fn is_for(&self, machine: &str) -> bool {
        let fits = |target: &Target| {
            target.architecture == "x86_64" && target.machines.iter().any(|pattern| matches(pattern, machine))
        };
        self.targets.iter().any(fits)
    }

    fn suits(&self, domain: &Domain) -> bool {
        let machine = domain.os.machine.machine.as_deref().unwrap_or_default();
        let wishes = domain.os.firmware_wish.as_ref().map_or(&[][..], |wish| &wish.features);
        let granted = |wish: &FirmwareFeature| self.has(wish.name.as_str()) == wish.enabled.is_yes();
        let secure = domain.os.loader.as_ref().and_then(|loader| loader.secure);
        let smm = domain.features.as_ref().and_then(|features| features.smm.as_ref());
        let no_smm = smm.is_some_and(|smm| smm.state == Some(OnOff::Off));
        let sleeps = domain.pm.as_ref().and_then(|pm| pm.suspend_to_mem) == Some(YesNo::Yes);
        self.is_for(machine)
            && wishes.iter().all(granted)
            && secure.is_none_or(|secure| secure.is_yes() == self.has("secure-boot"))
            && (!no_smm || !self.has("requires-smm"))
            && (!sleeps || self.has("acpi-s3"))
    }
}

/// Fills in the firmware: the first descriptor that suits, where the host is to choose; the place of the variables, where
/// they have none. A definition that has both stays as it is.
///
/// # Errors
/// No descriptor suits.
pub fn choose(domain: &mut Domain, descriptors: &[Descriptor], variables: &str) -> Result<(), NoFirmware> {
    let has_code = domain.os.loader.as_ref().is_some_and(|loader| loader.path.is_some());
    if domain.os.firmware.is_some() && !has_code {
        let found = descriptors
            .iter()
            .find_map(|one| one.pair().filter(|_| one.suits(domain)).map(|pair| (one, pair)));
        let (descriptor, (code, template)) = found.ok_or(NoFirmware)?;
        take(domain, descriptor, code, template);
    }
    if domain.os.has_variables() {
        let name = &domain.name;
        let nvram = domain.os.nvram.get_or_insert_default();
        nvram.format.get_or_insert(FirmwareFormat::Raw);
        nvram.path.get_or_insert_with(|| format!("{variables}/{name}_VARS.fd"));
    }
    Ok(())
}

/// The template of a firmware's variables: what the definition says, else what goes with the code.
pub fn template<'a>(domain: &'a Domain, descriptors: &'a [Descriptor]) -> Option<&'a str> {
    let said = domain.os.nvram.as_ref().and_then(|nvram| nvram.template.as_deref());
    let code = domain.os.loader.as_ref().and_then(|loader| loader.path.as_deref());
    let pairs = descriptors.iter().filter_map(Descriptor::pair);
    said.or_else(|| pairs.into_iter().find(|(known, _)| Some(*known) == code).map(|(_, variables)| variables))
}

fn take(domain: &mut Domain, descriptor: &Descriptor, code: &str, template: &str) {
    let needs_smm = descriptor.has("requires-smm");
    let loader = domain.os.loader.get_or_insert_with(Loader::default);
    loader.path = Some(code.to_owned());
    loader.kind = Some(LoaderType::Pflash);
    loader.format = Some(FirmwareFormat::Raw);
    loader.readonly = Some(YesNo::Yes);
    if needs_smm {
        loader.secure = Some(YesNo::Yes);
        let smm = &mut domain.features.get_or_insert_default().smm;
        smm.get_or_insert_with(|| Smm { state: None, tseg: None, rest: Rest::default() }).state =
            Some(OnOff::On);
    }
    let feature = |name: FirmwareFeatureName| FirmwareFeature {
        enabled: YesNo::from(descriptor.has(name.as_str())),
        name,
        rest: Rest::default(),
    };
    let wish = domain.os.firmware_wish.get_or_insert_with(FirmwareWish::default);
    wish.features = FirmwareFeatureName::ALL.iter().copied().map(feature).collect();
    if domain.os.has_variables() {
        let nvram = domain.os.nvram.get_or_insert_with(Nvram::default);
        if nvram.template.is_none() {
            nvram.template = Some(template.to_owned());
            nvram.template_format = Some(FirmwareFormat::Raw);
        }
    }
}

/// Whether a name fits a pattern in which `*` is any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(tail) = name.strip_prefix(head) else { return false };
    let ends = (0..=tail.len()).filter(|at| tail.is_char_boundary(*at));
    ends.into_iter().any(|at| matches(rest, &tail[at..]))
}

#[cfg(test)]
mod tests {
    use ferry_domxml::{Domain, FormatOptions};

    use super::{Descriptor, NoFirmware, choose, matches, template};

    fn descriptor(code: &str, machines: &str, features: &str) -> Descriptor {
        let text = format!(
            r#"{{"description": "", "interface-types": ["uefi"], "tags": [],
                "mapping": {{"device": "flash", "executable": {{"filename": "/fw/{code}", "format": "raw"}},
                             "nvram-template": {{"filename": "/fw/{code}.vars", "format": "raw"}}}},
                "targets": [{{"architecture": "x86_64", "machines": ["{machines}"]}}], "features": [{features}]}}"#
        );
        Descriptor::parse(&text).unwrap()
    }

    /// As a distribution sorts them: the most secure one first.
    fn host() -> Vec<Descriptor> {
        vec![
            descriptor(
                "enrolled",
                "pc-q35-*",
                r#""acpi-s3", "enrolled-keys", "requires-smm", "secure-boot""#,
            ),
            descriptor("secure", "pc-q35-*", r#""acpi-s3", "requires-smm", "secure-boot""#),
            descriptor("plain", "pc-*", ""),
        ]
    }

    fn domain(machine: &str, os: &str, features: &str) -> Domain {
        let text = format!(
            "<domain type='qemu'><name>vm</name><memory>65536</memory>\
             <os firmware='efi'><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os>\
             <features><acpi/>{features}</features></domain>"
        );
        Domain::parse(&text).unwrap()
    }

    fn chosen(machine: &str, os: &str, features: &str) -> Result<String, NoFirmware> {
        let mut domain = domain(machine, os, features);
        choose(&mut domain, &host(), "/vars")?;
        Ok(domain.os.loader.unwrap().path.unwrap())
    }

    #[test]
    fn the_first_that_suits_is_taken() {
        let feature = |name: &str, enabled: &str| {
            format!("<firmware><feature enabled='{enabled}' name='{name}'/></firmware>")
        };
        assert_eq!(chosen("pc-q35-7.2", "", "").as_deref(), Ok("/fw/enrolled"));
        assert_eq!(chosen("pc-i440fx-7.2", "", "").as_deref(), Ok("/fw/plain"));
        assert_eq!(chosen("pc-q35-7.2", &feature("enrolled-keys", "no"), "").as_deref(), Ok("/fw/secure"));
        assert_eq!(chosen("pc-q35-7.2", &feature("secure-boot", "no"), "").as_deref(), Ok("/fw/plain"));
        assert_eq!(chosen("pc-q35-7.2", "<loader secure='no'/>", "").as_deref(), Ok("/fw/plain"));
        assert_eq!(chosen("pc-q35-7.2", "", "<smm state='off'/>").as_deref(), Ok("/fw/plain"));
        assert_eq!(chosen("pc-i440fx-7.2", &feature("secure-boot", "yes"), ""), Err(NoFirmware));
        assert_eq!(chosen("microvm", "", ""), Err(NoFirmware));
    }

    #[test]
    fn the_choice_is_written_down_and_stays() {
        let mut domain = domain("pc-q35-7.2", "", "");
        choose(&mut domain, &host(), "/vars").unwrap();
        let text = domain.format(FormatOptions::INACTIVE);
        for part in [
            "<feature enabled='yes' name='enrolled-keys'/>\n      <feature enabled='yes' name='secure-boot'/>",
            "<loader readonly='yes' secure='yes' type='pflash' format='raw'>/fw/enrolled</loader>",
            "<nvram template='/fw/enrolled.vars' templateFormat='raw' format='raw'>/vars/vm_VARS.fd</nvram>",
            "<smm state='on'/>",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let mut again = Domain::parse(&text).unwrap();
        choose(&mut again, &[], "/elsewhere").unwrap();
        assert_eq!(again.format(FormatOptions::INACTIVE), text);
    }

    #[test]
    fn variables_without_a_place_get_one_and_their_template_is_known_by_the_code() {
        let text = "<domain type='qemu'><name>vm</name><memory>65536</memory><os><type machine='q35'>hvm</type>\
                    <loader readonly='yes' type='pflash'>/fw/plain</loader></os><features><acpi/></features></domain>";
        let mut domain = Domain::parse(text).unwrap();
        choose(&mut domain, &host(), "/vars").unwrap();
        assert_eq!(domain.os.nvram.as_ref().unwrap().path.as_deref(), Some("/vars/vm_VARS.fd"));
        assert_eq!(template(&domain, &host()), Some("/fw/plain.vars"));
        assert_eq!(template(&domain, &[]), None);
    }

    #[test]
    fn a_star_is_any_text() {
        assert!(matches("pc-q35-*", "pc-q35-7.2") && matches("*", "") && matches("a*c*", "abcd"));
        assert!(
            !matches("pc-q35-*", "pc-i440fx-7.2") && !matches("a*c", "ab") && !matches("pc", "pc-q35-7.2")
        );
    }
}
