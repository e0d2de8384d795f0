//! The small devices: balloon, random numbers, watchdog.

use crate::address::DeviceInfo;
use crate::model::{Input, Model, OnOff, Output, Refusal, element, values};
use crate::virtio::VirtioDriver;

element! {
    /// `<memballoon>`: takes memory back from the guest.
    pub struct MemBalloon {
        /// The device.
        model: BalloonModel => AttrOr("model", BalloonModel::Virtio),
        /// Whether it gives memory back when the guest runs out.
        autodeflate: Option<OnOff> => Attr("autodeflate"),
        /// Whether the guest tells which pages it does not use.
        free_page_reporting: Option<OnOff> => Attr("freePageReporting"),
        /// Seconds between two statistics of the guest.
        stats_period_s: Option<u32> => ChildAttr("stats", "period"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
        /// What all virtio devices take.
        driver: Option<VirtioDriver> => Child("driver"),
    }
}

values! {
    /// Device of a balloon.
    pub enum BalloonModel {
        /// virtio
        Virtio = "virtio",
        /// virtio, both generations
        VirtioTransitional = "virtio-transitional",
        /// virtio 1.0
        VirtioNonTransitional = "virtio-non-transitional",
        /// no balloon
        None = "none",
    }
}

element! {
    /// `<rng>`: a source of random numbers.
    pub struct Rng {
        /// Which virtio generation.
        model: crate::disk::VirtioModel => Attr("model"),
        /// How much the guest may draw.
        rate: Option<RngRate> => Child("rate"),
        /// Where they come from.
        backend: RngBackend => Child("backend"),
        /// What all virtio devices take.
        driver: Option<VirtioDriver> => Child("driver"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
}

element! {
    /// `<rate>`
    pub struct RngRate {
        /// Bytes in a period.
        bytes: u32 => Attr("bytes"),
        /// Milliseconds; `None`: 1000.
        period_ms: Option<u32> => Attr("period"),
    }
}

/// Where random numbers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RngBackend {
    /// `model='random'`: a host's device; `None`: `/dev/random`.
    Random(Option<String>),
    /// `model='builtin'`: QEMU's own.
    Builtin,
}

values! {
    /// The `model` of a backend.
    pub enum RngBackendModel {
        /// a device
        Random = "random",
        /// QEMU's own
        Builtin = "builtin",
    }
}

impl Model for RngBackend {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let backend = match input.required("model")? {
            RngBackendModel::Random => Self::Random(input.text()?),
            RngBackendModel::Builtin => Self::Builtin,
        };
        input.finish()?;
        Ok(backend)
    }

    fn write(&self, out: &mut Output) {
        match self {
            Self::Random(path) => {
                out.attribute("model", &RngBackendModel::Random);
                if let Some(path) = path {
                    out.text(path);
                }
            }
            Self::Builtin => out.attribute("model", &RngBackendModel::Builtin),
        }
    }
}

element! {
    /// `<watchdog>`: acts when the guest stops answering.
    pub struct Watchdog {
        /// The device.
        model: WatchdogModel => Attr("model"),
        /// What it does. `None`: reset.
        action: Option<WatchdogAction> => Attr("action"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
}

impl Watchdog {
    /// The watchdog of the q35 chipset, without a word that is not implied: every q35 guest has it.
    pub fn is_implied(&self, others: WatchdogAction) -> bool {
        let is_plain = self.info.alias.as_deref().is_none_or(|alias| !alias.starts_with("ua-"));
        self.model == WatchdogModel::Itco && is_plain && self.action.is_none_or(|action| action == others)
    }
}

values! {
    /// Device of a watchdog.
    pub enum WatchdogModel {
        /// PCI
        I6300esb = "i6300esb",
        /// ISA
        Ib700 = "ib700",
        /// part of the q35 chipset
        Itco = "itco",
    }
}

values! {
    /// What a watchdog does.
    pub enum WatchdogAction {
        /// reset
        Reset = "reset",
        /// ask the guest to shut down
        Shutdown = "shutdown",
        /// power off
        Poweroff = "poweroff",
        /// pause
        Pause = "pause",
        /// nothing
        None = "none",
        /// dump the guest's memory
        Dump = "dump",
        /// non-maskable interrupt
        InjectNmi = "inject-nmi",
    }
}
