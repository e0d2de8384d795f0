//! Disks: names that are taken twice, images that cannot be found, limits that contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use super::{contradiction, unsupported};
use crate::{
    Auth, AuthKind, BackingStore, Cookies, Disk, DiskDevice, Domain, Identity, Limits, Location,
    NetworkSource, ParseError, Source, SourceHost, SourceProtocol, StartupPolicy, Transport,
};

pub(super) fn check(domain: &Domain) -> Result<(), ParseError> {
    let groups = groups(domain)?;
    let disks = &domain.devices.disks;
    let mut seen: BTreeMap<&str, &Disk> = BTreeMap::new();
    for disk in disks {
        let dev = disk.target.dev.as_str();
        if let Some(other) = seen.insert(dev, disk) {
            return contradiction(format!(
                "target '{dev}' duplicated for disk sources '{}' and '{}'",
                other.source.label(),
                disk.source.label()
            ));
        }
        let removable = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
        if disk.source.is_empty() && !removable {
            return Err(ParseError::MissingSource { target: dev.to_owned() });
        }
        if disk.auth.is_some() && disk.source.auth.is_some() {
            return unsupported("an <auth> definition already found for disk source");
        }
        if disk.encryption.is_some() && disk.source.encryption.is_some() {
            return unsupported("an <encryption> definition already found for disk source");
        }
        startup_policy(disk)?;
        source(&disk.source, disk.auth())?;
        secret(
            disk.encryption().map(|encryption| (encryption.secret.uuid, encryption.secret.usage.as_deref())),
        )?;
        let mut below = disk.backing_store.as_ref();
        while let Some(BackingStore::Image(image)) = below {
            if image.source.is_empty() {
                return contradiction("missing disk backing store source");
            }
            // One that is not known is refused by its path.
            if image.format.is_none() && image.rest.child("format").is_none() {
                return contradiction("missing disk backing store format");
            }
            source(&image.source, image.source.auth.as_deref())?;
            below = image.backing_store.as_ref();
        }
        limits(disk, &groups)?;
    }
    shared_limits(disks)
}

fn startup_policy(disk: &Disk) -> Result<(), ParseError> {
    let Some(policy) = disk.source.startup_policy else { return Ok(()) };
    if disk.source.network().is_some() {
        let text = format!("disk startupPolicy '{policy}' is not allowed for disk of 'network' type");
        return contradiction(text);
    }
    let removable = matches!(disk.device, DiskDevice::Cdrom | DiskDevice::Floppy);
    if policy == StartupPolicy::Requisite && !removable {
        return contradiction("disk startupPolicy 'requisite' is allowed only for cdrom or floppy");
    }
    Ok(())
}

fn source(source: &Source, auth: Option<&Auth>) -> Result<(), ParseError> {
    let network = match &source.location {
        Location::Network(network) => network,
        Location::File(_) | Location::Block(_) | Location::Volume { .. } => {
            return match auth {
                // Stock looks the secret up and has no use for it.
                Some(_) => unsupported("authentication is only supported for disk sources on a server"),
                None => Ok(()),
            };
        }
    };
    network.hosts.iter().try_for_each(host)?;
    let protocol = network.protocol;
    if network.name.is_none() && protocol != SourceProtocol::Nbd {
        return contradiction("missing name for disk source");
    }
    match (protocol, network.name.as_deref()) {
        (SourceProtocol::Rbd, Some(name)) if !name.contains('/') => {
            return contradiction(format!("can't split path '{name}' into pool name and image name"));
        }
        _ => {}
    }
    if protocol != SourceProtocol::Rbd && network.hosts.len() != 1 {
        return Err(ParseError::Internal(format!("{protocol} protocol accepts only one host")));
    }
    if let Some(auth) = auth {
        self::auth(protocol, auth)?;
    }
    only_where_it_means_something(network)?;
    if let Some(cookies) = &network.cookies {
        self::cookies(cookies)?;
    }
    match &network.identity {
        Some(Identity { keyfile: None, agent_socket: None, .. }) => {
            contradiction("element 'identity' requires either 'keyfile' or 'agentsock' attribute")
        }
        Some(_) | None => Ok(()),
    }
}

