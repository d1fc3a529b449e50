//! Defines the PROXY protocol, versions 1 and 2 (haproxy.org/download/3.0/doc/proxy-protocol.txt),
//! without input and output: what a proxy says, before anything else, of the connection that it
//! relays.
//!
//! Invariant: at most [`HEADER_BYTES_MAX`] bytes are ever needed for an answer, and the answer does
//! not depend on how the bytes were cut. What the specification leaves to guessing is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Start of a header of version 1 (section 2.1).
const V1_START: &[u8] = b"PROXY ";
/// The longest line of version 1, with its line end (section 2.1).
const V1_BYTES_MAX: usize = 107;
/// Start of a header of version 2 (section 2.2).
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The start, then version and command, family and transport, and the length of the rest.
const V2_FIXED_BYTES: usize = 16;
/// The most that may follow: addresses and extensions. Nobody needs the 64 KiB that fit the
/// length; this is what nginx takes, too.
const V2_REST_MAX: usize = 4096;
/// The addresses of two Unix sockets (section 2.2).
const UNIX_BYTES: usize = 216;

/// The most bytes that a header has.
pub const HEADER_BYTES_MAX: usize = V2_FIXED_BYTES + V2_REST_MAX;

/// Which versions are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// The line of text alone.
    V1,
    /// The binary header alone.
    V2,
    /// Either; their first bytes differ.
    Any,
}

/// What a proxy says of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// It is relayed for a client.
    Relayed {
        /// The client's address and port.
        source: SocketAddr,
        /// Where the client had connected to.
        destination: SocketAddr,
    },
    /// It is relayed for a client without an address of the internet: `UNKNOWN`, `AF_UNSPEC` or
    /// `AF_UNIX`.
    Unknown,
    /// The proxy made it for itself, to see whether the server lives: `LOCAL`.
    Local,
}

/// A connection that does not begin as it must. It cannot be answered: what the other side speaks
/// is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(&'static str);

/// Reads the header at the start of `buf`, which holds what has arrived so far.
///
/// Answers with the header and the number of bytes that it took, or `None` if more are needed.
///
/// # Errors
///
/// [`Malformed`] as soon as the bytes cannot become a header of one of `versions`.
pub fn parse(buf: &[u8], versions: Versions) -> Result<Option<(Header, usize)>, Malformed> {
    let (v1, v2) = match versions {
        Versions::V1 => (true, false),
        Versions::V2 => (false, true),
        Versions::Any => (true, true),
    };
    if v1 && begins(buf, V1_START) {
        parse_v1(buf)
    } else if v2 && begins(buf, V2_START) {
        parse_v2(buf)
    } else {
        Err(Malformed("no PROXY header of a version that is taken"))
    }
}

/// Whether `buf` is the beginning of `start`, or `start` that of `buf`.
fn begins(buf: &[u8], start: &[u8]) -> bool {
    let common = buf.len().min(start.len());
    buf[..common] == start[..common]
}

/// `PROXY TCP4 SOURCE DESTINATION PORT PORT`, the same with TCP6, or `PROXY UNKNOWN` and whatever.
fn parse_v1(buf: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    let window = &buf[..buf.len().min(V1_BYTES_MAX)];
    let printable = |byte: &u8| matches!(byte, b' '..=b'~');
    let end = window.iter().position(|byte| !printable(byte));
    let Some(end) = end else {
        return match window.len() {
            V1_BYTES_MAX => Err(Malformed("a PROXY line that is too long")),
            _ => Ok(None),
        };
    };
    match &window[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if window.len() < V1_BYTES_MAX => return Ok(None),
        _ => return Err(Malformed("a PROXY line without CRLF at its end")),
    }
    let line = str::from_utf8(&window[V1_START.len()..end]).unwrap_or_default();
    Ok(Some((v1_header(line)?, end + 2)))
}

