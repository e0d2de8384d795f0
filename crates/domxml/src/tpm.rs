//! `<tpm>`: a trusted platform module, which a program of its own beside QEMU plays.

use crate::address::DeviceInfo;
use crate::model::{YesNo, element, values};

element! {
    /// A trusted platform module.
    pub struct Tpm {
        /// The interface that the guest sees. `None`: tis.
        model: Option<TpmModel> => Attr("model"),
        /// What is behind it. `None`: nothing that is known here; see the rest.
        backend: Option<TpmBackend> => Child("backend"),
        /// Alias and address.
        info: DeviceInfo => Flatten(),
    }
    order ["backend", "alias", "address"]
}

values! {
    /// How the guest speaks to its TPM.
    pub enum TpmModel {
        /// registers of the PC Client specification
        Tis = "tpm-tis",
        /// command and response buffers, TPM 2.0 only
        Crb = "tpm-crb",
    }
}

element! {
    /// `<backend>`: what plays the TPM.
    pub struct TpmBackend {
        /// What kind of thing it is.
        kind: TpmBackendType => Attr("type"),
        /// What the guest is told that it has. `None`: what goes with the model.
        version: Option<TpmVersion> => Attr("version"),
        /// Whether its state outlives a guest that is not kept. `None`: no.
        persistent_state: Option<YesNo> => Attr("persistent_state"),
        /// How much it writes to its log; 5 and more: each command.
        debug: Option<u32> => Attr("debug"),
        /// The banks of registers that are in use. `None`: those that it was made with.
        active_pcr_banks: Option<PcrBanks> => Child("active_pcr_banks"),
    }
}

values! {
    /// Kind of thing that plays a TPM.
    pub enum TpmBackendType {
        /// a program: swtpm
        Emulator = "emulator",
    }
}

values! {
    /// Version of the TPM library specification.
    pub enum TpmVersion {
        /// 1.2
        V12 = "1.2",
        /// 2.0
        V20 = "2.0",
    }
}

element! {
    /// `<active_pcr_banks>`: which hashes the platform configuration registers are kept in.
    #[derive(Default)]
    pub struct PcrBanks {
        /// SHA-1
        sha1: bool => Flag("sha1"),
        /// SHA-256
        sha256: bool => Flag("sha256"),
        /// SHA-384
        sha384: bool => Flag("sha384"),
        /// SHA-512
        sha512: bool => Flag("sha512"),
    }
}

impl Tpm {
    /// The model, with stock's choice where none is named.
    pub fn model(&self) -> TpmModel {
        self.model.unwrap_or(TpmModel::Tis)
    }

    /// The version that the guest has, with stock's choice where none is named.
    pub fn version(&self) -> TpmVersion {
        let said = self.backend.as_ref().and_then(|backend| backend.version);
        said.unwrap_or(match self.model() {
            TpmModel::Tis => TpmVersion::V12,
            TpmModel::Crb => TpmVersion::V20,
        })
    }

    /// Whether its state is kept when the guest is not.
    pub fn outlives_its_guest(&self) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.persistent_state == Some(YesNo::Yes))
    }
}

impl PcrBanks {
    /// The names of the banks that are in use, in the order of their width.
    pub fn names(&self) -> Vec<&'static str> {
        let all =
            [("sha1", self.sha1), ("sha256", self.sha256), ("sha384", self.sha384), ("sha512", self.sha512)];
        all.into_iter().filter_map(|(name, is_active)| is_active.then_some(name)).collect()
    }
}
