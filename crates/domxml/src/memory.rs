//! Amounts of memory: `<memory>`, `<currentMemory>` and every other element with a `unit`.

use crate::model::{Input, Model, OnOff, Output, Refusal, Rest, Value, values};

/// An amount of memory in KiB, as `<currentMemory unit='KiB'>1024</currentMemory>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// KiB, rounded up from smaller units.
    pub kib: u64,
}

/// `<memory>`: what the guest has at boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// KiB, rounded up from smaller units.
    pub kib: u64,
    /// Whether the guest's memory is in core dumps of QEMU.
    pub dump_core: Option<OnOff>,
    /// What else stands in the element.
    pub rest: Rest,
}

values! {
    /// A unit of memory. Those with an `i` in the middle, and the bare letters, count in 1024.
    pub enum Unit {
        /// 1
        B = "b",
        /// 1
        Bytes = "bytes",
        /// 1000
        Kb = "KB",
        /// 1024
        K = "k",
        /// 1024
        Kib = "KiB",
        /// 1000²
        Mb = "MB",
        /// 1024²
        M = "M",
        /// 1024²
        Mib = "MiB",
        /// 1000³
        Gb = "GB",
        /// 1024³
        G = "G",
        /// 1024³
        Gib = "GiB",
        /// 1000⁴
        Tb = "TB",
        /// 1024⁴
        T = "T",
        /// 1024⁴
        Tib = "TiB",
        /// 1000⁵
        Pb = "PB",
        /// 1024⁵
        P = "P",
        /// 1024⁵
        Pib = "PiB",
        /// 1000⁶
        Eb = "EB",
        /// 1024⁶
        E = "E",
        /// 1024⁶
        Eib = "EiB",
    }
}

impl Unit {
    /// Bytes in one.
    pub fn bytes(self) -> u64 {
        match self {
            Self::B | Self::Bytes => 1,
            Self::Kb => 1_000,
            Self::K | Self::Kib => 1 << 10,
            Self::Mb => 1_000_000,
            Self::M | Self::Mib => 1 << 20,
            Self::Gb => 1_000_000_000,
            Self::G | Self::Gib => 1 << 30,
            Self::Tb => 1_000_000_000_000,
            Self::T | Self::Tib => 1 << 40,
            Self::Pb => 1_000_000_000_000_000,
            Self::P | Self::Pib => 1 << 50,
            Self::Eb => 1_000_000_000_000_000_000,
            Self::E | Self::Eib => 1 << 60,
        }
    }

    /// The unit that a text names; upper and lower case are the same.
    pub(crate) fn of(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|unit| unit.as_str().eq_ignore_ascii_case(text))
    }
}

/// An amount in bytes, as `<max_size unit='bytes'>2097152</max_size>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl Model for ByteSize {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let unit = match input.attribute::<String>("unit")? {
            None => Unit::Bytes,
            Some(text) => Unit::of(&text).ok_or_else(|| input.invalid_attribute("unit", &text))?,
        };
        let text: String = input.text()?.ok_or_else(|| input.invalid_text(""))?;
        input.finish()?;
        let bytes = u64::parse(&text).ok().and_then(|number| number.checked_mul(unit.bytes()));
        bytes.map(Self).ok_or_else(|| input.invalid_text(&text))
    }

    fn write(&self, out: &mut Output) {
        out.attribute("unit", &Unit::Bytes);
        out.text(&self.0);
    }
}

/// Takes the `unit` attribute and the text as KiB.
pub(crate) fn take_kib(input: &mut Input<'_>) -> Result<u64, Refusal> {
    let unit = match input.attribute::<String>("unit")? {
        None => Unit::Kib,
        Some(text) => Unit::of(&text).ok_or_else(|| input.invalid_attribute("unit", &text))?,
    };
    let text: String = input.text()?.ok_or_else(|| input.invalid_text(""))?;
    let invalid = || input.invalid_text(&text);
    size_of(&text, unit).ok_or_else(invalid)
}

/// An amount as KiB, rounded up.
pub(crate) fn size_of(text: &str, unit: Unit) -> Option<u64> {
    let bytes = u64::parse(text).ok().and_then(|number| number.checked_mul(unit.bytes()));
    bytes.map(|bytes| bytes.div_ceil(1024))
}

impl Size {
    /// The amount that an element of a kept part gives; `None` when it gives none.
    #[must_use]
    pub fn of(element: &crate::Element) -> Option<Self> {
        crate::model::read(element).ok()
    }
}

impl Model for Size {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        let kib = take_kib(input)?;
        input.finish()?;
        Ok(Self { kib })
    }

    fn write(&self, out: &mut Output) {
        out.attribute("unit", &Unit::Kib);
        out.text(&self.kib);
    }
}

impl Model for Memory {
    fn read(input: &mut Input<'_>) -> Result<Self, Refusal> {
        Ok(Self { dump_core: input.attribute("dumpCore")?, kib: take_kib(input)?, rest: input.rest() })
    }

