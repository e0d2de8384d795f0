//! Images that hold nothing but dirty bitmaps: qcow2 with a raw data file and without a backing file. What the guest reads and
//! writes is all in the data file, byte for byte, so each host may have an image of its own, if what little it holds
//! goes along with the guest.
//!
//! ```text
//!   source: node data of QEMU ──> Overlay::of ──Begin's cookie──> destination: Overlay::misfit (its own node data)
//!   source: Overlay::mapping  <──Prepare's cookie: which node stands for it there──────────┘
//!
//!   for a plan: node data of QEMU ──> Overlay::of ──────────────> destination: Overlay::unlike (the image's header)
//! ```
//!
//! Called by the drivers of both hosts: for a migration only what QEMU says about its block nodes counts.

use std::fmt::Write as _;

use ferry_qmp::commands::block::BlockNode;
use serde_json::{Value, json};

/// Most of them that a migration has.
pub const OVERLAYS_MAX: usize = 256;

/// Most bitmaps of one that travel.
pub const BITMAPS_MAX: usize = 64;

/// What is wrong with an image there that has none.
pub const NO_DATA_FILE: &str = "it has no data file";

/// One such image of the guest on the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// The disk's name in the definition: `vda`.
    pub disk: String,
    /// The block node that stands for it, where whoever says it has one to name.
    pub node: Option<String>,
    /// Bytes that the guest sees.
    pub size: u64,
    /// Its data file's path, as the source has it.
    pub data: String,
    /// Its bitmaps that are of use.
    pub bitmaps: Vec<String>,
}

/// An image on the destination that is to stand for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Like<'a> {
    /// It has a raw data file and no backing file.
    pub holds_bitmaps_alone: bool,
    /// Bytes that the guest sees.
    pub size: u64,
    /// Its data file's path, when it is the image itself that says so.
    pub data: Option<&'a str>,
}

impl Overlay {
    /// The image of disk `disk`, whose data file is `data`, by its node in the running QEMU; `None` when it holds more.
    pub fn of(disk: &str, data: &str, node: &BlockNode) -> Option<Overlay> {
        let is_one = flag(node, "data-file-raw") && node.image.backing_filename.is_none();
        let bitmaps = node.dirty_bitmaps.iter().filter(|bitmap| !bitmap.inconsistent);
        is_one.then(|| Overlay {
            disk: disk.to_owned(),
            node: node.node_name.clone(),
            size: node.image.virtual_size,
            data: data.to_owned(),
            bitmaps: bitmaps.filter_map(|bitmap| bitmap.name.clone()).collect(),
        })
    }

    /// Whether its bitmaps can be sent, by a QEMU that can send bitmaps or not.
    pub fn can_travel(&self, sends_bitmaps: bool) -> bool {
        self.bitmaps.is_empty() || (sends_bitmaps && self.bitmaps.len() <= BITMAPS_MAX)
    }

    /// What is wrong with the image that stands for it on the destination: its node there, and its data file's path.
    /// `data` is none when the definition names the data file itself, and so has the user's word for it.
    pub fn misfit(&self, node: &BlockNode, data: Option<&str>) -> Option<String> {
        let like = Like {
            holds_bitmaps_alone: flag(node, "data-file-raw") && node.image.backing_filename.is_none(),
            size: node.image.virtual_size,
            data,
        };
        // One that is in use was left by an earlier stay of the guest; QEMU takes the one that comes in its place.
        let settled = self.bitmaps.iter().filter(|name| has_settled_bitmap(node, name));
        let wrong = self.unlike(&like).into_iter();
        let wrong: Vec<String> =
            wrong.chain(settled.map(|name| format!("it has a bitmap '{name}' of its own"))).collect();
        (!wrong.is_empty()).then(|| wrong.join(", "))
    }

    /// The part of it that the image's header alone tells, without QEMU.
    pub fn unlike(&self, like: &Like<'_>) -> Option<String> {
        let mut wrong = String::new();
        let mut note = |text: String| {
            let _ = write!(wrong, "{}{text}", if wrong.is_empty() { "" } else { ", " });
        };
        if !like.holds_bitmaps_alone {
            note("it has no raw data file, or a backing file".to_owned());
        }
        if like.size != self.size {
            note(format!("its size is {} bytes, not {}", like.size, self.size));
        }
        if let Some(data) = like.data.filter(|data| *data != self.data) {
            note(format!("its data file is {data}, not {}", self.data));
        }
        (!wrong.is_empty()).then_some(wrong)
    }

    /// Its part of `block-bitmap-mapping` on the source: `there` is the node that stands for it on the destination.
    pub fn mapping(&self, there: &str) -> Value {
        let bitmaps: Vec<Value> =
            self.bitmaps.iter().map(|name| json!({"name": name, "alias": name})).collect();
        json!({"node-name": self.node, "alias": there, "bitmaps": bitmaps})
    }
}

fn flag(node: &BlockNode, name: &str) -> bool {
    let specific = node.image.format_specific.as_ref().filter(|specific| specific.kind == "qcow2");
    specific.and_then(|specific| specific.data.get(name)).and_then(Value::as_bool) == Some(true)
}

