//! Defines the rule that lets an app send requests to other servers.
//!
//! Invariant: a pattern says everything that it allows; the port that a URL leaves out is already
//! filled in.

use std::fmt;

use super::error::Problem;
use super::host::HostPattern;

const EXPECTED: &str = "an outbound pattern: http:// or https://, a host and no path, such as \
                        https://api.example.com, http://127.0.0.1:9000, https://*.example.com or \
                        https://*:8443; or * for every public server";

/// Scheme of an outgoing request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// The scheme's name in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of a URL that names none (RFC 9110 sections 4.2.1 and 4.2.2).
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A set of servers that an app may send requests to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutboundPattern {
    /// The only scheme that is allowed, or `None` for both.
    pub scheme: Option<Scheme>,
    /// The hosts that are allowed; `Any` and `Below` mean public addresses alone.
    pub host: HostPattern,
    /// The only port that is allowed, or `None` for every port.
    pub port: Option<u16>,
}

impl OutboundPattern {
    /// Reads `*`, `SCHEME://HOST` or `SCHEME://HOST:PORT`, where `HOST` and `PORT` may be `*`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        if text == "*" {
            return Ok(Self {
                scheme: None,
                host: HostPattern::Any,
                port: None,
            });
        }
        parse_url(text).ok_or_else(|| Problem::invalid(text, EXPECTED))
    }

    /// Whether a request to this scheme, host and port may be sent. `host` is normalised as
    /// [`super::normal_host`] does. Where it resolves to is the caller's to check:
    /// [`OutboundPattern::names_host`] tells whether a private address is meant.
    #[must_use]
    pub fn matches(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        self.scheme.is_none_or(|allowed| allowed == scheme)
            && self.port.is_none_or(|allowed| allowed == port)
            && self.host.matches(host)
    }

    /// Whether the pattern names its host in full. Only then does whoever wrote it vouch for an
    /// address that is not public, such as 127.0.0.1.
    #[must_use]
    pub fn names_host(&self) -> bool {
        matches!(self.host, HostPattern::Exact(_))
    }
}

fn parse_url(text: &str) -> Option<OutboundPattern> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = [Scheme::Http, Scheme::Https]
        .into_iter()
        .find(|known| scheme.eq_ignore_ascii_case(known.as_str()))?;
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        None => Some(scheme.default_port()),
        Some("*") => None,
        Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(number.parse().ok().filter(|port| *port != 0)?)
        }
        Some(_) => return None,
    };
    let host = if host == "*" {
        HostPattern::Any
    } else {
        HostPattern::parse(host)?
    };
    Some(OutboundPattern {
        scheme: Some(scheme),
        host,
        port,
    })
}

/// The form in which it is written in a settings file.
impl fmt::Display for OutboundPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(scheme) = self.scheme else {
            return formatter.write_str("*");
        };
        write!(formatter, "{}://{}", scheme.as_str(), self.host)?;
        match self.port {
            None => formatter.write_str(":*"),
            Some(port) if port == scheme.default_port() => Ok(()),
            Some(port) => write!(formatter, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_and_written_back() {
        for (text, expect) in [
            ("*", "*"),
            ("https://API.example.com", "https://api.example.com"),
            ("https://api.example.com/", "https://api.example.com"),
            ("HTTPS://api.example.com:443", "https://api.example.com"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("http://[0::1]", "http://[::1]"),
            ("https://*.example.com", "https://*.example.com"),
            ("https://*", "https://*"),
            ("https://*:8443", "https://*:8443"),
            ("http://db.internal:*", "http://db.internal:*"),
        ] {
            let pattern = OutboundPattern::parse(text).unwrap();
            assert_eq!(pattern.to_string(), expect, "{text}");
            assert_eq!(OutboundPattern::parse(expect), Ok(pattern), "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in [
            "",
            "**",
            "api.example.com",
            "ftp://a.example",
            "https://",
            "https:///",
            "https://a.example/path",
            "https://a.example?q",
            "https://user@a.example",
            "https://a.example:",
            "https://a.example:0",
            "https://a.example:65536",
            "https://a.example:+1",
            "https://a.*.example",
            "*://a.example",
            "https://a.example//",
        ] {
            assert!(OutboundPattern::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_match_what_they_name() {
        use Scheme::{Http, Https};
        for (pattern, scheme, host, port, expect) in [
            ("*", Http, "a.example", 1234, true),
            ("https://a.example", Https, "a.example", 443, true),
            ("https://a.example", Https, "a.example", 8443, false),
            ("https://a.example", Http, "a.example", 443, false),
            ("https://a.example", Https, "b.example", 443, false),
            ("https://*.example", Https, "b.example", 443, true),
            ("https://*.example", Https, "example", 443, false),
            ("http://[::1]:*", Http, "[::1]", 9, true),
        ] {
            let allowed = OutboundPattern::parse(pattern)
                .unwrap()
                .matches(scheme, host, port);
            assert_eq!(allowed, expect, "{pattern} {host}:{port}");
        }
        assert!(
            OutboundPattern::parse("http://127.0.0.1:1")
                .unwrap()
                .names_host()
        );
        assert!(
            !OutboundPattern::parse("https://*.example")
                .unwrap()
                .names_host()
        );
        assert!(!OutboundPattern::parse("*").unwrap().names_host());
    }
}
