//! What QEMU is told over its monitor before the guest runs, because its command line has no words for it.
//!
//! Called by [`super::launch`] once the monitor answers, for a start and for a guest that arrives.

use ferry_domxml::display::Graphics;
use ferry_domxml::interface::LinkState;
use ferry_domxml::memory::Size;
use ferry_domxml::{BalloonModel, Domain, OnEvent};
use ferry_qmp::commands::console::SetLink;
use ferry_qmp::commands::device::QomSet;
use ferry_qmp::commands::guest::{Balloon, DisplayProtocol, QueryBalloon, SetPassword};
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

/// Asks a guest that boots to give back what it has too much, and notes what it has until it answers.
///
/// # Errors
/// QEMU refuses.
pub(crate) async fn inflate(monitor: &Monitor, domain: &mut Domain) -> Result<(), MonitorError> {
    let has_balloon =
        domain.devices.memballoon.as_ref().is_some_and(|balloon| balloon.model != BalloonModel::None);
    let wanted = domain.current_memory.filter(|current| has_balloon && current.kib < domain.memory.kib);
    let Some(wanted) = wanted else { return Ok(()) };
    monitor.execute(&Balloon { value: wanted.kib.saturating_mul(1024) }).await?;
    let actual = monitor.execute(&QueryBalloon).await?.actual;
    domain.current_memory = Some(Size { kib: actual / 1024 });
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
