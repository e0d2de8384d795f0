//! `<redirdev>`, `<redirfilter>`, `<hub>`: USB devices that come over a channel, which of them may, and more ports.

use crate::address::DeviceInfo;
use crate::chardev::ChardevSource;
use crate::model::{Input, Model, Output, Refusal, YesNo, element, parse_integer, values};
use crate::{ParseError, Value};

element! {
    /// A USB device that somebody at the other end of a channel has.
    pub struct RedirDev {
        /// The bus that it comes to.
        bus: RedirBus => AttrOr("bus", RedirBus::Usb),
        /// The channel.
        source: ChardevSource => Flatten(),
        /// Its place in the boot order, from 1.
        boot_order: Option<u32> => ChildAttr("boot", "order"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
    attributes ["bus", "type"]
}

values! {
    /// Bus of a device that comes over a channel.
    pub enum RedirBus {
        /// USB
        Usb = "usb",
    }
}

element! {
    /// Which USB devices may come; the first rule that fits counts.
    #[derive(Default)]
    pub struct RedirFilter {
        /// The rules.
        rules: Vec<UsbRule> => Child("usbdev"),
    }
}

element! {
    /// `<usbdev>`: a rule. What it does not name is any.
    pub struct UsbRule {
        /// Class of the device, as written.
        class: Option<UsbNumber> => Attr("class"),
        /// Its vendor.
        vendor: Option<UsbNumber> => Attr("vendor"),
        /// Its product.
        product: Option<UsbNumber> => Attr("product"),
        /// Its version.
        version: Option<UsbVersion> => Attr("version"),
        /// Whether it may come.
        allow: YesNo => Attr("allow"),
    }
}

/// A number of 16 bits that identifies a USB device; written as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbNumber {
    /// The number.
    pub number: u16,
    text: String,
}

impl Value for UsbNumber {
    fn parse(text: &str) -> Result<Self, crate::model::ValueError> {
        let number = parse_integer(text).ok().and_then(|number| u16::try_from(number).ok());
        let number = number.ok_or(crate::model::ValueError::Invalid)?;
        Ok(Self { number, text: text.to_owned() })
    }

    fn to_text(&self) -> String {
        self.text.clone()
    }
}

/// A version of a USB device: `2.56`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsbVersion {
    /// A decimal digit in four bits each, two before the point and two behind it.
    pub digits: u16,
    text: String,
}

impl Value for UsbVersion {
    fn parse(text: &str) -> Result<Self, crate::model::ValueError> {
        let parts = || {
            let (major, minor) = text.split_once('.')?;
            let is_number = |part: &str| {
                (1..=2).contains(&part.len()) && part.bytes().all(|digit| digit.is_ascii_digit())
            };
            if !is_number(major) || !is_number(minor) {
                return None;
            }
            // One digit behind the point is tenths.
            u16::from_str_radix(&format!("{major:0>2}{minor:0<2}"), 16).ok()
        };
        match parts() {
            Some(digits) => Ok(Self { digits, text: text.to_owned() }),
            None => Err(crate::model::ValueError::Invalid),
        }
    }

    fn to_text(&self) -> String {
        self.text.clone()
    }
}

/// A hub: more ports on a USB bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hub {
    /// Alias and address.
    pub info: DeviceInfo,
    /// What is written here and not modelled above.
    pub rest: crate::Rest,
}

impl Model for Hub {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        match input.attribute::<String>("type")?.as_deref() {
            Some("usb") => {}
            Some(other) => {
                let text = format!("unknown hub device type '{}'", crate::reader::shorten(other));
                return Err(Refusal::Invalid(ParseError::Unsupported(text)));
            }
            None => {
                return Err(Refusal::Invalid(ParseError::Internal("missing hub device type".to_owned())));
            }
        }
        Ok(Self { info: crate::model::Flatten::take(input)?, rest: input.rest() })
    }

    fn write(&self, out: &mut Output) {
        out.attribute("type", &"usb".to_owned());
        crate::model::Flatten::put(&self.info, out);
        out.rest(&self.rest);
    }
}
