//! What a migration would meet on the source, without beginning it.
//!
//! Called for a plan. What refuses is found by the code that would refuse the migration itself ([`super::checks`], the offer
//! of Begin); the rest is for people.

use std::sync::Arc;

use ferry_domxml::disk::Disk;
use ferry_domxml::storage::BackingStore;
use ferry_migration::checks::disks::{self, Row};
use ferry_migration::checks::{Ask, Finding};
use ferry_migration::overlay::Overlay;
use ferry_migration::params::Request as Parameters;
use ferry_rpc::error::Error;

use crate::driver::{Driver, Leaving};

impl Driver {
    /// Everything that stands in the way on this host, what the guest is made of, and its disks one by one.
    pub(in crate::driver) async fn plan_leaving(
        &mut self,
        parameters: &Parameters,
    ) -> Result<Leaving, Error> {
        let ask = Ask::of(parameters.flags);
        let overlays = self.overlays().await?;
        let findings = self.obstacles(ask, &overlays, None).await?;
        // Not running, another job, another guest ABI: what Begin looks at first.
        let (refused, xml) = match self.offer(parameters, overlays.clone()) {
            Ok((begun, _)) => (None, Some(begun.xml)),
            Err(error) => (Some(error), None),
        };
        let (machine, disks) = (self.machine(), Vec::new());
        let mut leaving = Leaving { refused, findings, xml, machine, disks, overlays };
        if !ask.offline {
            leaving.disks = self.disks(&leaving.overlays).await;
            let warnings = leaving.disks.iter().filter(|row| row.role == disks::Role::BackingImage);
            let warnings: Vec<Finding> = warnings.filter_map(|row| row.finding.clone()).collect();
            leaving.findings.extend(warnings);
        }
        Ok(leaving)
    }

    /// The guest's disks with all that they are based on.
    async fn disks(&mut self, overlays: &[Overlay]) -> Vec<Row> {
        let Some(guest) = &self.guest else { return Vec::new() };
        let drops_cache = guest.capabilities.drops_cache() || !self.host.config.check_disk_cache;
        let domain = Arc::clone(&guest.domain);
        let mut rows = disks::rows(&self.surveyed(&domain, overlays, None).await, drops_cache);
        for base in domain.devices.disks.iter().flat_map(bases) {
            // One at a time: they go by the same name.
            let shared = &self.host.config.shared_filesystems;
            for seen in self.surveyor.survey(&[base], shared).await {
                rows.extend(seen.sources.iter().map(|source| disks::base(&seen, source)));
            }
        }
        rows
    }
}

/// The images that a disk's image is based on, each as a disk of its own.
fn bases(disk: &Disk) -> Vec<Disk> {
    let mut found = Vec::new();
    let mut below = disk.backing_store.as_ref();
    while let Some(BackingStore::Image(image)) = below {
        found.push(Disk { source: image.source.clone(), backing_store: None, ..disk.clone() });
        below = image.backing_store.as_ref();
    }
    found
}
