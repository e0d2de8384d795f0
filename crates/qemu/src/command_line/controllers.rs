//! Controllers, a bus before its users: PCI, USB, SCSI, SATA, virtio-serial.

use ferry_domxml::controller::{
    Controller, ControllerKind, ControllerType, PciDevice, PciModel, ScsiModel, UsbModel,
};
use ferry_domxml::disk::{DiskDevice, VirtioModel};

use super::threads::iothread_name;
use super::virtio::{virtio_driver, virtio_options};
use super::{Builder, CommandLineError, alias, incomplete};
use crate::complete::is_ich9;
use crate::machine::Family;
use crate::props::Props;

/// The order of the types. IDE 0 of `pc` and SATA 0 of `q35` are in the chipset.
const ORDER: [ControllerType; 5] = [
    ControllerType::Pci,
    ControllerType::Usb,
    ControllerType::Scsi,
    ControllerType::Sata,
    ControllerType::VirtioSerial,
];

impl Builder<'_> {
    pub(super) fn controllers(&mut self) -> Result<(), CommandLineError> {
        let all = &self.domain.devices.controllers;
        let bridge = match self.family {
            Family::Pc => "i440FX-pcihost",
            Family::Q35 => "q35-pcihost",
        };
        // Only the root has one.
        for size in all.iter().filter_map(|controller| controller.pcihole64) {
            self.option("-global", format!("{bridge}.pci-hole64-size={}K", size.kib));
        }
        for kind in ORDER {
            for controller in all.iter().filter(|controller| controller.kind.controller_type() == kind) {
                if let Some(props) = self.controller_props(controller)? {
                    self.device(&props);
                }
            }
        }
        self.floppy_controller()
    }

    /// `None` for what the chipset has anyway.
    fn controller_props(&self, controller: &Controller) -> Result<Option<Props>, CommandLineError> {
        let info = &controller.info;
        let props = match controller.kind {
            ControllerKind::Pci(Some(PciModel::PciRoot | PciModel::PcieRoot)) => return Ok(None),
            ControllerKind::Pci(_) => pci_props(controller)?,
            ControllerKind::Usb(Some(UsbModel::None)) => return Ok(None),
            ControllerKind::Usb(model) => self.usb_props(controller, model)?,
            ControllerKind::Scsi(model) => scsi_props(controller, model)?,
            ControllerKind::Sata if self.family == Family::Q35 && controller.index == Some(0) => {
                return Ok(None);
            }
            ControllerKind::Sata => Props::driver("ahci").with("id", alias(info, "sata controller")?),
            ControllerKind::VirtioSerial(model) => Props::driver(virtio_driver("virtio-serial-pci", model))
                .with("id", alias(info, "virtio-serial controller")?)
                .with_some("max_ports", controller.ports)
                .with_some("vectors", controller.vectors),
            ControllerKind::Ide | ControllerKind::Fdc => return Ok(None),
            ControllerKind::Ccid => {
                return Err(CommandLineError::Unsupported(
                    "controller type 'ccid' is not supported".to_owned(),
                ));
            }
        };
        let props = virtio_options(props, controller.driver.as_ref().map(|driver| &driver.virtio));
        self.pci(props, info, "controller").map(Some)
    }

    fn usb_props(&self, controller: &Controller, model: Option<UsbModel>) -> Result<Props, CommandLineError> {
        let driver = match model.ok_or_else(|| incomplete("USB controller", "model"))? {
            UsbModel::Piix3Uhci => "piix3-usb-uhci",
            UsbModel::Piix4Uhci => "piix4-usb-uhci",
            UsbModel::PciOhci => "pci-ohci",
            UsbModel::Ehci => "usb-ehci",
            UsbModel::NecXhci => "nec-usb-xhci",
            UsbModel::QemuXhci => "qemu-xhci",
            UsbModel::Ich9Ehci1 => "ich9-usb-ehci1",
            UsbModel::Ich9Uhci1 => "ich9-usb-uhci1",
            UsbModel::Ich9Uhci2 => "ich9-usb-uhci2",
            UsbModel::Ich9Uhci3 => "ich9-usb-uhci3",
            UsbModel::None => return Err(incomplete("USB controller", "model")),
        };
        let alias = alias(&controller.info, "USB controller")?;
        let props = Props::driver(driver);
        if is_ich9(controller.kind) && model != Some(UsbModel::Ich9Ehci1) {
            // A companion has no name of its own: it serves ports of its master's bus.
            let first =
                controller.master_start_port.ok_or_else(|| incomplete("USB companion", "start port"))?;
            return Ok(props.with("masterbus", format!("{alias}.0")).with("firstport", first));
        }
        // One number for both generations of ports.
        Ok(props.with_some("p2", controller.ports).with_some("p3", controller.ports).with("id", alias))
    }

    /// The floppy controller has no line of its own on `pc`; only boot indexes are told.
    fn floppy_controller(&mut self) -> Result<(), CommandLineError> {
        let mut indexes = Vec::new();
        let mut present = false;
        for (at, disk) in self.domain.devices.disks.iter().enumerate() {
            if disk.device != DiskDevice::Floppy {
                continue;
            }
            present = true;
            let unit = disk.drive_address().ok_or_else(|| incomplete("floppy", "drive address"))?.unit;
            let letter = if unit == 0 { "bootindexA" } else { "bootindexB" };
            indexes.extend(self.boot.disks.get(&at).map(|index| (letter, *index)));
        }
        if self.family == Family::Q35 && present {
            let props = indexes
                .iter()
                .fold(Props::driver("isa-fdc"), |props, (name, index)| props.with(name, *index));
            self.device(&props);
        } else {
            for (name, index) in indexes {
                self.option("-global", format!("isa-fdc.{name}={index}"));
            }
        }
        Ok(())
    }
}

