//! Sound, sockets to the host, and the devices that speak of a crash.

use ferry_domxml::address::Address;
use ferry_domxml::small_devices::PanicModel;
use ferry_domxml::sound::{CodecType, Sound, SoundModel};

use super::virtio::{plain_options, virtio_driver};
use super::{Builder, CommandLineError, alias, incomplete};
use crate::props::Props;

impl Builder<'_> {
    pub(super) fn sounds(&mut self) -> Result<(), CommandLineError> {
        for sound in &self.domain.devices.sounds {
            let name = alias(&sound.info, "sound")?;
            let audio = sound.audio.or(self.domain.devices.audios.first().map(|audio| audio.id));
            let audio = format!("audio{}", audio.ok_or_else(|| incomplete("sound", "audio"))?);
            let props = Props::driver(sound_driver(sound.model)).with("id", name);
            let codecs = codecs(sound);
            // On an HDA card the codecs have the host's end.
            let props = if codecs.is_empty() { props.with("audiodev", audio.as_str()) } else { props };
            let props = match sound.model {
                SoundModel::Sb16 => props,
                _ => self.pci(props, &sound.info, "sound")?,
            };
            self.device(&props);
            for (number, codec) in (0_u32..).zip(codecs) {
                let codec = Props::driver(codec)
                    .with("id", format!("{name}-codec{number}"))
                    .with("bus", format!("{name}.0"))
                    .with("cad", number)
                    .with("audiodev", audio.as_str());
                self.device(&codec);
            }
        }
        Ok(())
    }

    /// The guest's identity as a run of itself.
    pub(super) fn identity(&mut self) {
        if let Some(id) = self.domain.genid.and_then(|genid| genid.id) {
            let guid = id.hyphenated().to_string();
            self.device(&Props::driver("vmgenid").with("guid", guid).with("id", "vmgenid0"));
        }
    }

    pub(super) fn panics(&mut self) -> Result<(), CommandLineError> {
        for panic in &self.domain.devices.panics {
            let props = match panic.model {
                // Microsoft's way is a feature of the CPU.
                Some(PanicModel::HyperV) => continue,
                Some(PanicModel::PvPanic) => self.pci(Props::driver("pvpanic-pci"), &panic.info, "panic")?,
                None | Some(PanicModel::Isa) => {
                    let port = match &panic.info.address {
                        Some(Address::Isa(isa)) => isa.iobase,
                        _ => None,
                    };
                    Props::driver("pvpanic").with_some("ioport", port)
                }
            };
            self.device(&props);
        }
        Ok(())
    }

    pub(super) fn vsock(&mut self) -> Result<(), CommandLineError> {
        let Some(vsock) = &self.domain.devices.vsock else { return Ok(()) };
        let cid =
            vsock.cid.as_ref().and_then(|cid| cid.address).ok_or_else(|| incomplete("vsock", "number"))?;
        let props = Props::driver(virtio_driver("vhost-vsock-pci", vsock.model))
            .with("id", alias(&vsock.info, "vsock")?)
            .with("guest-cid", cid)
            .with_some("vhostfd", self.launch.vsock.map(|fd| fd.to_string()));
        let props = self.pci(plain_options(props, vsock.driver.as_ref()), &vsock.info, "vsock")?;
        self.device(&props);
        Ok(())
    }

    pub(super) fn pstore(&mut self) -> Result<(), CommandLineError> {
        let Some(pstore) = &self.domain.devices.pstore else { return Ok(()) };
        let name = alias(&pstore.info, "pstore")?;
        let path = pstore.path.as_deref().ok_or_else(|| incomplete("pstore", "path"))?;
        let size = pstore.size.ok_or_else(|| incomplete("pstore", "size"))?;
        let backend = Props::object("memory-backend-file", format!("mem{name}"))
            .with("mem-path", path)
            .with("share", true)
            .with("size", size.kib.saturating_mul(1024));
        self.option("-object", backend);
        let props = Props::driver("acpi-erst").with("memdev", format!("mem{name}")).with("id", name);
        let props = self.pci(props, &pstore.info, "pstore")?;
        self.device(&props);
        Ok(())
    }
}

/// QEMU's name of a sound card.
pub(crate) fn sound_driver(model: SoundModel) -> &'static str {
    match model {
        SoundModel::Sb16 => "sb16",
        SoundModel::Es1370 => "ES1370",
        SoundModel::Ac97 => "AC97",
        SoundModel::Ich6 => "intel-hda",
        SoundModel::Ich9 => "ich9-intel-hda",
        SoundModel::Virtio => "virtio-sound-pci",
    }
}

/// What hangs on the bus of an HDA card; nothing for another.
pub(crate) fn codecs(sound: &Sound) -> Vec<&'static str> {
    if !matches!(sound.model, SoundModel::Ich6 | SoundModel::Ich9) {
        return Vec::new();
    }
    let driver = |codec: &CodecType| match codec {
        CodecType::Duplex => "hda-duplex",
        CodecType::Micro => "hda-micro",
        CodecType::Output => "hda-output",
    };
    match &sound.codecs[..] {
        [] => vec!["hda-duplex"],
        codecs => codecs.iter().map(driver).collect(),
    }
}
