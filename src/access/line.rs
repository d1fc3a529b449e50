//! Defines how a value is made part of a line.
//!
//! Invariant: what is added of a client is printable ASCII, its quotes and backslashes are escaped,
//! and it is bounded.

/// Longest line in bytes, its end included. A pipe takes so much in one piece whoever else writes
/// to it (`PIPE_BUF`, pipe(7)).
pub const LINE_BYTES_MAX: usize = 4096;
/// Longest value in a line, in bytes as they are written.
pub(super) const VALUE_BYTES_MAX: usize = 1024;
/// Stands for what was cut off.
const CUT: &[u8] = b"...";

/// Adds what a client wrote: `"` and `\` get a backslash, and what is not printable ASCII is `\xhh`,
/// as in Apache's logs. A longer one is cut.
pub(super) fn escape(line: &mut Vec<u8>, value: &[u8]) {
    bounded(line, VALUE_BYTES_MAX, value, |line, byte| match byte {
        b'"' | b'\\' => line.extend_from_slice(&[b'\\', *byte]),
        b' '..=b'~' => line.push(*byte),
        byte => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
    });
}

/// Adds a JSON string (RFC 8259 section 7) of ASCII alone; what is not UTF-8 becomes U+FFFD. A longer
/// one is cut.
pub(super) fn json_string(line: &mut Vec<u8>, value: &[u8], bytes_max: usize) {
    line.push(b'"');
    let text = String::from_utf8_lossy(value);
    let mut characters = text.chars();
    bounded(
        line,
        bytes_max,
        characters.by_ref(),
        |line, character| match character {
            '"' | '\\' => line.extend_from_slice(&[b'\\', character as u8]),
            ' '..='~' => line.push(character as u8),
            character => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    line.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        },
    );
    line.push(b'"');
}

/// Adds items, each by `add` and never a part of one, up to so many bytes.
fn bounded<T>(
    line: &mut Vec<u8>,
    bytes_max: usize,
    items: impl IntoIterator<Item = T>,
    add: impl Fn(&mut Vec<u8>, T),
) {
    let (start, mut fits) = (line.len(), line.len());
    for item in items {
        if line.len() - start <= bytes_max - CUT.len() {
            fits = line.len();
        }
        add(line, item);
        if line.len() - start > bytes_max {
            line.truncate(fits);
            line.extend_from_slice(CUT);
            return;
        }
    }
}

/// Ends a line.
pub(super) fn end(line: &mut Vec<u8>) {
    line.truncate(LINE_BYTES_MAX - 1);
    line.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(value: &[u8]) -> String {
        let mut line = Vec::new();
        escape(&mut line, value);
        String::from_utf8(line).unwrap()
    }

    fn json(value: &[u8], bytes_max: usize) -> String {
        let mut line = Vec::new();
        json_string(&mut line, value, bytes_max);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn nobody_can_end_a_line_or_a_quote() {
        for (value, expect) in [
            (&b""[..], ""),
            (b"/a?b=c d~", "/a?b=c d~"),
            (b"a\"b\\c", r#"a\"b\\c"#),
            (b"\r\n\t\0\x1b\x7f", r"\x0d\x0a\x09\x00\x1b\x7f"),
            ("é\u{2028}".as_bytes(), r"\xc3\xa9\xe2\x80\xa8"),
            (b"\xff", r"\xff"),
        ] {
            assert_eq!(escaped(value), expect);
        }
    }

    #[test]
    fn json_strings_are_ascii() {
        for (value, expect) in [
            (&b""[..], r#""""#),
            (b"a\"b\\c\n", r#""a\"b\\c\u000a""#),
            (
                "é\u{1f980}\u{7f}".as_bytes(),
                r#""\u00e9\ud83e\udd80\u007f""#,
            ),
            (b"\xffx", r#""\ufffdx""#),
        ] {
            let text = json(value, 100);
            assert_eq!(text, expect);
            let read: String = serde_json::from_str(&text).unwrap();
            assert_eq!(read, String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn values_are_cut_between_characters() {
        let fits = "x".repeat(VALUE_BYTES_MAX);
        assert_eq!(escaped(fits.as_bytes()), fits);
        let long = format!("{fits}x");
        let cut = escaped(long.as_bytes());
        assert_eq!(cut, format!("{}...", &fits[..VALUE_BYTES_MAX - 3]));
        for (value, bytes_max, expect) in [
            ("12345", 5, r#""12345""#),
            ("123456", 5, r#""12...""#),
            ("12\n45", 8, r#""12...""#),
            ("\u{1f980}", 11, r#""...""#),
            ("\u{1f980}", 12, r#""\ud83e\udd80""#),
        ] {
            assert_eq!(json(value.as_bytes(), bytes_max), expect);
        }
    }
}
