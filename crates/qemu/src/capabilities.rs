//! What one QEMU binary can do, as its own answers said it.
//!
//! Made by [`crate::probe`], kept by the daemon as JSON beside the binary's identity (path, size, change time),
//! read by everything that builds a command line or drives a migration. Nothing is concluded from a version
//! number: a question about this QEMU is a look-up here. It refuses to know how the answers were obtained.

use ferry_qmp::commands::introspect::VersionTriple;
use ferry_qmp::commands::migration::MigrationCapability;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// The form of the stored JSON. It changes whenever the probe asks more or the fold keeps more, so that a set
/// stored by an older daemon is made anew.
pub const FORMAT: u32 = 2;

/// What one QEMU binary can do. Made by [`crate::probe::Probe`]; the default is a binary that can do nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// [`FORMAT`] at the time of the probe.
    pub format: u32,
    /// The version, for people and for the domain's log; never to decide what can be done.
    pub version: VersionTriple,
    /// The packager's text; empty for a plain build.
    pub package: String,
    /// The architecture that is emulated, `x86_64`.
    pub arch: String,
    /// KVM is built in. Whether it works on this host is told by [`Capabilities::accelerators`].
    pub kvm_built_in: bool,
    /// What depends on the accelerator, for each one that the probe could start.
    pub accelerators: BTreeMap<Accelerator, AcceleratorCapabilities>,
    /// The machine types.
    pub machines: Vec<Machine>,
    /// Options of `-machine` that machines of the PC family take.
    pub machine_options: BTreeSet<String>,
    /// QMP commands with the names of their arguments.
    pub commands: BTreeMap<String, BTreeSet<String>>,
    /// What a migration can be told to do.
    pub migration_capabilities: BTreeSet<MigrationCapability>,
    /// What the answer to `query-migrate` can hold.
    pub migration_info: BTreeSet<String>,
    /// Device types that the probe asked for and this binary has, with their properties.
    pub devices: BTreeMap<String, BTreeSet<String>>,
    /// Object types with their properties.
    pub objects: BTreeMap<String, BTreeSet<String>>,
    /// Block drivers with their options.
    pub block_drivers: BTreeMap<String, BTreeSet<String>>,
    /// Values of the `aio` option of files: `threads`, `native`, `io_uring`.
    pub aio: BTreeSet<String>,
    /// Network back ends with their options.
    pub netdevs: BTreeMap<String, BTreeSet<String>>,
    /// Character device back ends.
    pub chardevs: BTreeSet<String>,
    /// Options of the command line with their parameters, as far as QEMU describes them.
    pub options: BTreeMap<String, BTreeSet<String>>,
}

/// What runs the guest's CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The host's processor.
    Kvm,
    /// QEMU's emulator.
    Tcg,
}

impl Accelerator {
    /// The name for `-accel`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What depends on the accelerator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceleratorCapabilities {
    /// The CPU models.
    pub cpu_models: Vec<CpuModel>,
    /// The features of the best CPU that this host gives a guest, by QEMU's names, and whether each is on:
    /// `-cpu max` spelled out. Features that no migration carries are off.
    pub max_cpu: BTreeMap<String, bool>,
    /// Who made that CPU: `GenuineIntel`, `AuthenticAMD`.
    pub max_cpu_vendor: Option<String>,
}

/// One CPU model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuModel {
    /// Its name for `-cpu`.
    pub name: String,
    /// The versioned model that the name stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
    /// Going away.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deprecated: bool,
    /// What this accelerator on this host lacks for it; empty when the model is usable, `None` when QEMU cannot
    /// tell.
    pub lacks: Option<Vec<String>>,
}

/// One machine type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its versioned name, `pc-q35-7.2`.
    pub name: String,
    /// The name without version, on the newest of a family: `q35`, `pc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// QEMU takes it when told nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_default: bool,
    /// The most CPUs that it can have.
    pub cpus_max: u32,
    /// CPUs can be added while it runs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cpu_hotplug: bool,
    /// Going away.
    #[serde(default, skip_serializing_if = "is_false")]
    pub deprecated: bool,
    /// The CPU model that it has when told nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_cpu: Option<String>,
    /// The name of its main RAM block, which a migration carries: `pc.ram`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_id: Option<String>,
}

