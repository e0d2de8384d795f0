//! `<devices>`: everything that is plugged in, in stock's order.

use crate::chardev::{Channel, Console, Serial};
use crate::controller::Controller;
use crate::disk::Disk;
use crate::display::{Audio, Graphics, Video};
use crate::input_device::InputDevice;
use crate::interface::Interface;
use crate::misc::{MemBalloon, Rng, Watchdog};
use crate::model::element;

element! {
    /// Everything that is plugged in.
    pub struct Devices {
        /// Path of the QEMU binary. `None`: the daemon's choice.
        emulator: Option<String> => TextChild("emulator"),
        /// Drives.
        disks: Vec<Disk> => Child("disk"),
        /// Buses.
        controllers: Vec<Controller> => Child("controller"),
        /// Network cards.
        interfaces: Vec<Interface> => Child("interface"),
        /// Serial ports.
        serials: Vec<Serial> => Child("serial"),
        /// Consoles.
        consoles: Vec<Console> => Child("console"),
        /// Channels.
        channels: Vec<Channel> => Child("channel"),
        /// Mice, tablets, keyboards.
        inputs: Vec<InputDevice> => Child("input"),
        /// Ways to look at the guest.
        graphics: Vec<Graphics> => Child("graphics"),
        /// Where sound goes.
        audios: Vec<Audio> => Child("audio"),
        /// Graphics cards.
        videos: Vec<Video> => Child("video"),
        /// Watchdogs.
        watchdogs: Vec<Watchdog> => Child("watchdog"),
        /// The balloon. `None`: not said, and the daemon adds one.
        memballoon: Option<MemBalloon> => Child("memballoon"),
        /// Sources of random numbers.
        rngs: Vec<Rng> => Child("rng"),
    }
    order [
        "emulator", "disk", "controller", "lease", "filesystem", "interface", "smartcard", "serial", "parallel",
        "console", "channel", "input", "tpm", "graphics", "sound", "audio", "video", "hostdev", "redirdev",
        "redirfilter", "hub", "watchdog", "memballoon", "rng", "nvram", "panic", "shmem", "memory", "crypto",
        "iommu", "vsock", "pstore",
    ]
}