fn pci_props(controller: &Controller) -> Result<Props, CommandLineError> {
    let what = "PCI controller";
    let name = alias(&controller.info, what)?;
    let target = controller.target.as_ref();
    let device = controller.model_name.ok_or_else(|| incomplete(what, "device"))?;
    let props = Props::driver(device.as_str());
    Ok(match device {
        PciDevice::PciBridge => {
            let number = target
                .and_then(|target| target.chassis_nr)
                .ok_or_else(|| incomplete(what, "chassis number"))?;
            props.with("chassis_nr", number).with("id", name)
        }
        PciDevice::PcieRootPort | PciDevice::Ioh3420 | PciDevice::Xio3130Downstream => {
            let target = target.ok_or_else(|| incomplete(what, "target"))?;
            let port = target.port.ok_or_else(|| incomplete(what, "port"))?;
            let chassis = target.chassis.ok_or_else(|| incomplete(what, "chassis"))?;
            let hotplug = target.hotplug.map(|hotplug| hotplug.is_on());
            props
                .with("port", u32::from(port.0))
                .with("chassis", chassis)
                .with("id", name)
                .with_some("hotplug", hotplug)
        }
        PciDevice::I82801b11Bridge | PciDevice::PciePciBridge | PciDevice::X3130Upstream => {
            props.with("id", name)
        }
        PciDevice::Pxb | PciDevice::PxbPcie => {
            return Err(CommandLineError::Unsupported(format!("PCI controller '{device}' is not supported")));
        }
    })
}

fn scsi_props(controller: &Controller, model: Option<ScsiModel>) -> Result<Props, CommandLineError> {
    let (driver, generation) = match model.ok_or_else(|| incomplete("scsi controller", "model"))? {
        ScsiModel::Lsilogic => ("lsi", None),
        ScsiModel::LsiSas1068 => ("mptsas1068", None),
        ScsiModel::LsiSas1078 => ("megasas", None),
        ScsiModel::VmPvscsi => ("pvscsi", None),
        ScsiModel::VirtioScsi => ("virtio-scsi-pci", None),
        ScsiModel::VirtioTransitional => ("virtio-scsi-pci", Some(VirtioModel::Transitional)),
        ScsiModel::VirtioNonTransitional => ("virtio-scsi-pci", Some(VirtioModel::NonTransitional)),
    };
    let queues = controller.driver.as_ref();
    Ok(Props::driver(virtio_driver(driver, generation))
        .with("id", alias(&controller.info, "scsi controller")?)
        .with_some("num_queues", queues.and_then(|driver| driver.queues))
        .with_some("cmd_per_lun", queues.and_then(|driver| driver.cmd_per_lun))
        .with_some("max_sectors", queues.and_then(|driver| driver.max_sectors))
        .with_some("ioeventfd", queues.and_then(|driver| driver.ioeventfd).map(|on| on.is_on()))
        .with_some("iothread", queues.and_then(|driver| driver.iothread).map(iothread_name)))
}
