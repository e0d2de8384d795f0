//! `<input>`: what the user's hands are on.

use crate::address::DeviceInfo;
use crate::model::{element, values};
use crate::virtio::VirtioDriver;

element! {
    /// An input device.
    pub struct InputDevice {
        /// What it is.
        kind: InputType => Attr("type"),
        /// What it is plugged into. `None`: ps2 for mouse and keyboard, usb for a tablet.
        bus: Option<InputBus> => Attr("bus"),
        /// What all virtio devices take.
        driver: Option<VirtioDriver> => Child("driver"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
}

values! {
    /// What an input device is.
    pub enum InputType {
        /// relative pointer
        Mouse = "mouse",
        /// absolute pointer
        Tablet = "tablet",
        /// keyboard
        Keyboard = "keyboard",
    }
}

values! {
    /// What an input device is plugged into.
    pub enum InputBus {
        /// the chipset
        Ps2 = "ps2",
        /// usb
        Usb = "usb",
        /// virtio
        Virtio = "virtio",
    }
}
