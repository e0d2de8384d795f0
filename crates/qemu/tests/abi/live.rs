//! What a definition leaves to the moment of a start and no guest sees: where servers listen.
//!
//! It is the daemon's to choose; here it is chosen as stock does, so that command lines can be compared.

use ferry_domxml::Domain;
use ferry_domxml::chardev::{Backend, SocketMode};
use ferry_domxml::display::{Graphics, Listen};

/// Characters of the domain's name that stand in the name of its folders. Stock's bound.
const SHORT_NAME_MAX: usize = 20;

/// The daemon's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Folder below which each running domain has one for the sockets of its channels.
    pub(crate) channel_directory: String,
    /// Folder below which each running domain has one for the socket of its VNC server.
    pub(crate) vnc_directory: String,
    /// Address on which a VNC server listens when the definition names none.
    pub(crate) vnc_address: String,
}

/// Fills in addresses and socket paths. What the definition names stays.
pub(crate) fn settle(domain: &mut Domain, settings: &Settings) {
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
fn short_name(domain: &Domain) -> String {
    let name: String = domain.name.chars().take(SHORT_NAME_MAX).collect();
    format!("{}-{name}", domain.id.unwrap_or(0))
}