fn v1_header(line: &str) -> Result<Header, Malformed> {
    let (protocol, rest) = line.split_once(' ').unwrap_or((line, ""));
    let header = match protocol {
        "UNKNOWN" => Some(Header::Unknown),
        "TCP4" => v1_addresses::<Ipv4Addr>(rest),
        "TCP6" => v1_addresses::<Ipv6Addr>(rest),
        _ => return Err(Malformed("a PROXY line with an unknown protocol")),
    };
    header.ok_or(Malformed("a PROXY line with malformed addresses"))
}

/// Reads two addresses of one family and their ports.
fn v1_addresses<A: std::str::FromStr + Into<IpAddr>>(text: &str) -> Option<Header> {
    let mut words = text.split(' ');
    let mut address = || Some(words.next()?.parse::<A>().ok()?.into());
    let (source, destination) = (address()?, address()?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then_some(Header::Relayed {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    })
}

/// A port in decimal, without a sign and without zeros before it.
fn port(text: &str) -> Option<u16> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}

/// Signature, version and command, family and transport, length, addresses, extensions.
fn parse_v2(buf: &[u8]) -> Result<Option<(Header, usize)>, Malformed> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    let command = match buf.get(V2_START.len()) {
        None => return Ok(None),
        Some(&command @ (LOCAL | PROXY)) => command,
        Some(_) => return Err(Malformed("a PROXY header with an unknown command")),
    };
    let Some(&[family, high, low]) = buf.get(V2_START.len() + 1..V2_FIXED_BYTES) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_REST_MAX {
        return Err(Malformed("a PROXY header that is too long"));
    }
    // What LOCAL says of addresses is to be ignored, their family too.
    let addresses = if command == LOCAL {
        0
    } else {
        v2_bytes(family)?
    };
    if length < addresses {
        return Err(Malformed("a PROXY header too short for its addresses"));
    }
    let Some(rest) = buf.get(V2_FIXED_BYTES..V2_FIXED_BYTES + length) else {
        return Ok(None);
    };
    let header = match command {
        LOCAL => Header::Local,
        _ => v2_addresses(&rest[..addresses]),
    };
    Ok(Some((header, V2_FIXED_BYTES + length)))
}

const INET: usize = 12;
const INET6: usize = 36;

/// The bytes that the addresses of a family have; a datagram is not what a stream was made for.
fn v2_bytes(family: u8) -> Result<usize, Malformed> {
    match family {
        0x00 => Ok(0),
        0x11 => Ok(INET),
        0x21 => Ok(INET6),
        0x31 => Ok(UNIX_BYTES),
        _ => Err(Malformed("a PROXY header with an unknown family")),
    }
}

