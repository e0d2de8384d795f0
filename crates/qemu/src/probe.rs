//! What to ask a QEMU binary, and the fold of its answers into [`Capabilities`].
//!
//! The daemon starts the binary with [`Probe::arguments`], sends it every request of [`Probe::questions`] (all at
//! once if it likes), hands each reply to [`Probe::handle_reply`] in the order of the questions, and sends `quit`;
//! [`Probe::finish`] gives the set. It keeps its end of the monitor open until QEMU has answered: what QEMU has not
//! begun when its client leaves is dropped, `quit` included. The emulator is asked everything; KVM, where QEMU starts with it at all, only
//! what depends on it:
//!
//! ```text
//!   Probe::of_binary()      -- all questions ------> finish() ------------------> Capabilities, with TCG
//!   Probe::of_kvm() -- two questions ------> finish_into(&mut Capabilities)  Capabilities, with both
//! ```
//!
//! It asks for what is used and no more: a probe takes about 0.15 s, of which QEMU's start is a quarter and the
//! QMP schema another. It never asks `qom-list-types`, which loads every module that lies about; QEMU 10 aborts
//! there when one of them is of another build.

mod devices;
mod schema;

use crate::capabilities::{Accelerator, AcceleratorCapabilities, Capabilities, CpuModel, FORMAT, Machine};
pub use devices::DEVICE_TYPES;
use ferry_qmp::commands::introspect::{
    CpuDefinition, CpuExpansion, DeviceListProperties, MachineInfo, PropertyInfo, QomListProperties,
    QueryCommandLineOptions, QueryCpuDefinitions, QueryCpuModelExpansion, QueryKvm, QueryMachines,
    QueryQmpSchema, QueryTarget, QueryVersion,
};
use ferry_qmp::commands::migration::MigrationCapability;
use ferry_qmp::{CommandError, EncodeError, Reply, Request};
use schema::Schema;
use serde_json::Value;
use std::collections::BTreeSet;
use thiserror::Error;

/// The type that machines of the PC family share; it is abstract, so it is the same in every version.
const PC_MACHINE: &str = "generic-pc-machine";

/// One thing to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// `query-version`.
    Version,
    /// `query-target`.
    Target,
    /// `query-kvm`.
    Kvm,
    /// `query-machines`.
    Machines,
    /// `qom-list-properties` of what machines of the PC family share.
    MachineOptions,
    /// `query-qmp-schema`.
    Schema,
    /// `query-command-line-options`.
    Options,
    /// `device-list-properties` of one of [`DEVICE_TYPES`].
    Device(&'static str),
    /// `query-cpu-definitions`.
    CpuModels,
    /// `query-cpu-model-expansion` of `max`.
    MaxCpu,
}

/// The questions that every accelerator answers differently.
const OF_ACCELERATOR: [Question; 2] = [Question::CpuModels, Question::MaxCpu];

/// The questions that one binary answers once, the devices aside.
const OF_BINARY: [Question; 7] = [
    Question::Version,
    Question::Target,
    Question::Kvm,
    Question::Machines,
    Question::MachineOptions,
    Question::Schema,
    Question::Options,
];

impl Question {
    /// The command to send.
    ///
    /// # Errors
    /// None with today's commands; see [`Request::new`].
    pub fn request(self) -> Result<Request, EncodeError> {
        match self {
            Self::Version => Request::new(&QueryVersion),
            Self::Target => Request::new(&QueryTarget),
            Self::Kvm => Request::new(&QueryKvm),
            Self::Machines => Request::new(&QueryMachines),
            Self::MachineOptions => Request::new(&QomListProperties { typename: PC_MACHINE.to_owned() }),
            Self::Schema => Request::new(&QueryQmpSchema),
            Self::Options => Request::new(&QueryCommandLineOptions::default()),
            Self::Device(name) => Request::new(&DeviceListProperties { typename: name.to_owned() }),
            Self::CpuModels => Request::new(&QueryCpuDefinitions),
            Self::MaxCpu => Request::new(&max_cpu_expansion()),
        }
    }
}

/// Why a binary could not be probed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A question that every QEMU answers was refused, or answered with something else.
    #[error("probing {question:?} failed")]
    Answer {
        /// The question.
        question: Question,
        /// What is wrong with the answer.
        #[source]
        source: CommandError,
    },
    /// More replies than questions.
    #[error("QEMU answered more than the probe asked")]
    Surplus,
    /// Fewer replies than questions.
    #[error("QEMU did not answer {question:?}")]
    Missing {
        /// The first one without an answer.
        question: Question,
    },
    /// The binary emulates something else than a PC.
    #[error("unsupported architecture {arch}: only x86_64 is supported")]
    Architecture {
        /// What it emulates.
        arch: String,
    },
}

