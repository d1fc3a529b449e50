//! Defines how counts, lengths of time, sizes and modes are written, and held to a range.
//!
//! Invariant: what `show_*` writes, `parse_*` reads back to the same value.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::Problem;

const COUNT: &str = "a whole number";
const DURATION: &str = "a length of time, such as 30 (seconds), 0.5, 250ms, 5m or 1h";
const SIZE: &str = "a size, such as 65536 (bytes), 64KiB, 256MiB or 1GB";
const MODE: &str = "an octal number, such as 022 or 0o022";

/// Every permission of the owner, the group and the others, as in umask(2).
const MODES: RangeInclusive<u32> = 0..=0o777;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Units of a size, each before the ones that are its ending.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("kib", KIB),
    ("mib", MIB),
    ("gib", GIB),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("b", 1),
];

/// Units of a length of time in seconds, each before the ones that are its ending.
const DURATION_UNITS: [(&str, f64); 4] = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];

/// Reads a decimal whole number.
pub(super) fn parse_count(text: &str) -> Result<u64, Problem> {
    if !is_digits(text) {
        return Err(Problem::invalid(text, COUNT));
    }
    // Digits alone fail only by being too many: the caller's range says so better.
    Ok(text.parse().unwrap_or(u64::MAX))
}

/// Reads a length of time: a decimal number with an optional unit, seconds without one.
pub(super) fn parse_duration(text: &str) -> Result<Duration, Problem> {
    let (number, unit) = DURATION_UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))
        .unwrap_or((text, 1.0));
    let well_formed = match number.split_once('.') {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(number),
    };
    let invalid = || Problem::invalid(text, DURATION);
    if !well_formed {
        return Err(invalid());
    }
    let seconds: f64 = number.parse().map_err(|_| invalid())?;
    // A number too large for a Duration is far beyond every range.
    Ok(Duration::try_from_secs_f64(seconds * unit).unwrap_or(Duration::MAX))
}

/// Reads a size: a whole number with an optional unit in any case, bytes without one.
pub(super) fn parse_size(text: &str) -> Result<u64, Problem> {
    let lower = text.to_ascii_lowercase();
    let (number, unit) = SIZE_UNITS
        .iter()
        .find_map(|(name, unit)| Some((lower.strip_suffix(name)?.trim_end(), *unit)))
        .unwrap_or((&lower, 1));
    if !is_digits(number) {
        return Err(Problem::invalid(text, SIZE));
    }
    // Digits alone fail only by being too many: the caller's range says so better.
    Ok(number
        .parse::<u64>()
        .unwrap_or(u64::MAX)
        .saturating_mul(unit))
}

/// Reads the permissions of a mode: an octal number, with or without a `0` or `0o` before it.
pub(super) fn parse_mode(text: &str) -> Result<u32, Problem> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte)) {
        return Err(Problem::invalid(text, MODE));
    }
    // Digits alone fail only by being too many, which is out of range too.
    let value = u32::from_str_radix(digits, 8).unwrap_or(u32::MAX);
    within(text, value, &MODES, show_mode)
}

/// Writes a whole number as `parse_count` reads it.
pub(super) fn show_count(value: impl Into<u64>) -> String {
    value.into().to_string()
}

/// Writes a length of time as `parse_duration` reads it.
pub(super) fn show_duration(value: Duration) -> String {
    if value.subsec_nanos() == 0 {
        value.as_secs().to_string()
    } else if value.subsec_nanos().is_multiple_of(1_000_000) {
        format!("{}ms", value.as_millis())
    } else {
        format!("{}.{:09}", value.as_secs(), value.subsec_nanos())
    }
}

/// Writes a size as `parse_size` reads it, in the largest binary unit that divides it.
pub(super) fn show_size(value: u64) -> String {
    let units = [("GiB", GIB), ("MiB", MIB), ("KiB", KIB)];
    match units
        .iter()
        .find(|(_, unit)| value >= *unit && value.is_multiple_of(*unit))
    {
        Some((name, unit)) => format!("{}{name}", value / unit),
        None => value.to_string(),
    }
}

/// Writes a mode as `parse_mode` reads it.
pub(super) fn show_mode(value: u32) -> String {
    format!("{value:03o}")
}

/// Reads a whole number in a range.
pub(super) fn count(text: &str, range: &RangeInclusive<u32>) -> Result<u32, Problem> {
    // One that is no u32 is above every range.
    let value = u32::try_from(parse_count(text)?).unwrap_or(u32::MAX);
    within(text, value, range, show_count)
}

/// Reads a whole number in a range of large ones.
pub(super) fn number(text: &str, range: &RangeInclusive<u64>) -> Result<u64, Problem> {
    within(text, parse_count(text)?, range, show_count)
}