fn v2_addresses(bytes: &[u8]) -> Header {
    fn pair<const N: usize>(bytes: &[u8]) -> Option<Header>
    where
        IpAddr: From<[u8; N]>,
    {
        let (source, bytes) = bytes.split_first_chunk::<N>()?;
        let (destination, bytes) = bytes.split_first_chunk::<N>()?;
        let &[s0, s1, d0, d1] = bytes else {
            return None;
        };
        let socket =
            |address: [u8; N], port| SocketAddr::new(address.into(), u16::from_be_bytes(port));
        Some(Header::Relayed {
            source: socket(*source, [s0, s1]),
            destination: socket(*destination, [d0, d1]),
        })
    }
    let addresses = match bytes.len() {
        INET => pair::<4>(bytes),
        INET6 => pair::<16>(bytes),
        _ => None,
    };
    addresses.unwrap_or(Header::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1(line: &str) -> Result<Option<(Header, usize)>, Malformed> {
        parse(line.as_bytes(), Versions::V1)
    }

    /// A header of version 2 with its length.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = V2_START.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    fn relayed(source: &str, destination: &str) -> Header {
        Header::Relayed {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    #[test]
    fn lines_of_version_1() {
        let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 16));
        assert_eq!(longest.len(), V1_BYTES_MAX);
        for (line, expect) in [
            (
                "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n",
                relayed("192.0.2.7:56324", "198.51.100.1:443"),
            ),
            (
                "PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
                relayed("255.255.255.255:65535", "0.0.0.0:0"),
            ),
            (
                "PROXY TCP6 2001:db8::7 ::1 1 2\r\n",
                relayed("[2001:db8::7]:1", "[::1]:2"),
            ),
            ("PROXY UNKNOWN\r\n", Header::Unknown),
            ("PROXY UNKNOWN any thing at all\r\n", Header::Unknown),
            (&longest, Header::Unknown),
        ] {
            assert_eq!(v1(line), Ok(Some((expect, line.len()))), "{line}");
            let more = format!("{line}GET / HTTP/1.1\r\n");
            assert_eq!(v1(&more), Ok(Some((expect, line.len()))), "{line}");
        }
    }

    #[test]
    fn what_is_no_line_of_version_1_is_refused() {
        let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 15));
        for line in [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP6 fe80::1%lo ::1 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 -2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX",
            "PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY UNKNOWN \u{e9}\r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
            &too_long,
        ] {
            assert!(v1(line).is_err(), "{line}");
        }
    }

    #[test]
    fn headers_of_version_2() {
        let inet = [192, 0, 2, 7, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
        let mut inet6 = [0; INET6];
        inet6[15] = 1;
        inet6[31] = 2;
        inet6[33] = 3;
        inet6[35] = 4;
        let with_extensions = [&inet[..], &[4, 0, 1, 0, 0x20, 0xff, 0xff]].concat();
        let most = [&inet[..], &[0; V2_REST_MAX - INET]].concat();
        let four = relayed("192.0.2.7:56324", "198.51.100.1:443");
        for (command, family, rest, expect) in [
            (0x21, 0x11, &inet[..], four),
            (0x21, 0x11, &with_extensions, four),
            (0x21, 0x11, &most, four),
            (0x21, 0x21, &inet6, relayed("[::1]:3", "[::2]:4")),
            (0x21, 0x31, &[b'/'; UNIX_BYTES], Header::Unknown),
            (0x21, 0x00, &[], Header::Unknown),
            (0x21, 0x00, &inet, Header::Unknown),
            (0x20, 0x00, &[], Header::Local),
            (0x20, 0x11, &inet, Header::Local),
            (0x20, 0xff, &[1, 2, 3], Header::Local),
        ] {
            let mut bytes = v2(command, family, rest);
            let len = bytes.len();
            for versions in [Versions::V2, Versions::Any] {
                assert_eq!(parse(&bytes, versions), Ok(Some((expect, len))));
            }
            assert!(parse(&bytes, Versions::V1).is_err());
            bytes.extend(b"\r\n\r\n");
            assert_eq!(parse(&bytes, Versions::V2), Ok(Some((expect, len))));
        }
    }

    #[test]
    fn what_is_no_header_of_version_2_is_refused() {
        for (command, family, rest) in [
            (0x21, 0x11, &[0; INET - 1][..]),
            (0x21, 0x21, &[0; INET6 - 1]),
            (0x21, 0x21, &[0; INET]),
            (0x21, 0x31, &[0; UNIX_BYTES - 1]),
            (0x21, 0x11, &[]),
            (0x21, 0x12, &[0; INET]),
            (0x21, 0x22, &[0; INET6]),
            (0x21, 0x01, &[0; INET]),
            (0x21, 0x41, &[0; UNIX_BYTES]),
            (0x22, 0x11, &[0; INET]),
            (0x11, 0x11, &[0; INET]),
            (0x31, 0x11, &[0; INET]),
            (0x20, 0x00, &[0; V2_REST_MAX + 1]),
            (0x21, 0x11, &[0; V2_REST_MAX + 1]),
        ] {
            let bytes = v2(command, family, rest);
            assert!(parse(&bytes, Versions::Any).is_err(), "{bytes:?}");
        }
        assert!(parse(b"\r\n\r\nGET / HTTP/1.1\r\n", Versions::Any).is_err());
        assert!(parse(b"PROXY UNKNOWN\r\n", Versions::V2).is_err());
        assert_eq!(parse(b"", Versions::Any), Ok(None));
    }
}
