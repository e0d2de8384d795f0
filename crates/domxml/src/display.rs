//! `<graphics>`, `<video>`, `<audio>`: what the guest shows, and to whom.

use crate::ParseError;
use crate::address::DeviceInfo;
use crate::model::{Child, Flatten, Input, Model, Output, Refusal, Rest, YesNo, element, read, values};
use crate::virtio::VirtioDriver;

/// A way to look at the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Graphics {
    /// `type='vnc'`
    Vnc(Vnc),
}

values! {
    /// The `type` of graphics.
    pub enum GraphicsType {
        /// VNC
        Vnc = "vnc",
    }
}

/// A VNC server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vnc {
    /// TCP port; -1 or `None`: to be chosen at start.
    pub port: Option<i32>,
    /// Whether the port is chosen at start.
    pub autoport: Option<YesNo>,
    /// TCP port of the websocket; -1: to be chosen at start. `None`: no websocket.
    pub websocket: Option<i32>,
    /// Whether the websocket's port is chosen at start (live XML of stock only).
    pub websocket_generated: Option<YesNo>,
    /// Keyboard layout.
    pub keymap: Option<String>,
    /// Who may share the display.
    pub share_policy: Option<SharePolicy>,
    /// Password; written only into secure XML.
    pub password: Option<String>,
    /// Where it listens. The `listen` attribute is the first entry's address over again.
    pub listens: Vec<Listen>,
    /// The first entry's address is the daemon's default, not the user's: only the live XML shows it, so that
    /// another host uses its own.
    pub listen_from_config: bool,
    /// Alias.
    pub info: DeviceInfo,
    /// What else stands in the element.
    pub rest: Rest,
}

values! {
    /// Who may share a VNC display.
    pub enum SharePolicy {
        /// one client alone, if it asks
        AllowExclusive = "allow-exclusive",
        /// one client alone
        ForceShared = "force-shared",
        /// everybody
        Ignore = "ignore",
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `type='address'`; `None`: the daemon's default at start.
    Address(Option<String>),
    /// `type='socket'`: a UNIX socket; without a path the daemon chooses one.
    Socket(Option<String>),
    /// `type='none'`: nowhere.
    None,
}

values! {
    /// The `type` of a listen element.
    pub enum ListenType {
        /// an IP address
        Address = "address",
        /// a UNIX socket
        Socket = "socket",
        /// nowhere
        None = "none",
    }
}

element! {
    /// `<video>`: a graphics card.
    pub struct Video {
        /// What all virtio devices take.
        driver: Option<VirtioDriver> => Child("driver"),
        /// Model and its memory.
        model: VideoModel => Child("model"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
}

element! {
    /// `<model>` of a graphics card. The amounts are part of the guest's ABI.
    pub struct VideoModel {
        /// The device that the guest sees.
        kind: VideoType => Attr("type"),
        /// KiB of memory.
        vram: Option<u32> => Attr("vram"),
        /// Number of screens.
        heads: Option<u32> => Attr("heads"),
        /// Whether it is the one that the firmware uses.
        primary: Option<YesNo> => Attr("primary"),
        /// Preferred resolution.
        resolution: Option<Resolution> => Child("resolution"),
    }
}

values! {
    /// The graphics card that the guest sees.
    pub enum VideoType {
        /// standard VGA
        Vga = "vga",
        /// Cirrus Logic
        Cirrus = "cirrus",
        /// virtio-gpu
        Virtio = "virtio",
        /// a frame buffer
        Bochs = "bochs",
        /// none at all
        None = "none",
    }
}

element! {
    /// `<resolution>`
    pub struct Resolution {
        /// Pixels.
        x: u32 => Attr("x"),
        /// Pixels.
        y: u32 => Attr("y"),
    }
}

element! {
    /// `<audio>`: where the guest's sound goes.
    pub struct Audio {
        /// Number that sound cards refer to, from 1.
        id: u32 => Attr("id"),
        /// The host's end.
        kind: AudioType => Attr("type"),
    }
}

values! {
    /// Where the guest's sound goes.
    pub enum AudioType {
        /// nowhere
        None = "none",
    }
}

impl Graphics {
    /// The `type` attribute.
    pub fn graphics_type(&self) -> GraphicsType {
        match self {
            Self::Vnc(_) => GraphicsType::Vnc,
        }
    }
}

impl Model for Graphics {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        match input.required("type")? {
            GraphicsType::Vnc => Ok(Self::Vnc(Vnc::read(input)?)),
        }
    }

    fn write(&self, out: &mut Output) {
        out.attribute("type", &self.graphics_type());
        match self {
            Self::Vnc(vnc) => vnc.write(out),
        }
    }
}

impl Model for Vnc {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            port: input.attribute("port")?,
            autoport: input.attribute("autoport")?,
            websocket: input.attribute("websocket")?,
            websocket_generated: input.attribute("websocketGenerated")?,
            keymap: input.attribute("keymap")?,
            share_policy: input.attribute("sharePolicy")?,
            password: input.attribute("passwd")?,
            listens: take_listens(input)?,
            listen_from_config: false,
            info: DeviceInfo::take(input)?,
            rest: input.rest(),
        })
    }

    fn write(&self, out: &mut Output) {
        out.optional("port", &self.port);
        out.optional("autoport", &self.autoport);
        out.optional("websocket", &self.websocket);
        out.optional("websocketGenerated", &self.websocket_generated);
        let mut listens = self.listens.clone();
        if let Some(Listen::Address(address)) = listens.first_mut() {
            if self.listen_from_config && out.options().migratable {
                *address = None;
            }
            out.optional("listen", address);
        }
        out.optional("keymap", &self.keymap);
        out.optional("sharePolicy", &self.share_policy);
        if out.options().secure {
            out.optional("passwd", &self.password);
        }
        Child::put(&listens, out, "listen");
        self.info.put(out);
        out.rest(&self.rest);
    }
}

