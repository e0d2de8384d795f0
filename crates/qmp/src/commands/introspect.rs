//! What this QEMU is and can do. Mostly asked once per binary, by a probe.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

plain_commands! {
    /// Version and packager's text.
    QueryVersion = "query-version" -> Version;
    /// The commands that there are.
    QueryCommands = "query-commands" -> Vec<CommandName>;
    /// Commands, events and their types. Names of types are numbers that change from version to version.
    QueryQmpSchema = "query-qmp-schema" -> Vec<SchemaEntry>;
    /// The machine types.
    QueryMachines = "query-machines" -> Vec<MachineInfo>;
    /// The CPU models, with what the accelerator at hand lacks for each.
    QueryCpuDefinitions = "query-cpu-definitions" -> Vec<CpuDefinition>;
    /// The architecture that is emulated.
    QueryTarget = "query-target" -> Target;
    /// Whether KVM is built in and in use.
    QueryKvm = "query-kvm" -> Kvm;
}

/// Version and packager's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The numbers.
    pub qemu: VersionTriple,
    /// The packager's text, `Debian 1:10.0.2+ds-2`; empty for a plain build.
    #[serde(default)]
    pub package: String,
}

/// `10.0.2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionTriple {
    /// `10`.
    pub major: u32,
    /// `0`.
    pub minor: u32,
    /// `2`; 50 and more mark a development build.
    pub micro: u32,
}

impl std::fmt::Display for VersionTriple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// A command that this QEMU has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CommandName {
    /// Its name.
    pub name: String,
}

/// One entity of the schema.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SchemaEntry {
    /// Its name; of types, a number.
    pub name: String,
    /// `command`, `event`, `object`, `enum`, `array`, `alternate`, `builtin`.
    pub meta_type: String,
    /// Of a command: the type of its arguments. Of an event: of its data.
    pub arg_type: Option<String>,
    /// Of a command: the type of its reply.
    pub ret_type: Option<String>,
    /// Of an array: the type of its elements.
    pub element_type: Option<String>,
    /// Of an object or alternate: its members.
    #[serde(default)]
    pub members: Vec<SchemaMember>,
    /// Of an object with variants: the member that tells which.
    pub tag: Option<String>,
    /// Of an object: what each value of the tag adds.
    #[serde(default)]
    pub variants: Vec<SchemaVariant>,
    /// Of an enum: its values.
    #[serde(default)]
    pub values: Vec<String>,
    /// Marks such as `deprecated` and `unstable`, and features that have no other trace.
    #[serde(default)]
    pub features: Vec<String>,
    /// Of a command: it can be executed out of band.
    #[serde(default)]
    pub allow_oob: bool,
}

/// A member of an object or alternate. QEMU sends enum members in the same place; see [`SchemaEntry::values`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SchemaMember {
    /// Its name; alternates and enums differ in which of the two fields they have.
    #[serde(default)]
    pub name: String,
    /// Its type.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// See [`SchemaEntry::features`].
    #[serde(default)]
    pub features: Vec<String>,
}

/// What one value of a tag adds to an object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SchemaVariant {
    /// The tag's value.
    pub case: String,
    /// The object type whose members are added.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One machine type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MachineInfo {
    /// `pc-q35-7.2`.
    pub name: String,
    /// `q35`, on the newest of a family.
    pub alias: Option<String>,
    /// QEMU takes it when told nothing.
    #[serde(default)]
    pub is_default: bool,
    /// The most CPUs that it can have.
    pub cpu_max: u32,
    /// CPUs can be added while it runs.
    #[serde(default)]
    pub hotpluggable_cpus: bool,
    /// Going away.
    #[serde(default)]
    pub deprecated: bool,
    /// The QOM type of its default CPU, `qemu64-x86_64-cpu`.
    pub default_cpu_type: Option<String>,
    /// The id of its main memory, which is the name of the RAM block in a migration.
    pub default_ram_id: Option<String>,
    /// It has ACPI. Since QEMU 8.0.
    pub acpi: Option<bool>,
}

/// One CPU model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct CpuDefinition {
    /// `EPYC-Rome`.
    pub name: String,
    /// `EPYC-Rome-x86_64-cpu`.
    pub typename: String,
    /// The versioned model that the name stands for, `EPYC-Rome-v1`.
    pub alias_of: Option<String>,
    /// It means the same on every host.
    pub migration_safe: Option<bool>,
    /// Going away.
    #[serde(default)]
    pub deprecated: bool,
    /// What the accelerator at hand cannot do; `None` when QEMU cannot tell.
    pub unavailable_features: Option<Vec<String>>,
}

/// The architecture that is emulated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// `x86_64`.
    pub arch: String,
}

/// Whether KVM is built in and in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Kvm {
    /// In use by this process.
    pub enabled: bool,
    /// Built in.
    pub present: bool,
}

/// `query-command-line-options`: the options that are described by tables. Options that take QAPI types
/// (`-blockdev`, `-object`, …) are listed without parameters or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueryCommandLineOptions {
    /// One option; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<String>,
}
command! { QueryCommandLineOptions = "query-command-line-options" -> Vec<CommandLineOption> }

/// One option of the command line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CommandLineOption {
    /// Without the dash.
    pub option: String,
    /// What can be said in it.
    #[serde(default)]
    pub parameters: Vec<CommandLineParameter>,
}

/// One parameter of an option.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CommandLineParameter {
    /// Its name.
    pub name: String,
    /// `string`, `boolean`, `number` or `size`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// `qom-list-types`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QomListTypes {
    /// Only types below this one: `device`, `user-creatable`, `machine`, ….
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implements: Option<String>,
    /// Abstract ones too.
    #[serde(rename = "abstract", skip_serializing_if = "Option::is_none")]
    pub include_abstract: Option<bool>,
}
command! { QomListTypes = "qom-list-types" -> Vec<QomType> }

/// One QOM type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct QomType {
    /// Its name, which is also a device's name for `-device`.
    pub name: String,
    /// The type that it extends.
    pub parent: Option<String>,
}

/// `device-list-properties`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceListProperties {
    /// The device type.
    pub typename: String,
}
command! { DeviceListProperties = "device-list-properties" -> Vec<PropertyInfo> }

/// `qom-list-properties`: the same for any other type, such as an object or a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QomListProperties {
    /// The type.
    pub typename: String,
}
command! { QomListProperties = "qom-list-properties" -> Vec<PropertyInfo> }

/// One property of a type.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PropertyInfo {
    /// Its name.
    pub name: String,
    /// Its type, as QOM names it: `uint16`, `bool`, `link<…>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it is when nobody sets it, where that is fixed.
    pub default_value: Option<Value>,
}

lenient_enum! {
    /// How to spell a CPU model out.
    pub enum CpuExpansion {
        /// As a base that never changes and what it adds.
        Static = "static",
        /// With every feature that it has.
        Full = "full",
    }
}

/// `query-cpu-model-expansion`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueryCpuModelExpansion {
    /// How.
    #[serde(rename = "type")]
    pub kind: CpuExpansion,
    /// Of what.
    pub model: CpuModel,
}
command! { QueryCpuModelExpansion = "query-cpu-model-expansion" -> CpuModelExpansion }

/// A CPU model with properties set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CpuModel {
    /// The model.
    pub name: String,
    /// Properties that differ from the model's own.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub props: Map<String, Value>,
}

/// A CPU model spelled out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct CpuModelExpansion {
    /// Base and properties.
    pub model: CpuModel,
}
