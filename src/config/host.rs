//! Defines host names and patterns of them, as routes and outbound rules use them.
//!
//! Invariant: every name held here is in lower case and without a trailing dot, an IPv4 address is
//! in dotted decimal, and an IPv6 address is in its shortest form and in brackets, as in a URL.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest host name in characters (RFC 1035 section 2.3.4, less the octets of the wire form).
const NAME_MAX: usize = 253;
/// Longest label of a host name (RFC 1035 section 2.3.4).
const LABEL_MAX: usize = 63;

/// Which hosts something applies to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This host name or address alone.
    Exact(String),
    /// Every host below this domain, at any depth, but not the domain itself: `*.example.com`
    /// holds `example.com`.
    Below(String),
}

impl HostPattern {
    /// Reads `NAME`, `ADDRESS`, `[V6]` or `*.NAME`; the meaning of a lone `*` is the caller's.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("*.") {
            Some(domain) => domain_name(domain).map(Self::Below),
            None => normal_host(text).map(Self::Exact),
        }
    }

    /// Whether `host` is meant; `host` must be normalised as the invariant of this file says.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(name) => name == host,
            Self::Below(domain) => host
                .strip_suffix(domain.as_str())
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
        }
    }
}

/// `*`, `name` or `*.name`.
impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => formatter.write_str("*"),
            Self::Exact(name) => formatter.write_str(name),
            Self::Below(domain) => write!(formatter, "*.{domain}"),
        }
    }
}

/// Normalises a host name, an IPv4 address or a bracketed IPv6 address; `None` if it is none.
#[must_use]
pub fn normal_host(text: &str) -> Option<String> {
    if let Some(inner) = text.strip_prefix('[') {
        let address: Ipv6Addr = inner.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.to_string());
    }
    domain_name(text)
}

/// Normalises a host name that is no address.
fn domain_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let labels_fit = name.split('.').all(|label| {
        (1..=LABEL_MAX).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    // Resolvers take names such as `8000`, `127.1` and `0x7f.1` for IPv4 addresses; whoever
    // writes one does not see which, and no top-level domain looks like a number.
    let last = name.rsplit('.').next().unwrap_or(name);
    let numeric = last.starts_with(|first: char| first.is_ascii_digit());
    (labels_fit && !numeric && name.len() <= NAME_MAX).then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_normalised() {
        for (text, expect) in [
            ("localhost", "localhost"),
            ("API.Example.COM.", "api.example.com"),
            ("my_app-1.internal", "my_app-1.internal"),
            ("127.0.0.1", "127.0.0.1"),
            ("[0:0::1]", "[::1]"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(normal_host(text).as_deref(), Some(expect), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long_label = "a".repeat(64);
        let long_name = format!("{0}.{0}.{0}.{0}.{0}", "a".repeat(60));
        for text in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a b",
            "bücher.example",
            "8000",
            "127.1",
            "1.2.3.4.5",
            "0x7f.0x1",
            "::1",
            "[::1",
            "[example.com]",
            "a/b",
            "a:1",
            "*",
            "*.com",
            "[fe80::1%lo]",
            &long_label,
            &long_name,
        ] {
            assert_eq!(normal_host(text), None, "{text}");
        }
    }

    #[test]
    fn patterns_match_what_they_name() {
        let below = HostPattern::parse("*.Example.com").unwrap();
        assert_eq!(below, HostPattern::Below("example.com".into()));
        for (host, expect) in [
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("example.com", false),
            (".example.com", false),
            ("badexample.com", false),
            ("a.example.com.evil.test", false),
        ] {
            assert_eq!(below.matches(host), expect, "{host}");
        }
        let exact = HostPattern::parse("example.com").unwrap();
        assert!(exact.matches("example.com") && !exact.matches("a.example.com"));
        assert!(HostPattern::Any.matches("anything.test"));
        for text in ["*", "*.", "*.1.2.3.4", "a.*.com", "**.com", "*example.com"] {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
    }
}
