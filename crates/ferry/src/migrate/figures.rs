//! How a copy is getting on: job statistics as the wire carries them, and what an operator wants to know of them.
//!
//! Called by the displays and for the result. Pure: numbers in, texts out. A host of another make may leave any figure
//! out, so none is needed.

use std::fmt;
use std::time::Duration;

use ferry_rpc::{ParamValue, TypedParam};

/// The figures of a job. Sizes are bytes, rates bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Memory and disks that the guest has.
    pub(crate) total: u64,
    /// Sent so far, what was sent again included.
    pub(crate) sent: u64,
    /// Not sent yet, or dirty again.
    pub(crate) remaining: u64,
    /// How fast it is sent; nothing until it has been measured.
    pub(crate) rate: Option<u64>,
    /// How fast the guest makes sent memory dirty again; nothing until it has been measured.
    pub(crate) dirty_rate: Option<u64>,
    /// Passes over the memory.
    pub(crate) passes: u64,
    /// The pause: expected while the copy runs, the real one afterwards, ms.
    pub(crate) pause_ms: Option<u64>,
    /// Percent of its CPU time that the guest is denied so that the copy can end.
    pub(crate) throttle_percent: u64,
}

/// When the copy will end, if it goes on like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Not enough is known.
    Unknown,
    /// After this time.
    Time(Duration),
    /// Never: the guest dirties memory as fast as it is sent.
    Never,
}

impl Figures {
    /// From procedure 298 or event 363.
    pub(crate) fn read(params: &[TypedParam]) -> Self {
        let number = |name: &str| {
            params.iter().find(|param| param.name == name).and_then(|param| match param.value {
                ParamValue::ULLong(value) => Some(value),
                ParamValue::Int(value) => u64::try_from(value).ok(),
                _ => None,
            })
        };
        let measured = |name: &str| number(name).filter(|value| *value > 0);
        let page = measured("memory_page_size").unwrap_or(4096);
        Self {
            total: number("data_total").or_else(|| number("memory_total")).unwrap_or(0),
            sent: number("data_processed").or_else(|| number("memory_processed")).unwrap_or(0),
            remaining: number("data_remaining").or_else(|| number("memory_remaining")).unwrap_or(0),
            rate: measured("memory_bps"),
            dirty_rate: measured("memory_dirty_rate").map(|pages| pages.saturating_mul(page)),
            passes: number("memory_iteration").unwrap_or(0),
            pause_ms: number("downtime"),
            throttle_percent: number("auto_converge_throttle").unwrap_or(0),
        }
    }

    /// When the copy will end. What is dirtied meanwhile has to be sent as well.
    pub(crate) fn left(&self) -> Left {
        let Some(rate) = self.rate else { return Left::Unknown };
        match rate.saturating_sub(self.dirty_rate.unwrap_or(0)) {
            0 => Left::Never,
            net => Left::Time(Duration::from_millis(self.remaining.saturating_mul(1000) / net)),
        }
    }

    /// The part that the destination has already, in thousandths. Goes back when a pass finds more dirty memory.
    pub(crate) fn done_permille(&self) -> u64 {
        match self.total {
            0 => 0,
            total => total.saturating_sub(self.remaining).saturating_mul(1000) / total,
        }
    }
}

/// The line of a progress display; what matters most comes first, since a narrow terminal cuts the end off.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} left", Bytes(self.remaining))?;
        if let Some(rate) = self.rate {
            write!(f, " at {}/s", Bytes(rate))?;
        }
        match self.left() {
            Left::Unknown => {}
            Left::Time(left) => write!(f, ", {} to go", Span(left))?,
            Left::Never => f.write_str(", does not converge")?,
        }
        if let Some(dirty) = self.dirty_rate {
            write!(f, ", dirty {}/s", Bytes(dirty))?;
        }
        if self.passes > 0 {
            write!(f, ", pass {}", self.passes)?;
        }
        if self.throttle_percent > 0 {
            write!(f, ", guest slowed by {} %", self.throttle_percent)?;
        }
        Ok(())
    }
}

