//! Defines what the server itself reads from the fields of a request: framing, host, persistence
//! and expectation.
//!
//! Invariant: the length of a body follows from the head in one way only. Whatever leaves room
//! for another reading is refused (RFC 9112 sections 6 and 11.2).

use bytes::Bytes;
use http::HeaderName;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};

use super::head::{Framing, Version};
use super::refusal::Refusal;

/// What was found in the field lines so far.
#[derive(Default)]
pub(super) struct Fields {
    host: Option<Bytes>,
    length: Option<u64>,
    codings: Codings,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
    expect_other: bool,
}

#[derive(Default)]
struct Codings {
    seen: bool,
    chunked: bool,
    /// Whether the last coding in the order of the fields is chunked.
    chunked_last: bool,
    unknown: bool,
}

impl Fields {
    /// Takes one field line, in the order of the head.
    pub(super) fn note(&mut self, name: &HeaderName, value: &Bytes) -> Result<(), Refusal> {
        if *name == HOST {
            if self.host.replace(value.clone()).is_some() {
                return Err(Refusal::bad_request("more than one Host"));
            }
        } else if *name == CONTENT_LENGTH {
            let length = parse_length(value)
                .ok_or(Refusal::bad_request("Content-Length is not one number"))?;
            if self.length.replace(length).is_some() {
                return Err(Refusal::bad_request("more than one Content-Length"));
            }
        } else if *name == TRANSFER_ENCODING {
            self.codings.note(value)?;
        } else if *name == CONNECTION {
            self.note_connection(value);
        } else if *name == EXPECT {
            self.note_expect(value);
        }
        Ok(())
    }

    /// The value of the Host field, if there is one.
    pub(super) fn host(&mut self) -> Option<Bytes> {
        self.host.take()
    }

    /// How the body is delimited (RFC 9112 section 6.3).
    ///
    /// Content-Length with Transfer-Encoding, Transfer-Encoding in HTTP/1.0, and chunked that is
    /// not the last coding or comes twice are 400; another coding before it is 501.
    pub(super) fn framing(&self, version: Version) -> Result<Framing, Refusal> {
        if !self.codings.seen {
            return Ok(self.length.map_or(Framing::None, Framing::Length));
        }
        if version == Version::Http10 {
            return Err(Refusal::bad_request("Transfer-Encoding in HTTP/1.0"));
        }
        if self.length.is_some() {
            return Err(Refusal::bad_request(
                "Content-Length with Transfer-Encoding",
            ));
        }
        if !self.codings.chunked_last {
            return Err(Refusal::bad_request(
                "chunked is not the last transfer coding",
            ));
        }
        if self.codings.unknown {
            return Err(Refusal::not_implemented("unknown transfer coding"));
        }
        Ok(Framing::Chunked)
    }

    /// Whether the client lets the connection live on (RFC 9112 section 9.3).
    pub(super) fn keep_alive(&self, version: Version) -> bool {
        match version {
            Version::Http11 | Version::Http2 => !self.close,
            Version::Http10 => self.keep_alive && !self.close,
        }
    }

    /// Whether the client waits for `100 Continue` (RFC 9110 section 10.1.1).
    ///
    /// HTTP/1.0 has no expectations, and without a body there is nothing to wait for. Any other
    /// expectation is 417.
    pub(super) fn expect_continue(
        &self,
        version: Version,
        framing: Framing,
    ) -> Result<bool, Refusal> {
        if version == Version::Http10 {
            return Ok(false);
        }
        if self.expect_other {
            return Err(Refusal::expectation());
        }
        Ok(self.expect_continue && framing.has_content())
    }

