//! What a definition leaves to the moment of a start and no guest sees: where servers listen.
//!
//! The daemon calls [`settle`] on the live copy of a definition, before it opens sockets and asks for the
//! command line. TCP ports are the daemon's to choose, because only it can try them.

use ferry_domxml::Domain;
use ferry_domxml::chardev::{Backend, SocketMode};
use ferry_domxml::display::{Graphics, Listen};

/// Characters of the domain's name that stand in the name of its folders. Stock's bound.
const SHORT_NAME_MAX: usize = 20;

/// The daemon's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Folder below which each running domain has one for the sockets of its channels.
    pub channel_directory: String,
    /// Folder below which each running domain has one for the socket of its VNC server.
    pub vnc_directory: String,
    /// Address on which a VNC server listens when the definition names none.
    pub vnc_address: String,
}

/// Fills in addresses and socket paths. What the definition names stays.
pub fn settle(domain: &mut Domain, settings: &Settings) {
    let folder = short_name(domain);
    for channel in &mut domain.devices.channels {
        if let Backend::Unix { path: path @ None, mode } = &mut channel.source.backend {
            let name = channel.target.name.as_deref().unwrap_or("channel");
            *path = Some(format!("{}/{folder}/{}", settings.channel_directory, name.replace('/', "_")));
            *mode = SocketMode::Bind;
        }
    }
    for Graphics::Vnc(vnc) in &mut domain.devices.graphics {
        for listen in &mut vnc.listens {
            match listen {
                Listen::Address(address) => {
                    address.get_or_insert_with(|| settings.vnc_address.clone());
                }
                Listen::Socket(path) => {
                    path.get_or_insert_with(|| format!("{}/{folder}/vnc.sock", settings.vnc_directory));
                }
                Listen::None => {}
            }
        }
    }
}

/// `ID-NAME` with a name of bounded length: unique while the domain runs, short enough for socket paths.
#[must_use]
pub fn short_name(domain: &Domain) -> String {
    let name: String = domain.name.chars().take(SHORT_NAME_MAX).collect();
    format!("{}-{name}", domain.id.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_settled_and_the_rest_stays() {
        let mut domain = Domain::parse(
            "<domain type='qemu' id='7'><name>a-guest-with-a-rather-long-name</name><memory>1024</memory>
             <vcpu>1</vcpu><os><type>hvm</type></os><devices>
             <channel type='unix'><target type='virtio' name='org/agent'/></channel>
             <channel type='unix'><source mode='connect' path='/own'/><target type='virtio' name='b'/></channel>
             <graphics type='vnc'><listen type='address'/></graphics>
             </devices></domain>",
        )
        .unwrap();
        let settings = Settings {
            channel_directory: "/run/channel".to_owned(),
            vnc_directory: "/run/vnc".to_owned(),
            vnc_address: "127.0.0.1".to_owned(),
        };
        settle(&mut domain, &settings);
        let sources: Vec<&Backend> =
            domain.devices.channels.iter().map(|channel| &channel.source.backend).collect();
        let own = "/run/channel/7-a-guest-with-a-rathe/org_agent".to_owned();
        assert_eq!(*sources[0], Backend::Unix { path: Some(own), mode: SocketMode::Bind });
        assert_eq!(*sources[1], Backend::Unix { path: Some("/own".to_owned()), mode: SocketMode::Connect });
        let Graphics::Vnc(vnc) = &domain.devices.graphics[0];
        assert_eq!(vnc.listens, [Listen::Address(Some("127.0.0.1".to_owned()))]);
    }
}
