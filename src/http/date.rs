//! Defines how a moment is written in a `Date` field.
//!
//! Invariant: the result is always 29 bytes of the one form that RFC 9110 section 5.6.7 lets a
//! sender use. The clock is the caller's, who should keep the result for the rest of its second.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

/// Bytes in an IMF-fixdate.
pub const DATE_BYTES: usize = 29;

/// The last second of the year 9999, after which the year no longer fits four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// Writes a moment as an IMF-fixdate, such as `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// `unix_seconds` counts from 1970 in UTC. A moment after the year 9999 is written as its end.
pub fn imf_fixdate(unix_seconds: u64) -> [u8; DATE_BYTES] {
    let moment = UNIX_EPOCH + Duration::from_secs(unix_seconds.min(LAST_SECOND));
    let mut date = [b' '; DATE_BYTES];
    let mut rest = date.as_mut_slice();
    write!(rest, "{}", httpdate::HttpDate::from(moment))
        .expect("an IMF-fixdate has 29 bytes for every year of four digits");
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        let cases: [(u64, &[u8; DATE_BYTES]); 8] = [
            (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, b"Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, b"Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_400, b"Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_SECOND, b"Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, b"Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (seconds, text) in cases {
            assert_eq!(imf_fixdate(seconds), *text, "{seconds}");
        }
    }
}
