//! Defines addresses to listen on.
//!
//! Invariant: a [`BindAddress`] is well formed; whether its name resolves, and whether it is free,
//! is only known when it is bound.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use super::error::Problem;
use super::host::normal_host;
use super::text::absolute;

const EXPECTED: &str = "an address, such as 127.0.0.1:8000, [::1]:8000, :8000, unix:/run/app.sock \
                        or fd://3";
const EXPECTED_V6: &str = "an address: write an IPv6 address in brackets, such as [::1]:8000";
const EXPECTED_SOCKET: &str = "the path of a Unix socket: it is empty, longer than 107 bytes, \
                               starts with @, or has a NUL byte";
const EXPECTED_DESCRIPTOR: &str = "a file descriptor, such as fd://3 (0 to 2 are standard streams)";

/// Port of an address that names none, as in gunicorn.
const DEFAULT_PORT: u16 = 8000;
/// Longest path of a Unix socket: `sun_path` of unix(7) less its NUL.
const SOCKET_PATH_MAX: usize = 107;
/// First descriptor that is not a standard stream, as in sd_listen_fds(3).
const FIRST_DESCRIPTOR: i32 = 3;

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BindAddress {
    /// A TCP address.
    Tcp {
        /// A host name, an IPv4 address or an IPv6 address without brackets; not yet resolved.
        host: String,
        /// The port; 0 lets the kernel choose one.
        port: u16,
    },
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
    /// A listening socket that is already open in this process, 3 or more.
    Descriptor(i32),
}

impl BindAddress {
    /// Reads `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`, `:PORT`, `unix:PATH` or `fd://N`; `base` is
    /// the folder of a relative path.
    pub(super) fn parse(text: &str, base: &Path) -> Result<Self, Problem> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return socket_path(text, path, base).map(Self::Unix);
        }
        if let Some(number) = text.strip_prefix("fd:") {
            return parse_descriptor(text, number.strip_prefix("//").unwrap_or(""));
        }
        parse_tcp(text)
    }
}

/// Reads the path of a Unix socket; a relative one starts at `base`. `text` is what was written,
/// for an error.
pub(super) fn socket_path(text: &str, path: &str, base: &Path) -> Result<PathBuf, Problem> {
    let absolute = absolute(path, base);
    let length = absolute.as_os_str().len();
    // An abstract socket has no owner or mode: whoever shares the network can connect to it.
    if path.is_empty() || path.starts_with('@') || path.contains('\0') || length > SOCKET_PATH_MAX {
        return Err(Problem::invalid(text, EXPECTED_SOCKET));
    }
    Ok(absolute)
}

fn parse_descriptor(text: &str, number: &str) -> Result<BindAddress, Problem> {
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    match number.parse() {
        Ok(number) if digits && number >= FIRST_DESCRIPTOR => Ok(BindAddress::Descriptor(number)),
        _ => Err(Problem::invalid(text, EXPECTED_DESCRIPTOR)),
    }
}

fn parse_tcp(text: &str) -> Result<BindAddress, Problem> {
    let invalid = || Problem::invalid(text, EXPECTED);
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Problem::invalid(text, EXPECTED_V6));
    }
    // The colons of a bracketed address are not the port's.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().map_err(|_| invalid())?
        }
        Some(_) => return Err(invalid()),
    };
    if host.is_empty() && !text.is_empty() {
        return Ok(BindAddress::Tcp {
            host: "0.0.0.0".into(),
            port,
        });
    }
    let host = normal_host(host).ok_or_else(invalid)?;
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    Ok(BindAddress::Tcp { host, port })
}

/// The form in which it is written in a settings file.
impl fmt::Display for BindAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
            Self::Descriptor(number) => write!(formatter, "fd://{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<BindAddress, Problem> {
        BindAddress::parse(text, Path::new("/srv"))
    }

    #[test]
    fn addresses_are_read_and_written_back() {
        for (text, expect) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("localhost", "localhost:8000"),
            ("LocalHost:0", "localhost:0"),
            ("[::1]:80", "[::1]:80"),
            ("[0::1]", "[::1]:8000"),
            (":9000", "0.0.0.0:9000"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
            ("unix:run/a.sock", "unix:/srv/run/a.sock"),
            ("unix:a:1", "unix:/srv/a:1"),
            ("fd://3", "fd://3"),
        ] {
            let address = parse(text).unwrap();
            assert_eq!(address.to_string(), expect, "{text}");
            assert_eq!(parse(expect), Ok(address), "{text}");
        }
    }

    #[test]
    fn an_ipv6_host_has_no_brackets() {
        let expect = BindAddress::Tcp {
            host: "::1".into(),
            port: 80,
        };
        assert_eq!(parse("[::1]:80"), Ok(expect));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("unix:/{}", "a".repeat(107));
        for text in [
            "",
            ":",
            "8000",
            "localhost:",
            "localhost:http",
            "localhost:65536",
            "localhost:+1",
            "::1",
            "::1:80",
            "[::1",
            "[::1]80",
            "[::1]:",
            "a b:80",
            "http://localhost:80",
            "a:b:80",
            "unix:",
            "unix:@name",
            "unix:a\0b",
            "fd://",
            "fd://2",
            "fd://-1",
            "fd://+3",
            "fd://x",
            "fd:3",
            "fd://99999999999",
            &long,
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let bare = parse("::1").unwrap_err().to_string();
        assert!(bare.contains("[::1]:8000"), "{bare}");
    }
}
