//! Whether a guest that arrives finds here what it has on its source, and what a guest that leaves tells of itself.
//!
//! The rules are `ferry_migration::checks::fits`'s, the facts `perform::fit`'s.

use std::sync::Arc;

use ferry_domxml::Domain;
use ferry_migration::checks::{self, Finding};
use ferry_migration::cookie::Machine;
use ferry_rpc::error::Error;

use crate::driver::Driver;
use crate::perform::fit;
use crate::refuse;

impl Driver {
    /// What the running guest's machine is made of.
    pub(in crate::driver) fn machine(&self) -> Option<Machine> {
        self.guest.as_ref().and_then(|guest| fit::machine(&self.host, &guest.domain, &guest.capabilities))
    }

    /// Refuses an arriving guest that does not find here what it needs; of what may go all the same, the log tells.
    pub(super) async fn check_fit(&self, definition: &Domain, source: Option<Machine>) -> Result<(), Error> {
        let capabilities = self.host.capabilities(definition.devices.emulator.as_deref()).await?;
        let (host, domain) = (Arc::clone(&self.host), definition.clone());
        let looked = tokio::task::spawn_blocking(move || {
            fit::findings(&host, &domain, &capabilities, source.as_ref())
        })
        .await;
        let found = looked.map_err(|_| refuse::internal("the daemon is stopping"))?;
        for Finding { severity, text, remedy, .. } in &found {
            tracing::warn!(domain = %self.name, ?severity, finding = text, remedy, "about the guest that arrives");
        }
        checks::refusal(&found).map_or(Ok(()), Err)
    }
}
