//! Where a device is plugged in, in QEMU's words: `bus` and `addr`, or a USB port.

use ferry_domxml::address::{Address, DeviceInfo, PciAddress, UsbAddress};
use ferry_domxml::controller::{Controller, ControllerType};

use super::{Builder, CommandLineError, incomplete};
use crate::props::Props;

impl Builder<'_> {
    /// Adds the PCI place of a device.
    pub(super) fn pci(
        &self,
        mut props: Props,
        info: &DeviceInfo,
        device: &'static str,
    ) -> Result<Props, CommandLineError> {
        let address = info.pci().ok_or_else(|| incomplete(device, "PCI address"))?;
        props.set("bus", self.pci_bus(address)?);
        props.set_some("multifunction", address.multifunction.map(|multifunction| multifunction.is_on()));
        props.set("addr", addr(address));
        Ok(props)
    }

    fn pci_bus(&self, address: PciAddress) -> Result<String, CommandLineError> {
        if address.bus == 0 {
            return Ok(self.family.root_bus().to_owned());
        }
        // Bridges and ports give their bus their own name.
        Ok(self.controller(ControllerType::Pci, address.bus, "PCI controller")?.1.to_owned())
    }

    /// Adds the USB place of a device.
    pub(super) fn usb(
        &self,
        props: Props,
        info: &DeviceInfo,
        device: &'static str,
    ) -> Result<Props, CommandLineError> {
        let Some(Address::Usb(UsbAddress { bus, port: Some(port) })) = &info.address else {
            return Err(incomplete(device, "USB address"));
        };
        let (_, controller) = self.controller(ControllerType::Usb, *bus, "USB controller")?;
        Ok(props.with("bus", format!("{controller}.0")).with("port", port.to_string()))
    }

    /// A controller and its alias.
    pub(super) fn controller(
        &self,
        kind: ControllerType,
        index: u32,
        what: &'static str,
    ) -> Result<(&Controller, &str), CommandLineError> {
        let is = |controller: &&Controller| {
            controller.kind.controller_type() == kind && controller.index == Some(index)
        };
        let found = self
            .domain
            .devices
            .controllers
            .iter()
            .find(is)
            .ok_or_else(|| incomplete(format!("a device on {kind} {index}"), what))?;
        Ok((found, super::alias(&found.info, what)?))
    }
}

/// `0x2`, or `0x2.0x1` when it is not function 0.
fn addr(address: PciAddress) -> String {
    match address.function {
        0 => format!("0x{:x}", address.slot),
        function => format!("0x{:x}.0x{function:x}", address.slot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn function_zero_is_not_written() {
        assert_eq!(addr(PciAddress::new(0, 0x1f, 0)), "0x1f");
        assert_eq!(addr(PciAddress::new(0, 0x1f, 2)), "0x1f.0x2");
    }
}
