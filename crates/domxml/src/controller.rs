//! `<controller>`: buses and the bridges between them.

use crate::address::DeviceInfo;
use crate::model::{Flatten, Input, Output, Refusal, Rest, Value, element, values};

element! {
    /// A controller.
    pub struct Controller {
        /// Type and model, which only mean something together.
        kind: ControllerKind => Flatten(),
        /// Number among the controllers of this type; the `bus` or `controller` of addresses. `None`: the next
        /// free one.
        index: Option<u32> => Attr("index"),
        /// Ports: of a virtio-serial or xhci controller.
        ports: Option<u32> => Attr("ports"),
        /// MSI vectors of a virtio-serial controller.
        vectors: Option<u32> => Attr("vectors"),
        /// Queues and the like of a virtio-scsi controller.
        driver: Option<ControllerDriver> => Child("driver"),
        /// The QEMU device behind a PCI controller.
        model_name: Option<PciDevice> => ChildAttr("model", "name"),
        /// Details of a PCI controller.
        target: Option<PciTarget> => Child("target"),
        /// Size of the 64-bit PCI window of a root controller.
        pcihole64: Option<crate::memory::Size> => Child("pcihole64"),
        /// The ich9 companion: first port of the master that this controller serves.
        master_start_port: Option<u32> => ChildAttr("master", "startport"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
    attributes ["type", "index", "model", "ports", "vectors"]
    order ["driver", "model", "target", "pcihole64", "alias", "master", "address"]
}

impl Controller {
    /// A controller with nothing but kind and index.
    pub fn new(kind: ControllerKind, index: u32) -> Self {
        Self {
            kind,
            index: Some(index),
            ports: None,
            vectors: None,
            driver: None,
            model_name: None,
            target: None,
            pcihole64: None,
            master_start_port: None,
            info: DeviceInfo::default(),
            rest: Rest::default(),
        }
    }

    /// The PCI model, when it is a PCI controller that has one.
    pub fn pci_model(&self) -> Option<PciModel> {
        match self.kind {
            ControllerKind::Pci(model) => model,
            _ => None,
        }
    }
}

/// Type and model of a controller. `None`: no model given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControllerKind {
    /// `type='ide'`
    Ide,
    /// `type='fdc'`
    Fdc,
    /// `type='scsi'`
    Scsi(Option<ScsiModel>),
    /// `type='sata'`
    Sata,
    /// `type='virtio-serial'`
    VirtioSerial(Option<crate::disk::VirtioModel>),
    /// `type='ccid'`
    Ccid,
    /// `type='usb'`
    Usb(Option<UsbModel>),
    /// `type='pci'`
    Pci(Option<PciModel>),
}

values! {
    /// The `type` of a controller.
    pub enum ControllerType {
        /// ide
        Ide = "ide",
        /// floppy
        Fdc = "fdc",
        /// scsi
        Scsi = "scsi",
        /// sata
        Sata = "sata",
        /// virtio-serial
        VirtioSerial = "virtio-serial",
        /// smartcard
        Ccid = "ccid",
        /// usb
        Usb = "usb",
        /// pci
        Pci = "pci",
    }
}

values! {
    /// Model of a SCSI controller.
    pub enum ScsiModel {
        /// `lsi53c895a`, the default of a pc without a controller in its XML
        Lsilogic = "lsilogic",
        /// LSI SAS 1068
        LsiSas1068 = "lsisas1068",
        /// LSI MegaRAID SAS 1078
        LsiSas1078 = "lsisas1078",
        /// VMware's
        VmPvscsi = "vmpvscsi",
        /// virtio
        VirtioScsi = "virtio-scsi",
        /// virtio, both generations
        VirtioTransitional = "virtio-transitional",
        /// virtio 1.0
        VirtioNonTransitional = "virtio-non-transitional",
    }
}

values! {
    /// Model of a USB controller.
    pub enum UsbModel {
        /// PIIX3 UHCI
        Piix3Uhci = "piix3-uhci",
        /// PIIX4 UHCI
        Piix4Uhci = "piix4-uhci",
        /// OHCI
        PciOhci = "pci-ohci",
        /// EHCI
        Ehci = "ehci",
        /// ICH9 EHCI, the master of a set
        Ich9Ehci1 = "ich9-ehci1",
        /// ICH9 UHCI companion
        Ich9Uhci1 = "ich9-uhci1",
        /// ICH9 UHCI companion
        Ich9Uhci2 = "ich9-uhci2",
        /// ICH9 UHCI companion
        Ich9Uhci3 = "ich9-uhci3",
        /// NEC xHCI
        NecXhci = "nec-xhci",
        /// QEMU's xHCI
        QemuXhci = "qemu-xhci",
        /// no USB at all
        None = "none",
    }
}

values! {
    /// Model of a PCI controller.
    pub enum PciModel {
        /// root bus of a pc
        PciRoot = "pci-root",
        /// root bus of a q35
        PcieRoot = "pcie-root",
        /// a bridge on a PCI bus
        PciBridge = "pci-bridge",
        /// i82801b11
        DmiToPciBridge = "dmi-to-pci-bridge",
        /// a PCI bus behind a root port
        PcieToPciBridge = "pcie-to-pci-bridge",
        /// one slot of a PCIe root
        PcieRootPort = "pcie-root-port",
        /// upstream end of a switch
        PcieSwitchUpstreamPort = "pcie-switch-upstream-port",
        /// downstream end of a switch
        PcieSwitchDownstreamPort = "pcie-switch-downstream-port",
        /// a further root of a pc
        PciExpanderBus = "pci-expander-bus",
        /// a further root of a q35
        PcieExpanderBus = "pcie-expander-bus",
    }
}

values! {
    /// The QEMU device of a PCI controller (`<model name=…>`).
    pub enum PciDevice {
        /// pci-bridge
        PciBridge = "pci-bridge",
        /// dmi-to-pci-bridge
        I82801b11Bridge = "i82801b11-bridge",
        /// pcie-to-pci-bridge
        PciePciBridge = "pcie-pci-bridge",
        /// pcie-root-port, QEMU's own
        PcieRootPort = "pcie-root-port",
        /// pcie-root-port, an Intel one
        Ioh3420 = "ioh3420",
        /// upstream switch port
        X3130Upstream = "x3130-upstream",
        /// downstream switch port
        Xio3130Downstream = "xio3130-downstream",
        /// pci-expander-bus
        Pxb = "pxb",
        /// pcie-expander-bus
        PxbPcie = "pxb-pcie",
    }
}

element! {
    /// `<target>` of a PCI controller.
    pub struct PciTarget {
        /// Chassis number of a bridge, 0..=255.
        chassis_nr: Option<u32> => Attr("chassisNr"),
        /// Chassis number of a port, 0..=255.
        chassis: Option<u32> => Attr("chassis"),
        /// Port number, 0..=255, written in hexadecimal.
        port: Option<HexByte> => Attr("port"),
        /// Bus number of an expander.
        bus_nr: Option<u32> => Attr("busNr"),
        /// Whether devices may be plugged into the port while the guest runs.
        hotplug: Option<crate::model::OnOff> => Attr("hotplug"),
    }
}

/// A number of 0..=255 that is written as `0x10`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HexByte(pub u8);

impl Value for HexByte {
    fn parse(text: &str) -> Result<Self, crate::model::ValueError> {
        let number = crate::model::parse_integer(text)?;
        u8::try_from(number).map(Self).map_err(|_| crate::model::ValueError::Invalid)
    }

    fn to_text(&self) -> String {
        format!("0x{:x}", self.0)
    }
}

element! {
    /// `<driver>` of a controller.
    #[derive(Default)]
    pub struct ControllerDriver {
        /// Request queues.
        queues: Option<u32> => Attr("queues"),
        /// Commands queued per unit.
        cmd_per_lun: Option<u32> => Attr("cmd_per_lun"),
        /// Sectors per request.
        max_sectors: Option<u32> => Attr("max_sectors"),
        /// Whether a thread of its own waits for the guest's requests.
        ioeventfd: Option<crate::model::OnOff> => Attr("ioeventfd"),
        /// The thread that serves it.
        iothread: Option<u32> => Attr("iothread"),
        /// What all virtio devices take.
        virtio: crate::virtio::VirtioOptions => Flatten(),
    }
}

impl ScsiModel {
    /// Whether it is of the virtio family.
    pub fn is_virtio(self) -> bool {
        matches!(self, Self::VirtioScsi | Self::VirtioTransitional | Self::VirtioNonTransitional)
    }
}

impl ControllerKind {
    /// The `type` attribute.
    pub fn controller_type(self) -> ControllerType {
        match self {
            Self::Ide => ControllerType::Ide,
            Self::Fdc => ControllerType::Fdc,
            Self::Scsi(_) => ControllerType::Scsi,
            Self::Sata => ControllerType::Sata,
            Self::VirtioSerial(_) => ControllerType::VirtioSerial,
            Self::Ccid => ControllerType::Ccid,
            Self::Usb(_) => ControllerType::Usb,
            Self::Pci(_) => ControllerType::Pci,
        }
    }
}

impl Flatten for ControllerKind {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        Ok(match input.required("type")? {
            ControllerType::Ide => Self::Ide,
            ControllerType::Fdc => Self::Fdc,
            ControllerType::Scsi => Self::Scsi(input.attribute("model")?),
            ControllerType::Sata => Self::Sata,
            ControllerType::VirtioSerial => Self::VirtioSerial(input.attribute("model")?),
            ControllerType::Ccid => Self::Ccid,
            ControllerType::Usb => Self::Usb(input.attribute("model")?),
            ControllerType::Pci => Self::Pci(input.attribute("model")?),
        })
    }

    fn put(&self, out: &mut Output) {
        out.attribute("type", &self.controller_type());
        match self {
            Self::Ide | Self::Fdc | Self::Sata | Self::Ccid => {}
            Self::Scsi(model) => out.optional("model", model),
            Self::VirtioSerial(model) => out.optional("model", model),
            Self::Usb(model) => out.optional("model", model),
            Self::Pci(model) => out.optional("model", model),
        }
    }
}
