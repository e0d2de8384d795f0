//! Controllers: their numbers, their order in the definition, and the models that stock chooses.

use std::collections::BTreeMap;

use ferry_domxml::Domain;
use ferry_domxml::controller::{Controller, ControllerKind, ControllerType, PciModel, ScsiModel, UsbModel};

use super::{CONTROLLERS_MAX, CompleteError};
use crate::capabilities::Capabilities;
use crate::machine::Family;

/// Gives every controller a number, the lowest that its type has free, and refuses doubles.
pub(super) fn indexes(domain: &mut Domain) -> Result<(), CompleteError> {
    let controllers = &mut domain.devices.controllers;
    let mut taken: BTreeMap<(ControllerType, u32), Vec<ControllerKind>> = BTreeMap::new();
    for controller in controllers.iter() {
        let Some(index) = controller.index else { continue };
        let kind = controller.kind.controller_type();
        let others = taken.entry((kind, index)).or_default();
        if !others.iter().all(|other| are_companions(controller.kind, *other)) {
            return Err(CompleteError::ControllerTwice { kind: kind.as_str(), index });
        }
        others.push(controller.kind);
    }
    for controller in controllers {
        let kind = controller.kind.controller_type();
        let free = || (0..=CONTROLLERS_MAX).find(|index| !taken.contains_key(&(kind, *index)));
        let index = controller.index.or_else(free).unwrap_or(u32::MAX);
        if index > CONTROLLERS_MAX {
            return Err(CompleteError::Index { what: "controller", index });
        }
        controller.index = Some(index);
        taken.entry((kind, index)).or_default();
    }
    Ok(())
}

/// The parts of an ich9 USB set share a number.
fn are_companions(one: ControllerKind, other: ControllerKind) -> bool {
    is_ich9(one) && is_ich9(other) && one != other
}

/// Whether the controller is one part of an ich9 USB set.
pub(crate) fn is_ich9(kind: ControllerKind) -> bool {
    use UsbModel::{Ich9Ehci1, Ich9Uhci1, Ich9Uhci2, Ich9Uhci3};
    matches!(kind, ControllerKind::Usb(Some(Ich9Ehci1 | Ich9Uhci1 | Ich9Uhci2 | Ich9Uhci3)))
}

pub(super) fn is(controller: &Controller, kind: ControllerType, index: u32) -> bool {
    controller.kind.controller_type() == kind && controller.index == Some(index)
}

/// Adds a controller that the definition does not have, behind all others: places are given out in the order
/// in which controllers were added.
pub(super) fn ensure(domain: &mut Domain, kind: ControllerKind, index: u32) -> Result<(), CompleteError> {
    if index > CONTROLLERS_MAX {
        return Err(CompleteError::Index { what: "controller", index });
    }
    let controllers = &mut domain.devices.controllers;
    let wanted = kind.controller_type();
    if controllers.iter().any(|controller| is(controller, wanted, index)) {
        return Ok(());
    }
    controllers.push(Controller::new(kind, index));
    Ok(())
}

/// Models that the definition leaves open.
pub(super) fn models(
    domain: &mut Domain,
    family: Family,
    capabilities: &Capabilities,
) -> Result<(), CompleteError> {
    for controller in &mut domain.devices.controllers {
        let index = controller.index.unwrap_or(0);
        match &mut controller.kind {
            ControllerKind::Usb(model) => {
                // Not what an absent controller would have become: stock keeps what it always chose here.
                model.get_or_insert(UsbModel::Piix3Uhci);
            }
            ControllerKind::Scsi(model @ None) => *model = Some(scsi_model(capabilities, index)?),
            ControllerKind::Pci(model) => {
                let root = family.pci_root();
                let found = model.ok_or(CompleteError::PciModel(index))?;
                if index == 0 && found != root {
                    return Err(CompleteError::PciRoot { wanted: root.as_str(), found: found.as_str() });
                }
            }
            ControllerKind::Ide if family == Family::Q35 => return Err(CompleteError::NoIde),
            ControllerKind::Ide if index > 0 => return Err(CompleteError::IdeControllers),
            ControllerKind::Scsi(Some(_))
            | ControllerKind::Ide
            | ControllerKind::Fdc
            | ControllerKind::Sata
            | ControllerKind::VirtioSerial(_)
            | ControllerKind::Ccid => {}
        }
    }
    Ok(())
}

/// The SCSI controller of a definition that names none: the oldest that the binary has.
pub(super) fn scsi_model(capabilities: &Capabilities, index: u32) -> Result<ScsiModel, CompleteError> {
    const CHOICES: [(ScsiModel, &str); 2] =
        [(ScsiModel::Lsilogic, "lsi53c895a"), (ScsiModel::VirtioScsi, "virtio-scsi-pci")];
    let chosen = CHOICES.into_iter().find(|(_, device)| capabilities.has_device(device));
    chosen.map(|(model, _)| model).ok_or(CompleteError::ScsiModel(index))
}

/// The PCI controllers with their numbers.
pub(super) fn pci_buses(domain: &Domain) -> impl Iterator<Item = (u32, PciModel)> {
    domain
        .devices
        .controllers
        .iter()
        .filter_map(|controller| Some((controller.index?, controller.pci_model()?)))
}
