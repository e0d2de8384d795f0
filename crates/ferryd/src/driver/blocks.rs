//! Disks of a domain: how fast they are at most, and how large.

use ferry_domxml::Domain;
use ferry_domxml::throttle::{LIMIT_MAX, Limits};
use ferry_qemu::blockgraph;
use ferry_qmp::commands::block::BlockResize;
use ferry_rpc::error::{Error, ErrorCode, Origin};
use ferry_rpc::typed_param::TypedParam;

use super::Driver;
use super::change::Affected;
use crate::events::DomainEvent;
use crate::perform::throttle;
use crate::refuse;

/// New limits of a disk. What is not named keeps its value, but for its kind: of a kind that is named at all, the rest is
/// without limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedLimits {
    /// The disk's name.
    pub(crate) disk: String,
    /// Numbers by their names on the wire.
    pub(crate) numbers: Vec<(String, u64)>,
    /// The group.
    pub(crate) group: Option<String>,
}

/// The kinds: of each, both ways, reading and writing.
const KINDS: [[&str; 3]; 6] = [
    ["total_bytes_sec", "read_bytes_sec", "write_bytes_sec"],
    ["total_iops_sec", "read_iops_sec", "write_iops_sec"],
    ["total_bytes_sec_max", "read_bytes_sec_max", "write_bytes_sec_max"],
    ["total_iops_sec_max", "read_iops_sec_max", "write_iops_sec_max"],
    ["total_bytes_sec_max_length", "read_bytes_sec_max_length", "write_bytes_sec_max_length"],
    ["total_iops_sec_max_length", "read_iops_sec_max_length", "write_iops_sec_max_length"],
];

impl WantedLimits {
    /// What becomes of the limits that there are.
    ///
    /// # Errors
    /// They contradict each other, in stock's words.
    fn over(&self, present: Option<&Limits>) -> Result<Limits, Error> {
        let mut limits = present.cloned().unwrap_or_default();
        let named =
            |name: &str| self.numbers.iter().find(|(other, _)| other == name).map(|(_, value)| *value);
        for kind in KINDS.iter().filter(|kind| kind.iter().any(|name| named(name).is_some())) {
            for (name, value) in limits.numbers_mut() {
                if kind.contains(&name) {
                    *value = None;
                }
            }
        }
        for (name, value) in limits.numbers_mut() {
            *value = named(name).or(*value).filter(|value| *value > 0);
        }
        if let Some(group) = &self.group {
            limits.group_name = Some(group.clone()).filter(|group| !group.is_empty());
        }
        check(&mut limits)?;
        Ok(limits)
    }

    /// The names of what was asked for, as an event tells it.
    fn told(&self) -> Vec<TypedParam> {
        let mut params = vec![TypedParam::new("blkdeviotune.disk", self.disk.as_str())];
        let numbers =
            self.numbers.iter().map(|(name, value)| TypedParam::new(format!("blkdeviotune.{name}"), *value));
        params.extend(numbers);
        let group = self.group.as_deref();
        params.extend(group.map(|group| TypedParam::new("blkdeviotune.group_name", group)));
        params
    }
}

/// One number for both ways or one for each, none too high, no burst below its base.
fn check(limits: &mut Limits) -> Result<(), Error> {
    let numbers = limits.numbers();
    let of = |name: &str| {
        let found = numbers.iter().find(|(other, _)| *other == name);
        found.and_then(|(_, value)| *value).unwrap_or(0)
    };
    for [total, read, write] in &KINDS[..4] {
        if of(total) > 0 && (of(read) > 0 || of(write) > 0) {
            let what = total.trim_start_matches("total_");
            let text = format!("total and read/write of {what} cannot be set at the same time");
            return Err(Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text));
        }
    }
    if numbers.iter().any(|(_, value)| value.is_some_and(|value| value > LIMIT_MAX)) {
        let text = format!("block I/O throttle limit value must be no more than {LIMIT_MAX}");
        return Err(Error::of(ErrorCode::ARGUMENT_UNSUPPORTED, Origin::QEMU, text));
    }
    for base in KINDS[..2].iter().flatten() {
        let burst = format!("{base}_max");
        let refuse = |text: String| Err(Error::of(ErrorCode::CONFIG_UNSUPPORTED, Origin::QEMU, text));
        match (of(base), of(&burst)) {
            (_, 0) => {}
            (0, _) => return refuse(format!("cannot reset '{base}' when '{burst}' is set")),
            (base_value, burst_value) if burst_value < base_value => {
                return refuse(format!("value '{burst}' cannot be smaller than '{base}'"));
            }
            _ => {}
        }
    }
    // A burst that is no more has no length.
    for base in KINDS[..2].iter().flatten() {
        let (burst, length) = (format!("{base}_max"), format!("{base}_max_length"));
        if of(&burst) == 0 {
            for (name, value) in limits.numbers_mut() {
                if name == length {
                    *value = None;
                }
            }
        }
    }
    Ok(())
}

