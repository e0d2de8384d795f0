//! The device types that a probe asks for: those that domain XML can name, and those that a machine has by itself
//! and whose properties `-global` sets.

/// Device types that [`super::Probe`] asks for, by kind.
#[rustfmt::skip]
pub const DEVICE_TYPES: &[&str] = &[
    // PCI controllers.
    "pci-bridge", "pcie-root-port", "pcie-pci-bridge", "ioh3420", "i82801b11-bridge", "x3130-upstream",
    "xio3130-downstream", "pxb", "pxb-pcie",
    // Disk controllers.
    "ich9-ahci", "lsi53c895a", "megasas", "mptsas1068", "virtio-scsi-pci", "pvscsi",
    // Disks.
    "virtio-blk-pci", "virtio-blk-pci-transitional", "virtio-blk-pci-non-transitional", "scsi-hd", "scsi-cd",
    "scsi-block", "ide-hd", "ide-cd", "usb-storage", "floppy", "nvme", "nvme-ns", "vhost-user-blk-pci",
    // Network.
    "virtio-net-pci", "virtio-net-pci-transitional", "virtio-net-pci-non-transitional", "e1000", "e1000e", "igb",
    "rtl8139", "ne2k_pci", "pcnet", "vmxnet3",
    // USB.
    "qemu-xhci", "nec-usb-xhci", "piix3-usb-uhci", "piix4-usb-uhci", "usb-ehci", "ich9-usb-ehci1",
    "ich9-usb-uhci1", "ich9-usb-uhci2", "ich9-usb-uhci3", "pci-ohci", "usb-hub", "usb-redir", "usb-host",
    // Input.
    "usb-tablet", "usb-kbd", "usb-mouse", "virtio-keyboard-pci", "virtio-mouse-pci", "virtio-tablet-pci",
    "virtio-input-host-pci",
    // Character devices.
    "isa-serial", "pci-serial", "usb-serial", "isa-parallel", "isa-debugcon", "virtio-serial-pci",
    "virtserialport", "virtconsole",
    // Display.
    "VGA", "cirrus-vga", "vmware-svga", "qxl-vga", "qxl", "virtio-vga", "virtio-gpu-pci", "bochs-display", "ramfb",
    // Sound.
    "ich9-intel-hda", "intel-hda", "hda-duplex", "hda-micro", "hda-output", "AC97", "ES1370", "sb16",
    "virtio-sound-pci",
    // Memory and its balloon.
    "virtio-balloon-pci", "virtio-balloon-pci-transitional", "virtio-balloon-pci-non-transitional", "pc-dimm",
    "nvdimm", "virtio-mem-pci", "virtio-pmem-pci",
    // The rest that XML can name.
    "virtio-rng-pci", "virtio-rng-pci-transitional", "virtio-rng-pci-non-transitional", "vhost-vsock-pci",
    "vhost-vsock-pci-non-transitional", "i6300esb", "ib700", "pvpanic", "pvpanic-pci",
    "tpm-tis", "tpm-crb", "vmgenid", "vmcoreinfo", "intel-iommu", "virtio-iommu-pci", "vfio-pci",
    "vhost-user-fs-pci", "virtio-9p-pci", "virtio-crypto-pci", "ivshmem-plain",
    // What a machine has by itself.
    "ICH9-LPC", "PIIX4_PM", "kvm-pit", "isa-pit", "mc146818rtc", "cfi.pflash01", "isa-fdc",
];
