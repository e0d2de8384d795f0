//! The families of machines, as far as they decide what a guest has without asking.
//!
//! Completion, aliases and the command line all ask here; nothing else tells `pc` from `q35`.

use ferry_domxml::Domain;
use ferry_domxml::controller::PciModel;

/// A family of machine types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `pc-i440fx-*` and the older `pc-*`.
    Pc,
    /// `pc-q35-*`.
    Q35,
}

/// Why a domain has no family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// A machine without the buses of a PC.
    #[error(
        "unsupported configuration: machine type '{0}' is not supported, only the pc and q35 families are"
    )]
    Family(String),
    /// Neither the definition nor the binary names one.
    #[error("unsupported configuration: no machine type given and the emulator has no default")]
    NoDefault,
}

impl Family {
    /// The family that a machine type belongs to.
    #[must_use]
    pub fn of(machine: &str) -> Option<Self> {
        if machine == "q35" || machine.starts_with("pc-q35-") {
            return Some(Self::Q35);
        }
        let pc = machine == "pc" || machine.starts_with("pc-i440fx-") || machine.starts_with("pc-0.");
        (pc || machine.starts_with("pc-1.")).then_some(Self::Pc)
    }

    /// The root bus.
    #[must_use]
    pub const fn pci_root(self) -> PciModel {
        match self {
            Self::Pc => PciModel::PciRoot,
            Self::Q35 => PciModel::PcieRoot,
        }
    }

    /// QEMU's name of the root bus.
    #[must_use]
    pub const fn root_bus(self) -> &'static str {
        match self {
            Self::Pc => "pci.0",
            Self::Q35 => "pcie.0",
        }
    }

    /// The device that carries power management, for `-global`.
    #[must_use]
    pub const fn power_management(self) -> &'static str {
        match self {
            Self::Pc => "PIIX4_PM",
            Self::Q35 => "ICH9-LPC",
        }
    }
}

/// The family of a domain whose machine type is known.
///
/// # Errors
/// The machine type is missing or of another family.
pub fn family(domain: &Domain) -> Result<Family, MachineError> {
    let machine = domain.os.machine.machine.as_deref().ok_or(MachineError::NoDefault)?;
    Family::of(machine).ok_or_else(|| MachineError::Family(machine.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_go_by_the_name() {
        assert_eq!(Family::of("pc-q35-10.0"), Some(Family::Q35));
        assert_eq!(Family::of("q35"), Some(Family::Q35));
        assert_eq!(Family::of("pc-i440fx-7.2"), Some(Family::Pc));
        for other in ["microvm", "isapc", "xenfv", "pc-sev", ""] {
            assert_eq!(Family::of(other), None, "{other}");
        }
    }
}
