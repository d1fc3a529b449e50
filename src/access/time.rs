//! Defines how moments are written in a line: in UTC, like the server's log.

use std::time::{SystemTime, UNIX_EPOCH};

/// Names of the months, as an HTTP date has them.
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// As in the Common Log Format: `[25/Nov/2026:21:51:24 +0000]`.
pub(super) fn common(moment: SystemTime) -> String {
    let (date, _) = http_date(moment);
    let [day, month, year, time] = parts(&date);
    format!("[{day}/{month}/{year}:{time} +0000]")
}

/// As in RFC 3339, with milliseconds: `2026-11-25T21:51:24.123Z`.
pub(super) fn rfc3339(moment: SystemTime) -> String {
    let (date, millis) = http_date(moment);
    let [day, month, year, time] = parts(&date);
    let month = MONTHS.iter().position(|name| *name == month).unwrap_or(0) + 1;
    format!("{year}-{month:02}-{day}T{time}.{millis:03}Z")
}

/// The moment as an HTTP date, and its milliseconds.
fn http_date(moment: SystemTime) -> (String, u32) {
    // A clock before 1970 is wrong anyway, and an HTTP date must not be asked for it.
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    (
        httpdate::fmt_http_date(UNIX_EPOCH + since),
        since.subsec_millis(),
    )
}

/// Day, month, year and time of an HTTP date, such as `Wed, 25 Nov 2026 21:51:24 GMT`: each has its
/// place (RFC 9110 section 5.6.7).
fn parts(date: &str) -> [&str; 4] {
    [5..7, 8..11, 12..16, 17..25].map(|part| date.get(part).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn known_moments() {
        for (millis, expect_common, expect_rfc3339) in [
            (
                0,
                "[01/Jan/1970:00:00:00 +0000]",
                "1970-01-01T00:00:00.000Z",
            ),
            (
                1_709_251_199_007,
                "[29/Feb/2024:23:59:59 +0000]",
                "2024-02-29T23:59:59.007Z",
            ),
            (
                1_795_643_484_999,
                "[25/Nov/2026:21:51:24 +0000]",
                "2026-11-25T21:51:24.999Z",
            ),
            (
                1_798_761_599_500,
                "[31/Dec/2026:23:59:59 +0000]",
                "2026-12-31T23:59:59.500Z",
            ),
        ] {
            let moment = UNIX_EPOCH + Duration::from_millis(millis);
            assert_eq!(common(moment), expect_common);
            assert_eq!(rfc3339(moment), expect_rfc3339);
        }
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(common(before), "[01/Jan/1970:00:00:00 +0000]");
    }
}
