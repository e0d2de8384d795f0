//! Serial ports, channels and consoles: the host's end, then the device.

use ferry_domxml::address::{Address, DeviceInfo};
use ferry_domxml::chardev::{
    Backend, ChardevSource, ConsoleTargetType, Log, Protocol, Serial, SerialModel, SocketMode,
};
use ferry_domxml::controller::ControllerType;
use ferry_domxml::redirection::{RedirFilter, UsbNumber};
use ferry_domxml::{OnOff, YesNo};

use super::{Builder, ChardevFds, CommandLineError, Fd, alias, incomplete};
use crate::props::{KeyValue, Props, on_off};

impl Builder<'_> {
    pub(super) fn serials(&mut self) -> Result<(), CommandLineError> {
        for serial in &self.domain.devices.serials {
            let name = alias(&serial.info, "serial")?;
            self.chardev(&serial.source, serial.log.as_ref(), name)?;
            let props = self.serial_props(serial, name)?;
            self.device(&props);
        }
        Ok(())
    }

    pub(super) fn channels(&mut self) -> Result<(), CommandLineError> {
        for channel in &self.domain.devices.channels {
            let name = alias(&channel.info, "channel")?;
            self.chardev(&channel.source, channel.log.as_ref(), name)?;
            let props = self.virtio_serial_port(Props::driver("virtserialport"), &channel.info)?;
            let props = props.with("chardev", format!("char{name}")).with("id", name);
            self.device(&props.with_some("name", channel.target.name.as_deref()));
        }
        Ok(())
    }

    pub(super) fn consoles(&mut self) -> Result<(), CommandLineError> {
        for console in &self.domain.devices.consoles {
            let kind = console.target.as_ref().map_or(ConsoleTargetType::Serial, |target| target.kind);
            if kind == ConsoleTargetType::Serial {
                // The first serial port over again.
                continue;
            }
            let name = alias(&console.info, "console")?;
            self.chardev(&console.source, console.log.as_ref(), name)?;
            // One without a port gets it from QEMU, as with stock.
            let props = match console.info.address {
                Some(_) => self.virtio_serial_port(Props::driver("virtconsole"), &console.info)?,
                None => Props::driver("virtconsole"),
            };
            self.device(&props.with("chardev", format!("char{name}")).with("id", name));
        }
        Ok(())
    }

    fn virtio_serial_port(&self, props: Props, info: &DeviceInfo) -> Result<Props, CommandLineError> {
        let Some(Address::VirtioSerial(serial)) = info.address else {
            return Err(incomplete("channel", "virtio-serial address"));
        };
        let (_, bus) =
            self.controller(ControllerType::VirtioSerial, serial.controller, "virtio-serial controller")?;
        Ok(props.with("bus", format!("{bus}.0")).with("nr", serial.port))
    }

    fn serial_props(&self, serial: &Serial, name: &str) -> Result<Props, CommandLineError> {
        let target = serial.target.as_ref().ok_or_else(|| incomplete(name, "target"))?;
        let model = target.model.ok_or_else(|| incomplete(name, "model"))?;
        let props = Props::driver(model.as_str()).with("chardev", format!("char{name}")).with("id", name);
        let (iobase, irq) = match serial.info.address {
            Some(Address::Isa(isa)) => (isa.iobase, isa.irq),
            _ => (None, None),
        };
        match model {
            SerialModel::Isa => {
                Ok(props.with_some("index", target.port).with_some("iobase", iobase).with_some("irq", irq))
            }
            SerialModel::IsaDebugcon => Ok(props.with_some("iobase", iobase)),
            SerialModel::Pci => self.pci(props, &serial.info, "serial"),
            SerialModel::Usb => self.usb(props, &serial.info, "serial"),
        }
    }

    /// More USB ports.
    pub(super) fn hubs(&mut self) -> Result<(), CommandLineError> {
        let domain = self.domain;
        for hub in &domain.devices.hubs {
            let props = Props::driver("usb-hub").with("id", alias(&hub.info, "hub")?);
            let props = self.usb(props, &hub.info, "hub")?;
            self.device(&props);
        }
        Ok(())
    }

    /// USB devices that come over a channel.
    pub(super) fn redirections(&mut self) -> Result<(), CommandLineError> {
        let domain = self.domain;
        for redirdev in &domain.devices.redirdevs {
            let name = alias(&redirdev.info, "redirdev")?;
            self.chardev(&redirdev.source, None, name)?;
            let props = Props::driver("usb-redir")
                .with("chardev", format!("char{name}"))
                .with("id", name)
                .with_some("filter", domain.devices.redirfilter.as_ref().map(rules))
                .with_some("bootindex", redirdev.boot_order);
            let props = self.usb(props, &redirdev.info, "redirdev")?;
            self.device(&props);
        }
        Ok(())
    }

    /// The host's end, under the name `char<alias>`.
    fn chardev(
        &mut self,
        source: &ChardevSource,
        log: Option<&Log>,
        name: &str,
    ) -> Result<(), CommandLineError> {
        let none = ChardevFds::default();
        let fds = self.launch.chardevs.get(name).unwrap_or(&none);
        let kind = match &source.backend {
            Backend::Null => "null",
            Backend::Pty(_) => "pty",
            Backend::Dev(_) => "serial",
            Backend::Pipe(_) => "pipe",
            Backend::File { .. } => "file",
            Backend::Stdio => "stdio",
            Backend::Unix { .. } | Backend::Tcp { .. } => "socket",
        };
        let option = KeyValue::new(kind).with("id", format!("char{name}"));
        let option = match &source.backend {
            Backend::Null | Backend::Pty(_) | Backend::Stdio => option,
            Backend::Dev(path) | Backend::Pipe(path) => option.with("path", path),
            Backend::File { path, append } => match fds.file {
                // Opened and, where asked for, emptied by the daemon.
                Some(fd) => {
                    option.with("path", self.fd_set(fd, &format!("{name}-source"))).switch("append", true)
                }
                None => option.with("path", path).with_some("append", append.map(|on| on_off(on.is_on()))),
            },
            Backend::Unix { path, mode } => {
                let option = match (fds.listen.filter(|_| *mode == SocketMode::Bind), path) {
                    (Some(fd), _) => option.with("fd", fd),
                    (None, Some(path)) => option.with("path", path),
                    (None, None) => return Err(CommandLineError::NoFd(name.to_owned())),
                };
                listens(option, *mode)
            }
            Backend::Tcp { mode, host, service, tls, protocol } => {
                if *tls == Some(YesNo::Yes) {
                    let text = format!("TLS on the character device of '{name}' is not supported");
                    return Err(CommandLineError::Unsupported(text));
                }
                let telnet = (*protocol == Protocol::Telnet).then_some("on");
                let option = option.with_some("host", host.as_deref()).with("port", service);
                listens(option.with_some("telnet", telnet), *mode)
            }
        };
        let option = match (log, fds.log) {
            (None, _) => option,
            (Some(_), Some(fd)) => {
                option.with("logfile", self.fd_set(fd, &format!("{name}-log"))).switch("logappend", true)
            }
            (Some(log), None) => option
                .with("logfile", &log.file)
                .with_some("logappend", log.append.map(|on| on_off(on == OnOff::On))),
        };
        self.option("-chardev", option);
        Ok(())
    }

    /// Hands a descriptor to QEMU under a path.
    fn fd_set(&mut self, fd: Fd, label: &str) -> String {
        let set = self.fd_sets;
        self.fd_sets += 1;
        self.option("-add-fd", KeyValue::new("").with("set", set).with("fd", fd).with("opaque", label));
        format!("/dev/fdset/{set}")
    }
}

/// Rules in the words of usb-redir: class, vendor, product, version, and whether the device may come.
fn rules(filter: &RedirFilter) -> String {
    let any = || "-1".to_owned();
    let rules = filter.rules.iter().map(|rule| {
        let word = |number: &Option<UsbNumber>| {
            number.as_ref().map_or_else(any, |number| format!("0x{:04X}", number.number))
        };
        let class = rule.class.as_ref().map_or_else(any, |class| format!("0x{:02X}", class.number));
        let version = rule.version.as_ref().map_or_else(any, |version| format!("0x{:04X}", version.digits));
        let (vendor, product) = (word(&rule.vendor), word(&rule.product));
        format!("{class}:{vendor}:{product}:{version}:{}", u8::from(rule.allow.is_yes()))
    });
    rules.collect::<Vec<_>>().join("|")
}

/// A server does not wait for its first client.
fn listens(option: KeyValue, mode: SocketMode) -> KeyValue {
    match mode {
        SocketMode::Bind => option.switch("server", true).switch("wait", false),
        SocketMode::Connect => option,
    }
}
