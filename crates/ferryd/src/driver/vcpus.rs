//! Processors of a domain: how many there are, and how many there can be.
//!
//! A processor that is plugged in is a device of its own, `vcpuN`, in one of the places that the machine was started with.
//! Only such a one can be taken out again, and only when the guest lets it go.

use ferry_qmp::commands::device::DeviceAdd;
use ferry_qmp::commands::run::{CpuSocket, QueryHotpluggableCpus};
use ferry_rpc::error::{Error, ErrorCode, Origin};
use serde_json::{Map, Value};

use super::Driver;
use super::change::{Affected, check};
use crate::refuse;

impl Driver {
    /// Plugs processors in, or has the next start do it.
    pub(super) async fn set_vcpus(&mut self, count: u32, affected: Affected) -> Result<(), Error> {
        let (live, mut config) = (self.live_copy(affected), self.config_copy(affected));
        for (domain, which) in
            live.iter().map(|live| (live, "live")).chain(config.iter().map(|config| (config, "persistent")))
        {
            let most = domain.vcpus.max;
            if count > most {
                let text = format!(
                    "requested vcpus is greater than max allowable vcpus for the {which} domain: {count} > {most}"
                );
                return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
            }
        }
        if let Some(config) = &mut config {
            set_current(config, count);
        }
        if let Some(mut live) = live {
            self.plug_vcpus(live.vcpus.current(), count).await?;
            set_current(&mut live, count);
            self.replace_live(live).await?;
        }
        self.keep_changed(None, config).await
    }

    async fn plug_vcpus(&mut self, present: u32, wanted: u32) -> Result<(), Error> {
        if wanted < present {
            let text = "taking processors out of a running guest is not supported";
            return Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text));
        }
        let missing = usize::try_from(wanted - present).unwrap_or(usize::MAX);
        if missing == 0 {
            return Ok(());
        }
        let monitor = self.running()?.monitor.clone();
        let places = monitor.execute(&QueryHotpluggableCpus).await.map_err(refuse::monitor)?;
        let free = free_places(places);
        if free.len() < missing {
            let text = "failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count";
            return Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text));
        }
        for (number, place) in free.into_iter().take(missing) {
            monitor.execute(&device(number, &place)?).await.map_err(refuse::monitor)?;
        }
        Ok(())
    }

    /// How many processors there can be from the next start on.
    pub(super) async fn set_vcpus_max(&mut self, count: u32, affected: Affected) -> Result<(), Error> {
        if affected.live {
            let text = "maximum vcpu count of a live domain can't be modified";
            return Err(Error::of(ErrorCode::OPERATION_INVALID, Origin::QEMU, text));
        }
        let Some(mut config) = self.config_copy(affected) else { return Ok(()) };
        let topology = config.cpu.as_ref().and_then(|cpu| cpu.topology.as_ref());
        if topology.is_some_and(|topology| topology.cpus() != Some(count)) {
            let text = "CPU topology doesn't match the desired vcpu count";
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
        }
        let claimed = config.cells().iter().filter_map(|cell| cell.cpus.as_ref()?.last());
        if claimed.max().is_some_and(|last| last >= count) {
            let text = "Number of CPUs in <numa> exceeds the desired maximum vcpu count";
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
        }
        let current = config.vcpus.current().min(count);
        config.vcpus.max = count;
        set_current(&mut config, current);
        check(&config)?;
        self.keep(config).await
    }
}

fn set_current(domain: &mut ferry_domxml::Domain, count: u32) {
    domain.vcpus.current = (count != domain.vcpus.max).then_some(count);
}

/// Free places with the numbers of the processors that belong there, lowest first. QEMU lists them from the last to the
/// first.
fn free_places(places: Vec<CpuSocket>) -> Vec<(usize, CpuSocket)> {
    let numbered = places.into_iter().rev().enumerate();
    numbered.filter(|(_, place)| place.qom_path.is_none() && place.vcpus_count == 1).collect()
}

fn device(number: usize, place: &CpuSocket) -> Result<DeviceAdd, Error> {
    let unreadable = || refuse::internal("QEMU's places for processors are not understood");
    let mut properties = Map::new();
    properties.insert("driver".to_owned(), Value::from(place.kind.as_str()));
    properties.insert("id".to_owned(), Value::from(format!("vcpu{number}")));
    match serde_json::to_value(place.props).map_err(|_| unreadable())? {
        Value::Object(place) => properties.extend(place),
        _ => return Err(unreadable()),
    }
    Ok(DeviceAdd(properties))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_free_place_has_the_number_of_its_processor() {
        let places = json!([
            {"props": {"core-id": 0, "thread-id": 0, "socket-id": 2}, "vcpus-count": 1, "type": "qemu64-x86_64-cpu"},
            {"props": {"core-id": 0, "thread-id": 0, "socket-id": 1}, "vcpus-count": 1, "type": "qemu64-x86_64-cpu"},
            {"props": {"core-id": 0, "thread-id": 0, "socket-id": 0}, "vcpus-count": 1, "qom-path": "/machine/unattached/device[0]",
             "type": "qemu64-x86_64-cpu"}
        ]);
        let free = free_places(serde_json::from_value(places).unwrap());
        assert_eq!(free.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2]);
        let (number, place) = &free[0];
        let expected = json!({"driver": "qemu64-x86_64-cpu", "id": "vcpu1", "socket-id": 1, "core-id": 0, "thread-id": 0});
        assert_eq!(serde_json::to_value(device(*number, place).unwrap()).unwrap(), expected);
    }
}