    fn write(&self, out: &mut Output) {
        out.optional("dumpCore", &self.dump_core);
        out.attribute("unit", &Unit::Kib);
        out.text(&self.kib);
        out.rest(&self.rest);
    }
}

/// A set of host CPUs or nodes, as `1-4,^3,8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet {
    /// Inclusive ranges, ascending, neither overlapping nor adjacent.
    ranges: Vec<(u32, u32)>,
}

impl CpuSet {
    /// Numbers beyond this are refused.
    pub const MAX: u32 = 16_383;

    /// The inclusive ranges, ascending, neither overlapping nor adjacent.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.ranges
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u32) -> bool {
        self.ranges.iter().any(|&(first, last)| (first..=last).contains(&number))
    }

    /// The highest number.
    pub fn last(&self) -> Option<u32> {
        self.ranges.last().map(|(_, last)| *last)
    }

    /// Whether a number is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let meets = |&(first, last): &(u32, u32)| other.ranges.iter().any(|&(a, b)| first <= b && a <= last);
        self.ranges.iter().any(meets)
    }

    /// Every number, ascending.
    pub fn members(&self) -> impl Iterator<Item = u32> {
        self.ranges.iter().flat_map(|&(first, last)| first..=last)
    }

    /// The ranges as text, ascending: `0-3`, `5`.
    pub fn texts(&self) -> Vec<String> {
        let range = |&(first, last): &(u32, u32)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        self.ranges.iter().map(range).collect()
    }

    /// The numbers that fulfil a condition. `None`: there is none.
    pub fn of_members(is_member: impl Fn(u32) -> bool) -> Option<Self> {
        let members: Vec<bool> = (0..=Self::MAX).map(is_member).collect();
        let set = Self::from_members(&members);
        (!set.ranges.is_empty()).then_some(set)
    }

    fn from_members(members: &[bool]) -> Self {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in (0..=Self::MAX).filter(|number| members[*number as usize]) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        Self { ranges }
    }
}

impl Value for CpuSet {
    fn parse(text: &str) -> Result<Self, crate::model::ValueError> {
        use crate::model::ValueError::Invalid;
        let number = |text: &str| match text.trim().parse::<u32>() {
            Ok(number) if number <= Self::MAX => Ok(number),
            _ => Err(Invalid),
        };
        let mut members = vec![false; Self::MAX as usize + 1];
        // Each piece may touch the whole set, so their number is bounded too.
        if text.len() > 64 * 1024 {
            return Err(Invalid);
        }
        for piece in text.split(',').map(str::trim) {
            let (piece, member) = match piece.strip_prefix('^') {
                Some(piece) => (piece, false),
                None => (piece, true),
            };
            let (first, last) = match piece.split_once('-') {
                Some((first, last)) if member => (number(first)?, number(last)?),
                _ => (number(piece)?, number(piece)?),
            };
            if first > last {
                return Err(Invalid);
            }
            members[first as usize..=last as usize].fill(member);
        }
        let set = Self::from_members(&members);
        if set.ranges.is_empty() { Err(Invalid) } else { Ok(set) }
    }

    fn to_text(&self) -> String {
        self.texts().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::{CpuSet, Value};
    use crate::Domain;

    fn kib(memory: &str) -> u64 {
        let text = format!("<domain type='qemu'><name>a</name>{memory}<os><type>hvm</type></os></domain>");
        Domain::parse(&text).unwrap().memory.kib
    }

    #[test]
    fn units_become_kib_rounded_up() {
        for (memory, expected) in [
            ("<memory>1024</memory>", 1024),
            ("<memory>010</memory>", 10),
            ("<memory unit='b'>1</memory>", 1),
            ("<memory unit='bytes'>1025</memory>", 2),
            ("<memory unit='KB'>1000</memory>", 977),
            ("<memory unit='k'>5</memory>", 5),
            ("<memory unit='mib'>3</memory>", 3072),
            ("<memory unit='MB'>1</memory>", 977),
            ("<memory unit='G'> 2\n</memory>", 2 << 20),
            ("<memory unit='TiB'>1</memory>", 1 << 30),
            ("<memory unit='EiB'>15</memory>", 15 << 50),
        ] {
            assert_eq!(kib(memory), expected, "{memory}");
        }
    }

    #[test]
    fn cpu_sets_are_written_shortest() {
        for (text, written) in
            [("0", "0"), ("3,1,2", "1-3"), ("0-7,^3", "0-2,4-7"), (" 1 , 5-6 ", "1,5-6"), ("1,1-2", "1-2")]
        {
            assert_eq!(CpuSet::parse(text).unwrap().to_text(), written, "{text}");
        }
        let set = CpuSet::parse("1-3,9").unwrap();
        assert!(set.contains(2) && set.contains(9) && !set.contains(4));
    }
}
