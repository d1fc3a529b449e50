//! Defines the line scanner that bounds a head while it is still arriving.
//!
//! Invariant: every byte is looked at once, however many calls it takes, and the first fault in
//! the order of the stream is the one that is reported. So a head gets the same answer whether it
//! comes whole or byte by byte.

use super::h2::PREFACE;
use super::head::TLS_HANDSHAKE;
use super::limits::{EMPTY_LINES_MAX, Limits};
use super::refusal::Refusal;

/// Where the head ends and what it holds, as far as lines tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Offset of the request line: the bytes of skipped empty lines.
    pub(super) start: usize,
    /// Offset after the empty line that ends the head.
    pub(super) end: usize,
    /// Number of field lines.
    pub(super) fields: usize,
}

/// Progress through a head that is not complete yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Scan {
    /// Bytes looked at, from the start of the buffer.
    at: usize,
    start: usize,
    line_start: usize,
    fields: usize,
    after_request_line: bool,
}

impl Scan {
    /// Whether no byte was looked at yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.at == 0
    }

    /// Bytes looked at so far.
    pub(super) fn seen(&self) -> usize {
        self.at
    }

    /// Looks at the bytes of `buf` that earlier calls did not see.
    ///
    /// `None` means that the head goes on after `buf`.
    pub(super) fn advance(
        &mut self,
        buf: &[u8],
        limits: &Limits,
    ) -> Result<Option<Extent>, Refusal> {
        if self.at == self.start {
            let Some(start) = skip_empty_lines(buf)? else {
                return Ok(None);
            };
            (self.at, self.start, self.line_start) = (start, start, start);
        }
        let bounds = Bounds::new(limits);
        while let Some(&byte) = buf.get(self.at) {
            let line = &buf[self.line_start..self.at];
            if byte == b'\n' {
                if self.end_line(line)? {
                    return Ok(Some(Extent {
                        start: self.start,
                        end: self.at + 1,
                        fields: self.fields,
                    }));
                }
            } else {
                self.inside_line(line, byte, &bounds)?;
            }
            self.at += 1;
            if self.at >= bounds.head {
                return Err(Refusal::fields_too_large("head too large"));
            }
        }
        Ok(None)
    }

    /// Takes a line feed after `line`; says whether it ends the head.
    fn end_line(&mut self, line: &[u8]) -> Result<bool, Refusal> {
        let Some((b'\r', text)) = line.split_last() else {
            return Err(Refusal::bad_request("line feed without carriage return"));
        };
        if self.after_request_line && text.is_empty() {
            return Ok(true);
        }
        if !self.after_request_line {
            check_request_line(text)?;
            self.after_request_line = true;
        }
        self.line_start = self.at + 1;
        Ok(false)
    }

    /// Takes a byte other than line feed after `line`.
    fn inside_line(&mut self, line: &[u8], byte: u8, bounds: &Bounds) -> Result<(), Refusal> {
        if line.last() == Some(&b'\r') {
            return Err(Refusal::bad_request("carriage return without line feed"));
        }
        if byte == b'\r' {
            return Ok(());
        }
        if is_control(byte) {
            let first = line.is_empty() && !self.after_request_line;
            return Err(Refusal::bad_request(if first && byte == TLS_HANDSHAKE {
                "TLS where HTTP was expected"
            } else {
                "control character in the head"
            }));
        }
        if !self.after_request_line {
            return if line.len() < bounds.line {
                Ok(())
            } else {
                Err(Refusal::line_too_long())
            };
        }
        if line.is_empty() {
            self.fields += 1;
            if self.fields > bounds.fields {
                return Err(Refusal::fields_too_large("too many fields"));
            }
        }
        if line.len() < bounds.field {
            Ok(())
        } else {
            Err(Refusal::fields_too_large("field too large"))
        }
    }
}

/// The limits, worked out once for a call.
struct Bounds {
    line: usize,
    fields: usize,
    field: usize,
    head: usize,
}

impl Bounds {
    fn new(limits: &Limits) -> Self {
        Self {
            line: limits.request_line_max(),
            fields: limits.fields_max(),
            field: limits.field_bytes_max(),
            head: limits.head_bytes_max(),
        }
    }
}