/// Reads a whole number in a range of large ones, or 0 for none.
pub(super) fn limit(text: &str, range: &RangeInclusive<u64>) -> Result<Option<u64>, Problem> {
    match parse_count(text)? {
        0 => Ok(None),
        value => within(text, value, range, show_count).map(Some),
    }
}

/// Reads a length of time in a range.
pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Problem> {
    within(text, parse_duration(text)?, range, show_seconds)
}

/// Reads a length of time in a range, or 0 for none.
pub(super) fn deadline(
    text: &str,
    range: &RangeInclusive<Duration>,
) -> Result<Option<Duration>, Problem> {
    match parse_duration(text)? {
        Duration::ZERO => Ok(None),
        value => within(text, value, range, show_seconds).map(Some),
    }
}

/// Reads a size in a range.
pub(super) fn size(text: &str, range: &RangeInclusive<u64>) -> Result<u64, Problem> {
    within(text, parse_size(text)?, range, show_size)
}

/// Reads a size, or 0 for none.
pub(super) fn allowance(text: &str) -> Result<Option<u64>, Problem> {
    parse_size(text).map(|size| (size > 0).then_some(size))
}

fn within<V: Copy + PartialOrd>(
    text: &str,
    value: V,
    range: &RangeInclusive<V>,
    show: impl Fn(V) -> String,
) -> Result<V, Problem> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(Problem::OutOfRange {
        found: text.to_owned(),
        range: span(range, show),
    })
}

/// A range, for a reader.
pub(super) fn span<V: Copy>(range: &RangeInclusive<V>, show: impl Fn(V) -> String) -> String {
    format!("{} to {}", show(*range.start()), show(*range.end()))
}

/// A length of time with its unit, for a reader.
pub(super) fn show_seconds(value: Duration) -> String {
    const HOUR: u64 = 3600;
    let text = show_duration(value);
    match value.as_secs() {
        seconds if seconds >= HOUR && seconds.is_multiple_of(HOUR) => {
            format!("{}h", seconds / HOUR)
        }
        _ if text.ends_with('s') => text,
        _ => format!("{text}s"),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts() {
        for (text, expect) in [
            ("0", Some(0)),
            ("12", Some(12)),
            ("99999999999", Some(99_999_999_999)),
            ("99999999999999999999", Some(u64::MAX)),
        ] {
            assert_eq!(parse_count(text).ok(), expect, "{text}");
        }
        for text in ["", "-1", "+1", "1.0", "1e3", "0x10", "four", "٤", " 1"] {
            assert!(parse_count(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn counts_beyond_their_range_are_told_as_such() {
        for text in ["0", "11", "4294967296", "99999999999999999999"] {
            let error = count(text, &(1..=10)).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is outside of 1 to 10"));
        }
        assert_eq!(count("10", &(1..=10)), Ok(10));
        assert_eq!(count("4294967295", &(0..=u32::MAX)), Ok(u32::MAX));
    }

    #[test]
    fn modes() {
        for (text, expect) in [
            ("0", 0),
            ("022", 0o22),
            ("22", 0o22),
            ("0o027", 0o27),
            ("0777", 0o777),
        ] {
            assert_eq!(parse_mode(text), Ok(expect), "{text}");
            assert_eq!(parse_mode(&show_mode(expect)), Ok(expect), "{text}");
        }
        for text in ["", "0o", "018", "0x12", "-22", "u=rwx", "0o0o22", " 22"] {
            let error = parse_mode(text).unwrap_err().to_string();
            assert!(error.contains("is not an octal number"), "{error}");
        }
        for text in ["1000", "0o1777", "777777777777"] {
            let error = parse_mode(text).unwrap_err().to_string();
            assert_eq!(error, format!("`{text}` is outside of 000 to 777"));
        }
    }

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0", 0),
            ("30", 30_000),
            ("0.25", 250),
            ("250ms", 250),
            ("30s", 30_000),
            ("1.5m", 90_000),
            ("2 h", 7_200_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        assert_eq!(parse_duration(&"9".repeat(400)), Ok(Duration::MAX));
        for text in [
            "", "s", ".5", "5.", "-1", "1e3", "inf", "nan", "1d", "1.2.3", "1S", "1 2",
        ] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64kib", 65_536),
            ("1 MB", 1_000_000),
            ("4GiB", 4 << 30),
            ("99999999999999999999GB", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "1.5GiB", "-1", "1M", "1TiB", "0x10", "1KiBB"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_reads_back() {
        for nanos in [
            0,
            1,
            999,
            1_000_000,
            1_500_000_000,
            30_000_000_000,
            3_600_123_456_789,
        ] {
            let value = Duration::from_nanos(nanos);
            assert_eq!(parse_duration(&show_duration(value)), Ok(value));
        }
        for bytes in [
            0,
            1,
            1023,
            1024,
            1025,
            3 << 20,
            5 << 30,
            1_000_000,
            u64::MAX,
        ] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
        assert_eq!(show_size(256 << 20), "256MiB");
    }
}
