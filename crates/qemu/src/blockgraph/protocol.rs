//! Images on servers: what each of QEMU's clients is told. Called for one node at a time.
//!
//! The domain's model has refused what a protocol has no use for, and completion has filled in its port.

use ferry_domxml::network_source::{NetworkSource, SourceHost, SourceProtocol, Transport};
use ferry_domxml::secret::Auth;

use super::GraphError;
use super::secrets;
use crate::props::Props;

/// The properties of the node, but for its name. `node` is that name: secrets are called after it.
pub(super) fn props(network: &NetworkSource, auth: Option<&Auth>, node: &str) -> Result<Props, GraphError> {
    match network.protocol {
        SourceProtocol::Nbd => nbd(network),
        SourceProtocol::Rbd => rbd(network, auth, node),
        SourceProtocol::Iscsi => iscsi(network, auth, node),
        SourceProtocol::Http | SourceProtocol::Https | SourceProtocol::Ftp | SourceProtocol::Ftps => {
            url(network, auth, node)
        }
        SourceProtocol::Ssh => ssh(network),
    }
}

fn nbd(network: &NetworkSource) -> Result<Props, GraphError> {
    let host = host(network)?;
    let server = match host.transport {
        Some(Transport::Unix) => {
            Props::new().with("type", "unix").with("path", host.socket.as_deref().unwrap_or_default())
        }
        Some(Transport::Tcp) | None => inet(Props::new().with("type", "inet"), network.protocol, host),
    };
    Ok(Props::driver("nbd")
        .with("server", server)
        .with_some("export", network.name.as_deref())
        .with_some("reconnect-delay", network.reconnect))
}

fn rbd(network: &NetworkSource, auth: Option<&Auth>, node: &str) -> Result<Props, GraphError> {
    let name = name(network)?;
    let Some((pool, image)) = name.split_once('/') else {
        let text = format!("can't split path '{name}' into pool name and image name");
        return Err(GraphError::Network(text));
    };
    // The port of a monitor that names none is the client's to know: 0 stands for it.
    let monitors: Vec<Props> =
        network.hosts.iter().map(|host| inet(Props::new(), network.protocol, host)).collect();
    let props = Props::driver("rbd")
        .with("pool", pool)
        .with("image", image)
        .with_some("snapshot", network.snapshot.as_deref())
        .with_some("conf", network.config.as_deref())
        .with_some("server", (!monitors.is_empty()).then_some(monitors))
        .with_some("user", auth.map(|auth| auth.username.as_str()));
    Ok(match auth {
        Some(_) => props
            .with("auth-client-required", vec!["cephx", "none"])
            .with("key-secret", secrets::auth_object(node)),
        None => props,
    })
}

fn iscsi(network: &NetworkSource, auth: Option<&Auth>, node: &str) -> Result<Props, GraphError> {
    let host = host(network)?;
    let name = name(network)?;
    let (target, unit) = name.rsplit_once('/').unwrap_or((name, "0"));
    let unit: u32 =
        unit.parse().map_err(|_| GraphError::Network(format!("failed to parse target for lun '{name}'")))?;
    let address = host.name.as_deref().unwrap_or_default();
    let port = port(network.protocol, host);
    let portal =
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    let initiator = network.initiator.as_ref().and_then(|initiator| initiator.iqn.as_deref());
    Ok(Props::driver("iscsi")
        .with("portal", portal)
        .with("target", target)
        .with("lun", unit)
        .with("transport", "tcp")
        .with_some("user", auth.map(|auth| auth.username.as_str()))
        .with_some("password-secret", auth.map(|_| secrets::auth_object(node)))
        .with_some("initiator-name", initiator))
}

fn url(network: &NetworkSource, auth: Option<&Auth>, node: &str) -> Result<Props, GraphError> {
    let host = host(network)?;
    let protocol = network.protocol;
    let address = host.name.as_deref().unwrap_or_default();
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let path = name(network)?;
    let query = network.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
    let port = port(protocol, host);
    let url = format!("{protocol}://{address}:{port}/{}{query}", path.strip_prefix('/').unwrap_or(path));
    Ok(Props::driver(protocol.as_str())
        .with("url", url)
        .with_some("username", auth.map(|auth| auth.username.as_str()))
        .with_some("password-secret", auth.map(|_| secrets::auth_object(node)))
        .with_some("sslverify", network.ssl.as_ref().map(|ssl| ssl.verify.is_yes()))
        .with_some("cookie-secret", network.cookies.as_ref().map(|_| secrets::cookie_object(node)))
        .with_some("timeout", network.timeout)
        .with_some("readahead", network.readahead.filter(|size| *size > 0)))
}

fn ssh(network: &NetworkSource) -> Result<Props, GraphError> {
    let user = network.identity.as_ref().and_then(|identity| identity.username.as_deref());
    Ok(Props::driver("ssh")
        .with("path", name(network)?)
        .with("server", inet(Props::new(), network.protocol, host(network)?))
        .with_some("user", user))
}

fn inet(server: Props, protocol: SourceProtocol, host: &SourceHost) -> Props {
    server
        .with("host", host.name.as_deref().unwrap_or_default())
        .with("port", port(protocol, host).to_string())
}

fn port(protocol: SourceProtocol, host: &SourceHost) -> u16 {
    host.port.or(protocol.default_port()).unwrap_or(0)
}

fn host(network: &NetworkSource) -> Result<&SourceHost, GraphError> {
    let missing = || GraphError::Network(format!("{} protocol accepts only one host", network.protocol));
    network.hosts.first().ok_or_else(missing)
}

fn name(network: &NetworkSource) -> Result<&str, GraphError> {
    network.name.as_deref().ok_or_else(|| GraphError::Network("missing name for disk source".to_owned()))
}