/// A probe under way.
#[derive(Debug)]
pub struct Probe {
    accelerator: Accelerator,
    questions: Vec<Question>,
    answered: usize,
    found: Capabilities,
    cpus: AcceleratorCapabilities,
}

impl Probe {
    /// A probe that asks everything, with the emulator, which works on every host.
    pub fn of_binary() -> Self {
        let devices = DEVICE_TYPES.iter().map(|name| Question::Device(name));
        Self::new(Accelerator::Tcg, OF_BINARY.into_iter().chain(devices).chain(OF_ACCELERATOR).collect())
    }

    /// A probe that asks only what KVM answers differently. That QEMU does not start with it, or does not
    /// answer, means that KVM does not work here.
    pub fn of_kvm() -> Self {
        Self::new(Accelerator::Kvm, OF_ACCELERATOR.to_vec())
    }

    fn new(accelerator: Accelerator, questions: Vec<Question>) -> Self {
        let found = Capabilities { format: FORMAT, ..Capabilities::default() };
        Self { accelerator, questions, answered: 0, found, cpus: AcceleratorCapabilities::default() }
    }

    /// The command line after the binary: no machine, nothing shown, nothing read from the user's files, the
    /// monitor on `qmp` (`stdio`, or `unix:PATH`).
    pub fn arguments(&self, qmp: &str) -> Vec<String> {
        let accelerator = self.accelerator.as_str();
        [
            "-S",
            "-no-user-config",
            "-nodefaults",
            "-display",
            "none",
            "-machine",
            "none",
            "-accel",
            accelerator,
        ]
        .into_iter()
        .chain(["-qmp", qmp])
        .map(str::to_owned)
        .collect()
    }

    /// What to ask, in order.
    pub fn questions(&self) -> &[Question] {
        &self.questions
    }

    /// Takes the reply to the next question.
    ///
    /// # Errors
    /// [`ProbeError`] when a question that every QEMU answers was not. A device that is not there is no error.
    pub fn handle_reply(&mut self, reply: &Reply) -> Result<(), ProbeError> {
        let question = *self.questions.get(self.answered).ok_or(ProbeError::Surplus)?;
        self.answered += 1;
        self.fold(question, reply).map_err(|source| ProbeError::Answer { question, source })
    }

    /// The set that a probe of a binary made.
    ///
    /// # Errors
    /// [`ProbeError`] when a reply is missing, or the binary is not for x86_64.
    pub fn finish(self) -> Result<Capabilities, ProbeError> {
        let (accelerator, mut found, cpus) = (self.accelerator, self.found.clone(), self.complete()?);
        if found.arch != "x86_64" {
            return Err(ProbeError::Architecture { arch: found.arch });
        }
        found.accelerators.insert(accelerator, cpus);
        Ok(found)
    }

    /// Adds what a probe of KVM found.
    ///
    /// # Errors
    /// [`ProbeError`] when a reply is missing; the set stays as it was.
    pub fn finish_into(self, capabilities: &mut Capabilities) -> Result<(), ProbeError> {
        let accelerator = self.accelerator;
        capabilities.accelerators.insert(accelerator, self.complete()?);
        Ok(())
    }

    fn complete(self) -> Result<AcceleratorCapabilities, ProbeError> {
        match self.questions.get(self.answered) {
            None => Ok(self.cpus),
            Some(question) => Err(ProbeError::Missing { question: *question }),
        }
    }

