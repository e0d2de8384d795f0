//! Wrong values in disks and shared folders, and the error that their user reads: number and text, stock's where stock has
//! one and does not drop in silence what is wrong.

use ferry_domxml::Domain;

/// What stands in `<devices>`, the number of the error on the wire, its text.
const DEVICES: &[(&str, u32, &str)] = &[
    (
        "<disk type='network'><source protocol='nbd' name='x'/><target dev='vda' bus='virtio'/></disk>",
        1,
        "internal error: nbd protocol accepts only one host",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host name='a'/><host name='b'/></source><target dev='vda' bus='virtio'/></disk>",
        1,
        "internal error: nbd protocol accepts only one host",
    ),
    (
        "<disk type='network'><source protocol='rbd'/><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: missing name for disk source",
    ),
    (
        "<disk type='network'><source protocol='rbd' name='x'/><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: can't split path 'x' into pool name and image name",
    ),
    (
        "<disk type='network'><source protocol='http' name='x'/><target dev='vda' bus='virtio'/></disk>",
        1,
        "internal error: http protocol accepts only one host",
    ),
    (
        "<disk type='network'><source protocol='gluster' name='v/x'><host name='a'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk': <disk type='network'><source protocol='gluster' name='v/x'><host name='a'><target dev='vda' bus='virtio'>",
    ),
    (
        "<disk type='network'><source name='x'/><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: Missing required attribute 'protocol' in element 'source'",
    ),
    (
        "<disk type='network'><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk': <disk type='network'><target dev='vda' bus='virtio'>",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host transport='unix'/></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: missing socket for unix transport",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host socket='/a'/></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: transport 'tcp' does not support socket attribute",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host port='1'/></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: missing name for host",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host name='a' port='x'/></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: Invalid value for attribute 'port' in element 'host': 'x'.",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host name='a' port='65536'/></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: Invalid value for attribute 'port' in element 'host': '65536'.",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host name='a' transport='rdma'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: attribute 'devices/disk/source/host/@transport' with value 'rdma'",
    ),
    (
        "<disk type='network'><source protocol='ssh' name='x'><host transport='unix' socket='/a'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: transport 'unix' is not supported for disk protocol 'ssh'",
    ),
    (
        "<disk type='network'><source protocol='nbd' tls='yes'><host name='a'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk[1]/source/@tls': nobody looks after the certificates of an encrypted NBD connection",
    ),
    (
        "<disk type='network'><source protocol='rbd' name='a/b' tls='yes'/><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: 'tls' is not supported for disk protocol 'rbd'",
    ),
    (
        "<disk type='network'><source protocol='nbd' query='x'><host name='a'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: 'query' is not supported for disk protocol 'nbd'",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host name='a'/><snapshot name='s'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: 'snapshot' is not supported for disk protocol 'nbd'",
    ),
    (
        "<disk type='network'><source protocol='http' name='x'><host name='a'/><ssl verify='no'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: 'ssl' is not supported for disk protocol 'http'",
    ),
    (
        "<disk type='network'><source protocol='https' name='x'><host name='a'/><ssl verify='x'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk/source/ssl': <ssl verify='x'>",
    ),
    (
        "<disk type='network'><source protocol='http' name='x'><host name='a'/><timeout seconds='x'/></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: Invalid value for attribute 'seconds' in element 'timeout': 'x'.",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host name='a'/><reconnect delay='-1'/></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: Invalid value for attribute 'delay' in element 'reconnect': '-1'.",
    ),
    (
        "<disk type='network'><source protocol='http' name='x'><host name='a'/><cookies><cookie name='a;'>b</cookie></cookies></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: cookie name 'a;' contains invalid characters",
    ),
    (
        "<disk type='network'><source protocol='http' name='x'><host name='a'/><cookies><cookie name='a'>b;c</cookie></cookies></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: value of cookie 'a' contains invalid characters",
    ),
    (
        "<disk type='network'><source protocol='http' name='x'><host name='a'/><cookies><cookie name='a'>b</cookie><cookie name='a'>c</cookie></cookies></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: duplicate cookie 'a'",
    ),
    (
        "<disk type='network'><source protocol='ssh' name='x'><host name='a'/><identity username='u'/></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: element 'identity' requires either 'keyfile' or 'agentsock' attribute",
    ),
    (
        "<disk type='network'><source protocol='ssh' name='x'><host name='a'/><identity username='u' keyfile='/k'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk[1]/source/identity': QEMU's own SSH client takes a user's name and nothing else; keys come from its agent",
    ),
    (
        "<disk type='network'><source protocol='ssh' name='x'><host name='a'/><knownHosts path='/k'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk[1]/source/knownHosts': QEMU's own SSH client believes the keys that its account knows",
    ),
    (
        "<disk type='network'><source protocol='rbd' name='a/b'/><target dev='vda' bus='virtio'/><auth username='u'/></disk>",
        27,
        "XML error: missing element 'secret' in element 'auth'",
    ),
    (
        "<disk type='network'><source protocol='rbd' name='a/b'/><target dev='vda' bus='virtio'/><auth><secret type='ceph' usage='x'/></auth></disk>",
        27,
        "XML error: Missing required attribute 'username' in element 'auth'",
    ),
    (
        "<disk type='network'><source protocol='rbd' name='a/b'/><target dev='vda' bus='virtio'/><auth username='u'><secret type='ceph'/></auth></disk>",
        27,
        "XML error: missing secret uuid or usage attribute",
    ),
    (
        "<disk type='network'><source protocol='rbd' name='a/b'/><target dev='vda' bus='virtio'/><auth username='u'><secret type='ceph' usage='x' uuid='11111111-1111-1111-1111-111111111111'/></auth></disk>",
        27,
        "XML error: either secret uuid or usage expected",
    ),
    (
        "<disk type='network'><source protocol='rbd' name='a/b'/><target dev='vda' bus='virtio'/><auth username='u'><secret type='iscsi' usage='x'/></auth></disk>",
        67,
        "unsupported configuration: invalid secret type 'iscsi'",
    ),
    (
        "<disk type='network'><source protocol='rbd' name='a/b'/><target dev='vda' bus='virtio'/><auth username='u'><secret type='x' usage='x'/></auth></disk>",
        67,
        "unsupported configuration: element 'devices/disk/auth': <auth username='u'><secret type='x' usage='x'>",
    ),
    (
        "<disk type='network'><source protocol='rbd' name='a/b'><auth username='u'><secret type='ceph' usage='x'/></auth></source><target dev='vda' bus='virtio'/><auth username='u'><secret type='ceph' usage='x'/></auth></disk>",
        67,
        "unsupported configuration: an <auth> definition already found for disk source",
    ),
    (
        "<disk type='network'><source protocol='nbd'><host name='a'/></source><target dev='vda' bus='virtio'/><auth username='u'><secret type='ceph' usage='x'/></auth></disk>",
        67,
        "unsupported configuration: authentication is not supported for protocol 'nbd'",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><auth username='u'><secret type='ceph' usage='x'/></auth></disk>",
        67,
        "unsupported configuration: authentication is only supported for disk sources on a server",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><encryption format='qcow'><secret type='passphrase' usage='x'/></encryption></disk>",
        67,
        "unsupported configuration: element 'devices/disk/encryption': <encryption format='qcow'><secret type='passphrase' usage='x'>",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><encryption format='luks'/></disk>",
        27,
        "XML error: missing element 'secret' in element 'encryption'",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><encryption format='luks'><secret type='passphrase'/></encryption></disk>",
        27,
        "XML error: missing secret uuid or usage attribute",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><encryption format='luks' engine='librbd'><secret type='passphrase' usage='x'/></encryption></disk>",
        67,
        "unsupported configuration: attribute 'devices/disk/encryption/@engine' with value 'librbd'",
    ),
    (
        "<disk type='file'><source file='/a'><encryption format='luks'><secret type='passphrase' usage='x'/></encryption></source><target dev='vda' bus='virtio'/><encryption format='luks'><secret type='passphrase' usage='x'/></encryption></disk>",
        67,
        "unsupported configuration: an <encryption> definition already found for disk source",
    ),
    (
        "<disk type='file'><source file='/a'><slices><slice type='storage' offset='0' size='0'/></slices></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk[1]/source/slices': an image has one slice, with a size",
    ),
    (
        "<disk type='file'><source file='/a'><slices><slice type='storage' offset='0' size='1'/><slice type='storage' offset='1' size='1'/></slices></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk[1]/source/slices': an image has one slice, with a size",
    ),
    (
        "<disk type='file'><source file='/a'><slices><slice type='format' offset='0' size='1'/></slices></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk[1]/source/slices': an image has one slice, with a size",
    ),
    (
        "<disk type='file'><source file='/a'><reservations managed='yes'/></source><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk/source/reservations': <reservations managed='yes'>",
    ),
    (
        "<disk type='file'><source file='/a' startupPolicy='requisite'/><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: disk startupPolicy 'requisite' is allowed only for cdrom or floppy",
    ),
    (
        "<disk type='file'><source file='/a' startupPolicy='x'/><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: attribute 'devices/disk/source/@startupPolicy' with value 'x'",
    ),
    (
        "<disk type='network'><source protocol='nbd' startupPolicy='optional'><host name='a'/></source><target dev='vda' bus='virtio'/></disk>",
        27,
        "XML error: disk startupPolicy 'optional' is not allowed for disk of 'network' type",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><backingStore type='file'><source file='/b'/></backingStore></disk>",
        27,
        "XML error: missing disk backing store format",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><backingStore type='file'><format type='raw'/></backingStore></disk>",
        27,
        "XML error: missing disk backing store source",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><backingStore type='network'><format type='raw'/><source protocol='nbd'/></backingStore></disk>",
        1,
        "internal error: nbd protocol accepts only one host",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><backingStore type='file'><format type='vmdk'/><source file='/b'/></backingStore></disk>",
        67,
        "unsupported configuration: element 'devices/disk/backingStore/format': <format type='vmdk'>",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><mirror type='file'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk/mirror': <mirror type='file'>",
    ),
    (
        "<disk type='nvme'><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk': <disk type='nvme'><target dev='vda' bus='virtio'>",
    ),
    (
        "<disk type='vhostuser'><source type='unix' path='/s'/><target dev='vda' bus='virtio'/></disk>",
        67,
        "unsupported configuration: element 'devices/disk': <disk type='vhostuser'><source type='unix' path='/s'><target dev='vda' bus='virtio'>",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><iotune><total_bytes_sec>x</total_bytes_sec></iotune></disk>",
        27,
        "XML error: Invalid value 'x' for element 'total_bytes_sec'",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><iotune><total_bytes_sec>1</total_bytes_sec><read_bytes_sec>1</read_bytes_sec></iotune></disk>",
        27,
        "XML error: total and read/write bytes_sec cannot be set at the same time",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><iotune><total_iops_sec_max>1</total_iops_sec_max><write_iops_sec_max>1</write_iops_sec_max></iotune></disk>",
        27,
        "XML error: total and read/write iops_sec_max cannot be set at the same time",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><iotune><total_bytes_sec>1000000000000001</total_bytes_sec></iotune></disk>",
        67,
        "unsupported configuration: block I/O throttle limit must be no more than 1000000000000000 using QEMU",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><iotune><group_name>x</group_name></iotune></disk>",
        67,
        "unsupported configuration: group_name can be configured only together with settings",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><iotune><total_bytes_sec>1</total_bytes_sec><group_name>g</group_name></iotune></disk><disk type='file'><source file='/b'/><target dev='vdb' bus='virtio'/><iotune><total_bytes_sec>2</total_bytes_sec><group_name>g</group_name></iotune></disk>",
        67,
        "unsupported configuration: different iotunes for disks vda and vdb",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><throttlefilters><throttlefilter group='b'/></throttlefilters></disk>",
        27,
        "XML error: throttle group 'b' not found",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><geometry cyls='1' heads='x' secs='3'/></disk>",
        27,
        "XML error: Invalid value for attribute 'heads' in element 'geometry': 'x'.",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><geometry cyls='1' heads='2' secs='3' trans='x'/></disk>",
        67,
        "unsupported configuration: attribute 'devices/disk/geometry/@trans' with value 'x'",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><blockio discard_granularity='x'/></disk>",
        27,
        "XML error: Invalid value for attribute 'discard_granularity' in element 'blockio': 'x'.",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><driver copy_on_read='x'/></disk>",
        67,
        "unsupported configuration: attribute 'devices/disk/driver/@copy_on_read' with value 'x'",
    ),
    (
        "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/><driver type='qcow2'><metadata_cache><max_size unit='parsec'>1</max_size></metadata_cache></driver></disk>",
        27,
        "XML error: Invalid value for attribute 'unit' in element 'max_size': 'parsec'.",
    ),
    (
        "<filesystem type='mount'><source dir='/a'/></filesystem>",
        27,
        "XML error: missing element 'target' in element 'filesystem'",
    ),
    (
        "<filesystem type='mount'><target dir='a'/></filesystem>",
        19,
        "missing source information for device a",
    ),
    (
        "<filesystem type='mount'><source dir='a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: source 'a' of filesystem 'a' is not an absolute path",
    ),
    (
        "<filesystem type='block'><source dev='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: element 'devices/filesystem': <filesystem type='block'><source dev='/a'><target dir='a'>",
    ),
    (
        "<filesystem type='mount' accessmode='x'><source dir='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: attribute 'devices/filesystem/@accessmode' with value 'x'",
    ),
    (
        "<filesystem type='mount' fmode='600'><source dir='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: fmode and dmode must be used with accessmode=mapped",
    ),
    (
        "<filesystem type='mount' accessmode='mapped' fmode='999'><source dir='/a'/><target dir='a'/></filesystem>",
        27,
        "XML error: Invalid value for attribute 'fmode' in element 'filesystem': '999'.",
    ),
    (
        "<filesystem type='mount' accessmode='mapped' fmode='1777'><source dir='/a'/><target dir='a'/></filesystem>",
        27,
        "XML error: Invalid value for attribute 'fmode' in element 'filesystem': '1777'.",
    ),
    (
        "<filesystem type='mount'><source dir='/a'/><target dir='a'/></filesystem><filesystem type='mount'><source dir='/b'/><target dir='a'/></filesystem>",
        27,
        "XML error: filesystem target 'a' specified twice",
    ),
    (
        "<filesystem type='mount'><source socket='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: socket, binary and queue are only supported with driver type 'virtiofs'",
    ),
    (
        "<filesystem type='mount'><source dir='/a'/><target dir='1234567890123456789012345678901234567'/></filesystem>",
        67,
        "unsupported configuration: target '1234567890123456789012345678901234567' of a filesystem must have 1 to 36 bytes",
    ),
    (
        "<filesystem type='mount'><driver type='handle'/><source dir='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: attribute 'devices/filesystem/driver/@type' with value 'handle'",
    ),
    (
        "<filesystem type='mount'><source dir='/a'/><target dir='a'/><space_hard_limit>1</space_hard_limit></filesystem>",
        67,
        "unsupported configuration: element 'devices/filesystem/space_hard_limit': <space_hard_limit>",
    ),
    (
        "<filesystem type='mount'><driver type='virtiofs'/><source dir='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: 'virtiofs' requires shared memory",
    ),
    (
        "<filesystem type='mount'><driver type='virtiofs'/><source dir='/a'/><target dir='a'/><readonly/></filesystem>",
        67,
        "unsupported configuration: virtiofs does not support readonly",
    ),
    (
        "<filesystem type='mount' accessmode='squash'><driver type='virtiofs'/><source dir='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: virtiofs only supports passthrough accessmode",
    ),
    (
        "<filesystem type='mount'><driver type='virtiofs' queue='3'/><source dir='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: virtiofs queue '3' is not a power of two of at most 1024",
    ),
    (
        "<filesystem type='mount'><driver type='virtiofs'/><binary path='/x'/><source socket='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: a virtiofs server that somebody else started cannot be given a binary",
    ),
    (
        "<filesystem type='mount'><driver type='virtiofs'/><binary><cache mode='x'/></binary><source dir='/a'/><target dir='a'/></filesystem>",
        67,
        "unsupported configuration: 'virtiofs' requires shared memory",
    ),
    (
        "<controller type='scsi' model='buslogic'/>",
        67,
        "unsupported configuration: attribute 'devices/controller/@model' with value 'buslogic'",
    ),
    (
        "<controller type='scsi' model='virtio-scsi'><driver queues='x'/></controller>",
        27,
        "XML error: Invalid value for attribute 'queues' in element 'driver': 'x'.",
    ),
    (
        "<controller type='pci' index='1' model='pcie-root-port'><pcihole64 unit='GiB'>1</pcihole64></controller>",
        67,
        "unsupported configuration: element 'devices/controller[1]/pcihole64': only the root of the PCI buses has a 64-bit window",
    ),
];

