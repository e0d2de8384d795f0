//! `<sound>`: sound cards. Where their sound goes is `<audio>`, in [`crate::display`].

use crate::address::DeviceInfo;
use crate::model::{element, values};

element! {
    /// A sound card.
    pub struct Sound {
        /// The device that the guest sees.
        model: SoundModel => Attr("model"),
        /// What hangs on an Intel HDA bus; none: one `duplex`.
        codecs: Vec<CodecType> => ChildAttr("codec", "type"),
        /// Number of the audio back end. `None`: the first.
        audio: Option<u32> => ChildAttr("audio", "id"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
    order ["codec", "audio", "driver", "alias", "address"]
}

values! {
    /// The sound card that the guest sees.
    pub enum SoundModel {
        /// Sound Blaster 16, on the ISA bus
        Sb16 = "sb16",
        /// Ensoniq AudioPCI
        Es1370 = "es1370",
        /// Intel AC97
        Ac97 = "ac97",
        /// Intel HDA of the ICH6
        Ich6 = "ich6",
        /// Intel HDA of the ICH9, part of the q35 chipset
        Ich9 = "ich9",
        /// virtio
        Virtio = "virtio",
    }
}

values! {
    /// What hangs on an Intel HDA bus.
    pub enum CodecType {
        /// line in and out
        Duplex = "duplex",
        /// microphone and speaker
        Micro = "micro",
        /// line out
        Output = "output",
    }
}
