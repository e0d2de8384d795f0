//! The firmware: code that is mapped as memory, or a pair of flash chips.

use ferry_domxml::YesNo;
use ferry_domxml::firmware::LoaderType;

use super::{Builder, CommandLineError, incomplete};
use crate::props::Props;

/// Names of the two flash chips as `-machine` takes them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flash {
    pub(super) code: Option<&'static str>,
    pub(super) variables: Option<&'static str>,
}

impl Builder<'_> {
    /// Block nodes of the flash chips, which `-machine` refers to.
    pub(super) fn flash(&mut self) -> Result<Flash, CommandLineError> {
        let os = &self.domain.os;
        let Some(loader) = os.loader.as_ref().filter(|_| os.loader_type() == Some(LoaderType::Pflash)) else {
            return Ok(Flash::default());
        };
        let code = loader.path.as_deref().ok_or_else(|| incomplete("loader", "path"))?;
        let storage = Props::driver("file")
            .with("filename", code)
            .with("node-name", "libvirt-pflash0-storage")
            .with("auto-read-only", true)
            .with("discard", "unmap");
        self.option("-blockdev", storage);
        let format = Props::new()
            .with("node-name", "libvirt-pflash0-format")
            .with("read-only", loader.readonly == Some(YesNo::Yes))
            .with("driver", "raw")
            .with("file", "libvirt-pflash0-storage");
        self.option("-blockdev", format);
        let mut flash = Flash { code: Some("libvirt-pflash0-format"), variables: None };
        if os.has_variables() {
            let path = os.nvram.as_ref().and_then(|nvram| nvram.path.as_deref());
            let storage = Props::driver("file")
                .with("filename", path.ok_or_else(|| incomplete("nvram", "path"))?)
                .with("node-name", "libvirt-pflash1-storage")
                .with("read-only", false);
            self.option("-blockdev", storage);
            flash.variables = Some("libvirt-pflash1-storage");
        }
        Ok(flash)
    }

    /// What of the firmware is not in `-machine`.
    pub(super) fn firmware(&mut self) {
        let os = &self.domain.os;
        let Some(loader) = &os.loader else { return };
        if loader.secure == Some(YesNo::Yes) {
            // Only system management mode may write the variables.
            self.option("-global", "driver=cfi.pflash01,property=secure,value=on");
        }
        if let (Some(LoaderType::Rom), Some(path)) = (os.loader_type(), &loader.path) {
            self.option("-bios", path);
        }
    }
}
