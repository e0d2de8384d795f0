//! `<devices>`: everything that is plugged in, in stock's order.

use std::collections::BTreeMap;

use crate::chardev::{Channel, Console, Serial};
use crate::controller::Controller;
use crate::disk::Disk;
use crate::display::{Audio, Graphics, Video};
use crate::filesystem::FileSystem;
use crate::input_device::InputDevice;
use crate::interface::Interface;
use crate::memory_device::MemoryDevice;
use crate::misc::{MemBalloon, Rng, Watchdog};
use crate::model::element;
use crate::redirection::{Hub, RedirDev, RedirFilter};
use crate::small_devices::{Panic, Pstore, Vsock};
use crate::sound::Sound;
use crate::tpm::Tpm;

element! {
    /// Everything that is plugged in.
    #[derive(Default)]
    pub struct Devices {
        /// Path of the QEMU binary. `None`: the daemon's choice.
        emulator: Option<String> => TextChild("emulator"),
        /// Drives.
        disks: Vec<Disk> => Child("disk"),
        /// Buses.
        controllers: Vec<Controller> => Child("controller"),
        /// Folders of the host.
        filesystems: Vec<FileSystem> => Child("filesystem"),
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
        /// Trusted platform modules; more than one is refused.
        tpms: Vec<Tpm> => Child("tpm"),
        /// Ways to look at the guest.
        graphics: Vec<Graphics> => Child("graphics"),
        /// Sound cards.
        sounds: Vec<Sound> => Child("sound"),
        /// Where sound goes.
        audios: Vec<Audio> => Child("audio"),
        /// Graphics cards.
        videos: Vec<Video> => Child("video"),
        /// USB devices that come over a channel.
        redirdevs: Vec<RedirDev> => Child("redirdev"),
        /// Which of them may. `None`: all.
        redirfilter: Option<RedirFilter> => Child("redirfilter"),
        /// More ports.
        hubs: Vec<Hub> => Child("hub"),
        /// Watchdogs.
        watchdogs: Vec<Watchdog> => Child("watchdog"),
        /// The balloon. `None`: not said, and the daemon adds one.
        memballoon: Option<MemBalloon> => Child("memballoon"),
        /// Sources of random numbers.
        rngs: Vec<Rng> => Child("rng"),
        /// Tell that the guest's system has crashed.
        panics: Vec<Panic> => Child("panic"),
        /// Memory that can be plugged in.
        memories: Vec<MemoryDevice> => Child("memory"),
        /// Sockets between guest and host.
        vsock: Option<Vsock> => Child("vsock"),
        /// Keeps what the guest said before it crashed.
        pstore: Option<Pstore> => Child("pstore"),
    }
    order [
        "emulator", "disk", "controller", "lease", "filesystem", "interface", "smartcard", "serial", "parallel",
        "console", "channel", "input", "tpm", "graphics", "sound", "audio", "video", "hostdev", "redirdev",
        "redirfilter", "hub", "watchdog", "memballoon", "rng", "nvram", "panic", "shmem", "memory", "crypto",
        "iommu", "vsock", "pstore",
    ]
}

impl Devices {
    /// KiB of all memory devices together.
    pub fn memory_kib(&self) -> u64 {
        let sizes = self.memories.iter().map(|memory| memory.target.size.kib);
        sizes.fold(0, u64::saturating_add)
    }

    /// Brings disks and controllers into the order that stock keeps them in: those of one bus or type
    /// together, where the first of them stands, ascending. Node numbers and addresses follow this order.
    pub fn arrange(&mut self) {
        let buses = first_places(self.disks.iter().map(Disk::bus));
        self.disks.sort_by_cached_key(|disk| (buses.get(&disk.bus()).copied(), disk.target.index()));
        let types = first_places(self.controllers.iter().map(|controller| controller.kind.controller_type()));
        self.controllers.sort_by_cached_key(|controller| {
            let place = types.get(&controller.kind.controller_type()).copied();
            // The companions of a USB master have its index and stand behind it.
            (place, controller.index.unwrap_or(u32::MAX), controller.master_start_port.is_some())
        });
    }
}

/// Where each value occurs first.
fn first_places<T: Ord>(values: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut places = BTreeMap::new();
    for (place, value) in values.enumerate() {
        places.entry(value).or_insert(place);
    }
    places
}
