//! What becomes of the state of a domain's TPM when its guest or its definition ends.
//!
//! | what ends | the state |
//! |---|---|
//! | the guest of a definition that is kept | stays |
//! | a guest that is not kept | goes, unless the definition says `persistent_state='yes'` |
//! | a guest that is not kept and has moved away | goes: it is where the guest is |
//! | a guest that did not come | is what it was before |
//! | the definition, of a guest that does not run | goes, unless kept by flag or, without one, by `persistent_state` |

use ferry_domxml::tpm::Tpm;
use ferry_domxml::{Domain, YesNo};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::flags::UndefineFlags;

use super::Driver;
use super::guest::Ending;
use crate::perform::tpm::State;

impl Driver {
    /// The state on this host, whether there is one or not.
    pub(in crate::driver) fn tpm_state(&self) -> State {
        State::of(&self.host.layout.tpm, self.uuid)
    }

    /// A guest has ended, and nobody plays its TPM any more.
    pub(super) fn settle_tpm(&self, domain: &Domain, ending: Ending) {
        if domain.devices.tpms.is_empty() {
            return;
        }
        let state = self.tpm_state();
        let outlives = domain.devices.tpms.iter().any(Tpm::outlives_its_guest);
        let never_came = ending == Ending::Failed && self.warn_of_tpm(state.give_up()).unwrap_or(true);
        let goes = self.config.is_none() && (ending == Ending::Migrated || !outlives);
        if goes && !never_came {
            self.warn_of_tpm(state.remove());
        }
    }

    /// A guest that has arrived brought the state with it.
    pub(super) fn accept_tpm(&self) {
        self.warn_of_tpm(self.tpm_state().accept());
    }

    /// Whether the state goes with the definition `config`.
    ///
    /// # Errors
    /// It is asked to, and cannot: the guest uses it (55).
    pub(super) fn tpm_goes(&self, config: &Domain, flags: UndefineFlags) -> Result<bool, Error> {
        let Some(tpm) = config.devices.tpms.first() else { return Ok(false) };
        if self.guest.is_some() {
            if flags.contains(UndefineFlags::TPM) {
                let text = "the guest runs with its TPM, whose state cannot be deleted now";
                return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
            }
            // Decided when the guest ends, by what its own definition then says.
            return Ok(false);
        }
        Ok(if tpm.outlives_its_guest() {
            flags.contains(UndefineFlags::TPM)
        } else {
            !flags.contains(UndefineFlags::KEEP_TPM)
        })
    }

    /// Has a guest that will not be kept leave the state of its TPM, as was asked.
    pub(super) async fn keep_tpm_of_guest(&mut self, flags: UndefineFlags) -> Result<(), Error> {
        let Some(guest) = self.guest.as_ref().filter(|_| flags.contains(UndefineFlags::KEEP_TPM)) else {
            return Ok(());
        };
        let mut domain = Domain::clone(&guest.domain);
        for backend in domain.devices.tpms.iter_mut().filter_map(|tpm| tpm.backend.as_mut()) {
            backend.persistent_state = Some(YesNo::Yes);
        }
        self.replace_live(domain).await
    }

    fn warn_of_tpm<T>(&self, outcome: std::io::Result<T>) -> Option<T> {
        outcome
            .inspect_err(|error| {
                tracing::warn!(domain = %self.name, %error, "the state of the TPM could not be settled");
            })
            .ok()
    }
}
