//! What the kernel command line asks of this guest. Pure: takes the line, gives the numbers.

use std::net::Ipv4Addr;

/// An address with the length of its network's prefix (0 to 32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ip: Ipv4Addr,
    pub(crate) prefix: u8,
}

/// The `ferry.*` options; a value that does not parse leaves the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    /// Period of the heartbeat, microseconds, at least 200.
    pub(crate) beat_us: u64,
    /// Working set that is dirtied, MiB.
    pub(crate) memory_mib: usize,
    /// Pages dirtied, MiB/s.
    pub(crate) memory_rate: u64,
    /// Part of the disk that is written, MiB from its start; 0 leaves the disk alone.
    pub(crate) disk_mib: usize,
    /// Blocks written, MiB/s.
    pub(crate) disk_rate: u64,
    /// Address of the first network card.
    pub(crate) address: Option<Address>,
}

impl Default for Options {
    fn default() -> Self {
        Self { beat_us: 10_000, memory_mib: 16, memory_rate: 4, disk_mib: 4, disk_rate: 1, address: None }
    }
}

impl Options {
    pub(crate) fn parse(line: &str) -> Self {
        let mut options = Self::default();
        for (key, value) in line.split_whitespace().filter_map(|word| word.split_once('=')) {
            match key {
                "ferry.beat_us" => set(&mut options.beat_us, value),
                "ferry.mem" => set(&mut options.memory_mib, value),
                "ferry.rate" => set(&mut options.memory_rate, value),
                "ferry.disk" => set(&mut options.disk_mib, value),
                "ferry.disk_rate" => set(&mut options.disk_rate, value),
                "ferry.ip" => options.address = parse_address(value),
                _ => {}
            }
        }
        options.beat_us = options.beat_us.max(200);
        options
    }
}

fn set<T: std::str::FromStr>(slot: &mut T, value: &str) {
    if let Ok(value) = value.parse() {
        *slot = value;
    }
}

fn parse_address(value: &str) -> Option<Address> {
    let (ip, prefix) = value.split_once('/')?;
    let address = Address { ip: ip.parse().ok()?, prefix: prefix.parse().ok()? };
    (address.prefix <= 32).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_other_words_are_left_alone() {
        let options = Options::parse(
            "quiet console=ttyS0 ferry.beat_us=1000 ferry.mem=64 ferry.ip=192.0.2.7/24 x.y=3\n",
        );
        assert_eq!(options.beat_us, 1000);
        assert_eq!(options.memory_mib, 64);
        assert_eq!(options.disk_mib, Options::default().disk_mib);
        assert_eq!(options.address, Some(Address { ip: Ipv4Addr::new(192, 0, 2, 7), prefix: 24 }));
    }

    #[test]
    fn nonsense_leaves_the_default() {
        let options = Options::parse("ferry.beat_us=soon ferry.mem=-1 ferry.ip=192.0.2.7/33");
        assert_eq!(options, Options::default());
        assert_eq!(Options::parse("ferry.beat_us=1").beat_us, 200);
    }
}
