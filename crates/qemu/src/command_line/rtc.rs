//! The clock: `-rtc` and the timers that are options of their own.

use ferry_domxml::clock::{ClockBasis, ClockOffset, TickPolicy, Timer, TimerName, TimerTrack};

use super::Builder;
use crate::props::KeyValue;

impl Builder<'_> {
    pub(super) fn clock(&mut self) {
        let Some(clock) = &self.domain.clock else { return self.option("-rtc", "base=utc") };
        let now = self.launch.now;
        let base = match &clock.offset {
            ClockOffset::Utc { .. } => "utc".to_owned(),
            ClockOffset::Localtime { .. } => "localtime".to_owned(),
            ClockOffset::Timezone(zone) => {
                self.out.env.push(("TZ".to_owned(), zone.clone()));
                "localtime".to_owned()
            }
            ClockOffset::Variable { adjustment_s, basis } => {
                let zone = if *basis == ClockBasis::Localtime { now.zone_offset_s } else { 0 };
                moment(now.utc_s.saturating_add(zone).saturating_add(*adjustment_s))
            }
            ClockOffset::Absolute { start_s } => moment(*start_s),
        };
        let rtc = timer(&clock.timers, TimerName::Rtc);
        let track = rtc.and_then(|rtc| match rtc.track {
            None | Some(TimerTrack::Boot) => None,
            Some(TimerTrack::Guest) => Some("vm"),
            Some(TimerTrack::Wall) => Some("host"),
        });
        let slew = rtc.is_some_and(|rtc| rtc.tick_policy == Some(TickPolicy::Catchup)).then_some("slew");
        let option =
            KeyValue::new("").with("base", base).with_some("clock", track).with_some("driftfix", slew);
        self.option("-rtc", option);

        let pit = timer(&clock.timers, TimerName::Pit).and_then(|pit| pit.tick_policy);
        if let Some(policy @ (TickPolicy::Delay | TickPolicy::Discard)) = pit {
            self.option("-global", format!("kvm-pit.lost_tick_policy={policy}"));
        }
    }
}

/// The timer of that name, when the definition speaks of it.
pub(super) fn timer(timers: &[Timer], name: TimerName) -> Option<&Timer> {
    timers.iter().find(|timer| timer.name == name)
}

/// A time as `-rtc` reads it: `2001-02-03T04:05:06`. Times outside the years 1 to 9999 are held to them.
fn moment(utc_s: i64) -> String {
    const DAY_S: i64 = 86_400;
    // The first second of year 1 and the last of year 9999, from 1970.
    let utc_s = utc_s.clamp(-62_135_596_800, 253_402_300_799);
    let (days, seconds) = (utc_s.div_euclid(DAY_S), utc_s.rem_euclid(DAY_S));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are taken to
/// begin in March, so that the leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA_DAYS: i64 = 146_097;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(ERA_DAYS), shifted.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_gregorian() {
        assert_eq!(moment(0), "1970-01-01T00:00:00");
        assert_eq!(moment(1_000_000), "1970-01-12T13:46:40");
        assert_eq!(moment(951_782_399), "2000-02-28T23:59:59");
        assert_eq!(moment(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(moment(4_107_542_400), "2100-03-01T00:00:00");
        assert_eq!(moment(-1), "1969-12-31T23:59:59");
        assert_eq!(moment(i64::MAX), "9999-12-31T23:59:59");
        assert_eq!(moment(i64::MIN), "0001-01-01T00:00:00");
    }
}
