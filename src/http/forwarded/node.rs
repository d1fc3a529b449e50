//! Defines how an address is written in X-Forwarded-For and in `Forwarded: for=`.

use std::net::{IpAddr, Ipv6Addr};

/// Who made a connection, as the proxy that took it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    /// An address; its port is nobody's business.
    Address(IpAddr),
    /// The proxy does not know or does not tell (RFC 7239 sections 6.2 and 6.3).
    Unknown,
}

impl Node {
    /// Reads `ADDRESS`, `V4:PORT`, `[V6]`, `[V6]:PORT`, `unknown` or `_NAME`; `None` for anything
    /// else (RFC 7239 section 6, and what proxies write in X-Forwarded-For).
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::Address(address.to_canonical()));
        }
        if let Some((address, port)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        {
            let address = IpAddr::from(address.parse::<Ipv6Addr>().ok()?);
            let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return port_fits.then_some(Self::Address(address.to_canonical()));
        }
        let name = match text.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return None,
            None => text,
        };
        if name.eq_ignore_ascii_case("unknown") || is_obfuscated(name) {
            return Some(Self::Unknown);
        }
        // Only an IPv4 address is left to have a port here.
        name.parse()
            .ok()
            .map(|address| Self::Address(IpAddr::V4(address)))
    }
}

/// `port` of RFC 7239 section 6: up to five digits, or a name that hides them.
fn is_port(text: &str) -> bool {
    const DIGITS_MAX: usize = 5;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (1..=DIGITS_MAX).contains(&text.len())) || is_obfuscated(text)
}

/// `obfnode` of RFC 7239 section 6.
fn is_obfuscated(text: &str) -> bool {
    let character = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.strip_prefix('_')
        .is_some_and(|name| !name.is_empty() && name.bytes().all(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes() {
        let address = |text: &str| Some(Node::Address(text.parse().unwrap()));
        for (text, expect) in [
            ("192.0.2.7", address("192.0.2.7")),
            ("192.0.2.7:80", address("192.0.2.7")),
            ("192.0.2.7:_p", address("192.0.2.7")),
            ("2001:DB8::7", address("2001:db8::7")),
            ("[2001:db8::7]", address("2001:db8::7")),
            ("[2001:db8::7]:65535", address("2001:db8::7")),
            ("::ffff:192.0.2.7", address("192.0.2.7")),
            ("[::ffff:192.0.2.7]:1", address("192.0.2.7")),
            ("unknown", Some(Node::Unknown)),
            ("Unknown:1", Some(Node::Unknown)),
            ("_gazonk", Some(Node::Unknown)),
            ("_a.b-c_d:_e", Some(Node::Unknown)),
        ] {
            assert_eq!(Node::parse(text.as_bytes()), expect, "{text}");
        }
        for text in [
            "",
            "_",
            "example.com",
            "192.0.2",
            "192.0.2.07",
            "192.0.2.7:",
            "192.0.2.7:123456",
            "192.0.2.7:80:80",
            "192.0.2.7 ",
            "[192.0.2.7]",
            "[::1",
            "[::1]80",
            "[::1]:",
            "fe80::1%eth0",
            "unknown:",
            "_a b",
            "\u{e9}",
        ] {
            assert_eq!(Node::parse(text.as_bytes()), None, "{text}");
        }
    }
}