impl Driver {
    /// Changes how fast a disk may be, and with it the disks of its group.
    pub(super) async fn set_limits(&mut self, wanted: WantedLimits, affected: Affected) -> Result<(), Error> {
        let (mut live, mut config) = (self.live_copy(affected), self.config_copy(affected));
        let dev = &wanted.disk;
        let mut told_qemu = None;
        if let Some(live) = &mut live {
            let missing = || invalid(format!("disk '{dev}' not found in domain"));
            let alias = live.devices.disks.iter().find(|disk| disk.target.dev == *dev).ok_or_else(missing)?;
            let alias = alias.info.alias.clone().unwrap_or_default();
            told_qemu = Some((alias, limit(live, &wanted)?));
        }
        if let Some(config) = &mut config {
            let is_there = config.devices.disks.iter().any(|disk| disk.target.dev == *dev);
            if !is_there {
                return Err(invalid(format!("missing persistent configuration for disk '{dev}'")));
            }
            limit(config, &wanted)?;
        }
        if let Some((alias, limits)) = &told_qemu {
            let monitor = self.running()?.monitor.clone();
            throttle::set(&monitor, alias, limits).await.map_err(refuse::monitor)?;
        }
        self.keep_changed(live, config).await?;
        if told_qemu.is_some() {
            self.emit(DomainEvent::Tunable { params: wanted.told() });
        }
        Ok(())
    }

    /// Changes how large the guest sees a disk. Only QEMU and the image know it; no definition does.
    pub(super) async fn resize_disk(&mut self, dev: &str, bytes: u64) -> Result<(), Error> {
        /// What every format counts in.
        const SECTOR: u64 = 512;
        let guest = self.running()?;
        let disk = guest.domain.devices.disks.iter().find(|disk| disk.target.dev == dev);
        let disk = disk.ok_or_else(|| invalid(format!("disk '{dev}' was not found in the domain config")))?;
        let node = blockgraph::image_node(disk)
            .ok_or_else(|| invalid(format!("disk '{dev}' does not currently have a source assigned")))?;
        let size = match disk.format() {
            ferry_domxml::ImageFormat::Raw => bytes,
            ferry_domxml::ImageFormat::Qcow2 => bytes.checked_next_multiple_of(SECTOR).unwrap_or(bytes),
        };
        let resize = BlockResize { node_name: node, size };
        guest.monitor.execute(&resize).await.map(drop).map_err(refuse::monitor)
    }
}

/// Sets the limits in a definition, which has the disk. Tells what they are.
fn limit(domain: &mut Domain, wanted: &WantedLimits) -> Result<Limits, Error> {
    let dev = &wanted.disk;
    let disks = &mut domain.devices.disks;
    let Some(at) = disks.iter().position(|disk| disk.target.dev == *dev) else {
        return Err(invalid(format!("disk '{dev}' not found in domain")));
    };
    if disks[at].throttle_filters.is_some() {
        let text = format!("block 'iotune' can't be used together with 'throttlefilters' for disk '{dev}'");
        return Err(Error::of(ErrorCode::OPERATION_UNSUPPORTED, Origin::QEMU, text));
    }
    let mut limits = wanted.over(disks[at].iotune.as_ref())?;
    if limits.is_unlimited() {
        limits.group_name = None;
    }
    let kept = Some(limits.clone()).filter(|limits| !limits.is_unlimited());
    if let Some(group) = limits.group_name.as_deref() {
        let is_mate = |other: &&mut ferry_domxml::Disk| {
            other.iotune.as_ref().and_then(|iotune| iotune.group_name.as_deref()) == Some(group)
        };
        disks.iter_mut().filter(is_mate).for_each(|mate| mate.iotune.clone_from(&kept));
    }
    disks[at].iotune = kept;
    Ok(limits)
}

