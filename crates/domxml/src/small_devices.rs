//! Devices with little to say: vsock, panic, pstore.

use crate::address::DeviceInfo;
use crate::disk::VirtioModel;
use crate::memory::Size;
use crate::model::{YesNo, element, values};
use crate::virtio::VirtioDriver;

element! {
    /// `<vsock>`: sockets between guest and host.
    pub struct Vsock {
        /// Which virtio generation. `None`: virtio.
        model: Option<VirtioModel> => Attr("model"),
        /// The guest's number.
        cid: Option<VsockCid> => Child("cid"),
        /// What all virtio devices take.
        driver: Option<VirtioDriver> => Child("driver"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
    order ["cid", "alias", "address", "driver"]
}

element! {
    /// `<cid>`
    #[derive(Default)]
    pub struct VsockCid {
        /// Whether a free number is taken at start. `None`: no, when there is an address.
        auto: Option<YesNo> => Attr("auto"),
        /// The number, at least 3.
        address: Option<u32> => Attr("address"),
    }
}

element! {
    /// `<panic>`: tells that the guest's system has crashed.
    pub struct Panic {
        /// The device. `None`: isa.
        model: Option<PanicModel> => Attr("model"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
}

values! {
    /// Device of a panic notifier.
    pub enum PanicModel {
        /// ISA
        Isa = "isa",
        /// PCI
        PvPanic = "pvpanic",
        /// a CPU feature for Microsoft's guests
        HyperV = "hyperv",
    }
}

element! {
    /// `<pstore>`: where the guest keeps what it said before it crashed.
    pub struct Pstore {
        /// The device.
        backend: PstoreBackend => Attr("backend"),
        /// Absolute path of the file on the host. `None`: to be chosen.
        path: Option<String> => TextChild("path"),
        /// How much it is.
        size: Option<Size> => Child("size"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
}

values! {
    /// Device of a pstore.
    pub enum PstoreBackend {
        /// ACPI's error record serialization
        AcpiErst = "acpi-erst",
    }
}
