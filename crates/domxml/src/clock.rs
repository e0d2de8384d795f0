//! `<clock>`: what time the guest is told, and by what.

use crate::model::{Flatten, Input, Output, Refusal, YesNo, element, values};

element! {
    /// The guest's clock.
    #[derive(Default)]
    pub struct Clock {
        /// What the hardware clock shows at start.
        offset: ClockOffset => Flatten(),
        /// Time sources.
        timers: Vec<Timer> => Child("timer"),
    }
}

impl Default for ClockOffset {
    fn default() -> Self {
        Self::Utc { reset: false }
    }
}

/// What the hardware clock shows at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClockOffset {
    /// UTC. `reset`: again at every start, even when the guest has set it.
    Utc {
        /// `adjustment='reset'`
        reset: bool,
    },
    /// The host's time zone.
    Localtime {
        /// `adjustment='reset'`
        reset: bool,
    },
    /// A named time zone.
    Timezone(String),
    /// As the guest left it.
    Variable {
        /// Seconds ahead of the basis.
        adjustment_s: i64,
        /// What it is counted from.
        basis: ClockBasis,
    },
    /// A fixed time at every start.
    Absolute {
        /// Seconds since 1970 UTC.
        start_s: i64,
    },
}

values! {
    /// The `offset` of a clock.
    pub enum ClockOffsetType {
        /// UTC
        Utc = "utc",
        /// the host's time zone
        Localtime = "localtime",
        /// a named time zone
        Timezone = "timezone",
        /// as the guest left it
        Variable = "variable",
        /// a fixed time
        Absolute = "absolute",
    }
}

values! {
    /// What a variable clock is counted from.
    pub enum ClockBasis {
        /// UTC
        Utc = "utc",
        /// the host's time zone
        Localtime = "localtime",
    }
}

impl Flatten for ClockOffset {
    fn take(input: &mut Input<'_>) -> Result<Self, Refusal> {
        Ok(match input.attribute_or("offset", ClockOffsetType::Utc)? {
            ClockOffsetType::Utc => match adjustment(input)? {
                None => Self::Utc { reset: false },
                Some(Adjustment::Reset) => Self::Utc { reset: true },
                Some(Adjustment::Seconds(adjustment_s)) => {
                    Self::Variable { adjustment_s, basis: ClockBasis::Utc }
                }
            },
            ClockOffsetType::Localtime => match adjustment(input)? {
                None => Self::Localtime { reset: false },
                Some(Adjustment::Reset) => Self::Localtime { reset: true },
                Some(Adjustment::Seconds(adjustment_s)) => {
                    Self::Variable { adjustment_s, basis: ClockBasis::Localtime }
                }
            },
            ClockOffsetType::Timezone => Self::Timezone(input.required("timezone")?),
            ClockOffsetType::Variable => Self::Variable {
                adjustment_s: input.attribute("adjustment")?.unwrap_or(0),
                basis: input.attribute_or("basis", ClockBasis::Utc)?,
            },
            ClockOffsetType::Absolute => Self::Absolute { start_s: input.required("start")? },
        })
    }

    fn put(&self, out: &mut Output) {
        let reset = "reset".to_owned();
        match self {
            Self::Utc { reset: asked } => {
                out.attribute("offset", &ClockOffsetType::Utc);
                out.optional("adjustment", &asked.then_some(reset));
            }
            Self::Localtime { reset: asked } => {
                out.attribute("offset", &ClockOffsetType::Localtime);
                out.optional("adjustment", &asked.then_some(reset));
            }
            Self::Timezone(name) => {
                out.attribute("offset", &ClockOffsetType::Timezone);
                out.attribute("timezone", name);
            }
            Self::Variable { adjustment_s, basis } => {
                out.attribute("offset", &ClockOffsetType::Variable);
                out.attribute("adjustment", adjustment_s);
                out.attribute("basis", basis);
            }
            Self::Absolute { start_s } => {
                out.attribute("offset", &ClockOffsetType::Absolute);
                out.attribute("start", start_s);
            }
        }
    }
}

enum Adjustment {
    Reset,
    Seconds(i64),
}

fn adjustment(input: &mut Input<'_>) -> Result<Option<Adjustment>, Refusal> {
    if input.peek("adjustment") == Some("reset") {
        input.attribute::<String>("adjustment")?;
        return Ok(Some(Adjustment::Reset));
    }
    Ok(input.attribute("adjustment")?.map(Adjustment::Seconds))
}

element! {
    /// A time source.
    pub struct Timer {
        /// Which one.
        name: TimerName => Attr("name"),
        /// Whether the guest has it. `None`: QEMU's default.
        present: Option<YesNo> => Attr("present"),
        /// What becomes of ticks that the guest missed.
        tick_policy: Option<TickPolicy> => Attr("tickpolicy"),
        /// What it follows (rtc).
        track: Option<TimerTrack> => Attr("track"),
        /// Hertz (tsc).
        frequency_hz: Option<u64> => Attr("frequency"),
        /// How it is made (tsc).
        mode: Option<TimerMode> => Attr("mode"),
    }
}

values! {
    /// A time source.
    pub enum TimerName {
        /// hardware clock
        Rtc = "rtc",
        /// interval timer
        Pit = "pit",
        /// high precision timer
        Hpet = "hpet",
        /// time stamp counter
        Tsc = "tsc",
        /// KVM's
        Kvmclock = "kvmclock",
        /// Hyper-V's
        Hypervclock = "hypervclock",
    }
}

values! {
    /// What becomes of ticks that the guest missed.
    pub enum TickPolicy {
        /// later, at the usual rate
        Delay = "delay",
        /// later, faster
        Catchup = "catchup",
        /// one for many
        Merge = "merge",
        /// lost
        Discard = "discard",
    }
}

values! {
    /// What the hardware clock follows.
    pub enum TimerTrack {
        /// as it was started
        Boot = "boot",
        /// the guest's own time
        Guest = "guest",
        /// the host's time
        Wall = "wall",
    }
}

values! {
    /// How the time stamp counter is made.
    pub enum TimerMode {
        /// native if possible
        Auto = "auto",
        /// the host's
        Native = "native",
        /// emulated
        Emulate = "emulate",
        /// paravirtual
        Paravirt = "paravirt",
        /// emulated where needed
        Smpsafe = "smpsafe",
    }
}
