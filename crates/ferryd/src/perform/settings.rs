//! What QEMU is told over its monitor before the guest runs, because its command line has no words for it.
//!
//! Called by [`super::launch`] once the monitor answers, for a start and for a guest that arrives.

use ferry_domxml::display::Graphics;
use ferry_domxml::interface::LinkState;
use ferry_domxml::{Domain, OnEvent};
use ferry_qmp::commands::console::SetLink;
use ferry_qmp::commands::device::QomSet;
use ferry_qmp::commands::guest::{DisplayProtocol, SetPassword};
use ferry_qmp::{Command, Nothing};
use serde::Serialize;
use serde_json::json;

use super::monitor::{Monitor, MonitorError};
use super::throttle;

/// Makes QEMU as the definition wants it.
///
/// # Errors
/// QEMU refuses; the guest must then not be started, for it would not be the one that was asked for.
pub(crate) async fn apply(monitor: &Monitor, domain: &Domain) -> Result<(), MonitorError> {
    for Graphics::Vnc(vnc) in &domain.devices.graphics {
        if let Some(password) = vnc.password.clone() {
            let set = SetPassword { protocol: DisplayProtocol::Vnc, password, connected: None };
            monitor.execute(&set).await?;
        }
    }
    let unplugged = domain.devices.interfaces.iter().filter(|card| card.link == Some(LinkState::Down));
    for name in unplugged.filter_map(|card| card.info.alias.clone()) {
        monitor.execute(&SetLink { name, up: false }).await?;
    }
    throttle::apply(monitor, &domain.devices.disks).await?;
    if domain.on_reboot == Some(OnEvent::Destroy) {
        on_reboot(monitor, domain).await?;
    }
    if let Some(balloon) = &domain.devices.memballoon
        && let (Some(period_s), Some(alias)) = (balloon.stats_period_s, &balloon.info.alias)
    {
        let set = QomSet {
            path: format!("/machine/peripheral/{alias}"),
            property: "guest-stats-polling-interval".to_owned(),
            value: json!(period_s),
        };
        monitor.execute(&set).await?;
    }
    Ok(())
}

/// Tells QEMU what to do when the guest reboots. One that is to end powers off instead, and its end is then handled as such.
///
/// # Errors
/// QEMU refuses.
pub(crate) async fn on_reboot(monitor: &Monitor, domain: &Domain) -> Result<(), MonitorError> {
    let ends = domain.on_reboot == Some(OnEvent::Destroy);
    monitor.execute(&SetAction { reboot: if ends { "shutdown" } else { "reset" } }).await.map(drop)
}

#[derive(Serialize)]
struct SetAction {
    reboot: &'static str,
}

impl Command for SetAction {
    const NAME: &'static str = "set-action";
    type Reply = Nothing;
}
