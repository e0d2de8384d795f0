//! Keyboard, screen and network cable of the guest.

use crate::Nothing;
use serde::Serialize;

/// `send-key`: presses all the keys, holds them, lets them go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SendKey {
    /// The keys, at most 16.
    pub keys: Vec<Key>,
    /// Milliseconds; 100 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_time: Option<u32>,
}
command! { SendKey = "send-key" -> Nothing }

/// A key by its number: an XT scan code, `0x80` set for one that has an `0xe0` prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub u32);

impl Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        serde::ser::SerializeMap::serialize_entry(&mut map, "type", "number")?;
        serde::ser::SerializeMap::serialize_entry(&mut map, "data", &self.0)?;
        serde::ser::SerializeMap::end(map)
    }
}

/// `screendump`: QEMU writes the picture into a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Screendump {
    /// The file, by QEMU's view.
    pub filename: String,
    /// The video card; the first if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The output of the card.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<u32>,
    /// `ppm` if not given, or `png`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}
command! { Screendump = "screendump" -> Nothing }

/// `set_link`: plugs a card's cable in or out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SetLink {
    /// The card or its back end.
    pub name: String,
    /// The cable is in.
    pub up: bool,
}
command! { SetLink = "set_link" -> Nothing }