fn host(host: &SourceHost) -> Result<(), ParseError> {
    match host.transport {
        Some(Transport::Unix) if host.socket.is_none() => contradiction("missing socket for unix transport"),
        Some(Transport::Unix) => Ok(()),
        Some(Transport::Tcp) | None if host.socket.is_some() => {
            contradiction("transport 'tcp' does not support socket attribute")
        }
        Some(Transport::Tcp) | None if host.name.is_none() => contradiction("missing name for host"),
        Some(Transport::Tcp) | None => Ok(()),
    }
}

fn auth(protocol: SourceProtocol, auth: &Auth) -> Result<(), ParseError> {
    secret(Some((auth.secret.uuid, auth.secret.usage.as_deref())))?;
    let wanted = match protocol {
        SourceProtocol::Rbd => Some(AuthKind::Ceph),
        SourceProtocol::Iscsi => Some(AuthKind::Iscsi),
        // Stock has no kind for them and does not look at what stands there.
        SourceProtocol::Http | SourceProtocol::Https | SourceProtocol::Ftp | SourceProtocol::Ftps => None,
        SourceProtocol::Nbd | SourceProtocol::Ssh => {
            return unsupported(format!("authentication is not supported for protocol '{protocol}'"));
        }
    };
    match wanted {
        Some(kind) if kind != auth.secret.kind => {
            unsupported(format!("invalid secret type '{}'", auth.secret.kind))
        }
        Some(_) | None => Ok(()),
    }
}

fn secret(reference: Option<(Option<crate::Uuid>, Option<&str>)>) -> Result<(), ParseError> {
    match reference {
        Some((Some(_), Some(_))) => contradiction("either secret uuid or usage expected"),
        Some((None, None)) => contradiction("missing secret uuid or usage attribute"),
        Some(_) | None => Ok(()),
    }
}

/// Stock drops in silence what a protocol has no use for.
fn only_where_it_means_something(network: &NetworkSource) -> Result<(), ParseError> {
    let protocol = network.protocol;
    let is_web = matches!(protocol, SourceProtocol::Http | SourceProtocol::Https);
    let is_over_tls = matches!(protocol, SourceProtocol::Https | SourceProtocol::Ftps);
    let parts = [
        ("query", network.query.is_some(), protocol.is_url()),
        ("snapshot", network.snapshot.is_some(), protocol == SourceProtocol::Rbd),
        ("config", network.config.is_some(), protocol == SourceProtocol::Rbd),
        ("initiator", network.initiator.is_some(), protocol == SourceProtocol::Iscsi),
        ("ssl", network.ssl.is_some(), is_over_tls),
        ("cookies", network.cookies.is_some(), is_web),
        ("readahead", network.readahead.is_some(), protocol.is_url()),
        ("timeout", network.timeout.is_some(), protocol.is_url()),
        ("reconnect", network.reconnect.is_some(), protocol == SourceProtocol::Nbd),
        ("knownHosts", network.known_hosts.is_some(), protocol == SourceProtocol::Ssh),
        ("identity", network.identity.is_some(), protocol == SourceProtocol::Ssh),
        ("tls", network.tls.is_some(), protocol == SourceProtocol::Nbd),
    ];
    if let Some((name, ..)) = parts.into_iter().find(|(_, is_there, is_meant)| *is_there && !is_meant) {
        return unsupported(format!("'{name}' is not supported for disk protocol '{protocol}'"));
    }
    let by_socket = network.hosts.iter().any(|host| host.transport == Some(Transport::Unix));
    if by_socket && protocol != SourceProtocol::Nbd {
        return unsupported(format!("transport 'unix' is not supported for disk protocol '{protocol}'"));
    }
    Ok(())
}

