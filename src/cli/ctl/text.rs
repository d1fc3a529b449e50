//! Defines how numbers and names become text for an operator: durations, sizes, tables.
//!
//! Invariant: no text of the server reaches the terminal with a character in it that the terminal
//! would obey, and every line but those of the settings is one that this program began.

/// What stands for nothing.
pub(super) const NOTHING: &str = "-";

/// Between two columns.
const GAP: &str = "  ";

/// `text` without characters that a terminal obeys, or that break a line. Backslashes stay as they
/// are: most text has been made printable by the server.
pub(super) fn printable(text: &str) -> String {
    escaped(text, |character| character.escape_default().to_string())
}

/// The same for text of several lines.
pub(super) fn printable_lines(text: &str) -> String {
    let lines = text.lines().map(|line| printable(line) + "\n");
    lines.collect()
}

/// The same for JSON, which has its own way of writing a character.
pub(super) fn printable_json(document: &str) -> String {
    escaped(document, |character| match character {
        '\n' => "\n".to_owned(),
        other => format!("\\u{:04x}", u32::from(other)),
    })
}

fn escaped(text: &str, spell: impl Fn(char) -> String) -> String {
    let mut printed = String::with_capacity(text.len());
    for character in text.chars() {
        if is_unprintable(character) {
            printed.push_str(&spell(character));
        } else {
            printed.push(character);
        }
    }
    printed
}

/// Control characters, and those that break a line or turn its direction. None is beyond U+FFFF.
fn is_unprintable(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A duration in at most two units: `120ms`, `45s`, `3m12s`, `5h03m`, `12d04h`.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if seconds == 0 {
        format!("{ms}ms")
    } else if minutes == 0 {
        format!("{seconds}s")
    } else if hours == 0 {
        format!("{minutes}m{:02}s", seconds % 60)
    } else if days == 0 {
        format!("{hours}h{:02}m", minutes % 60)
    } else {
        format!("{days}d{:02}h", hours % 24)
    }
}

/// A size in the largest unit of which there is one: `512 B`, `1.5 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // In tenths, so that what would be 1024.0 of a unit is 1.0 of the next.
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths = (tenths + 512) / 1024;
        unit = next;
    }
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// Which side of its column a cell is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows below their heads, in columns that are as wide as they must be.
pub(super) fn table(heads: &[(&str, Side)], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return "none\n".to_owned();
    }
    let sides: Vec<Side> = heads.iter().map(|(_, side)| *side).collect();
    let heads = heads.iter().map(|(head, _)| (*head).to_owned()).collect();
    let rows = [heads].into_iter().chain(rows);
    lines(&sides, rows)
}

/// Names, and what each is.
pub(super) fn pairs(pairs: Vec<(String, String)>) -> String {
    let rows = pairs.into_iter().map(|(name, value)| vec![name, value]);
    lines(&[Side::Left; 2], rows)
}

fn lines(sides: &[Side], rows: impl Iterator<Item = Vec<String>>) -> String {
    let cell = |text: String| {
        if text.is_empty() {
            NOTHING.to_owned()
        } else {
            printable(&text)
        }
    };
    let rows: Vec<Vec<String>> = rows
        .map(|row| row.into_iter().map(cell).collect())
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..sides.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(sides).zip(&widths);
        let cells = cells.map(|((cell, side), width)| match side {
            Side::Left => format!("{cell:<width$}"),
            Side::Right => format!("{cell:>width$}"),
        });
        let line = cells.collect::<Vec<_>>().join(GAP);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `text` with its lines moved to the right.
pub(super) fn indented(text: &str) -> String {
    let lines = text.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("{GAP}{line}\n"),
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let check = |ms, expect| assert_eq!(duration(ms), expect);
        check(0, "0ms");
        check(999, "999ms");
        check(1000, "1s");
        check(59_999, "59s");
        check(60_000, "1m00s");
        check(192_000, "3m12s");
        check(3_599_999, "59m59s");
        check(3_600_000, "1h00m");
        check(86_399_999, "23h59m");
        check(86_400_000, "1d00h");
        check(1_051_200_000, "12d04h");
        check(u64::MAX, "213503982334d14h");
    }

    #[test]
    fn sizes_have_one_unit() {
        let check = |bytes, expect| assert_eq!(size(bytes), expect);
        check(0, "0 B");
        check(1023, "1023 B");
        check(1024, "1.0 KiB");
        check(1536, "1.5 KiB");
        check(1024 * 1024 - 1, "1.0 MiB");
        check(1_572_864, "1.5 MiB");
        check(10 << 30, "10.0 GiB");
        check(1 << 40, "1.0 TiB");
        check(u64::MAX, "16.0 EiB");
    }

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let heads = [("NAME", Side::Left), ("N", Side::Right), ("", Side::Left)];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table(
            &heads,
            vec![
                row(["a", "1", "x"]),
                row(["blog é", "1000", ""]),
                row(["", "", "a long last word"]),
            ],
        );
        let expect = "\
NAME       N  -
a          1  x
blog é  1000  -
-          -  a long last word
";
        assert_eq!(text, expect);
        assert_eq!(table(&heads, Vec::new()), "none\n");
        assert_eq!(pairs(Vec::new()), "");
        let text = pairs(vec![
            ("one".to_owned(), "1".to_owned()),
            ("three".to_owned(), String::new()),
        ]);
        assert_eq!(text, "one    1\nthree  -\n");
        assert_eq!(indented("a\nb\n"), "  a\n  b\n");
    }

    #[test]
    fn a_terminal_obeys_nothing_of_it() {
        assert_eq!(printable("a\x1b[2J\r\nb\\n"), "a\\u{1b}[2J\\r\\nb\\n");
        assert_eq!(printable("\u{9b}2J\u{202e}é"), "\\u{9b}2J\\u{202e}é");
        assert_eq!(printable_lines("a = 1\r\n\x07\n"), "a = 1\n\\u{7}\n");
        let json = printable_json("{\"a\u{9b}\":\n\"\u{7f}\u{2069}\\n\"}");
        assert_eq!(json, "{\"a\\u009b\":\n\"\\u007f\\u2069\\n\"}");
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
        let text = table(&[("A", Side::Left)], vec![vec!["x\nROOT".to_owned()]]);
        assert_eq!(text, "A\nx\\nROOT\n");
    }
}
