//! Limits on how fast a disk is: its own (`<iotune>`), and groups that stand in the domain and that disks share
//! (`<throttlegroups>`, `<throttlefilters>`).

use crate::model::element;

element! {
    /// `<iotune>` of a disk, or a `<throttlegroup>`. What is not given is without limit.
    #[derive(Default)]
    pub struct Limits {
        /// Bytes a second, both ways.
        total_bytes_sec: Option<u64> => TextChild("total_bytes_sec"),
        /// Bytes a second read.
        read_bytes_sec: Option<u64> => TextChild("read_bytes_sec"),
        /// Bytes a second written.
        write_bytes_sec: Option<u64> => TextChild("write_bytes_sec"),
        /// Requests a second, both ways.
        total_iops_sec: Option<u64> => TextChild("total_iops_sec"),
        /// Reads a second.
        read_iops_sec: Option<u64> => TextChild("read_iops_sec"),
        /// Writes a second.
        write_iops_sec: Option<u64> => TextChild("write_iops_sec"),
        /// Bytes a second in a burst, both ways.
        total_bytes_sec_max: Option<u64> => TextChild("total_bytes_sec_max"),
        /// Bytes a second in a burst of reading.
        read_bytes_sec_max: Option<u64> => TextChild("read_bytes_sec_max"),
        /// Bytes a second in a burst of writing.
        write_bytes_sec_max: Option<u64> => TextChild("write_bytes_sec_max"),
        /// Requests a second in a burst, both ways.
        total_iops_sec_max: Option<u64> => TextChild("total_iops_sec_max"),
        /// Reads a second in a burst.
        read_iops_sec_max: Option<u64> => TextChild("read_iops_sec_max"),
        /// Writes a second in a burst.
        write_iops_sec_max: Option<u64> => TextChild("write_iops_sec_max"),
        /// Bytes that count as one request.
        size_iops_sec: Option<u64> => TextChild("size_iops_sec"),
        /// Disks of one name share their limits; the name of a throttle group.
        group_name: Option<String> => TextChild("group_name"),
        /// Seconds that a burst may last.
        total_bytes_sec_max_length: Option<u64> => TextChild("total_bytes_sec_max_length"),
        /// The same.
        read_bytes_sec_max_length: Option<u64> => TextChild("read_bytes_sec_max_length"),
        /// The same.
        write_bytes_sec_max_length: Option<u64> => TextChild("write_bytes_sec_max_length"),
        /// The same.
        total_iops_sec_max_length: Option<u64> => TextChild("total_iops_sec_max_length"),
        /// The same.
        read_iops_sec_max_length: Option<u64> => TextChild("read_iops_sec_max_length"),
        /// The same.
        write_iops_sec_max_length: Option<u64> => TextChild("write_iops_sec_max_length"),
    }
}

/// The highest number that QEMU takes for a limit.
pub const LIMIT_MAX: u64 = 1_000_000_000_000_000;

impl Limits {
    /// The numbers with their names in the XML and on the wire, in the wire's order.
    pub fn numbers(&self) -> [(&'static str, Option<u64>); 19] {
        let mut copy = self.clone();
        copy.numbers_mut().map(|(name, value)| (name, *value))
    }

    /// The same, to be changed.
    pub fn numbers_mut(&mut self) -> [(&'static str, &mut Option<u64>); 19] {
        [
            ("total_bytes_sec", &mut self.total_bytes_sec),
            ("read_bytes_sec", &mut self.read_bytes_sec),
            ("write_bytes_sec", &mut self.write_bytes_sec),
            ("total_iops_sec", &mut self.total_iops_sec),
            ("read_iops_sec", &mut self.read_iops_sec),
            ("write_iops_sec", &mut self.write_iops_sec),
            ("total_bytes_sec_max", &mut self.total_bytes_sec_max),
            ("read_bytes_sec_max", &mut self.read_bytes_sec_max),
            ("write_bytes_sec_max", &mut self.write_bytes_sec_max),
            ("total_iops_sec_max", &mut self.total_iops_sec_max),
            ("read_iops_sec_max", &mut self.read_iops_sec_max),
            ("write_iops_sec_max", &mut self.write_iops_sec_max),
            ("size_iops_sec", &mut self.size_iops_sec),
            ("total_bytes_sec_max_length", &mut self.total_bytes_sec_max_length),
            ("read_bytes_sec_max_length", &mut self.read_bytes_sec_max_length),
            ("write_bytes_sec_max_length", &mut self.write_bytes_sec_max_length),
            ("total_iops_sec_max_length", &mut self.total_iops_sec_max_length),
            ("read_iops_sec_max_length", &mut self.read_iops_sec_max_length),
            ("write_iops_sec_max_length", &mut self.write_iops_sec_max_length),
        ]
    }

    /// Nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        self.numbers().into_iter().all(|(_, value)| value.is_none_or(|value| value == 0))
    }
}

element! {
    /// `<throttlegroups>`: limits that disks of the domain share.
    #[derive(Default)]
    pub struct ThrottleGroups {
        /// The groups.
        groups: Vec<Limits> => Child("throttlegroup"),
    }
}

element! {
    /// `<throttlefilters>`: the groups that a disk's requests pass through, from the image up.
    #[derive(Default)]
    pub struct ThrottleFilters {
        /// The groups' names.
        groups: Vec<String> => ChildAttr("throttlefilter", "group"),
    }
}
