//! Wrong values among the devices: what stands there, the number of the error on the wire, its text.

/// What stands among the devices.
pub(crate) const DEVICES: &[(&str, u32, &str)] = &[
    ("<hub/>", 1, "internal error: missing hub device type"),
    ("<hub type='pci'/>", 67, "unsupported configuration: unknown hub device type 'pci'"),
    ("<redirdev bus='usb'/>", 27, "XML error: Missing required attribute 'type' in element 'redirdev'"),
    (
        "<redirdev bus='pci' type='pty'/>",
        67,
        "unsupported configuration: element 'devices/redirdev': <redirdev bus='pci' type='pty'>",
    ),
    (
        "<redirdev bus='usb' type='spicevmc'/>",
        67,
        "unsupported configuration: element 'devices/redirdev': <redirdev bus='usb' type='spicevmc'>",
    ),
    ("<redirdev bus='usb' type='tcp'/>", 27, "XML error: missing element 'source' in element 'redirdev'"),
    (
        "<redirfilter><usbdev vendor='0x12345' allow='no'/></redirfilter>",
        27,
        "XML error: Invalid value for attribute 'vendor' in element 'usbdev': '0x12345'.",
    ),
    (
        "<redirfilter><usbdev version='a' allow='no'/></redirfilter>",
        27,
        "XML error: Invalid value for attribute 'version' in element 'usbdev': 'a'.",
    ),
    (
        "<redirfilter><usbdev vendor='1'/></redirfilter>",
        27,
        "XML error: Missing required attribute 'allow' in element 'usbdev'",
    ),
    (
        "<memory model='dimm'><target><size>9</size><node>0</node></target></memory>",
        67,
        "unsupported configuration: cannot use/hotplug a memory device when domain 'maxMemory' is not defined",
    ),
    ("<vsock><cid address='2'/></vsock>", 67, "unsupported configuration: guest CIDs must be >= 3"),
    (
        "<vsock><cid address='x'/></vsock>",
        27,
        "XML error: Invalid value for attribute 'address' in element 'cid': 'x'.",
    ),
    (
        "<serial type='tcp'><source mode='bind' host='h' service='1'/><protocol type='x'/></serial>",
        67,
        "unsupported configuration: element 'devices/serial': \
         <serial type='tcp'><source mode='bind' host='h' service='1'><protocol type='x'>",
    ),
    (
        "<vsock/>",
        67,
        "unsupported configuration: element 'devices/vsock/cid': nobody gives out numbers; name one with address",
    ),
    (
        "<vsock><cid auto='yes'/></vsock>",
        67,
        "unsupported configuration: element 'devices/vsock/cid': nobody gives out numbers; name one with address",
    ),
    (
        "<vsock><cid address='3'/></vsock><vsock/>",
        67,
        "unsupported configuration: element 'devices/vsock[2]': <vsock>",
    ),
    ("<panic model='x'/>", 67, "unsupported configuration: attribute 'devices/panic/@model' with value 'x'"),
    (
        "<input type='tablet' bus='usb' model='virtio'/>",
        67,
        "unsupported configuration: only bus 'virtio' is supported for input model 'virtio'",
    ),
    (
        "<input type='tablet' bus='virtio' model='virtio-transitional'/>",
        67,
        "unsupported configuration: attribute 'devices/input/@model' with value 'virtio-transitional'",
    ),
    (
        "<panic model='pvpanic'><address type='isa' iobase='0x505'/></panic>",
        67,
        "unsupported configuration: pvpanic is supported only with PCI address type",
    ),
    (
        "<panic><address type='pci' slot='0x05'/></panic>",
        67,
        "unsupported configuration: panic is supported only with ISA address type",
    ),
    ("<panic model='isa'/><panic/>", 27, "XML error: Multiple panic devices with model 'isa'"),
    ("<tpm model='tpm-tis'/>", 27, "XML error: missing TPM device backend"),
    (
        "<tpm model='x'><backend type='emulator'/></tpm>",
        67,
        "unsupported configuration: attribute 'devices/tpm/@model' with value 'x'",
    ),
    ("<tpm><backend/></tpm>", 27, "XML error: Missing required attribute 'type' in element 'backend'"),
    (
        "<tpm><backend type='passthrough'/></tpm>",
        67,
        "unsupported configuration: element 'devices/tpm/backend': <backend type='passthrough'>",
    ),
    (
        "<tpm><backend type='emulator' version='3.0'/></tpm>",
        67,
        "unsupported configuration: attribute 'devices/tpm/backend/@version' with value '3.0'",
    ),
    (
        "<tpm><backend type='emulator' persistent_state='maybe'/></tpm>",
        67,
        "unsupported configuration: attribute 'devices/tpm/backend/@persistent_state' with value 'maybe'",
    ),
    (
        "<tpm><backend type='emulator' debug='x'/></tpm>",
        27,
        "XML error: Invalid value for attribute 'debug' in element 'backend': 'x'.",
    ),
    (
        "<tpm><backend type='emulator' version='2.0'><encryption secret='1'/></backend></tpm>",
        67,
        "unsupported configuration: element 'devices/tpm/backend/encryption': <encryption secret='1'>",
    ),
    (
        "<tpm><backend type='emulator' version='2.0'><profile name='default-v1'/></backend></tpm>",
        67,
        "unsupported configuration: element 'devices/tpm/backend/profile': <profile name='default-v1'>",
    ),
    (
        "<tpm><backend type='emulator' version='2.0'><source type='dir' path='/x'/></backend></tpm>",
        67,
        "unsupported configuration: element 'devices/tpm/backend/source': <source type='dir' path='/x'>",
    ),
    (
        "<tpm><backend type='emulator' version='2.0'><active_pcr_banks><sha3/></active_pcr_banks></backend></tpm>",
        67,
        "unsupported configuration: element 'devices/tpm/backend/active_pcr_banks/sha3': <sha3>",
    ),
    (
        "<tpm><backend type='emulator'><active_pcr_banks><sha1/></active_pcr_banks></backend></tpm>",
        27,
        "XML error: <active_pcr_banks/> requires TPM version '2.0'",
    ),
    (
        "<tpm model='tpm-crb'><backend type='emulator' version='1.2'/></tpm>",
        67,
        "unsupported configuration: TPM 1.2 is not supported for model 'tpm-crb'",
    ),
    (
        "<tpm><backend type='emulator'/></tpm><tpm model='tpm-crb'><backend type='emulator'/></tpm>",
        67,
        "unsupported configuration: only a single TPM non-proxy device is supported",
    ),
    ("<sound/>", 27, "XML error: Missing required attribute 'model' in element 'sound'"),
    ("<sound model='x'/>", 67, "unsupported configuration: element 'devices/sound': <sound model='x'>"),
    ("<sound model='ich9'><audio id='5'/></sound>", 27, "XML error: no audio device with ID 5"),
    (
        "<sound model='ich6'><codec type='x'/></sound>",
        67,
        "unsupported configuration: element 'devices/sound/codec': <codec type='x'>",
    ),
    (
        "<audio id='1' type='none'/><audio id='1' type='none'/>",
        27,
        "XML error: audio ID 1 is used multiple times",
    ),
    (
        "<audio id='0' type='none'/>",
        27,
        "XML error: Invalid value for attribute 'id' in element 'audio': '0'.",
    ),
    (
        "<pstore backend='x'/>",
        67,
        "unsupported configuration: element 'devices/pstore': <pstore backend='x'>",
    ),
    (
        "<pstore backend='acpi-erst'/>",
        67,
        "unsupported configuration: element 'devices/pstore': its path and its size must be given",
    ),
    (
        "<disk><driver iothread='0'/><source file='/a'/><target dev='vda'/></disk>",
        27,
        "XML error: Invalid value for attribute 'iothread' in element 'driver': '0'.",
    ),
    (
        "<disk><driver><iothreads/></driver><source file='/a'/><target dev='vda'/></disk>",
        67,
        "unsupported configuration: disk 'vda' has an empty iothread mapping",
    ),
    (
        "<disk><driver><iothreads><iothread id='1'><queue id='0'/></iothread></iothreads></driver>\
         <source file='/a'/><target dev='vda'/></disk>",
        67,
        "unsupported configuration: disk 'vda' names queues of iothreads and not how many queues it has",
    ),
    (
        "<disk><driver queues='2'><iothreads><iothread id='1'><queue id='0'/></iothread></iothreads></driver>\
         <source file='/a'/><target dev='vda'/></disk>",
        67,
        "unsupported configuration: the iothread mapping of disk 'vda' does not cover every queue",
    ),
    (
        "<disk><driver queues='2'><iothreads><iothread id='1'><queue id='2'/></iothread></iothreads></driver>\
         <source file='/a'/><target dev='vda'/></disk>",
        27,
        "XML error: queue '2' is not one of the 2 queues of disk 'vda'",
    ),
    (
        "<disk><driver iommu='x'/><source file='/a'/><target dev='vda'/></disk>",
        67,
        "unsupported configuration: attribute 'devices/disk/driver/@iommu' with value 'x'",
    ),
    (
        "<interface type='user'><model type='virtio'/><driver txmode='x'/></interface>",
        67,
        "unsupported configuration: attribute 'devices/interface/driver/@txmode' with value 'x'",
    ),
    (
        "<interface type='user'><model type='virtio'/><driver><guest gso='on'/></driver></interface>",
        67,
        "unsupported configuration: element 'devices/interface[1]/driver/guest': gso and mrg_rxbuf are the host's",
    ),
    (
        "<memballoon model='virtio'><driver packed='x'/></memballoon>",
        67,
        "unsupported configuration: attribute 'devices/memballoon/driver/@packed' with value 'x'",
    ),
];

