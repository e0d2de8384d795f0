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
        /// Which virtio generation; only on its bus, and there is one.
        model: Option<InputModel> => Attr("model"),
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

values! {
    /// Generation of a virtio input device: the others were never made for mice, tablets and keyboards.
    pub enum InputModel {
        /// virtio
        Virtio = "virtio",
    }
}