/// Why a stored set cannot be used; the probe must run again.
#[derive(Debug, Error)]
pub enum StoredError {
    /// It is not such a set.
    #[error("stored QEMU capabilities are not understood")]
    Malformed(#[source] serde_json::Error),
    /// It was made by another daemon, with other questions.
    #[error("stored QEMU capabilities have format {found}, not {FORMAT}")]
    Format {
        /// What it has.
        found: u32,
    },
}

impl Capabilities {
    /// Reads a stored set.
    ///
    /// # Errors
    /// [`StoredError`] when it is not one, or one of another format.
    pub fn from_json(text: &str) -> Result<Self, StoredError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_str(text).map_err(StoredError::Malformed)?;
        if head.format != FORMAT {
            return Err(StoredError::Format { found: head.format });
        }
        serde_json::from_str(text).map_err(StoredError::Malformed)
    }

    /// The set as JSON to store.
    ///
    /// # Errors
    /// None with today's fields: all map keys are text.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Finds a machine type by its name or its alias.
    pub fn machine(&self, name: &str) -> Option<&Machine> {
        let named = |machine: &&Machine| machine.name == name;
        let aliased = |machine: &&Machine| machine.alias.as_deref() == Some(name);
        self.machines.iter().find(named).or_else(|| self.machines.iter().find(aliased))
    }

    /// The machine type that QEMU takes when told nothing.
    pub fn default_machine(&self) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.is_default)
    }

    /// Whether an accelerator works with this binary on this host.
    pub fn has_accelerator(&self, accelerator: Accelerator) -> bool {
        self.accelerators.contains_key(&accelerator)
    }

    /// Finds a CPU model.
    pub fn cpu_model(&self, accelerator: Accelerator, name: &str) -> Option<&CpuModel> {
        self.accelerators.get(&accelerator)?.cpu_models.iter().find(|model| model.name == name)
    }

    /// Whether this binary has a device type. `false` also for types that the probe does not ask for
    /// ([`crate::probe::DEVICE_TYPES`]).
    pub fn has_device(&self, device: &str) -> bool {
        self.devices.contains_key(device)
    }

    /// Whether a device type has a property.
    pub fn device_has(&self, device: &str, property: &str) -> bool {
        has_member(&self.devices, device, property)
    }

    /// Whether this binary has an object type.
    pub fn has_object(&self, object: &str) -> bool {
        self.objects.contains_key(object)
    }

    /// Whether an object type has a property.
    pub fn object_has(&self, object: &str, property: &str) -> bool {
        has_member(&self.objects, object, property)
    }

    /// Whether this binary has a QMP command.
    pub fn has_command(&self, command: &str) -> bool {
        self.commands.contains_key(command)
    }

    /// Whether a QMP command has an argument.
    pub fn command_has(&self, command: &str, argument: &str) -> bool {
        has_member(&self.commands, command, argument)
    }

    /// Whether this binary has a parameter for its migrations.
    pub fn has_migration_parameter(&self, parameter: &str) -> bool {
        self.command_has("migrate-set-parameters", parameter)
    }

    /// Whether this binary's migrations have a capability.
    pub fn has_migration_capability(&self, capability: &MigrationCapability) -> bool {
        self.migration_capabilities.contains(capability)
    }

    /// Whether this binary says by itself what keeps a guest from being migrated. Since QEMU 6.0.
    pub fn reports_blockers(&self) -> bool {
        self.migration_info.contains("blocked-reasons")
    }

    /// Whether `-machine` has an option, for machines of the PC family.
    pub fn machine_has(&self, option: &str) -> bool {
        self.machine_options.contains(option)
    }

    /// Whether the command line has an option that QEMU describes.
    pub fn has_option(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    /// Whether an option of the command line has a parameter.
    pub fn option_has(&self, option: &str, parameter: &str) -> bool {
        has_member(&self.options, option, parameter)
    }

    /// Whether a block driver has an option.
    pub fn block_driver_has(&self, driver: &str, option: &str) -> bool {
        has_member(&self.block_drivers, driver, option)
    }

    /// Whether QEMU drops the host's cached pages of an image when it takes the image over, so that a shared
    /// image may be migrated whatever its cache mode is.
    pub fn drops_cache(&self) -> bool {
        self.block_driver_has("file", "drop-cache")
    }
}

fn has_member(map: &BTreeMap<String, BTreeSet<String>>, name: &str, member: &str) -> bool {
    map.get(name).is_some_and(|members| members.contains(member))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(value: &bool) -> bool {
    !value
}
