//! `<firmware>`, `<loader>`, `<nvram>`: the code that runs first, and where it keeps its variables.

use crate::model::{YesNo, element, values};

values! {
    /// `firmware`: a kind of firmware, which the host's descriptors turn into files.
    pub enum FirmwareKind {
        /// UEFI
        Efi = "efi",
    }
}

element! {
    /// `<firmware>`: what the chosen firmware must or must not have.
    #[derive(Default)]
    pub struct FirmwareWish {
        /// Single features.
        features: Vec<FirmwareFeature> => Child("feature"),
    }
}

element! {
    /// `<feature>` of a firmware.
    pub struct FirmwareFeature {
        /// Whether it is there.
        enabled: YesNo => Attr("enabled"),
        /// Which one.
        name: FirmwareFeatureName => Attr("name"),
    }
}

values! {
    /// A feature of a firmware.
    pub enum FirmwareFeatureName {
        /// keys of the makers of operating systems are enrolled
        EnrolledKeys = "enrolled-keys",
        /// secure boot
        SecureBoot = "secure-boot",
    }
}

element! {
    /// `<loader>`: the code.
    #[derive(Default)]
    pub struct Loader {
        /// Whether the guest cannot write it.
        readonly: Option<YesNo> => Attr("readonly"),
        /// Whether only system management mode may write the variables.
        secure: Option<YesNo> => Attr("secure"),
        /// How QEMU maps it. `None`: rom.
        kind: Option<LoaderType> => Attr("type"),
        /// Whether there are no variables beside it.
        stateless: Option<YesNo> => Attr("stateless"),
        /// Format of the file. `None`: raw.
        format: Option<FirmwareFormat> => Attr("format"),
        /// Absolute path. `None`: to be chosen.
        path: Option<String> => Text(),
    }
}

values! {
    /// How QEMU maps the code.
    pub enum LoaderType {
        /// plain memory
        Rom = "rom",
        /// a flash chip
        Pflash = "pflash",
    }
}

values! {
    /// Format of a firmware's file.
    pub enum FirmwareFormat {
        /// plain bytes
        Raw = "raw",
    }
}

element! {
    /// `<nvram>`: the variables.
    #[derive(Default)]
    pub struct Nvram {
        /// Absolute path of the file that a new guest's variables are copied from.
        template: Option<String> => Attr("template"),
        /// Format of that file.
        template_format: Option<FirmwareFormat> => Attr("templateFormat"),
        /// Format of the guest's own file.
        format: Option<FirmwareFormat> => Attr("format"),
        /// Absolute path of the guest's own file. `None`: to be chosen.
        path: Option<String> => Text(),
    }
}
