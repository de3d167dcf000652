//! Times whose bare numbers are not in seconds.

use std::time::Duration;

use super::{Refusal, Setting, number_with_unit, time_units, wrong_type};
use crate::config::reader::Raw;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A time of which a bare number is in days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(pub Duration);

impl Setting for Days {
    const KIND: &str = "time (days)";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let remedy = "write days as a number, or a text such as \"5d\" (ms s m h d w)";
        time_in(DAY_MS, raw, remedy).map(Self)
    }

    /// Returns whole days, rounded up.
    fn quantity(&self) -> Option<u64> {
        Some(whole(self.0, DAY_MS))
    }
}

/// A time of which a bare number is in hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours(pub Duration);

impl Setting for Hours {
    const KIND: &str = "time (hours)";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let remedy = "write hours as a number, or a text such as \"4h\" (ms s m h d w)";
        time_in(HOUR_MS, raw, remedy).map(Self)
    }

    /// Returns whole hours, rounded up.
    fn quantity(&self) -> Option<u64> {
        Some(whole(self.0, HOUR_MS))
    }
}

/// Reads a time; a number without a unit counts `unit`s, whose length is in milliseconds.
fn time_in(unit: u64, raw: &Raw, remedy: &str) -> Result<Duration, Refusal> {
    let milliseconds = match raw {
        Raw::Integer(number) => u64::try_from(*number).ok().and_then(|number| number.checked_mul(unit)),
        Raw::Text(text) => number_with_unit(text, &time_units(unit)),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or_else(|| wrong_type(raw, "a time", remedy))
}

fn whole(time: Duration, unit: u64) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).div_ceil(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_numbers_have_the_unit_of_the_parameter() {
        let text = |text: &str| Raw::Text(text.to_owned());
        for (raw, days, hours) in [
            (Raw::Integer(5), 432_000, 18_000),
            (text("5"), 432_000, 18_000),
            (text("90m"), 5400, 5400),
            (text("1d"), 86_400, 86_400),
            (Raw::Integer(0), 0, 0),
        ] {
            assert_eq!(Days::read(&raw).unwrap().0.as_secs(), days, "{raw:?}");
            assert_eq!(Hours::read(&raw).unwrap().0.as_secs(), hours, "{raw:?}");
        }
        assert_eq!(Days::read(&text("x")).unwrap_err().reason, "\"x\" is not a time");
        assert_eq!(Days(Duration::from_secs(1)).quantity(), Some(1));
    }
}
