//! Defines which setting a mistyped name probably meant.
//!
//! Invariant: a suggestion is always the key of a setting that exists.

use super::table::settings;

/// Settings of gunicorn that look like ours and mean something else.
const OTHERS: [&str; 1] = ["preload"];

/// The key that is most like `name`, if one is like it at all.
pub(super) fn closest(name: &str) -> Option<&'static str> {
    let name = &name.to_ascii_lowercase().replace('_', "-");
    // A name many times as long as any setting's is like none, and costly to compare.
    if name.len() > 64 || OTHERS.contains(&name.as_str()) {
        return None;
    }
    settings()
        .flat_map(|setting| {
            let others = setting
                .aliases
                .iter()
                .chain(setting.hidden_aliases)
                .copied();
            let names = [setting.key].into_iter().chain(setting.flag).chain(others);
            names.map(move |known| (distance(name, known), setting.key))
        })
        .min()
        .filter(|(distance, _)| *distance <= name.len() / 3)
        .map(|(_, key)| key)
}

/// Least number of insertions, deletions, replacements and swaps of neighbours that make `a` of
/// `b` (the optimal string alignment distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(a[i] != b[j]);
            let mut least = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expect) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("abc", "axc", 1),
            ("ab", "b", 1),
        ] {
            assert_eq!(
                (distance(a, b), distance(b, a)),
                (expect, expect),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn likely_names_are_suggested() {
        for (name, expect) in [
            ("workrs", Some("workers")),
            ("wrokers", Some("workers")),
            ("worker_connections", Some("worker-connections")),
            ("keepalive", Some("keep-alive")),
            ("dir", Some("dirs")),
            ("addr", Some("bind")),
            ("Timeout", Some("timeout")),
            ("route", Some("routes")),
            ("max_request", Some("max-requests")),
            ("logfile", Some("error-logfile")),
            ("pid-file", Some("pidfile")),
            ("relaod", Some("reload")),
            ("preload", None),
            ("x", None),
        ] {
            assert_eq!(closest(name), expect, "{name}");
        }
        assert_eq!(closest(&"workers".repeat(10)), None);
    }
}
