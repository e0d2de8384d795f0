//! Definitions with something cut out, doubled, moved or written otherwise: each is refused, or its command line has every device
//! that it has. None panics, and none takes long.

use ferry_domxml::{Domain, Element, FormatOptions, Node};
use ferry_qemu::capabilities::Capabilities;
use ferry_qemu::{Origin, command_line, complete, validate};
use proptest::prelude::{Strategy, any, prop, proptest};
use proptest::sample::Index;
use proptest::test_runner::Config;

use super::common::{absent, capabilities, counted, launch, try_started};
use super::{corpus, fixtures, samples};

/// Values that are right somewhere.
const WORDS: &[&str] = &[
    "virtio",
    "scsi",
    "ide",
    "sata",
    "usb",
    "fdc",
    "none",
    "pci",
    "pci-root",
    "pcie-root",
    "pcie-root-port",
    "pci-bridge",
    "pcie-to-pci-bridge",
    "virtio-scsi",
    "lsilogic",
    "qemu-xhci",
    "ich9-ehci1",
    "piix3-uhci",
    "virtio-serial",
    "0",
    "1",
    "2",
    "0x1f",
    "31",
    "255",
    "yes",
    "no",
    "on",
    "off",
    "disk",
    "cdrom",
    "floppy",
    "lun",
    "e1000e",
    "rtl8139",
    "vga",
    "bochs",
    "tablet",
    "mouse",
    "keyboard",
    "ps2",
    "pc",
    "q35",
    "i6300esb",
    "ib700",
    "isa",
    "drive",
    "ich9",
    "ac97",
    "vda",
    "sda",
    "hda",
];

/// What is done to a definition.
#[derive(Debug, Clone)]
enum Edit {
    Cut,
    Double,
    Attribute(Index, &'static str),
    DropAttribute(Index),
    Text(&'static str),
}

fn edit() -> impl Strategy<Value = (Index, Edit)> {
    let word = || prop::sample::select(WORDS);
    let edits = proptest::prop_oneof![
        2 => proptest::prelude::Just(Edit::Cut),
        3 => proptest::prelude::Just(Edit::Double),
        4 => (any::<Index>(), word()).prop_map(|(at, word)| Edit::Attribute(at, word)),
        2 => any::<Index>().prop_map(Edit::DropAttribute),
        1 => word().prop_map(Edit::Text),
    ];
    (any::<Index>(), edits)
}

/// Our fixtures, the 200 whole definitions, and the shared samples where they are.
fn bases() -> Vec<String> {
    let mut bases: Vec<String> = fixtures::names().iter().map(|name| fixtures::input(name)).collect();
    bases.extend(corpus::all().into_iter().map(|definition| definition.xml));
    bases.extend(samples::inputs());
    bases
}

/// The elements below, outermost first, the first of them the root itself.
fn count(element: &Element) -> usize {
    1 + element.elements().map(count).sum::<usize>()
}

/// Edits the element with this number.
fn apply(element: &mut Element, number: &mut usize, edit: &Edit) {
    for at in 0..element.children.len() {
        let Node::Element(child) = &mut element.children[at] else { continue };
        if *number > 0 {
            *number -= 1;
            apply(child, number, edit);
            if *number == usize::MAX {
                return;
            }
            continue;
        }
        *number = usize::MAX;
        let places = child.attributes.len();
        match edit {
            Edit::Cut => drop(element.children.remove(at)),
            Edit::Double => {
                let twin = element.children[at].clone();
                element.children.insert(at, twin);
            }
            Edit::Attribute(which, word) if places > 0 => {
                child.attributes[which.index(places)].1 = (*word).to_owned()
            }
            Edit::DropAttribute(which) if places > 0 => drop(child.attributes.remove(which.index(places))),
            Edit::Text(word) => child.children = vec![Node::Text((*word).to_owned())],
            Edit::Attribute(..) | Edit::DropAttribute(_) => {}
        }
        return;
    }
}

/// What is wrong with what comes of a definition; `Err` is a refusal, which is right.
fn start(text: &str, capabilities: &Capabilities) -> Result<Vec<String>, String> {
    let mut domain = Domain::parse(text).map_err(|error| error.to_string())?;
    domain.check_supported().map_err(|error| error.to_string())?;
    domain.devices.emulator = Some("/usr/bin/qemu-system-x86_64".to_owned());
    complete(&mut domain, capabilities, Origin::Define, &mut counted()).map_err(|error| error.to_string())?;
    validate(&domain, capabilities).map_err(|error| error.to_string())?;
    let kept = domain.format(FormatOptions { secure: true, ..FormatOptions::INACTIVE });
    let mut wrong = Vec::new();
    match Domain::parse(&kept) {
        Ok(again) if again.format(FormatOptions { secure: true, ..FormatOptions::INACTIVE }) == kept => {}
        Ok(_) => wrong.push("written and read it is another".to_owned()),
        Err(error) => wrong.push(format!("what was accepted cannot be read again: {error}")),
    }
    let live = try_started(&domain, capabilities)?;
    let line = command_line(&live, capabilities, &launch(&live)).map_err(|error| error.to_string())?;
    wrong.extend(absent(&live, &line.argv).into_iter().map(|id| format!("no device {id}")));
    Ok(wrong)
}

proptest! {
    #![proptest_config(Config { cases: 1500, ..Config::default() })]

    #[test]
    fn mutated_definitions_are_refused_or_get_every_device(
        base in any::<Index>(),
        edits in prop::collection::vec(edit(), 1..5),
        newer in any::<bool>(),
    ) {
        thread_local! {
            static BASES: Vec<Element> =
                bases().iter().map(|text| Element::parse(text).unwrap()).collect();
            static CAPABILITIES: [Capabilities; 2] = ["7.2", "10.0"].map(capabilities);
        }
        let mut element = BASES.with(|bases| bases[base.index(bases.len())].clone());
        for (at, edit) in &edits {
            let mut number = at.index(count(&element));
            apply(&mut element, &mut number, edit);
        }
        let text = element.format();
        let wrong = CAPABILITIES.with(|all| start(&text, &all[usize::from(newer)]));
        if let Ok(wrong) = wrong {
            assert!(wrong.is_empty(), "{wrong:?}\n{text}");
        }
    }
}

/// Most bases are accepted as they are: mutations begin where there is something to lose.
#[test]
fn bases_are_accepted() {
    let capabilities = capabilities("10.0");
    let refused = bases().iter().filter(|text| start(text, &capabilities).is_err()).count();
    assert!(refused * 10 < bases().len(), "{refused}");
}