/// Memory devices of a guest with one cell and two slots for them.
pub(crate) const MEMORY: &[(&str, u32, &str)] = &[
    (
        "<memory><target><size>9</size></target></memory>",
        27,
        "XML error: Missing required attribute 'model' in element 'memory'",
    ),
    (
        "<memory model='sgx-epc'><target><size>9</size></target></memory>",
        67,
        "unsupported configuration: element 'devices/memory': <memory model='sgx-epc'><target><size>",
    ),
    ("<memory model='dimm'/>", 27, "XML error: missing element 'target' in element 'memory'"),
    (
        "<memory model='dimm'><target><node>0</node></target></memory>",
        27,
        "XML error: missing element 'size' in element 'target'",
    ),
    (
        "<memory model='dimm'><target><size>0</size><node>0</node></target></memory>",
        27,
        "XML error: a memory device of model 'dimm' has no memory",
    ),
    (
        "<memory model='dimm'><target><size>9</size></target></memory>",
        67,
        "unsupported configuration: target NUMA node needs to be specified for memory device",
    ),
    (
        "<memory model='dimm'><target><size>9</size><node>7</node></target></memory>",
        67,
        "unsupported configuration: can't add memory backend for guest node '7' as the guest has only '1' NUMA nodes configured",
    ),
    (
        "<memory model='dimm'><target><size>9</size><node>x</node></target></memory>",
        27,
        "XML error: Invalid value 'x' for element 'node'",
    ),
    (
        "<memory model='dimm'><target><size>9</size><node>0</node></target><address type='dimm' slot='9'/></memory>",
        67,
        "unsupported configuration: memory device slot '9' exceeds slots count '2'",
    ),
    (
        "<memory model='dimm'><target><size>9</size><node>0</node></target><address type='dimm'/></memory>",
        27,
        "XML error: Missing required attribute 'slot' in element 'address'",
    ),
    (
        "<memory model='dimm'><target><size>9</size><node>0</node></target><address type='dimm' slot='1'/></memory>\
         <memory model='dimm'><target><size>9</size><node>0</node></target><address type='dimm' slot='1'/></memory>",
        67,
        "unsupported configuration: memory device slot '1' is already being used by another memory device",
    ),
    (
        "<memory model='dimm'><target><size>9</size><node>0</node></target><address type='dimm' slot='0' base='0x1000'/></memory>\
         <memory model='dimm'><target><size>9</size><node>0</node></target><address type='dimm' slot='1' base='0x2000'/></memory>",
        67,
        "unsupported configuration: memory device address [0x2000:0x4400] overlaps with other memory device (0x1000)",
    ),
    (
        "<memory model='dimm'><target><size>9</size><node>0</node></target><address type='pci' slot='3'/></memory>",
        67,
        "unsupported configuration: only 'dimm' addresses are supported for the dimm device",
    ),
    (
        "<memory model='dimm'><target><size unit='GiB'>16</size><node>0</node></target></memory>",
        27,
        "XML error: maximum memory size must be equal or greater than the actual memory size",
    ),
    (
        "<memory model='dimm' access='x'><target><size>9</size><node>0</node></target></memory>",
        67,
        "unsupported configuration: attribute 'devices/memory/@access' with value 'x'",
    ),
    (
        "<memory model='dimm'><uuid>49545eb3-75e1-2d0a-acdd-f0294406c99e</uuid><target><size>9</size><node>0</node></target></memory>",
        67,
        "unsupported configuration: element 'devices/memory/uuid': <uuid>",
    ),
    (
        "<memory model='nvdimm'><target><size>9</size><node>0</node></target></memory>",
        35,
        "path is required for model 'nvdimm'",
    ),
    (
        "<memory model='nvdimm' discard='yes'><source><path>/x</path></source><target><size>9</size><node>0</node></target></memory>",
        67,
        "unsupported configuration: discard is not supported for nvdimms",
    ),
    (
        "<memory model='nvdimm'><source><path>/x</path></source><target><size>9</size><node>0</node><label><size>64</size></label></target></memory>",
        27,
        "XML error: nvdimm label must be at least 128KiB",
    ),
    (
        "<memory model='nvdimm'><source><path>/x</path></source><target><size>200</size><node>0</node><label><size>200</size></label></target></memory>",
        27,
        "XML error: label size must be smaller than NVDIMM size",
    ),
    (
        "<memory model='virtio-mem'><target><size>4096</size><node>0</node></target></memory>",
        35,
        "block size must be a power of two",
    ),
    (
        "<memory model='virtio-mem'><target><size>4096</size><node>0</node><block>512</block></target></memory>",
        35,
        "block size too small, must be at least 2048KiB",
    ),
    (
        "<memory model='virtio-mem'><target><size>4096</size><node>0</node><block>2048</block><requested>8192</requested></target></memory>",
        35,
        "requested size must be smaller than or equal to @size (4096KiB)",
    ),
    (
        "<memory model='virtio-mem'><target><size>4096</size><node>0</node><block>2048</block><requested>9</requested></target></memory>",
        35,
        "requested size must be an integer multiple of block size",
    ),
    (
        "<memory model='virtio-mem'><target><size>4096</size><node>0</node><block>2048</block></target><address type='dimm' slot='0'/></memory>",
        67,
        "unsupported configuration: only 'pci' and 'ccw' addresses are supported for the virtio-mem device",
    ),
    (
        "<memory model='virtio-mem'><target><size>4096</size><node>0</node><block>2048</block><address base='x'/></target></memory>",
        27,
        "XML error: Invalid value for attribute 'base' in element 'address': 'x'.",
    ),
    (
        "<memory model='virtio-pmem'><target><size>9</size></target></memory>",
        35,
        "path is required for model 'virtio-pmem'",
    ),
    (
        "<memory model='virtio-pmem'><source><path>/x</path></source><target><size>9</size><node>0</node></target></memory>",
        67,
        "unsupported configuration: virtio-pmem does not support NUMA nodes",
    ),
    (
        "<memory model='virtio-pmem' access='private'><source><path>/x</path></source><target><size>9</size></target></memory>",
        67,
        "unsupported configuration: shared access mode required for virtio-pmem device",
    ),
    (
        "<memory model='virtio-pmem' discard='yes'><source><path>/x</path></source><target><size>9</size></target></memory>",
        67,
        "unsupported configuration: discard is not supported for model 'virtio-pmem'",
    ),
];
