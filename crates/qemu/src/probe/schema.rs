//! Look-ups in the answer to `query-qmp-schema`: which command takes which arguments, which kinds there are.
//!
//! Used by the probe's fold only. Types are numbers that change from version to version, so every look-up starts
//! at a command. It goes one level deep and never follows a cycle.

use ferry_qmp::commands::introspect::SchemaEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The schema, by name.
pub(super) struct Schema<'a>(HashMap<&'a str, &'a SchemaEntry>);

impl<'a> Schema<'a> {
    pub(super) fn new(entries: &'a [SchemaEntry]) -> Self {
        Self(entries.iter().map(|entry| (entry.name.as_str(), entry)).collect())
    }

    /// Every command with the names of its arguments.
    pub(super) fn commands(&self) -> BTreeMap<String, BTreeSet<String>> {
        let commands = self.0.values().filter(|entry| entry.meta_type == "command");
        commands.map(|command| (command.name.clone(), self.members(command.arg_type.as_deref()))).collect()
    }

    /// What a command's answer can hold. Empty when the command is not there or answers with something else.
    pub(super) fn answer(&self, command: &str) -> BTreeSet<String> {
        let command = self.0.get(command).filter(|entry| entry.meta_type == "command");
        self.members(command.and_then(|command| command.ret_type.as_deref()))
    }

    /// The kinds of thing that a command's argument type tells apart by its tag, with the members of each: the
    /// common ones and its own. Empty when the command is not there or its arguments are no such type.
    pub(super) fn kinds(&self, command: &str) -> BTreeMap<String, BTreeSet<String>> {
        let Some(arguments) = self.arguments(command) else { return BTreeMap::new() };
        let common = self.members(Some(&arguments.name));
        let mut kinds: BTreeMap<_, _> =
            self.tag_values(arguments).into_iter().map(|value| (value, common.clone())).collect();
        for variant in &arguments.variants {
            kinds.entry(variant.case.clone()).or_default().extend(self.members(Some(&variant.kind)));
        }
        kinds
    }

    /// The values of an enum that is reached from a command's arguments through members; arrays are passed
    /// through, and a name that is no member is looked up among the variants.
    pub(super) fn values(&self, command: &str, path: &[&str]) -> BTreeSet<String> {
        let mut entry = self.arguments(command);
        for step in path {
            entry = entry.and_then(|object| self.step(object, step));
        }
        entry.map(|entry| entry.values.iter().cloned().collect()).unwrap_or_default()
    }

    fn arguments(&self, command: &str) -> Option<&'a SchemaEntry> {
        let command = self.0.get(command).filter(|entry| entry.meta_type == "command")?;
        self.resolve(command.arg_type.as_deref()?)
    }

    fn step(&self, object: &SchemaEntry, name: &str) -> Option<&'a SchemaEntry> {
        let member = object.members.iter().find(|member| member.name == name).map(|member| &member.kind);
        let variant =
            || object.variants.iter().find(|variant| variant.case == name).map(|variant| &variant.kind);
        self.resolve(member.or_else(variant)?)
    }

    /// The type of this name; of an array, the type of its elements.
    fn resolve(&self, name: &str) -> Option<&'a SchemaEntry> {
        let entry = *self.0.get(name)?;
        match entry.element_type.as_deref() {
            Some(element) if entry.meta_type == "array" => self.0.get(element).copied(),
            _ => Some(entry),
        }
    }

    fn members(&self, object: Option<&str>) -> BTreeSet<String> {
        let object = object.and_then(|name| self.0.get(name));
        object
            .map(|object| object.members.iter().map(|member| member.name.clone()).collect())
            .unwrap_or_default()
    }

    fn tag_values(&self, object: &SchemaEntry) -> BTreeSet<String> {
        let tag = object.tag.as_deref().and_then(|tag| self.step(object, tag));
        tag.map(|tag| tag.values.iter().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `object-add` with two kinds, a command that takes a list of an enum, and types that refer to each other in
    /// a circle.
    fn entries() -> Vec<SchemaEntry> {
        serde_json::from_value(json!([
            {"name": "object-add", "meta-type": "command", "arg-type": "1", "ret-type": "0"},
            {"name": "0", "meta-type": "object", "members": []},
            {"name": "1", "meta-type": "object", "tag": "qom-type",
             "members": [{"name": "qom-type", "type": "2"}, {"name": "id", "type": "str"}],
             "variants": [{"case": "secret", "type": "3"}, {"case": "iothread", "type": "missing"}]},
            {"name": "2", "meta-type": "enum", "values": ["secret", "iothread", "can-bus"],
             "members": [{"name": "secret"}, {"name": "iothread"}, {"name": "can-bus"}]},
            {"name": "3", "meta-type": "object", "members": [{"name": "data", "type": "3", "default": null}]},
            {"name": "set", "meta-type": "command", "arg-type": "4", "ret-type": "0", "allow-oob": true},
            {"name": "ask", "meta-type": "command", "arg-type": "0", "ret-type": "3"},
            {"name": "4", "meta-type": "object", "members": [{"name": "list", "type": "[5]"}]},
            {"name": "[5]", "meta-type": "array", "element-type": "5"},
            {"name": "5", "meta-type": "object", "members": [{"name": "kind", "type": "2"}]},
            {"name": "STOP", "meta-type": "event", "arg-type": "0"},
            {"name": "str", "meta-type": "builtin", "json-type": "string"},
            {"name": "odd", "meta-type": "command", "arg-type": "[6]"},
            {"name": "[6]", "meta-type": "array", "element-type": "[6]"}
        ]))
        .unwrap()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn kinds_have_the_common_members_and_their_own() {
        let entries = entries();
        let kinds = Schema::new(&entries).kinds("object-add");
        let expected = [
            ("can-bus", set(&["id", "qom-type"])),
            ("iothread", set(&["id", "qom-type"])),
            ("secret", set(&["data", "id", "qom-type"])),
        ];
        assert_eq!(kinds, expected.map(|(name, members)| (name.to_owned(), members)).into());
    }

    #[test]
    fn values_are_found_through_lists() {
        let entries = entries();
        let schema = Schema::new(&entries);
        assert_eq!(schema.values("set", &["list", "kind"]), set(&["can-bus", "iothread", "secret"]));
        assert_eq!(schema.values("set", &["list", "colour"]), set(&[]));
        assert_eq!(schema.values("object-add", &["secret", "data"]), set(&[]));
    }

    #[test]
    fn what_is_missing_or_goes_in_circles_is_empty() {
        let entries = entries();
        let schema = Schema::new(&entries);
        assert_eq!(schema.kinds("no-such-command"), BTreeMap::new());
        assert_eq!(schema.kinds("STOP"), BTreeMap::new());
        assert_eq!(schema.kinds("set"), BTreeMap::new());
        assert_eq!(schema.kinds("odd"), BTreeMap::new());
        assert_eq!(schema.values("odd", &["x", "x"]), set(&[]));
    }

    #[test]
    fn commands_have_their_arguments() {
        let entries = entries();
        let commands = Schema::new(&entries).commands();
        assert_eq!(commands["set"], set(&["list"]));
        assert_eq!(Schema::new(&entries).answer("set"), set(&[]));
        assert_eq!(Schema::new(&entries).answer("ask"), set(&["data"]));
        assert_eq!(Schema::new(&entries).answer("no-such-command"), set(&[]));
        assert_eq!(commands.keys().collect::<Vec<_>>(), ["ask", "object-add", "odd", "set"]);
    }
}
