//! Defines what a request asks for: the forms of a request target and the authority.
//!
//! Invariant: an authority that leaves this file has a host, no user information, and a port that
//! fits 16 bits; a path starts with `/` or is `*`; neither holds a fragment.

use std::net::Ipv6Addr;

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use http::uri::{Authority, PathAndQuery, Scheme};

use super::refusal::Refusal;

/// The form in which the client wrote its target (RFC 9112 section 3.2).
///
/// The authority form belongs to CONNECT alone, which is refused, so it has no variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `/path?query`, the usual one.
    Origin,
    /// `http://authority/path?query`, whose authority wins over the Host field.
    Absolute,
    /// `*`: an OPTIONS request about the server as a whole.
    Asterisk,
}

/// A target taken apart.
pub(super) struct Parts {
    pub(super) form: Target,
    /// The scheme and the authority that the target itself names.
    pub(super) scheme: Option<Scheme>,
    pub(super) authority: Option<Authority>,
    pub(super) path_and_query: PathAndQuery,
}

/// Takes a request target apart (RFC 9112 section 3.2).
///
/// CONNECT is 501. A target in no form, in a form that its method cannot have, with a fragment,
/// with a byte outside ASCII or with another scheme than http and https is 400. Characters that
/// no URI has but that browsers send as they are, such as `|` and `{`, pass.
pub(super) fn parse(method: &Method, raw: Bytes) -> Result<Parts, Refusal> {
    if method == Method::CONNECT {
        return Err(Refusal::not_implemented("method CONNECT"));
    }
    if !raw.is_ascii() {
        return Err(Refusal::bad_request("target is not ASCII"));
    }
    if raw.contains(&b'#') {
        return Err(Refusal::bad_request("target has a fragment"));
    }
    if raw.starts_with(b"/") {
        return Ok(Parts {
            form: Target::Origin,
            scheme: None,
            authority: None,
            path_and_query: path(raw)?,
        });
    }
    if &raw[..] == b"*" {
        if method != Method::OPTIONS {
            return Err(Refusal::bad_request("target * without OPTIONS"));
        }
        return Ok(Parts {
            form: Target::Asterisk,
            scheme: None,
            authority: None,
            path_and_query: asterisk(),
        });
    }
    parse_absolute(method, &raw)
}

/// Takes an absolute form apart (RFC 9112 section 3.2.2).
fn parse_absolute(method: &Method, raw: &Bytes) -> Result<Parts, Refusal> {
    let Some(colon) = raw.windows(3).position(|three| three == b"://") else {
        return Err(Refusal::bad_request("target in no known form"));
    };
    let scheme = match raw[..colon].to_ascii_lowercase().as_slice() {
        b"http" => Scheme::HTTP,
        b"https" => Scheme::HTTPS,
        _ => return Err(Refusal::bad_request("target with an unknown scheme")),
    };
    let rest = raw.slice(colon + 3..);
    let ends = |byte: &u8| *byte == b'/' || *byte == b'?';
    let authority_len = rest.iter().position(ends).unwrap_or(rest.len());
    let authority = parse_authority(rest.slice(..authority_len))
        .map_err(|_| Refusal::bad_request("target with an invalid authority"))?;
    let rest = rest.slice(authority_len..);
    // RFC 9112 section 3.2.4: OPTIONS with neither path nor query is about the whole server.
    let (form, path_and_query) = match rest.first() {
        None if method == Method::OPTIONS => (Target::Asterisk, asterisk()),
        None => (Target::Absolute, PathAndQuery::from_static("/")),
        Some(b'?') => {
            let mut rooted = BytesMut::with_capacity(rest.len() + 1);
            rooted.put_u8(b'/');
            rooted.extend_from_slice(&rest);
            (Target::Absolute, path(rooted.freeze())?)
        }
        Some(_) => (Target::Absolute, path(rest)?),
    };
    Ok(Parts {
        form,
        scheme: (form == Target::Absolute).then_some(scheme),
        authority: Some(authority),
        path_and_query,
    })
}

fn asterisk() -> PathAndQuery {
    PathAndQuery::from_static("*")
}

fn path(raw: Bytes) -> Result<PathAndQuery, Refusal> {
    PathAndQuery::from_maybe_shared(raw)
        .map_err(|_| Refusal::bad_request("target with an invalid character"))
}

/// Reads the value of a Host field (RFC 9110 section 7.2, RFC 9112 section 3.2).
pub(super) fn parse_host(value: Bytes) -> Result<Authority, Refusal> {
    parse_authority(value).map_err(|InvalidAuthority| Refusal::bad_request("invalid Host"))
}

struct InvalidAuthority;