    fn fold(&mut self, question: Question, reply: &Reply) -> Result<(), CommandError> {
        let found = &mut self.found;
        match question {
            Question::Version => {
                let version = reply.decode::<QueryVersion>()?;
                (found.version, found.package) = (version.qemu, version.package);
            }
            Question::Target => found.arch = reply.decode::<QueryTarget>()?.arch,
            Question::Kvm => found.kvm_built_in = reply.decode::<QueryKvm>()?.present,
            Question::Machines => found.machines = machines(reply.decode::<QueryMachines>()?),
            Question::MachineOptions => found.machine_options = names(reply.decode::<QomListProperties>()?),
            Question::Schema => fold_schema(found, &Schema::new(&reply.decode::<QueryQmpSchema>()?)),
            Question::Options => {
                for option in reply.decode::<QueryCommandLineOptions>()? {
                    let parameters = option.parameters.into_iter().map(|parameter| parameter.name);
                    found.options.entry(option.option).or_default().extend(parameters);
                }
            }
            Question::Device(name) => match reply.decode::<DeviceListProperties>() {
                Ok(properties) => {
                    found.devices.insert(name.to_owned(), names(properties));
                }
                Err(CommandError::Refused { .. }) => {}
                Err(error) => return Err(error),
            },
            Question::CpuModels => self.cpus.cpu_models = cpu_models(reply.decode::<QueryCpuDefinitions>()?),
            Question::MaxCpu => {
                let expansion = reply.decode::<QueryCpuModelExpansion>()?;
                for (name, value) in expansion.model.props {
                    match value {
                        Value::Bool(on) => {
                            self.cpus.max_cpu.insert(name, on);
                        }
                        Value::String(vendor) if name == "vendor" => self.cpus.max_cpu_vendor = Some(vendor),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }
}

/// `max` in its static form lists every feature by name; the full form adds what is no feature.
fn max_cpu_expansion() -> QueryCpuModelExpansion {
    let model = ferry_qmp::commands::introspect::CpuModel {
        name: "max".to_owned(),
        props: [("migratable".to_owned(), Value::Bool(true))].into_iter().collect(),
    };
    QueryCpuModelExpansion { kind: CpuExpansion::Static, model }
}

fn fold_schema(found: &mut Capabilities, schema: &Schema<'_>) {
    found.commands = schema.commands();
    found.objects = schema.kinds("object-add");
    found.block_drivers = schema.kinds("blockdev-add");
    found.netdevs = schema.kinds("netdev_add");
    found.chardevs = schema.values("chardev-add", &["backend", "type"]);
    found.aio = schema.values("blockdev-add", &["file", "aio"]);
    found.migration_info = schema.answer("query-migrate");
    let capabilities = schema.values("migrate-set-capabilities", &["capabilities", "capability"]);
    found.migration_capabilities =
        capabilities.iter().map(|name| MigrationCapability::from(name.as_str())).collect();
}

fn machines(answer: Vec<MachineInfo>) -> Vec<Machine> {
    let machine = |info: MachineInfo| Machine {
        name: info.name,
        alias: info.alias,
        is_default: info.is_default,
        cpus_max: info.cpu_max,
        cpu_hotplug: info.hotpluggable_cpus,
        deprecated: info.deprecated,
        default_cpu: info.default_cpu_type.map(|kind| kind.trim_end_matches("-x86_64-cpu").to_owned()),
        ram_id: info.default_ram_id,
    };
    let mut machines: Vec<_> = answer.into_iter().map(machine).collect();
    machines.sort_by(|a, b| a.name.cmp(&b.name));
    machines
}

fn cpu_models(answer: Vec<CpuDefinition>) -> Vec<CpuModel> {
    let model = |definition: CpuDefinition| CpuModel {
        name: definition.name,
        alias_of: definition.alias_of,
        deprecated: definition.deprecated,
        // QEMU may name a feature twice, once for each CPUID leaf that it is in.
        lacks: definition.unavailable_features.map(|lacks| BTreeSet::from_iter(lacks).into_iter().collect()),
    };
    let mut models: Vec<_> = answer.into_iter().map(model).collect();
    models.sort_by(|a, b| a.name.cmp(&b.name));
    models
}

fn names(properties: Vec<PropertyInfo>) -> BTreeSet<String> {
    properties.into_iter().map(|property| property.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_qmp::{Incoming, Session};
    use serde_json::json;

    /// A QEMU that answers from a table; what is not in it is refused.
    fn answers(probe: &Probe, answer: impl Fn(&Question) -> Option<Value>) -> Vec<Reply> {
        let mut session = Session::new(0);
        session
            .handle_bytes(b"{\"QMP\":{\"version\":{\"qemu\":{\"major\":9,\"minor\":0,\"micro\":0}}}}\n{\"return\":{}}\n")
            .unwrap();
        let mut replies = vec![];
        for (number, question) in (1..).zip(probe.questions()) {
            session.submit(question.request().unwrap());
            while session.poll_output().is_some() {}
            let id = format!("0-{number}");
            let message = match answer(question) {
                Some(value) => json!({"return": value, "id": id}),
                None => json!({"error": {"class": "DeviceNotFound", "desc": "no"}, "id": id}),
            };
            session.handle_bytes(format!("{message}\n").as_bytes()).unwrap();
            while let Some(incoming) = session.poll_event() {
                if let Incoming::Reply(reply) = incoming {
                    replies.push(reply);
                }
            }
        }
        replies
    }

    /// The least that a QEMU can answer.
    fn least(question: &Question) -> Option<Value> {
        match question {
            Question::Version => Some(json!({"qemu": {"major": 9, "minor": 1, "micro": 2}, "package": "p"})),
            Question::Target => Some(json!({"arch": "x86_64"})),
            Question::Kvm => Some(json!({"enabled": false, "present": true})),
            Question::MaxCpu => Some(json!({"model": {"name": "base", "props": {
                "aes": true, "avx": false, "vendor": "GenuineIntel", "family": 6}}})),
            Question::Device("virtio-blk-pci") => Some(json!([{"name": "drive", "type": "str"}])),
            Question::Device(_) => None,
            _ => Some(json!([])),
        }
    }

    fn run(mut probe: Probe, answer: impl Fn(&Question) -> Option<Value>) -> Result<Probe, ProbeError> {
        for reply in answers(&probe, answer) {
            probe.handle_reply(&reply)?;
        }
        Ok(probe)
    }

    #[test]
    fn a_device_that_is_not_there_is_left_out() {
        let found = run(Probe::of_binary(), least).unwrap().finish().unwrap();
        assert_eq!(found.devices.keys().collect::<Vec<_>>(), ["virtio-blk-pci"]);
        assert!(found.device_has("virtio-blk-pci", "drive"));
        assert_eq!((found.version.to_string().as_str(), found.kvm_built_in), ("9.1.2", true));
        assert_eq!(found.accelerators.keys().collect::<Vec<_>>(), [&Accelerator::Tcg]);
    }

    #[test]
    fn kvm_is_added_to_what_the_binary_said() {
        let mut found = run(Probe::of_binary(), least).unwrap().finish().unwrap();
        run(Probe::of_kvm(), least).unwrap().finish_into(&mut found).unwrap();
        let kvm = &found.accelerators[&Accelerator::Kvm];
        assert_eq!(kvm.max_cpu, [("aes".to_owned(), true), ("avx".to_owned(), false)].into());
        assert_eq!(kvm.max_cpu_vendor.as_deref(), Some("GenuineIntel"));
    }

    #[test]
    fn a_refusal_of_what_every_qemu_answers_is_an_error() {
        for refused in OF_BINARY.into_iter().chain(OF_ACCELERATOR) {
            let outcome =
                run(Probe::of_binary(), |question| if *question == refused { None } else { least(question) });
            let Err(ProbeError::Answer { question, .. }) = outcome else {
                panic!("{refused:?} may be refused")
            };
            assert_eq!(question, refused);
        }
    }

    #[test]
    fn an_answer_of_another_form_is_an_error() {
        for question in Probe::of_binary().questions() {
            let odd = |asked: &Question| if asked == question { Some(json!("x")) } else { least(asked) };
            assert!(matches!(run(Probe::of_binary(), odd), Err(ProbeError::Answer { .. })), "{question:?}");
        }
    }

    #[test]
    fn every_question_has_one_answer() {
        let all = answers(&Probe::of_kvm(), least);
        let mut probe = Probe::of_kvm();
        probe.handle_reply(&all[0]).unwrap();
        let mut found = Capabilities::default();
        assert!(matches!(
            probe.finish_into(&mut found),
            Err(ProbeError::Missing { question: Question::MaxCpu })
        ));
        assert_eq!(found, Capabilities::default());
        let mut probe = run(Probe::of_kvm(), least).unwrap();
        assert!(matches!(probe.handle_reply(&all[0]), Err(ProbeError::Surplus)));
    }

    #[test]
    fn another_architecture_is_refused() {
        let arm = |question: &Question| match question {
            Question::Target => Some(json!({"arch": "aarch64"})),
            _ => least(question),
        };
        let error = run(Probe::of_binary(), arm).unwrap().finish().unwrap_err();
        assert_eq!(error.to_string(), "unsupported architecture aarch64: only x86_64 is supported");
    }

    #[test]
    fn qemu_is_started_without_the_users_files() {
        let arguments = Probe::of_kvm().arguments("unix:/run/x").join(" ");
        let expected =
            "-S -no-user-config -nodefaults -display none -machine none -accel kvm -qmp unix:/run/x";
        assert_eq!(arguments, expected);
    }
}
