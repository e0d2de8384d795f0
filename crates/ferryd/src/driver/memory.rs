//! Memory of a domain: how much it may have, and how much the balloon leaves it.

use ferry_domxml::memory::Size;
use ferry_domxml::{BalloonModel, Domain};
use ferry_qmp::commands::device::QomSet;
use ferry_qmp::commands::guest::Balloon;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use serde_json::json;

use super::Driver;
use super::change::Affected;
use crate::refuse;

impl Driver {
    /// Asks the balloon to leave the guest so much. The guest takes its time; QEMU reports where it is, and the running
    /// definition follows that.
    pub(super) async fn set_memory(&mut self, kib: u64, affected: Affected) -> Result<(), Error> {
        let (live, mut config) = (self.live_copy(affected), self.config_copy(affected));
        for domain in live.iter().chain(&config) {
            if kib > domain.memory.kib {
                let text = "cannot set memory higher than max memory";
                return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
            }
        }
        if let Some(live) = live {
            if balloon(&live).is_none() {
                let text = "cannot set memory of an active domain without a balloon";
                return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
            }
            let balloon = Balloon { value: kib.saturating_mul(1024) };
            self.running()?.monitor.execute(&balloon).await.map_err(refuse::monitor)?;
        }
        if let Some(config) = &mut config {
            config.current_memory = Some(Size { kib });
        }
        self.keep_changed(None, config).await
    }

    /// What the guest has at its next boot.
    pub(super) async fn set_memory_max(&mut self, kib: u64, affected: Affected) -> Result<(), Error> {
        if affected.live {
            let text = "cannot resize the maximum memory on an active domain";
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        let Some(mut config) = self.config_copy(affected) else { return Ok(()) };
        let has_nodes = !config.cells().is_empty();
        if has_nodes {
            let text = "initial memory size of a domain with NUMA nodes cannot be modified with this API";
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        config.memory.kib = kib;
        config.current_memory = config.current_memory.map(|current| current.min(Size { kib }));
        self.keep(config).await
    }

    /// How often the guest counts for the balloon.
    pub(super) async fn set_stats_period(&mut self, seconds: u32, affected: Affected) -> Result<(), Error> {
        let (mut live, mut config) = (self.live_copy(affected), self.config_copy(affected));
        for domain in live.iter_mut().chain(&mut config) {
            let model =
                domain.devices.memballoon.as_mut().filter(|balloon| balloon.model != BalloonModel::None);
            let Some(balloon) = model else {
                let text = "Memory balloon model must be virtio to set the collection period";
                return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
            };
            balloon.stats_period_s = (seconds > 0).then_some(seconds);
        }
        if let Some(alias) = live.as_ref().and_then(balloon) {
            let set = QomSet {
                path: format!("/machine/peripheral/{alias}"),
                property: "guest-stats-polling-interval".to_owned(),
                value: json!(seconds),
            };
            self.running()?.monitor.execute(&set).await.map_err(refuse::monitor)?;
        }
        self.keep_changed(live, config).await
    }
}

/// The name of a running guest's balloon.
fn balloon(domain: &Domain) -> Option<&str> {
    let balloon = domain.devices.memballoon.as_ref()?;
    balloon.info.alias.as_deref().filter(|_| balloon.model != BalloonModel::None)
}
