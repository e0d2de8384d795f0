//! The trusted platform module: QEMU has the interface, a program of its own plays what is behind it.
//!
//! Names are stock's: the device's state travels under `tpm0`, and the module's own state in QEMU's part of it.

use super::{Builder, CommandLineError, alias};
use crate::props::{KeyValue, Props};

impl Builder<'_> {
    pub(super) fn tpms(&mut self) -> Result<(), CommandLineError> {
        const CHARDEV: &str = "chrtpm";
        for tpm in &self.domain.devices.tpms {
            let name = alias(&tpm.info, "tpm")?;
            let fd = self.launch.tpm.ok_or_else(|| CommandLineError::NoFd("tpm".to_owned()))?;
            self.option("-chardev", KeyValue::new("socket").with("id", CHARDEV).with("fd", fd));
            let backend = format!("tpm-{name}");
            self.option("-tpmdev", KeyValue::new("emulator").with("id", &backend).with("chardev", CHARDEV));
            let device = Props::driver(tpm.model().as_str()).with("tpmdev", backend).with("id", name);
            self.device(&device);
        }
        Ok(())
    }
}