    /// Reads the options of a Connection field (RFC 9110 section 7.6.1).
    fn note_connection(&mut self, value: &[u8]) {
        for option in list(value) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn note_expect(&mut self, value: &[u8]) {
        for expectation in list(value).filter(|member| !member.is_empty()) {
            if expectation.eq_ignore_ascii_case(b"100-continue") {
                self.expect_continue = true;
            } else {
                self.expect_other = true;
            }
        }
    }
}

impl Codings {
    /// Takes one Transfer-Encoding field line (RFC 9112 sections 6.1 and 7).
    ///
    /// Parameters of codings that are refused anyway are not looked into: an element that is not
    /// a token with what may follow one is malformed.
    fn note(&mut self, value: &[u8]) -> Result<(), Refusal> {
        self.seen = true;
        for coding in list(value) {
            let end = coding
                .iter()
                .position(|byte| !is_token(*byte))
                .unwrap_or(coding.len());
            let (name, parameters) = coding.split_at(end);
            let separated = matches!(parameters.trim_ascii_start().first(), None | Some(b';'));
            if name.is_empty() || !separated {
                return Err(Refusal::bad_request("malformed Transfer-Encoding"));
            }
            self.chunked_last = name.eq_ignore_ascii_case(b"chunked");
            if !self.chunked_last {
                self.unknown = true;
            } else if !parameters.is_empty() {
                return Err(Refusal::bad_request("chunked with parameters"));
            } else if std::mem::replace(&mut self.chunked, true) {
                return Err(Refusal::bad_request("chunked twice"));
            }
        }
        Ok(())
    }
}

/// Reads a Content-Length: digits and nothing else, within 64 bits (RFC 9110 section 8.6).
///
/// A list is not a number, though all its members be equal, and neither is `+5`.
pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |total, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        total.checked_mul(10)?.checked_add(digit)
    })
}

/// The members of a comma-separated list without the spaces and tabs around them (RFC 9110
/// section 5.6.1).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