/// Offset of the first byte after the empty lines that may precede a request line, or `None` if
/// `buf` ends before such a byte (RFC 9112 section 2.2).
pub(super) fn skip_empty_lines(buf: &[u8]) -> Result<Option<usize>, Refusal> {
    let mut start = 0;
    loop {
        match (buf.get(start), buf.get(start + 1)) {
            (Some(b'\r'), _) if start == 2 * EMPTY_LINES_MAX => {
                return Err(Refusal::bad_request(
                    "too many empty lines before the request",
                ));
            }
            (Some(b'\r'), Some(b'\n')) => start += 2,
            (Some(b'\r'), Some(_)) => {
                return Err(Refusal::bad_request("carriage return without line feed"));
            }
            (Some(b'\n'), _) => {
                return Err(Refusal::bad_request("line feed without carriage return"));
            }
            (Some(b'\r'), None) | (None, _) => return Ok(None),
            (Some(_), _) => return Ok(Some(start)),
        }
    }
}

/// Whether a byte may stand nowhere in a head but as part of a line end: all of C0 but the tab,
/// and DEL (RFC 9110 section 5.5).
pub(super) fn is_control(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Checks what can be told from a complete request line, before any field has come: three parts
/// with one space between them, and a version that is spoken here (RFC 9112 section 3).
fn check_request_line(line: &[u8]) -> Result<(), Refusal> {
    const SHAPE: Refusal = Refusal::bad_request("request line is not method, target, version");
    let preface = PREFACE.split(|byte| *byte == b'\r').next();
    if preface == Some(line) {
        return Err(Refusal::version("HTTP/2 where HTTP/1.1 was expected"));
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SHAPE);
    };
    if method.is_empty() || target.is_empty() {
        return Err(SHAPE);
    }
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refusal::version("version is neither HTTP/1.0 nor HTTP/1.1"))
        }
        _ => Err(Refusal::bad_request("malformed version")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(buf: &[u8], limits: &Limits) -> Result<Option<Extent>, Refusal> {
        Scan::default().advance(buf, limits)
    }

    #[test]
    fn never_looks_back_further_than_one_byte() {
        let head = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let limits = Limits::default();
        let mut scan = Scan::default();
        for end in 0..head.len() {
            assert_eq!(scan.advance(&head[..end], &limits), Ok(None), "{end}");
            let expected = if end < 3 { 0 } else { end };
            assert_eq!(scan.seen(), expected);
        }
        let extent = Extent {
            start: 2,
            end: head.len(),
            fields: 1,
        };
        assert_eq!(scan.advance(head, &limits), Ok(Some(extent)));
    }

    #[test]
    fn refuses_before_the_head_is_complete() {
        let limits = Limits {
            request_line_bytes: 16,
            fields: 2,
            field_bytes: 8,
        };
        let cases: [(&[u8], u16); 11] = [
            (b"GET /123 HTTP/1.1", 414),
            (b"GET / HTTP/1.1\r\na: 456789", 431),
            (b"GET / HTTP/1.1\r\na: 1\r\nb: 2\r\nc", 431),
            (b"\x16\x03\x01", 400),
            (b"GET / HTTP/1.1\r\na: \0", 400),
            (b"GET / HTTP/1.1\n", 400),
            (b"GET /\r\n", 400),
            (b"GET  / HTTP/1.1\r\n", 400),
            (b"PRI * HTTP/2.0\r\n", 505),
            (b"GET / HTTP/x\r\n", 400),
            (b"\r\n\r\n\r\n\r\n\r", 400),
        ];
        for (bytes, status) in cases {
            let answer = scan(bytes, &limits).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(answer, Err(status), "{}", bytes.escape_ascii());
            let before = scan(&bytes[..bytes.len() - 1], &limits);
            let early = bytes == b"\x16\x03\x01";
            assert_eq!(before.is_err(), early, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_full_buffer_is_never_waited_on() {
        for limits in [
            Limits {
                request_line_bytes: 20,
                fields: 3,
                field_bytes: 10,
            },
            Limits {
                request_line_bytes: 0,
                fields: 0,
                field_bytes: 0,
            },
        ] {
            let mut head = b"\r\n\r\n\r\n\r\nGET /".to_vec();
            head.resize(8 + limits.request_line_max() - 9, b'a');
            head.extend_from_slice(b" HTTP/1.1\r\n");
            let mut field = vec![b'f'; limits.field_bytes_max()];
            field[1] = b':';
            field.extend_from_slice(b"\r\n");
            while head.len() + field.len() <= limits.head_bytes_max() {
                head.extend_from_slice(&field);
            }
            head.extend_from_slice(&field);
            head.truncate(limits.head_bytes_max() - 2);
            assert_eq!(scan(&head, &limits), Ok(None));
            let mut full = head.clone();
            full.extend_from_slice(b"xx");
            assert!(scan(&full, &limits).is_err());
        }
    }
}
