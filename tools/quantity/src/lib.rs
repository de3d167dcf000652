//! Times and sizes on the command lines of the tools, so that `5s` and `64K` mean the same in each of them.
#![forbid(unsafe_code)]

use std::time::Duration;

/// Reads a time: a number with an optional fraction and a unit (`ms`, `s`, `m`, `h`); seconds without a unit.
///
/// # Errors
/// A sentence for the user, when the text is not a time from 0 to 10,000 hours.
pub fn time(text: &str) -> Result<Duration, String> {
    read_time(text, 1.0)
}

/// Reads a time as [`time`] does, in milliseconds without a unit.
///
/// # Errors
/// As [`time`].
pub fn milliseconds(text: &str) -> Result<Duration, String> {
    read_time(text, 0.001)
}

fn read_time(text: &str, default_unit: f64) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let unit = match unit {
        "" => default_unit,
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}; expected a time such as 500ms, 5s, 2m or 1h")),
    };
    let seconds = decimal(number).map(|number| number * unit);
    match seconds {
        Some(seconds) if seconds <= SECONDS_MAX => Ok(Duration::from_secs_f64(seconds)),
        Some(_) => Err("more than 10000h".to_owned()),
        None => Err("expected a time such as 500ms, 5s, 2m or 1h".to_owned()),
    }
}

/// Digits with at most one point among them: no sign, no exponent, no `inf`.
fn decimal(text: &str) -> Option<f64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_plain && text.starts_with(|first: char| first.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// Reads a size in bytes: a whole number and an optional unit (`K`, `M`, `G`, also as `KiB` or `KB`), each 1024 of the
/// one before.
///
/// # Errors
/// A sentence for the user, when the text is not a size from 1 byte to 4 GiB.
pub fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let factor = match unit.trim_end_matches(['B', 'b']).trim_end_matches(['I', 'i']) {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err(format!("unknown unit {unit:?}; expected a size such as 4096, 4K, 50M or 1G")),
    };
    let number: usize =
        number.parse().map_err(|_| "expected a size such as 4096, 4K, 50M or 1G".to_owned())?;
    match number.checked_mul(factor) {
        Some(size @ 1..=SIZE_MAX) => Ok(size),
        _ => Err("out of range; expected 1 byte to 4G".to_owned()),
    }
}

/// The number at the front, and the unit after it.
fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|character: char| !character.is_ascii_digit() && character != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (number, unit.trim_start())
}

const SECONDS_MAX: f64 = 10_000.0 * 3600.0;
const SIZE_MAX: usize = 4 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_fractions() {
        for (text, milliseconds) in [
            ("5s", 5_000),
            ("5", 5_000),
            ("0", 0),
            ("0.3", 300),
            ("1.5s", 1_500),
            ("250ms", 250),
            ("2m", 120_000),
            ("2 min", 120_000),
            ("1h", 3_600_000),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(time(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        assert_eq!(milliseconds("200"), Ok(Duration::from_millis(200)));
        assert_eq!(milliseconds("2s"), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn rejects_invalid_times() {
        for text in
            ["", "s", "-1", "-1s", "1y", "5 5", "1e3", "inf", "nan", ".", "1.2.3", "5ss", "5S!", "99999999h"]
        {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("1", 1),
            ("4096", 4096),
            ("4K", 4096),
            ("4k", 4096),
            ("50MiB", 50 << 20),
            ("2mb", 2 << 20),
            ("4G", 4 << 30),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "K", "-1", "1.5K", "5X", "5G", "99999999999G", "99999999999999999999"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
