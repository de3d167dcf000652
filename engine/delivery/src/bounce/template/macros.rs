//! `$name` in the text of a template.

use super::Problem;

/// Times that a template shows in a unit of its choice, as in `$delay_warning_time_hours`: name, and the seconds of the unit
/// of a value without one.
const TIMES: [(&str, u64); 2] = [("delay_warning_time", 3600), ("maximal_queue_lifetime", 86_400)];

/// Units of [`TIMES`] with their seconds.
const UNITS: [(&str, u64); 5] =
    [("seconds", 1), ("minutes", 60), ("hours", 3600), ("days", 86_400), ("weeks", 604_800)];

/// Appends a line of a template with values in place of names.
pub(super) fn expand(
    line: &[u8],
    lookup: &dyn Fn(&str) -> Option<Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<(), Problem> {
    let mut rest = line;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$') {
        let (plain, reference) = rest.split_at_checked(dollar).unwrap_or((rest, b""));
        out.extend_from_slice(plain);
        let reference = reference.get(1..).unwrap_or_default();
        if let Some(after) = reference.strip_prefix(b"$") {
            out.push(b'$');
            rest = after;
            continue;
        }
        let (name, after) = split_name(reference)?;
        out.extend_from_slice(&value(name, lookup)?);
        rest = after;
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Splits what follows a dollar into a name and the rest.
fn split_name(reference: &[u8]) -> Result<(&str, &[u8]), Problem> {
    let close = match reference.first() {
        Some(b'{') => Some(b'}'),
        Some(b'(') => Some(b')'),
        _ => None,
    };
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let text = if close.is_some() { reference.get(1..).unwrap_or_default() } else { reference };
    let size = text.iter().position(|byte| !is_of_name(byte)).unwrap_or(text.len());
    let (name, mut after) = text.split_at_checked(size).unwrap_or((text, b""));
    if let Some(close) = close {
        after = match after.split_first() {
            Some((byte, after)) if *byte == close => after,
            Some((b'?' | b':' | b'{', _)) => return Err(Problem::Conditional),
            _ => return Err(Problem::UnclosedName),
        };
    }
    match str::from_utf8(name) {
        Ok(name) if !name.is_empty() => Ok((name, after)),
        _ => Err(Problem::NoName),
    }
}

/// The value of a parameter, or a time in some unit, rounded down.
fn value(name: &str, lookup: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Vec<u8>, Problem> {
    for (parameter, default_unit) in TIMES {
        let Some(unit) = name.strip_prefix(parameter).and_then(|rest| rest.strip_prefix('_')) else {
            continue;
        };
        let unit = UNITS.iter().find(|(word, _)| *word == unit);
        let (_, divisor) = unit.ok_or_else(|| Problem::UnknownUnit(name.into()))?;
        let value = lookup(parameter).ok_or_else(|| Problem::UnknownParameter(parameter.into()))?;
        let seconds = seconds(&value, default_unit).ok_or_else(|| {
            Problem::NotATime(parameter.into(), String::from_utf8_lossy(&value).into_owned().into())
        })?;
        return Ok((seconds / divisor).to_string().into_bytes());
    }
    lookup(name).ok_or_else(|| Problem::UnknownParameter(name.into()))
}

/// Seconds of a time as parameters have it: a number, and one of `s`, `m`, `h`, `d` and `w`.
fn seconds(value: &[u8], default_unit: u64) -> Option<u64> {
    let value = str::from_utf8(value).ok()?.trim();
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at_checked(digits)?;
    let unit = match unit {
        "" => default_unit,
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}