/// A size for people: `1.2 GiB`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let Self(bytes) = *self;
        if bytes < 1024 {
            return write!(f, "{bytes} B");
        }
        // The largest unit of which there is at least one; tenths are rounded down, so 1023.9 stays below the next.
        let step = (bytes.ilog2() / 10).min(6);
        let unit = 1_u64 << (step * 10);
        let (whole, rest) = (bytes / unit, bytes % unit);
        let tenth = u128::from(rest) * 10 / u128::from(unit);
        write!(f, "{whole}.{tenth} {}", UNITS[step as usize - 1])
    }
}

/// A time for people: `840 ms`, `2.13 s`, `3 min 20 s`, `2 h 5 min`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, seconds) = (self.0.as_millis(), self.0.as_secs());
        match seconds {
            0 => write!(f, "{ms} ms"),
            1..10 => write!(f, "{:.2} s", self.0.as_secs_f64()),
            10..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{} min {} s", seconds / 60, seconds % 60),
            _ => write!(f, "{} h {} min", seconds / 3600, seconds / 60 % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn copying(remaining: u64, rate: Option<u64>, dirty_rate: Option<u64>) -> Figures {
        Figures { total: 1024 * MIB, remaining, rate, dirty_rate, passes: 2, ..Figures::default() }
    }

    #[test]
    fn figures_are_read_as_every_host_sends_them() {
        let params = [
            TypedParam::new("operation", 5),
            TypedParam::new("downtime", 300_u64),
            TypedParam::new("data_total", 100_u64),
            TypedParam::new("data_remaining", 40_u64),
            TypedParam::new("memory_bps", 9_u64),
            TypedParam::new("memory_dirty_rate", 3_u64),
            TypedParam::new("memory_page_size", 2048_u64),
            TypedParam::new("memory_iteration", 7_u64),
            TypedParam::new("auto_converge_throttle", 20),
        ];
        let figures = Figures::read(&params);
        assert_eq!((figures.total, figures.remaining, figures.passes), (100, 40, 7));
        assert_eq!((figures.rate, figures.dirty_rate, figures.pause_ms), (Some(9), Some(6144), Some(300)));
        assert_eq!((figures.throttle_percent, figures.done_permille()), (20, 600));
        assert_eq!(Figures::read(&[]), Figures::default());
    }

    #[test]
    fn what_is_dirtied_meanwhile_has_to_be_sent_too() {
        let left = copying(300 * MIB, Some(100 * MIB), Some(50 * MIB)).left();
        assert_eq!(left, Left::Time(Duration::from_secs(6)));
        assert_eq!(copying(300 * MIB, Some(100 * MIB), None).left(), Left::Time(Duration::from_secs(3)));
        assert_eq!(copying(MIB, Some(100 * MIB), Some(100 * MIB)).left(), Left::Never);
        assert_eq!(copying(MIB, None, Some(1)).left(), Left::Unknown);
    }

    #[test]
    fn the_line_says_what_is_known() {
        let line = copying(300 * MIB, Some(100 * MIB), Some(50 * MIB)).to_string();
        assert_eq!(line, "300.0 MiB left at 100.0 MiB/s, 6.00 s to go, dirty 50.0 MiB/s, pass 2");
        let line = copying(MIB, Some(MIB), Some(2 * MIB)).to_string();
        assert_eq!(line, "1.0 MiB left at 1.0 MiB/s, does not converge, dirty 2.0 MiB/s, pass 2");
        let first = Figures { passes: 1, ..copying(1536 * MIB, None, None) };
        assert_eq!(first.to_string(), "1.5 GiB left, pass 1");
    }

    #[test]
    fn nonsense_from_a_host_does_no_harm() {
        let wild = Figures { total: 1, ..copying(u64::MAX, Some(1), None) };
        assert_eq!(wild.done_permille(), 0);
        assert!(matches!(wild.left(), Left::Time(_)));
        assert!(!wild.to_string().is_empty());
    }

    #[test]
    fn sizes_and_times_are_for_people() {
        let sizes = [0, 1023, 1024, 1536, MIB - 1, MIB, 5 << 30, u64::MAX];
        assert_eq!(
            sizes.map(|size| Bytes(size).to_string()),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 KiB", "1.0 MiB", "5.0 GiB", "15.9 EiB"]
        );
        let times = [0, 999, 2130, 59_900, 200_000, 7_500_000];
        assert_eq!(
            times.map(|ms| Span(Duration::from_millis(ms)).to_string()),
            ["0 ms", "999 ms", "2.13 s", "59.9 s", "3 min 20 s", "2 h 5 min"]
        );
    }
}
