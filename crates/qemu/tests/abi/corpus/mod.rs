//! 200 whole definitions as virt-install, Nova, KubeVirt and vagrant-libvirt write them, made by us after the forms that those
//! tools' public documentation and output show.
//!
//! Each tool has a form with places in braces, and for each place a list of what the tool puts there, by name. A definition takes
//! one entry of each list; the walk through the lists takes every entry, and pairs them in changing company. A definition is
//! called by what it is made of: `nova-17-q35-numa-config_drive-…`.
//!
//! Paths begin with `/corpus`; bridges are `br0`, `br-int` and `virbr0`. Who starts one sees to it that they are there.

pub(crate) mod kept;
mod kubevirt;
mod nova;
mod vagrant;
mod virt_install;

/// How many definitions each tool has.
const EACH: usize = 50;

/// A place in a form, and what may stand there, by name.
type Place = (&'static str, &'static [(&'static str, &'static str)]);

/// A tool's way to write a definition.
struct Tool {
    name: &'static str,
    form: &'static str,
    places: &'static [Place],
}

/// One definition.
#[derive(Debug, Clone)]
pub(crate) struct Definition {
    /// The tool, a number, and what it is made of.
    pub(crate) name: String,
    pub(crate) xml: String,
}

/// All of them.
pub(crate) fn all() -> Vec<Definition> {
    let tools = [virt_install::TOOL, nova::TOOL, kubevirt::TOOL, vagrant::TOOL];
    tools.iter().flat_map(|tool| (0..EACH).map(|number| tool.write(number))).collect()
}

impl Tool {
    fn write(&self, number: usize) -> Definition {
        let mut name = format!("{}-{number:02}", self.name);
        let mut xml = self.form.replace("{name}", &name);
        let uuid = format!("{:08x}-0000-4000-8000-{number:012x}", self.name.len() * 0x1111);
        xml = xml.replace("{uuid}", &uuid);
        for (at, (place, entries)) in self.places.iter().enumerate() {
            // Each time round a list it is entered one further for each place before it: no two places keep step.
            let (word, text) = entries[(number + number / entries.len() * at) % entries.len()];
            name.extend(["-", word]);
            xml = xml.replace(&format!("{{{place}}}"), text);
        }
        let mac = format!("52:54:00:{:02x}:{number:02x}", self.name.len());
        Definition { name, xml: xml.replace("{mac}", &mac) }
    }
}

#[test]
fn every_entry_of_every_list_is_taken_and_no_two_definitions_are_the_same() {
    let all = all();
    assert_eq!(all.len(), 200);
    for tool in [virt_install::TOOL, nova::TOOL, kubevirt::TOOL, vagrant::TOOL] {
        for (place, entries) in tool.places {
            for (word, _) in *entries {
                let is_taken = |one: &&Definition| one.name.starts_with(tool.name) && one.name.contains(word);
                assert!(all.iter().any(|one| is_taken(&one)), "{}: {place} {word}", tool.name);
            }
        }
    }
    let made_of = |one: &Definition| one.name.split('-').skip(2).collect::<Vec<_>>().join("-");
    let mut kinds: Vec<String> = all.iter().map(made_of).collect();
    kinds.sort();
    kinds.dedup();
    assert!(kinds.len() >= 195, "only {} kinds", kinds.len());
    assert!(all.iter().all(|one| !one.xml.contains('{')), "a place that nothing fills");
}