impl Vnc {
    /// Takes back what was chosen at start.
    pub(crate) fn forget_live(&mut self) {
        if self.autoport == Some(YesNo::Yes) {
            self.port = Some(-1);
        }
        if self.websocket_generated.take() == Some(YesNo::Yes) {
            self.websocket = Some(-1);
        }
        if std::mem::take(&mut self.listen_from_config)
            && let Some(Listen::Address(address)) = self.listens.first_mut()
        {
            *address = None;
        }
    }
}

/// The `listen` attribute and the `<listen>` elements, which must agree.
fn take_listens(input: &mut Input<'_>) -> Result<Vec<Listen>, Refusal> {
    let attribute: Option<String> = input.attribute("listen")?.filter(|address: &String| !address.is_empty());
    let mut listens: Vec<Listen> = input.each("listen", read)?;
    let Some(address) = attribute else { return Ok(listens) };
    match listens.first_mut() {
        None => listens.push(Listen::Address(Some(address))),
        Some(Listen::Address(found @ None)) => *found = Some(address),
        Some(Listen::Address(Some(found))) if *found == address => {}
        Some(Listen::Address(Some(found))) => {
            return Err(Refusal::Invalid(ParseError::Unsupported(format!(
                "graphics 'listen' attribute '{address}' must match 'address' attribute of first listen element \
                 (found '{found}')"
            ))));
        }
        Some(Listen::Socket(_) | Listen::None) => return Err(input.invalid_attribute("listen", &address)),
    }
    Ok(listens)
}

impl Model for Listen {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let listen = match input.required("type")? {
            ListenType::Address => Self::Address(input.attribute("address")?),
            ListenType::Socket => Self::Socket(input.attribute("socket")?),
            ListenType::None => Self::None,
        };
        input.finish()?;
        Ok(listen)
    }

    fn write(&self, out: &mut Output) {
        match self {
            Self::Address(address) => {
                out.attribute("type", &ListenType::Address);
                out.optional("address", address);
            }
            Self::Socket(path) => {
                out.attribute("type", &ListenType::Socket);
                out.optional("socket", path);
            }
            Self::None => out.attribute("type", &ListenType::None),
        }
    }
}