/// What a header may carry (RFC 6265), so that no cookie becomes another header.
fn cookies(cookies: &Cookies) -> Result<(), ParseError> {
    let mut seen = BTreeSet::new();
    for cookie in &cookies.0 {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let is_value = |byte: u8| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte);
        if cookie.name.is_empty() || !cookie.name.bytes().all(is_token) {
            return contradiction(format!("cookie name '{}' contains invalid characters", cookie.name));
        }
        if !cookie.value.bytes().all(is_value) {
            // The value is a secret, and so not in the text.
            return contradiction(format!("value of cookie '{}' contains invalid characters", cookie.name));
        }
        if !seen.insert(&cookie.name) {
            return contradiction(format!("duplicate cookie '{}'", cookie.name));
        }
    }
    Ok(())
}

/// The names of the groups.
fn groups(domain: &Domain) -> Result<BTreeSet<&str>, ParseError> {
    let mut names = BTreeSet::new();
    for group in domain.throttle_groups.iter().flat_map(|groups| &groups.groups) {
        let Some(name) = group.group_name.as_deref().filter(|name| !name.is_empty()) else {
            contradiction("missing group name")?;
            continue;
        };
        if !names.insert(name) {
            contradiction(format!("duplicate group name '{name}' found"))?;
        }
        numbers(group)?;
    }
    Ok(names)
}

fn limits(disk: &Disk, groups: &BTreeSet<&str>) -> Result<(), ParseError> {
    let dev = &disk.target.dev;
    if let Some(iotune) = &disk.iotune {
        numbers(iotune)?;
        if iotune.group_name.is_some() && iotune.is_unlimited() {
            return unsupported("group_name can be configured only together with settings");
        }
    }
    let Some(filters) = &disk.throttle_filters else { return Ok(()) };
    if disk.iotune.is_some() {
        return unsupported(format!(
            "block 'throttlefilters' can't be used together with 'iotune' for disk '{dev}'"
        ));
    }
    if disk.device == DiskDevice::Cdrom {
        return unsupported("cdrom device with throttle filters isn't supported");
    }
    let mut seen = BTreeSet::new();
    for name in &filters.groups {
        if !groups.contains(name.as_str()) {
            return contradiction(format!("throttle group '{name}' not found"));
        }
        if !seen.insert(name) {
            return contradiction(format!("duplicate filter name '{name}' found"));
        }
    }
    Ok(())
}

/// One number for both ways, or one for each.
fn numbers(limits: &Limits) -> Result<(), ParseError> {
    let is_set = |number: Option<u64>| number.is_some_and(|number| number > 0);
    let triples = [
        ("bytes_sec", limits.total_bytes_sec, limits.read_bytes_sec, limits.write_bytes_sec),
        ("iops_sec", limits.total_iops_sec, limits.read_iops_sec, limits.write_iops_sec),
        ("bytes_sec_max", limits.total_bytes_sec_max, limits.read_bytes_sec_max, limits.write_bytes_sec_max),
        ("iops_sec_max", limits.total_iops_sec_max, limits.read_iops_sec_max, limits.write_iops_sec_max),
    ];
    for (what, total, read, write) in triples {
        if is_set(total) && (is_set(read) || is_set(write)) {
            return contradiction(format!("total and read/write {what} cannot be set at the same time"));
        }
    }
    match limits
        .numbers()
        .into_iter()
        .find(|(_, number)| number.is_some_and(|number| number > crate::LIMIT_MAX))
    {
        Some(_) => unsupported(format!(
            "block I/O throttle limit must be no more than {} using QEMU",
            crate::LIMIT_MAX
        )),
        None => Ok(()),
    }
}

/// Disks of one group have one set of limits.
fn shared_limits(disks: &[Disk]) -> Result<(), ParseError> {
    let mut seen: BTreeMap<&str, &Disk> = BTreeMap::new();
    for disk in disks {
        let Some(name) = disk.iotune.as_ref().and_then(|iotune| iotune.group_name.as_deref()) else {
            continue;
        };
        let other = *seen.entry(name).or_insert(disk);
        if other.iotune != disk.iotune {
            let (one, two) = (&other.target.dev, &disk.target.dev);
            return unsupported(format!("different iotunes for disks {one} and {two}"));
        }
    }
    Ok(())
}
