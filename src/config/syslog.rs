//! Defines where a daemon of syslog listens, and which part of it a message is for.
//!
//! Invariant: an address is well formed; whether a name resolves is found out at the start.

use std::fmt;
use std::path::{Path, PathBuf};

use super::address::socket_path;
use super::choice::choices;
use super::error::Problem;
use super::host::normal_host;

const EXPECTED: &str = "where syslog listens for datagrams: unix://PATH, unix://PATH#dgram, \
                        udp://HOST or udp://HOST:PORT";

/// Port of an address that names none (RFC 5426 section 3.3).
const DEFAULT_PORT: u16 = 514;

/// Where a daemon of syslog listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyslogTo {
    /// The absolute path of a Unix socket for datagrams.
    Unix(PathBuf),
    /// UDP.
    Udp {
        /// A host name, an IPv4 address or an IPv6 address without brackets; not yet resolved.
        host: String,
        /// The port.
        port: u16,
    },
}

impl SyslogTo {
    /// Reads an address; a relative path starts at `base`. Streams are refused: a line would have to
    /// wait for its reader.
    pub(super) fn parse(text: &str, base: &Path) -> Result<Self, Problem> {
        let invalid = || Problem::invalid(text, EXPECTED);
        if let Some(path) = text.strip_prefix("unix://") {
            let path = match path.split_once('#') {
                None | Some((_, "dgram")) => path.strip_suffix("#dgram").unwrap_or(path),
                Some(_) => return Err(invalid()),
            };
            return socket_path(text, path, base).map(Self::Unix);
        }
        let address = text.strip_prefix("udp://").ok_or_else(invalid)?;
        // The colons of a bracketed address are not the port's.
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let digits = port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse().ok().filter(|port| digits && *port > 0);
                (host, port.ok_or_else(invalid)?)
            }
            _ => (address, DEFAULT_PORT),
        };
        let host = normal_host(host).ok_or_else(invalid)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Ok(Self::Udp {
            host: host.to_owned(),
            port,
        })
    }
}

/// The form in which it is written in a settings file.
impl fmt::Display for SyslogTo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}#dgram", path.display()),
            Self::Udp { host, port } if host.contains(':') => {
                write!(formatter, "udp://[{host}]:{port}")
            }
            Self::Udp { host, port } => write!(formatter, "udp://{host}:{port}"),
        }
    }
}

choices! {
    /// Whom a message of syslog is for (RFC 3164 section 4.1.1).
    Facility, "a facility of syslog, such as user, daemon or local0 to local7" {
        /// Security.
        Auth = "auth",
        /// Security, for few to see.
        Authpriv = "authpriv",
        /// The clock daemon.
        Cron = "cron",
        /// Daemons that have none of their own.
        Daemon = "daemon",
        /// File transfer.
        Ftp = "ftp",
        /// The kernel.
        Kern = "kern",
        /// Printing.
        Lpr = "lpr",
        /// Mail.
        Mail = "mail",
        /// News.
        News = "news",
        /// The same as `auth`.
        Security = "security",
        /// Syslog itself.
        Syslog = "syslog",
        /// Programs of users.
        User = "user",
        /// UUCP.
        Uucp = "uucp",
        /// For local use.
        Local0 = "local0",
        /// For local use.
        Local1 = "local1",
        /// For local use.
        Local2 = "local2",
        /// For local use.
        Local3 = "local3",
        /// For local use.
        Local4 = "local4",
        /// For local use.
        Local5 = "local5",
        /// For local use.
        Local6 = "local6",
        /// For local use.
        Local7 = "local7",
    }
}

impl Facility {
    /// Its number in a message.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Kern => 0,
            Self::User => 1,
            Self::Mail => 2,
            Self::Daemon => 3,
            Self::Auth | Self::Security => 4,
            Self::Syslog => 5,
            Self::Lpr => 6,
            Self::News => 7,
            Self::Uucp => 8,
            Self::Cron => 9,
            Self::Authpriv => 10,
            Self::Ftp => 11,
            Self::Local0 => 16,
            Self::Local1 => 17,
            Self::Local2 => 18,
            Self::Local3 => 19,
            Self::Local4 => 20,
            Self::Local5 => 21,
            Self::Local6 => 22,
            Self::Local7 => 23,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        let base = Path::new("/srv");
        for (text, expect) in [
            ("unix:///dev/log", "unix:///dev/log#dgram"),
            ("unix:///dev/log#dgram", "unix:///dev/log#dgram"),
            ("unix://run/log", "unix:///srv/run/log#dgram"),
            ("udp://localhost", "udp://localhost:514"),
            ("udp://Logs.Example:5140", "udp://logs.example:5140"),
            ("udp://[::1]", "udp://[::1]:514"),
            ("udp://[::1]:1", "udp://[::1]:1"),
        ] {
            let address = SyslogTo::parse(text, base).unwrap();
            assert_eq!(address.to_string(), expect);
            assert_eq!(SyslogTo::parse(expect, base), Ok(address));
        }
        for text in [
            "",
            "/dev/log",
            "unix://",
            "unix:///dev/log#stream",
            "unix:///dev/log#",
            "tcp://localhost:514",
            "udp://",
            "udp://a:0",
            "udp://a:+1",
            "udp://a:65536",
            "udp://a b",
        ] {
            assert!(SyslogTo::parse(text, base).is_err(), "{text}");
        }
    }
}
