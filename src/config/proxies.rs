//! Defines the settings about proxies, and how they are read: whom to believe, which fields mean
//! https, and the path prefix.
//!
//! Invariant: a network holds no bits below its mask, and the name and the value of a field can
//! stand in a request.

use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::choice::choices;
use super::error::Problem;
use super::raw::{Entry, Written};
use super::route::normal_path;

choices! {
    /// How connections of proxies begin.
    ProxyProtocol, "a version of the PROXY protocol: off, v1, v2 or auto" {
        /// As any other: with the request.
        Off = "off",
        /// With a line of text.
        V1 = "v1",
        /// With a binary header.
        V2 = "v2",
        /// With one or the other.
        Auto = "auto",
    }
}

/// Which proxies are believed, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxies {
    /// Proxies whose fields about clients are believed.
    pub forwarded_allow_ips: Vec<IpNet>,
    /// Fields by name, in lower case and none twice, and the values with which they mean https.
    pub secure_scheme_headers: Vec<(String, String)>,
    /// How connections from `protocol_allow_from` and on Unix sockets begin.
    pub protocol: ProxyProtocol,
    /// Proxies that speak the PROXY protocol.
    pub protocol_allow_from: Vec<IpNet>,
    /// Path prefix under which proxies publish the apps, normalised as the path of a
    /// [`Route`](super::Route); empty for none.
    pub root_path: String,
}

impl Proxies {
    pub(super) fn blank() -> Self {
        Self {
            forwarded_allow_ips: Vec::new(),
            secure_scheme_headers: Vec::new(),
            protocol: ProxyProtocol::Off,
            protocol_allow_from: Vec::new(),
            root_path: String::new(),
        }
    }
}

const EXPECTED_NETWORK: &str = "an address or a network, such as 127.0.0.1, ::1, 10.0.0.0/8 or \
                                fd00::/8, or * for all";
const EXPECTED_FIELD: &str = "a header field that means https, such as X-Forwarded-Proto=https";
const EXPECTED_PREFIX: &str = "a path prefix, such as /api, or / for none";

/// The same entry with the values between commas each on its own, as gunicorn writes lists.
pub(super) fn members(entry: &Entry) -> Entry {
    let split = |written: &Written| {
        let texts = written.text.split(',').map(|text| text.trim().to_owned());
        let origin = written.origin.clone();
        let member = move |text| Written {
            text,
            origin: origin.clone(),
        };
        let members = texts.filter(|text| !text.is_empty()).map(member);
        members.collect::<Vec<_>>()
    };
    Entry {
        values: entry.values.iter().flat_map(split).collect(),
        ..entry.clone()
    }
}

/// Reads an address, a network, or `*` for both networks that hold everything.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, Problem> {
    if text == "*" {
        return Ok(vec![Ipv4Net::default().into(), Ipv6Net::default().into()]);
    }
    let address = text.parse().map(|address: IpAddr| address.to_canonical());
    let network = address.map(IpNet::from).or_else(|_| text.parse());
    match network {
        // Who writes 10.1.2.3/8 means one address or all of 10.0.0.0/8; nobody can tell.
        Ok(network) if network.trunc() == network => Ok(vec![canonical(network)]),
        Ok(_) | Err(_) => Err(Problem::invalid(text, EXPECTED_NETWORK)),
    }
}

/// An IPv4 network that is written as an IPv6 one is what it was, as an address is (RFC 4291
/// section 2.5.5.2): peers' addresses are compared with it in that form.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let length = network.prefix_len().checked_sub(MAPPED_BITS);
    match (network.addr().to_canonical(), length) {
        (address @ IpAddr::V4(_), Some(length)) => IpNet::new(address, length).unwrap_or(network),
        _ => network,
    }
}

/// How a network is written: without its length if it is one address.
pub(super) fn network_text(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// Reads `NAME=VALUE`; the name of a field has no case.
pub(super) fn field(text: &str) -> Result<(String, String), Problem> {
    let pair = text.split_once('=').and_then(|(name, value)| {
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        let value = HeaderValue::from_str(value.trim()).ok()?;
        let value = value.to_str().ok().filter(|value| !value.is_empty())?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    pair.ok_or_else(|| Problem::invalid(text, EXPECTED_FIELD))
}

/// Reads a path prefix, which has no slash at its end; nothing and `/` are none.
pub(super) fn prefix(text: &str) -> Result<String, Problem> {
    match normal_path(text) {
        Some(path) if path == "/" => Ok(String::new()),
        Some(path) => Ok(path),
        None => Err(Problem::invalid(text, EXPECTED_PREFIX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_and_written_back() {
        for (text, expect) in [
            ("127.0.0.1", "127.0.0.1"),
            ("127.0.0.1/32", "127.0.0.1"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("0::1", "::1"),
            ("FD00::/8", "fd00::/8"),
            ("::ffff:10.1.2.3", "10.1.2.3"),
            ("::ffff:10.1.2.3/128", "10.1.2.3"),
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::fffe:0:0/95", "::fffe:0:0/95"),
            ("::/0", "::/0"),
        ] {
            let read = networks(text).unwrap();
            let written: Vec<_> = read.iter().map(network_text).collect();
            assert_eq!(written, [expect], "{text}");
        }
        let all = networks("*").unwrap();
        let written: Vec<_> = all.iter().map(network_text).collect();
        assert_eq!(written, ["0.0.0.0/0", "::/0"]);
        for text in [
            "",
            "localhost",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0",
            "10.0.0.0/8 ",
            "::1/127",
            "::ffff:127.0.0.1/104",
            "::ffff:0:0/95",
            "[::1]",
            "fe80::1%eth0",
            "**",
            "unix:",
        ] {
            assert!(networks(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fields_are_read() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        let proto = pair("x-forwarded-proto", "https");
        assert_eq!(field("X-FORWARDED-PROTO=https"), proto);
        assert_eq!(field("x-forwarded-proto = https"), proto);
        assert_eq!(field("A=b=c"), pair("a", "b=c"));
        for text in ["", "A", "A=", "=b", "a b=c", "A=\n", "A=\u{e9}"] {
            assert!(field(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn prefixes_are_read() {
        for (text, expect) in [
            ("", ""),
            ("/", ""),
            ("/api", "/api"),
            ("/api/", "/api"),
            ("/a/b", "/a/b"),
            ("/caf%c3%a9", "/caf%C3%A9"),
        ] {
            assert_eq!(prefix(text).as_deref(), Ok(expect), "{text}");
        }
        for text in [
            "api",
            "//",
            "//evil.example",
            "/a//b",
            "/../a",
            "/a?q",
            "/a b",
        ] {
            assert!(prefix(text).is_err(), "{text}");
        }
    }
}
