//! What people touch and see, and the small devices behind it in stock's order: inputs, VNC, graphics cards,
//! watchdogs, balloon, random numbers.

use ferry_domxml::disk::VirtioModel;
use ferry_domxml::display::{Graphics, Listen, SharePolicy, Video, VideoType, Vnc};
use ferry_domxml::input_device::{InputBus, InputDevice, InputType};
use ferry_domxml::misc::{BalloonModel, Rng, RngBackend, WatchdogAction, WatchdogModel};

use super::virtio::{plain_options, virtio_driver};
use super::{Builder, CommandLineError, alias, incomplete};
use crate::props::{KeyValue, Props};

/// VNC displays are counted from this TCP port.
const VNC_PORT_BASE: i32 = 5900;

impl Builder<'_> {
    pub(super) fn inputs(&mut self) -> Result<(), CommandLineError> {
        for input in &self.domain.devices.inputs {
            if let Some(props) = self.input_props(input)? {
                self.device(&props);
            }
        }
        Ok(())
    }

    fn input_props(&self, input: &InputDevice) -> Result<Option<Props>, CommandLineError> {
        let bus = input.bus.ok_or_else(|| incomplete("input", "bus"))?;
        let (usb, virtio) = match input.kind {
            InputType::Mouse => ("usb-mouse", "virtio-mouse-pci"),
            InputType::Tablet => ("usb-tablet", "virtio-tablet-pci"),
            InputType::Keyboard => ("usb-kbd", "virtio-keyboard-pci"),
        };
        let name = || alias(&input.info, "input");
        match bus {
            InputBus::Ps2 => Ok(None),
            InputBus::Usb => self.usb(Props::driver(usb).with("id", name()?), &input.info, "input").map(Some),
            InputBus::Virtio => {
                let props = plain_options(Props::driver(virtio).with("id", name()?), input.driver.as_ref());
                self.pci(props, &input.info, "input").map(Some)
            }
        }
    }

    pub(super) fn audio(&mut self) {
        for audio in &self.domain.devices.audios {
            let props =
                Props::new().with("id", format!("audio{}", audio.id)).with("driver", audio.kind.as_str());
            self.option("-audiodev", props);
        }
    }

    pub(super) fn graphics(&mut self) -> Result<(), CommandLineError> {
        for Graphics::Vnc(vnc) in &self.domain.devices.graphics {
            let option = self.vnc(vnc)?;
            self.option("-vnc", option);
            if let Some(keymap) = &vnc.keymap {
                self.option("-k", keymap);
            }
        }
        Ok(())
    }

    fn vnc(&self, vnc: &Vnc) -> Result<KeyValue, CommandLineError> {
        let display = match vnc.listens.first().ok_or_else(|| incomplete("graphics", "listen address"))? {
            Listen::Address(address) => {
                let address = address.as_deref().ok_or_else(|| incomplete("graphics", "listen address"))?;
                let port = vnc.port.filter(|port| *port > 0).ok_or_else(|| incomplete("graphics", "port"))?;
                let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                format!("{address}:{}", port.saturating_sub(VNC_PORT_BASE))
            }
            Listen::Socket(path) => {
                let path = path.as_deref().ok_or_else(|| incomplete("graphics", "socket path"))?;
                format!("unix:{path}")
            }
            Listen::None => "none".to_owned(),
        };
        // -1 and no number mean "to be chosen", which the daemon has done by now.
        let websocket = vnc.websocket.filter(|port| *port > 0);
        // The password itself is told over the monitor.
        let password = vnc.password.as_ref().map(|_| "on");
        let audio = self.domain.devices.audios.first().map(|audio| format!("audio{}", audio.id));
        Ok(KeyValue::new(&display)
            .with_some("websocket", websocket)
            .with_some("share", vnc.share_policy.map(SharePolicy::as_str))
            .with_some("password", password)
            .with_some("audiodev", audio))
    }

    pub(super) fn videos(&mut self) -> Result<(), CommandLineError> {
        for (at, video) in self.domain.devices.videos.iter().enumerate() {
            if let Some(props) = self.video_props(video, at == 0)? {
                self.device(&props);
            }
        }
        Ok(())
    }

    fn video_props(&self, video: &Video, primary: bool) -> Result<Option<Props>, CommandLineError> {
        let model = &video.model;
        let driver = match model.kind {
            VideoType::None => return Ok(None),
            VideoType::Vga => "VGA",
            VideoType::Cirrus => "cirrus-vga",
            VideoType::Bochs => "bochs-display",
            VideoType::Virtio if primary => "virtio-vga",
            VideoType::Virtio => "virtio-gpu-pci",
        };
        let props = Props::driver(driver).with("id", alias(&video.info, "video")?);
        let props = match model.kind {
            VideoType::Vga => props.with_some("vgamem_mb", model.vram.map(|kib| kib / 1024)),
            VideoType::Bochs => props.with_some("vgamem", model.vram.map(|kib| u64::from(kib) * 1024)),
            VideoType::Virtio => props.with_some("max_outputs", model.heads),
            VideoType::Cirrus | VideoType::None => props,
        };
        let size = model.resolution.as_ref();
        let props =
            props.with_some("xres", size.map(|size| size.x)).with_some("yres", size.map(|size| size.y));
        let props = plain_options(props, video.driver.as_ref());
        self.pci(props, &video.info, "video").map(Some)
    }

    pub(super) fn watchdogs(&mut self) -> Result<(), CommandLineError> {
        for watchdog in &self.domain.devices.watchdogs {
            match watchdog.model {
                // Part of the chipset, and off until told otherwise.
                WatchdogModel::Itco => self.option("-global", "ICH9-LPC.noreboot=off"),
                WatchdogModel::Ib700 => {
                    let name = alias(&watchdog.info, "watchdog")?;
                    self.device(&Props::driver("ib700").with("id", name));
                }
                WatchdogModel::I6300esb => {
                    let props = Props::driver("i6300esb").with("id", alias(&watchdog.info, "watchdog")?);
                    let props = self.pci(props, &watchdog.info, "watchdog")?;
                    self.device(&props);
                }
            }
        }
        if let Some(watchdog) = self.domain.devices.watchdogs.first() {
            let action = match watchdog.action.unwrap_or(WatchdogAction::Reset) {
                // The daemon dumps the paused guest.
                WatchdogAction::Dump => WatchdogAction::Pause,
                action => action,
            };
            self.option("-watchdog-action", action.as_str());
        }
        Ok(())
    }

    pub(super) fn balloon(&mut self) -> Result<(), CommandLineError> {
        let Some(balloon) = &self.domain.devices.memballoon else { return Ok(()) };
        let generation = match balloon.model {
            BalloonModel::None => return Ok(()),
            BalloonModel::Virtio => VirtioModel::Virtio,
            BalloonModel::VirtioTransitional => VirtioModel::Transitional,
            BalloonModel::VirtioNonTransitional => VirtioModel::NonTransitional,
        };
        let props = Props::driver(virtio_driver("virtio-balloon-pci", Some(generation)))
            .with("id", alias(&balloon.info, "memballoon")?)
            .with_some("deflate-on-oom", balloon.autodeflate.map(|on| on.is_on()))
            .with_some("free-page-reporting", balloon.free_page_reporting.map(|on| on.is_on()));
        let props = plain_options(props, balloon.driver.as_ref());
        let props = self.pci(props, &balloon.info, "memballoon")?;
        self.device(&props);
        Ok(())
    }

    pub(super) fn rngs(&mut self) -> Result<(), CommandLineError> {
        for rng in &self.domain.devices.rngs {
            let name = alias(&rng.info, "rng")?;
            self.option("-object", rng_backend(rng, name));
            let props = Props::driver(virtio_driver("virtio-rng-pci", Some(rng.model)))
                .with("rng", format!("obj{name}"))
                .with("id", name)
                .with_some("max-bytes", rng.rate.as_ref().map(|rate| rate.bytes))
                .with_some("period", rng.rate.as_ref().map(|rate| rate.period_ms.unwrap_or(RNG_PERIOD_MS)));
            let props = plain_options(props, rng.driver.as_ref());
            let props = self.pci(props, &rng.info, "rng")?;
            self.device(&props);
        }
        Ok(())
    }
}

const RNG_PERIOD_MS: u32 = 1000;

fn rng_backend(rng: &Rng, name: &str) -> Props {
    let id = format!("obj{name}");
    match &rng.backend {
        RngBackend::Builtin => Props::object("rng-builtin", id),
        RngBackend::Random(path) => {
            Props::object("rng-random", id).with("filename", path.as_deref().unwrap_or("/dev/random"))
        }
    }
}