/// Takes off optional whitespace: space and tab, and nothing else that Unicode or C call so.
pub(super) fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Whether a byte may stand in a token (RFC 9110 section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(version: Version, lines: &[(&'static str, &'static str)]) -> Result<Framing, u16> {
        let mut fields = Fields::default();
        for (name, value) in lines {
            let name = HeaderName::from_static(name);
            fields
                .note(&name, &Bytes::from_static(value.as_bytes()))
                .map_err(|refusal| refusal.status.as_u16())?;
        }
        fields
            .framing(version)
            .map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn lengths() {
        let cases: [(&[u8], Option<u64>); 17] = [
            (b"0", Some(0)),
            (b"42", Some(42)),
            (b"0042", Some(42)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"99999999999999999999999", None),
            (b"", None),
            (b"+1", None),
            (b"-1", None),
            (b"1 ", None),
            (b"1 1", None),
            (b"1,1", None),
            (b"0x1", None),
            (b"1e1", None),
            (b"1_0", None),
            (b"1.0", None),
            ("١".as_bytes(), None),
        ];
        for (text, length) in cases {
            assert_eq!(parse_length(text), length, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn transfer_codings() {
        let cases: [(&str, Result<Framing, u16>); 22] = [
            ("chunked", Ok(Framing::Chunked)),
            ("CHUNKED", Ok(Framing::Chunked)),
            ("gzip, chunked", Err(501)),
            ("gzip;q=1 , chunked", Err(501)),
            ("gzip ;q=1,chunked", Err(501)),
            ("gzip", Err(400)),
            ("identity", Err(400)),
            ("chunked, gzip", Err(400)),
            ("chunked, identity", Err(400)),
            ("chunked, chunked", Err(400)),
            ("chunked;a=b", Err(400)),
            ("chunked ;", Err(400)),
            ("", Err(400)),
            (",chunked", Err(400)),
            ("chunked,", Err(400)),
            ("xchunked", Err(400)),
            ("x chunked", Err(400)),
            ("\"chunked\"", Err(400)),
            ("chunked\u{b}", Err(400)),
            ("\u{a0}chunked", Err(400)),
            ("gzip;a=\"b,chunked\"", Err(400)),
            ("chunked\u{0}", Err(400)),
        ];
        for (value, expected) in cases {
            let answer = framing(Version::Http11, &[("transfer-encoding", value)]);
            assert_eq!(answer, expected, "{value:?}");
        }
    }

    #[test]
    fn combinations() {
        let (te, cl) = ("transfer-encoding", "content-length");
        type Case = (
            Version,
            &'static [(&'static str, &'static str)],
            Result<Framing, u16>,
        );
        let (new, old) = (Version::Http11, Version::Http10);
        let cases: [Case; 9] = [
            (new, &[], Ok(Framing::None)),
            (new, &[("content-length", "7")], Ok(Framing::Length(7))),
            (old, &[("content-length", "7")], Ok(Framing::Length(7))),
            (
                new,
                &[("content-length", "7"), ("content-length", "7")],
                Err(400),
            ),
            (
                new,
                &[("content-length", "7"), ("transfer-encoding", "chunked")],
                Err(400),
            ),
            (
                new,
                &[("transfer-encoding", "chunked"), ("content-length", "0")],
                Err(400),
            ),
            (
                new,
                &[
                    ("transfer-encoding", "gzip"),
                    ("transfer-encoding", "chunked"),
                ],
                Err(501),
            ),
            (
                new,
                &[
                    ("transfer-encoding", "chunked"),
                    ("transfer-encoding", "chunked"),
                ],
                Err(400),
            ),
            (old, &[("transfer-encoding", "chunked")], Err(400)),
        ];
        for (version, lines, expected) in cases {
            assert_eq!(
                framing(version, lines),
                expected,
                "{version:?} {lines:?} {te} {cl}"
            );
        }
    }

    #[test]
    fn persistence() {
        let cases: [(&[&str], bool, bool); 10] = [
            (&[], true, false),
            (&["close"], false, false),
            (&["keep-alive"], true, true),
            (&["Keep-Alive"], true, true),
            (&["keep-alive, Close"], false, false),
            (&["upgrade", "\tCLOSE "], false, false),
            (&["upgrade, keep-alive"], true, true),
            (&["closed, xclose, close;x"], true, false),
            (&[" ,, close"], false, false),
            (&["keep-alive;timeout=5"], true, false),
        ];
        for (lines, new, old) in cases {
            let mut fields = Fields::default();
            for line in lines {
                fields.note_connection(line.as_bytes());
            }
            assert_eq!(fields.keep_alive(Version::Http11), new, "{lines:?}");
            assert_eq!(fields.keep_alive(Version::Http10), old, "{lines:?}");
        }
    }

    #[test]
    fn expectations() {
        let cases: [(&[&str], Version, Framing, Option<bool>); 9] = [
            (&[], Version::Http11, Framing::Length(1), Some(false)),
            (
                &["100-Continue"],
                Version::Http11,
                Framing::Length(1),
                Some(true),
            ),
            (
                &["100-continue"],
                Version::Http11,
                Framing::Chunked,
                Some(true),
            ),
            (
                &["100-continue"],
                Version::Http11,
                Framing::Length(0),
                Some(false),
            ),
            (
                &["100-continue"],
                Version::Http11,
                Framing::None,
                Some(false),
            ),
            (
                &["100-continue"],
                Version::Http10,
                Framing::Length(1),
                Some(false),
            ),
            (
                &["100-continue, 100-continue"],
                Version::Http11,
                Framing::Chunked,
                Some(true),
            ),
            (
                &["100-continue", "x"],
                Version::Http11,
                Framing::Chunked,
                None,
            ),
            (&["x=y"], Version::Http10, Framing::None, Some(false)),
        ];
        for (lines, version, framing, expected) in cases {
            let mut fields = Fields::default();
            for line in lines {
                fields.note_expect(line.as_bytes());
            }
            assert_eq!(
                fields.expect_continue(version, framing).ok(),
                expected,
                "{lines:?}"
            );
        }
    }
}
