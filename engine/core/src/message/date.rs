//! Dates as mail writes them (RFC 5322 §3.3).

use alloc::vec::Vec;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::Timestamp;

/// The local time zone at some moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Seconds east of Greenwich.
    pub offset_seconds: i32,
    /// The text in parentheses, such as `UTC`.
    pub abbreviation: Vec<u8>,
}

impl Default for Zone {
    fn default() -> Self {
        Self { offset_seconds: 0, abbreviation: b"UTC".to_vec() }
    }
}

/// A point in time, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Four digits for the next eight thousand years.
    pub year: u32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 is Sunday.
    pub weekday: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Civil {
    /// The date and time of `time` at `offset_seconds` east of Greenwich.
    #[must_use]
    pub fn new(time: Timestamp, offset_seconds: i32) -> Self {
        let seconds = time.unix_seconds().saturating_add_signed(i64::from(offset_seconds));
        let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
        // Howard Hinnant's civil_from_days: years begin in March, so that the leap day is a year's last.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let small = |number: u64| u8::try_from(number).unwrap_or(0);
        Self {
            year: u32::try_from(year).unwrap_or(0),
            month: small(month),
            day: small(day),
            weekday: small((days + 4) % 7),
            hour: small(second_of_day / 3600),
            minute: small(second_of_day / 60 % 60),
            second: small(second_of_day % 60),
        }
    }
}

/// Writes `Tue, 24 Nov 2026 02:09:59 +0000 (UTC)`; a day below ten has a space before it, as in Postfix.
pub fn write_date(out: &mut ArenaVec<'_, u8>, time: Timestamp, zone: &Zone) {
    let civil = Civil::new(time, zone.offset_seconds);
    out.extend_from_slice_copy(WEEKDAYS.get(usize::from(civil.weekday)).copied().unwrap_or(b"???"));
    out.extend_from_slice_copy(b", ");
    out.push(if civil.day < 10 { b' ' } else { b'0' + civil.day / 10 });
    out.push(b'0' + civil.day % 10);
    out.push(b' ');
    out.extend_from_slice_copy(
        MONTHS.get(usize::from(civil.month).wrapping_sub(1)).copied().unwrap_or(b"???"),
    );
    out.push(b' ');
    write_digits(out, civil.year, 4);
    for (separator, number) in [(b' ', civil.hour), (b':', civil.minute), (b':', civil.second)] {
        out.push(separator);
        write_digits(out, u32::from(number), 2);
    }
    let minutes = zone.offset_seconds.unsigned_abs() / 60;
    out.extend_from_slice_copy(if zone.offset_seconds < 0 { b" -" } else { b" +" });
    write_digits(out, minutes / 60 * 100 + minutes % 60, 4);
    out.extend_from_slice_copy(b" (");
    out.extend_from_slice_copy(&zone.abbreviation);
    out.push(b')');
}

/// Writes `YYYYMMDDHHMMSS` in UTC, as in a Message-Id.
pub fn write_stamp(out: &mut ArenaVec<'_, u8>, time: Timestamp) {
    let civil = Civil::new(time, 0);
    write_digits(out, civil.year, 4);
    for number in [civil.month, civil.day, civil.hour, civil.minute, civil.second] {
        write_digits(out, u32::from(number), 2);
    }
}

/// Writes the last `count` decimal digits of `number`, at most 10.
fn write_digits(out: &mut ArenaVec<'_, u8>, number: u32, count: u32) {
    let mut digits = [b'0'; 10];
    let count = count.min(10) as usize;
    let mut rest = number;
    for digit in digits.iter_mut().take(count).rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice_copy(digits.get(..count).unwrap_or_default());
}

/// A date in an arena.
#[must_use]
pub fn date<'a>(arena: &'a Bump, time: Timestamp, zone: &Zone) -> &'a [u8] {
    let mut out = ArenaVec::with_capacity_in(48, arena);
    write_date(&mut out, time, zone);
    out.into_bump_slice()
}

const WEEKDAYS: [&[u8]; 7] = [b"Sun", b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat"];
const MONTHS: [&[u8]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(seconds: u64, offset_seconds: i32, abbreviation: &str) -> std::string::String {
        let zone = Zone { offset_seconds, abbreviation: abbreviation.into() };
        let arena = Bump::new();
        let time = Timestamp::from_unix_microseconds(seconds * 1_000_000);
        std::string::String::from_utf8(date(&arena, time, &zone).to_vec()).unwrap()
    }

    #[test]
    fn formats_dates_in_several_zones() {
        assert_eq!(text(1_795_486_199, 0, "UTC"), "Tue, 24 Nov 2026 02:09:59 +0000 (UTC)");
        assert_eq!(text(1_795_486_199, -12_600, "NST"), "Mon, 23 Nov 2026 22:39:59 -0330 (NST)");
        assert_eq!(text(0, 3600, "CET"), "Thu,  1 Jan 1970 01:00:00 +0100 (CET)");
        assert_eq!(text(951_782_400, 0, "UTC"), "Tue, 29 Feb 2000 00:00:00 +0000 (UTC)");
        assert_eq!(text(4_107_542_400, 0, "UTC"), "Mon,  1 Mar 2100 00:00:00 +0000 (UTC)");
    }

    #[test]
    fn timestamps_are_utc() {
        let arena = Bump::new();
        let mut out = ArenaVec::new_in(&arena);
        write_stamp(&mut out, Timestamp::from_unix_microseconds(1_795_486_199_999_999));
        assert_eq!(out.as_slice(), b"20261124020959");
    }
}
