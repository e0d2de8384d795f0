//! Folders of the host: those that QEMU serves over 9p, and those that a program of its own serves over FUSE.

use ferry_domxml::filesystem::{AccessMode, FileSystem, FileSystemServer, Multidevs, WritePolicy};

use super::virtio::{virtio_driver, virtio_options};
use super::{Builder, CommandLineError, alias, incomplete};
use crate::props::{KeyValue, Props};

impl Builder<'_> {
    pub(super) fn file_systems(&mut self) -> Result<(), CommandLineError> {
        for file_system in &self.domain.devices.filesystems {
            match file_system.served_by() {
                FileSystemServer::Path => self.served_by_qemu(file_system)?,
                FileSystemServer::Virtiofs => self.served_by_itself(file_system)?,
            }
        }
        Ok(())
    }

    fn served_by_qemu(&mut self, file_system: &FileSystem) -> Result<(), CommandLineError> {
        let name = alias(&file_system.info, "filesystem")?;
        let source = file_system.source.as_ref().and_then(|source| source.dir.as_deref());
        let model = match file_system.access_mode {
            Some(AccessMode::Mapped) => "mapped",
            Some(AccessMode::Squash) => "none",
            Some(AccessMode::Passthrough) | None => "passthrough",
        };
        let writes = file_system.driver.as_ref().and_then(|driver| driver.write_policy);
        let mode = |mode: ferry_domxml::filesystem::FileMode| format!("{:04o}", mode.0);
        let backend = KeyValue::new("local")
            .with("security_model", model)
            .with_some("multidevs", file_system.multidevs.filter(|one| *one != Multidevs::Default))
            .with_some("fmode", file_system.fmode.map(mode))
            .with_some("dmode", file_system.dmode.map(mode))
            .with_some("writeout", writes.map(WritePolicy::as_str))
            .with("id", format!("fsdev-{name}"))
            .with("path", source.ok_or_else(|| incomplete(name, "source"))?)
            .with_some("readonly", file_system.readonly.then_some("on"));
        self.option("-fsdev", backend);
        let options = file_system.driver.as_ref().map(|driver| &driver.virtio);
        let device = Props::driver(virtio_driver("virtio-9p-pci", file_system.model));
        let device = virtio_options(device, options)
            .with("id", name)
            .with("fsdev", format!("fsdev-{name}"))
            .with("mount_tag", file_system.target.dir.as_str());
        let device = self.pci(device, &file_system.info, "filesystem")?;
        self.device(&device);
        Ok(())
    }

    fn served_by_itself(&mut self, file_system: &FileSystem) -> Result<(), CommandLineError> {
        let name = alias(&file_system.info, "filesystem")?;
        let external = file_system.source.as_ref().and_then(|source| source.socket.as_ref());
        let socket = external.or_else(|| self.launch.file_systems.get(name));
        let socket = socket.ok_or_else(|| CommandLineError::NoFd(name.to_owned()))?;
        let chardev = format!("chr-vu-{name}");
        self.option("-chardev", KeyValue::new("socket").with("id", &chardev).with("path", socket));
        let driver = file_system.driver.as_ref();
        let device = virtio_options(Props::driver("vhost-user-fs-pci"), driver.map(|driver| &driver.virtio))
            .with("id", name)
            .with("chardev", chardev)
            .with_some("queue-size", driver.and_then(|driver| driver.queue))
            .with("tag", file_system.target.dir.as_str());
        let device = self.pci(device, &file_system.info, "filesystem")?;
        self.device(&device);
        Ok(())
    }
}
