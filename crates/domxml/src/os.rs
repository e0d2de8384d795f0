//! `<os>`: what boots.

use crate::ParseError;
use crate::firmware::{FirmwareKind, FirmwareWish, Loader, LoaderType, Nvram};
use crate::model::{Input, Model, Output, Refusal, Rest, YesNo, element, values};

element! {
    /// What boots.
    pub struct Os {
        /// The kind of firmware that the host is to choose.
        firmware: Option<FirmwareKind> => Attr("firmware"),
        /// The machine.
        machine: OsType => Child("type"),
        /// What the chosen firmware must have, or has.
        firmware_wish: Option<FirmwareWish> => Child("firmware"),
        /// The firmware's code.
        loader: Option<Loader> => Child("loader"),
        /// The firmware's variables.
        nvram: Option<Nvram> => Child("nvram"),
        /// Path of a kernel that QEMU loads itself.
        kernel: Option<String> => TextChild("kernel"),
        /// Path of its initial ramdisk.
        initrd: Option<String> => TextChild("initrd"),
        /// Its command line.
        cmdline: Option<String> => TextChild("cmdline"),
        /// Kinds of devices to boot from, in order. Excludes boot orders on devices.
        boot: Vec<BootDevice> => ChildAttr("boot", "dev"),
        /// The firmware's boot menu.
        boot_menu: Option<BootMenu> => Child("bootmenu"),
        /// Details of the BIOS.
        bios: Option<Bios> => Child("bios"),
        /// What the firmware's tables say. `None`: QEMU's own words.
        smbios: Option<SmbiosMode> => ChildAttr("smbios", "mode"),
    }
    order [
        "type", "init", "initarg", "initenv", "initdir", "inituser", "initgroup", "firmware", "loader", "nvram",
        "varstore", "kernel", "initrd", "cmdline", "shim", "dtb", "acpi", "boot", "bootmenu", "bios", "smbios",
    ]
}

impl Os {
    /// How the firmware's code is mapped; `None` when QEMU brings its own.
    pub fn loader_type(&self) -> Option<LoaderType> {
        self.loader.as_ref().map(|loader| loader.kind.unwrap_or(LoaderType::Rom))
    }

    /// Whether the firmware keeps variables beside its code.
    pub fn has_variables(&self) -> bool {
        let is = |word: Option<YesNo>| word == Some(YesNo::Yes);
        self.loader_type() == Some(LoaderType::Pflash)
            && self.loader.as_ref().is_some_and(|loader| is(loader.readonly) && !is(loader.stateless))
    }
}

/// `<type>`: the machine. The only OS type is `hvm`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsType {
    /// Architecture of the guest. `None`: the host's.
    pub arch: Option<Arch>,
    /// Machine type: `pc`, `q35`, or a versioned name. `None`: QEMU's default.
    pub machine: Option<String>,
    /// What else stands in the element.
    pub rest: Rest,
}

values! {
    /// Architecture of a guest.
    pub enum Arch {
        /// 64-bit x86
        X86_64 = "x86_64",
    }
}

impl Model for OsType {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let machine = Self {
            arch: input.attribute("arch")?,
            machine: input.attribute("machine")?,
            rest: Rest::default(),
        };
        match input.text::<String>()?.as_deref().map(str::trim) {
            Some("hvm") => Ok(Self { rest: input.rest(), ..machine }),
            Some(other) => Err(Refusal::Invalid(ParseError::OsType { found: other.to_owned() })),
            None => Err(Refusal::Invalid(ParseError::MissingOsType)),
        }
    }

    fn write(&self, out: &mut Output) {
        out.optional("arch", &self.arch);
        out.optional("machine", &self.machine);
        out.text(&"hvm".to_owned());
        out.rest(&self.rest);
    }
}

values! {
    /// A kind of device to boot from.
    pub enum BootDevice {
        /// floppy
        Fd = "fd",
        /// hard disk
        Hd = "hd",
        /// CD-ROM
        Cdrom = "cdrom",
        /// network card
        Network = "network",
    }
}

values! {
    /// What the firmware's tables say about the machine.
    pub enum SmbiosMode {
        /// QEMU's own words
        Emulate = "emulate",
        /// what the host's tables say
        Host = "host",
        /// what `<sysinfo>` says
        Sysinfo = "sysinfo",
    }
}

element! {
    /// `<bootmenu>`
    pub struct BootMenu {
        /// Whether it is shown.
        enable: Option<YesNo> => Attr("enable"),
        /// Milliseconds, 0..=65535.
        timeout_ms: Option<u16> => Attr("timeout"),
    }
}

element! {
    /// `<bios>`
    pub struct Bios {
        /// Whether the firmware's screen is on the serial port.
        use_serial: Option<YesNo> => Attr("useserial"),
        /// Milliseconds until a failed boot is tried again, -1 for never, at most 65535.
        reboot_timeout_ms: Option<i32> => Attr("rebootTimeout"),
    }
}