fn has_settled_bitmap(node: &BlockNode, name: &str) -> bool {
    let specific = node.image.format_specific.as_ref();
    let stored = specific.and_then(|specific| specific.data.get("bitmaps")).and_then(Value::as_array);
    let is_it = |bitmap: &&Value| bitmap.get("name").and_then(Value::as_str) == Some(name);
    stored.into_iter().flatten().filter(is_it).any(|bitmap| {
        let flags = bitmap.get("flags").and_then(Value::as_array);
        !flags.into_iter().flatten().any(|flag| flag == "in-use")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(change: impl FnOnce(&mut Value)) -> BlockNode {
        let mut node = json!({
            "node-name": "libvirt-1-format", "drv": "qcow2", "file": "/a", "ro": false,
            "image": {
                "filename": "/a", "format": "qcow2", "virtual-size": 1_048_576,
                "format-specific": {"type": "qcow2", "data": {"data-file": "/a.raw", "data-file-raw": true}},
            },
            "dirty-bitmaps": [
                {"name": "b0", "count": 0, "granularity": 65536, "recording": true, "busy": false, "persistent": true},
                {"count": 0, "granularity": 65536, "recording": true, "busy": true, "persistent": false},
                {"name": "old", "count": 0, "granularity": 65536, "recording": false, "busy": false,
                 "persistent": true, "inconsistent": true},
            ],
        });
        change(&mut node);
        serde_json::from_value(node).unwrap()
    }

    fn overlay() -> Overlay {
        Overlay::of("vda", "/a.raw", &node(|_| {})).unwrap()
    }

    #[test]
    fn only_a_raw_data_file_without_a_base_makes_one() {
        let found = overlay();
        assert_eq!((found.size, found.bitmaps.as_slice()), (1 << 20, &["b0".to_owned()][..]));
        let data =
            |node: &mut Value| node["image"]["format-specific"]["data"]["data-file-raw"] = json!(false);
        assert_eq!(Overlay::of("vda", "/a.raw", &node(data)), None);
        let based = |node: &mut Value| node["image"]["backing-filename"] = json!("/base");
        assert_eq!(Overlay::of("vda", "/a.raw", &node(based)), None);
        let plain = |node: &mut Value| node["image"]["format-specific"] = json!(null);
        assert_eq!(Overlay::of("vda", "/a.raw", &node(plain)), None);
    }

    #[test]
    fn what_it_holds_needs_a_qemu_that_sends_it() {
        assert!(overlay().can_travel(true) && !overlay().can_travel(false));
        let empty = Overlay { bitmaps: Vec::new(), ..overlay() };
        assert!(empty.can_travel(false));
        let many = Overlay { bitmaps: vec!["b".to_owned(); BITMAPS_MAX + 1], ..overlay() };
        assert!(!many.can_travel(true));
    }

    #[test]
    fn what_stands_for_it_must_fit() {
        let fits = |change: fn(&mut Value)| overlay().misfit(&node(change), Some("/a.raw"));
        assert_eq!(fits(|_| {}), None);
        let size = fits(|node| node["image"]["virtual-size"] = json!(2_097_152)).unwrap();
        assert_eq!(size, "its size is 2097152 bytes, not 1048576");
        assert!(fits(|node| node["image"]["backing-filename"] = json!("/base")).is_some());
        let bitmap = |flags: Value| json!([{"name": "b0", "granularity": 65536, "flags": flags}]);
        let with = |flags: Value| {
            let stored = |node: &mut Value| {
                node["image"]["format-specific"]["data"]["bitmaps"] = bitmap(flags);
            };
            overlay().misfit(&node(stored), Some("/a.raw"))
        };
        assert_eq!(with(json!(["auto"])).unwrap(), "it has a bitmap 'b0' of its own");
        assert_eq!(with(json!(["in-use", "auto"])), None);
        let other = overlay().misfit(&node(|_| {}), Some("/b.raw")).unwrap();
        assert_eq!(other, "its data file is /b.raw, not /a.raw");
        assert_eq!(overlay().misfit(&node(|_| {}), None), None, "the user's word");
    }

    #[test]
    fn a_header_tells_most_of_it() {
        let like = Like { holds_bitmaps_alone: true, size: 1 << 20, data: Some("/a.raw") };
        assert_eq!(overlay().unlike(&like), None);
        let unlike = Like { holds_bitmaps_alone: false, size: 7, data: Some("/b") };
        let wrong = "it has no raw data file, or a backing file, its size is 7 bytes, not 1048576, its data file is /b, not /a.raw";
        assert_eq!(overlay().unlike(&unlike).unwrap(), wrong);
        assert_eq!(overlay().unlike(&Like { data: None, ..like }), None, "the user's word");
    }

    #[test]
    fn the_source_names_the_node_of_the_destination() {
        let expected = json!({
            "node-name": "libvirt-1-format", "alias": "libvirt-7-format",
            "bitmaps": [{"name": "b0", "alias": "b0"}],
        });
        assert_eq!(overlay().mapping("libvirt-7-format"), expected);
    }
}
