//! Processors of a domain: how many there are, and how many there can be.
//!
//! A processor that is plugged in is a device of its own, `vcpuN`, in one of the places that the machine was started with.
//! Only such a one could be taken out again, and only if the guest lets it go. The running definition lists each of them, so
//! that another host plugs in what was plugged in here.

use ferry_domxml::cpu::{EachVcpu, Vcpu};
use ferry_domxml::{Domain, Rest, YesNo};
use ferry_rpc::error::{Error, ErrorCode, Origin};

use super::Driver;
use super::change::{Affected, check};
use crate::perform::vcpus;
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
            let plugged = self.plug_vcpus(live.vcpus.current(), count).await?;
            list_plugged(&mut live, &plugged);
            set_current(&mut live, count);
            let guest = self.running()?;
            let pid = guest.process.identity().pid;
            vcpus::pin(&guest.monitor, &live, pid).await.map_err(refuse::not_pinned)?;
            self.replace_live(live).await?;
        }
        self.keep_changed(None, config).await
    }

    /// Plugs in what is missing and tells the numbers.
    async fn plug_vcpus(&mut self, present: u32, wanted: u32) -> Result<Vec<u32>, Error> {
        if wanted < present {
            let text = "taking processors out of a running guest is not supported";
            return Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text));
        }
        let missing = usize::try_from(wanted - present).unwrap_or(usize::MAX);
        if missing == 0 {
            return Ok(Vec::new());
        }
        let monitor = self.running()?.monitor.clone();
        let mut free = vcpus::free(&monitor).await.map_err(refuse::monitor)?;
        if free.len() < missing {
            let text = "failed to find appropriate hotpluggable vcpus to reach the desired target vcpu count";
            return Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text));
        }
        free.truncate(missing);
        for place in &free {
            vcpus::plug(&monitor, place).await.map_err(refuse::monitor)?;
        }
        Ok(free.into_iter().map(|place| place.number).collect())
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
        config.each_vcpu = None;
        set_current(&mut config, current);
        check(&config)?;
        self.keep(config).await
    }
}

fn set_current(domain: &mut Domain, count: u32) {
    let before = domain.vcpus.current();
    domain.vcpus.current = (count != domain.vcpus.max).then_some(count);
    // A list in a kept definition would say something else.
    let present = |each: &EachVcpu| each.vcpus.iter().filter(|vcpu| vcpu.enabled.is_yes()).count();
    let agrees = domain.each_vcpu.as_ref().is_none_or(|each| present(each) == count as usize);
    if count != before && !agrees {
        domain.each_vcpu = None;
    }
}

/// Lists the processors of a running guest, `plugged` among them, in the order in which they came.
fn list_plugged(live: &mut Domain, plugged: &[u32]) {
    if plugged.is_empty() {
        return;
    }
    let (current, max) = (live.vcpus.current(), live.vcpus.max);
    let each = live.each_vcpu.get_or_insert_with(|| EachVcpu {
        vcpus: (0..max)
            .map(|id| Vcpu {
                id,
                enabled: YesNo::from(id < current),
                hotpluggable: Some(YesNo::from(id >= current)),
                order: (id < current).then_some(id + 1),
                rest: Rest::default(),
            })
            .collect(),
        rest: Rest::default(),
    });
    let mut order = each.vcpus.iter().filter_map(|vcpu| vcpu.order).max().unwrap_or(0);
    for number in plugged {
        if let Some(vcpu) = each.vcpus.iter_mut().find(|vcpu| vcpu.id == *number) {
            order += 1;
            (vcpu.enabled, vcpu.hotpluggable, vcpu.order) = (YesNo::Yes, Some(YesNo::Yes), Some(order));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_plugged_in_is_listed() {
        let text = "<domain type='qemu'><name>a</name><memory>9</memory><vcpu current='1'>4</vcpu><os><type>hvm</type></os></domain>";
        let mut live = Domain::parse(text).unwrap();
        list_plugged(&mut live, &[1]);
        set_current(&mut live, 2);
        list_plugged(&mut live, &[2]);
        set_current(&mut live, 3);
        assert_eq!(live.plugged_vcpus(), [1, 2]);
        let orders: Vec<_> = live.each_vcpu.as_ref().unwrap().vcpus.iter().map(|vcpu| vcpu.order).collect();
        assert_eq!(orders, [Some(1), Some(2), Some(3), None]);
        // The kept definition with another number than its list.
        set_current(&mut live, 4);
        assert_eq!((live.each_vcpu, live.vcpus.current), (None, None));
    }
}