/// What stands beside the devices of a guest whose disk passes through group `a`.
const GROUPS: &[(&str, u32, &str)] = &[
    ("<throttlegroups></throttlegroups>", 27, "XML error: throttle group 'a' not found"),
    (
        "<throttlegroups><throttlegroup><total_bytes_sec>1</total_bytes_sec></throttlegroup></throttlegroups>",
        27,
        "XML error: missing group name",
    ),
    (
        "<throttlegroups><throttlegroup><group_name>a</group_name></throttlegroup><throttlegroup><group_name>a</group_name></throttlegroup></throttlegroups>",
        27,
        "XML error: duplicate group name 'a' found",
    ),
    (
        "<throttlegroups><throttlegroup><group_name>a</group_name><total_bytes_sec>1</total_bytes_sec><read_bytes_sec>1</read_bytes_sec></throttlegroup></throttlegroups>",
        27,
        "XML error: total and read/write bytes_sec cannot be set at the same time",
    ),
    (
        "<throttlegroups><throttlegroup><group_name>a</group_name><what/></throttlegroup></throttlegroups>",
        67,
        "unsupported configuration: element 'throttlegroups/throttlegroup/what': <what>",
    ),
];

#[test]
fn a_wrong_value_is_refused() {
    let disk = "<disk><source file='/a'/><target dev='vda'/><throttlefilters><throttlefilter group='a'/></throttlefilters></disk>";
    let groups = GROUPS.iter().map(|(text, code, error)| (domain(text, disk), *code, *error));
    let devices = DEVICES.iter().map(|(text, code, error)| (domain("", text), *code, *error));
    let mut wrong = Vec::new();
    for (text, code, expected) in devices.chain(groups) {
        let found = match Domain::parse(&text) {
            Err(error) => (error.code(), error.to_string()),
            // A word that no table has is kept, and refused by its path.
            Ok(domain) => domain
                .check_supported()
                .map_or_else(|refused| (67, refused.to_string()), |()| (0, "nothing".to_owned())),
        };
        if found != (code, expected.to_owned()) {
            wrong.push(format!("{text}\n  expected {code}: {expected}\n  found    {}: {}", found.0, found.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn domain(beside: &str, devices: &str) -> String {
    format!(
        "<domain type='qemu'><name>a</name><memory>1048576</memory><vcpu>2</vcpu>{beside}\
         <os><type machine='q35'>hvm</type></os><devices>{devices}</devices></domain>"
    )
}