fn invalid(text: String) -> Error {
    Error::of(ErrorCode::INVALID_ARG, Origin::QEMU, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(numbers: &[(&str, u64)], group: Option<&str>) -> WantedLimits {
        let numbers = numbers.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        WantedLimits { disk: "vda".to_owned(), numbers, group: group.map(str::to_owned) }
    }

    fn refusal(present: &Limits, numbers: &[(&str, u64)]) -> (i32, String) {
        let error = wanted(numbers, None).over(Some(present)).unwrap_err();
        (error.code.0, error.message)
    }

    #[test]
    fn a_kind_that_is_named_is_replaced_and_the_others_stay() {
        let first = wanted(&[("total_bytes_sec", 1000), ("read_iops_sec", 5)], None).over(None).unwrap();
        let next = wanted(&[("total_iops_sec", 70)], Some("g")).over(Some(&first)).unwrap();
        assert_eq!(
            (next.total_bytes_sec, next.read_iops_sec, next.total_iops_sec),
            (Some(1000), None, Some(70))
        );
        assert_eq!(next.group_name.as_deref(), Some("g"));
        let burst = wanted(&[("total_bytes_sec_max", 5000), ("total_bytes_sec_max_length", 7)], None);
        let burst = burst.over(Some(&next)).unwrap();
        assert_eq!(burst.total_bytes_sec_max_length, Some(7));
        // A burst that ends takes its length with it.
        let without = wanted(&[("total_bytes_sec_max", 0)], None).over(Some(&burst)).unwrap();
        assert_eq!((without.total_bytes_sec_max, without.total_bytes_sec_max_length), (None, None));
    }

    #[test]
    fn contradictions_have_the_words_of_stock() {
        let limits = wanted(&[("total_bytes_sec", 1000), ("total_iops_sec", 70)], None).over(None).unwrap();
        assert_eq!(
            refusal(&limits, &[("total_iops_sec", 70), ("read_iops_sec", 1)]),
            (
                8,
                "invalid argument: total and read/write of iops_sec cannot be set at the same time"
                    .to_owned()
            )
        );
        assert_eq!(
            refusal(&limits, &[("total_bytes_sec_max", 500)]),
            (
                67,
                "unsupported configuration: value 'total_bytes_sec_max' cannot be smaller than 'total_bytes_sec'"
                    .to_owned()
            )
        );
        assert_eq!(
            refusal(&limits, &[("read_iops_sec_max", 100)]),
            (
                67,
                "unsupported configuration: cannot reset 'read_iops_sec' when 'read_iops_sec_max' is set"
                    .to_owned()
            )
        );
        assert_eq!(refusal(&limits, &[("total_bytes_sec", LIMIT_MAX + 1)]).0, 74);
    }

    #[test]
    fn disks_of_a_group_share_their_limits() {
        let disk = |dev: &str| {
            format!(
                "<disk type='file'><source file='/{dev}'/><target dev='{dev}' bus='virtio'/><iotune>\
                 <total_bytes_sec>5</total_bytes_sec><group_name>g</group_name></iotune></disk>"
            )
        };
        let xml = format!(
            "<domain type='qemu'><name>a</name><memory>1024</memory><os><type>hvm</type></os><devices>{}{}</devices>\
             </domain>",
            disk("vda"),
            disk("vdb")
        );
        let mut domain = Domain::parse(&xml).unwrap();
        limit(&mut domain, &wanted(&[("total_bytes_sec", 9)], None)).unwrap();
        let limits = domain.devices.disks.iter().map(|disk| disk.iotune.as_ref().unwrap().total_bytes_sec);
        assert_eq!(limits.collect::<Vec<_>>(), [Some(9), Some(9)]);
    }
}
