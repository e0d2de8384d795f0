//! The commands in use, by what they are about.
//!
//! A command is a value whose fields are its arguments; those without arguments are unit structs. Arguments that
//! are `None` are not sent. [`crate::Command::Reply`] says what comes back.

/// `command! { Name = "wire-name" -> Reply }`, with `, out_of_band` or `, carries_fd` at the end: implements
/// [`crate::Command`] for a struct that is written out beside it.
macro_rules! command {
    ($name:ident = $wire:literal -> $reply:ty $(, $flag:ident)?) => {
        impl crate::Command for $name {
            const NAME: &'static str = $wire;
            type Reply = $reply;
            $(command!(@ $flag);)?
        }
    };
    (@ out_of_band) => { const OUT_OF_BAND: bool = true; };
    (@ carries_fd) => { const CARRIES_FD: bool = true; };
}

/// The same for commands without arguments, the struct included.
macro_rules! plain_commands {
    ($($(#[$meta:meta])* $name:ident = $wire:literal -> $reply:ty $(, $flag:ident)?;)*) => {$(
        #[doc = concat!("`", $wire, "`.")]
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name;

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::ser::SerializeMap::end(serializer.serialize_map(Some(0))?)
            }
        }

        command! { $name = $wire -> $reply $(, $flag)? }
    )*};
}

pub mod block;
pub mod console;
pub mod device;
pub mod dirty_rate;
pub mod fd;
pub mod guest;
pub mod introspect;
pub mod media;
pub mod migration;
pub mod progress;
pub mod run;