/// Reads `uri-host [ ":" port ]` (RFC 3986 section 3.2). An empty port is dropped, as section
/// 6.2.3 there advises, so that one host has one spelling.
fn parse_authority(raw: Bytes) -> Result<Authority, InvalidAuthority> {
    let host_len = if raw.starts_with(b"[") {
        let close = raw
            .iter()
            .position(|byte| *byte == b']')
            .ok_or(InvalidAuthority)?;
        let literal = str::from_utf8(&raw[1..close]).map_err(|_| InvalidAuthority)?;
        literal.parse::<Ipv6Addr>().map_err(|_| InvalidAuthority)?;
        close + 1
    } else {
        let len = raw
            .iter()
            .position(|byte| *byte == b':')
            .unwrap_or(raw.len());
        if len == 0 || !raw[..len].iter().copied().all(is_reg_name) {
            return Err(InvalidAuthority);
        }
        len
    };
    let kept = match &raw[host_len..] {
        [] | [b':'] => host_len,
        [b':', port @ ..] if is_port(port) => raw.len(),
        _ => return Err(InvalidAuthority),
    };
    Authority::from_maybe_shared(raw.slice(..kept)).map_err(|_| InvalidAuthority)
}

/// Whether a byte may stand in a registered name: unreserved and sub-delims of RFC 3986 without
/// the comma, which is how a list of two hosts would show. Percent-encoding is not taken: it
/// would give one host two spellings.
fn is_reg_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

fn is_port(digits: &[u8]) -> bool {
    const DIGITS_MAX: usize = 5;
    let value = |total: u32, digit: &u8| total * 10 + u32::from(digit - b'0');
    (1..=DIGITS_MAX).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
        && digits.iter().fold(0, value) <= u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(method: Method, raw: &'static str) -> Result<(Target, String, String), u16> {
        let parts = parse(&method, Bytes::from_static(raw.as_bytes()))
            .map_err(|refusal| refusal.status.as_u16())?;
        let authority = parts
            .authority
            .map_or(String::new(), |authority| authority.to_string());
        Ok((parts.form, authority, parts.path_and_query.to_string()))
    }

    #[test]
    fn forms() {
        use Target::{Absolute, Asterisk, Origin};
        let cases = [
            (Method::GET, "/", Origin, "", "/"),
            (
                Method::GET,
                "//a/../b?x=/?y|{}",
                Origin,
                "",
                "//a/../b?x=/?y|{}",
            ),
            (Method::GET, "/100%", Origin, "", "/100%"),
            (Method::OPTIONS, "*", Asterisk, "", "*"),
            (Method::GET, "http://a", Absolute, "a", "/"),
            (Method::GET, "HTTP://A:80/p?q", Absolute, "A:80", "/p?q"),
            (Method::GET, "https://a?q", Absolute, "a", "/?q"),
            (Method::OPTIONS, "http://a:", Asterisk, "a", "*"),
            (Method::OPTIONS, "http://a/", Absolute, "a", "/"),
            (
                Method::GET,
                "http://[::1]:8/?http://b/",
                Absolute,
                "[::1]:8",
                "/?http://b/",
            ),
        ];
        for (method, raw, form, authority, path) in cases {
            let expected = Ok((form, authority.to_owned(), path.to_owned()));
            assert_eq!(target(method, raw), expected, "{raw}");
        }
    }

    #[test]
    fn refused_targets() {
        let bad = [
            "*",
            "a",
            "a:80",
            "a/b",
            "?q",
            "/#f",
            "/é",
            "/<",
            "http:/a",
            "http:///p",
            "ftp://a/",
            "://a/",
            "http://u@a/",
            "http://a:b/",
            "http://a b/",
            "http://a,b/",
            "http://",
        ];
        for raw in bad {
            assert_eq!(target(Method::GET, raw), Err(400), "{raw}");
        }
        for raw in ["a:80", "/", "*"] {
            assert_eq!(target(Method::CONNECT, raw), Err(501), "{raw}");
        }
    }

    #[test]
    fn hosts() {
        let good = [
            ("a", "a"),
            ("A.example:8080", "A.example:8080"),
            ("a:", "a"),
            ("a_b-c.d~e", "a_b-c.d~e"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("a:65535", "a:65535"),
            ("[::1]", "[::1]"),
            ("[2001:db8::192.0.2.1]:443", "[2001:db8::192.0.2.1]:443"),
            ("[::]:", "[::]"),
        ];
        for (raw, text) in good {
            let host = parse_host(Bytes::from_static(raw.as_bytes()));
            assert_eq!(
                host.map(|host| host.to_string()),
                Ok(text.to_owned()),
                "{raw}"
            );
        }
        let bad = [
            "",
            ":80",
            "a:65536",
            "a:000080",
            "a:+80",
            "a:8 0",
            "a:80:80",
            "a,b",
            "a b",
            "u@a",
            "a/",
            "a?b",
            "a%41",
            "é",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "[1.2.3.4]",
            "a[",
            "a\\b",
            "a\tb",
            "[::1]]",
            "[::1]:80:",
        ];
        for raw in bad {
            assert!(
                parse_host(Bytes::from_static(raw.as_bytes())).is_err(),
                "{raw}"
            );
        }
    }
}
