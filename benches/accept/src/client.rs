//! Defines one connection of a client: it never waits, sends one request and reads one response.

use std::fmt;
use std::io::{ErrorKind, Read as _, Write as _};
use std::iter::Sum;
use std::net::{SocketAddrV4, TcpStream};
use std::ops::Add;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use nix::libc::linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

/// Longest response that is expected.
const RESPONSE_BYTES_MAX: usize = 4096;

/// The clients' addresses are 127.0.0.2 and those above it, so that no number of connections uses up the ports of one.
const SOURCES: u64 = 253;

pub(crate) struct Client {
    stream: TcpStream,
    sent: usize,
    received: Vec<u8>,
    is_answered: bool,
}

/// How far a connection has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Waiting,
    /// The response is whole; said once.
    Answered,
    /// The server has closed the connection after its response.
    Ended,
    Failed(Failure),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody listens.
    Refused,
    /// The connection broke before the response was whole.
    Reset,
    /// The connection was not made.
    NotConnected,
    /// A response came, and was not the right one.
    Wrong,
    /// No response came in time.
    Stuck,
}

/// How many requests failed, in each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) refused: u64,
    pub(crate) reset: u64,
    pub(crate) not_connected: u64,
    pub(crate) wrong: u64,
    pub(crate) stuck: u64,
}

impl Failures {
    pub(crate) fn count(&mut self, failure: Failure) {
        *match failure {
            Failure::Refused => &mut self.refused,
            Failure::Reset => &mut self.reset,
            Failure::NotConnected => &mut self.not_connected,
            Failure::Wrong => &mut self.wrong,
            Failure::Stuck => &mut self.stuck,
        } += 1;
    }

    pub(crate) fn all(&self) -> u64 {
        self.refused + self.reset + self.not_connected + self.wrong + self.stuck
    }
}

impl Add for Failures {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            refused: self.refused + other.refused,
            reset: self.reset + other.reset,
            not_connected: self.not_connected + other.not_connected,
            wrong: self.wrong + other.wrong,
            stuck: self.stuck + other.stuck,
        }
    }
}

impl Sum for Failures {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}

/// Their number, and the ways that there were.
impl fmt::Display for Failures {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ways = [
            (self.refused, "refused"),
            (self.reset, "reset"),
            (self.not_connected, "not connected in time"),
            (self.wrong, "answered wrongly"),
            (self.stuck, "stuck"),
        ];
        let some = ways.iter().filter(|(count, _)| *count > 0);
        let words: Vec<String> = some.map(|(count, way)| format!("{count} {way}")).collect();
        match words.is_empty() {
            true => write!(out, "0"),
            false => write!(out, "{}", words.join(", ")),
        }
    }
}

impl Client {
    /// Begins a connection, the one with this number.
    pub(crate) fn open(server: SocketAddrV4, number: u64) -> Result<Result<Self, Failure>> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)
            .context("cannot make a socket")?;
        // The kernel is to look for a port when it knows both ends, and to forget the connection when it is closed.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        let forget = linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&socket, sockopt::Linger, &forget)?;
        let source = 2 + (number % SOURCES) as u8;
        bind(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, source, 0))
            .with_context(|| format!("cannot bind to 127.0.0.{source}"))?;
        match connect(socket.as_raw_fd(), &SockaddrIn::from(server)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(Errno::ECONNREFUSED) => return Ok(Err(Failure::Refused)),
            Err(error) => bail!("cannot connect to {server}: {error}"),
        }
        Ok(Ok(Self {
            stream: TcpStream::from(socket),
            sent: 0,
            received: Vec::new(),
            is_answered: false,
        }))
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// What a client that has waited for too long has waited for.
    pub(crate) fn given_up(&self) -> Failure {
        match self.sent {
            0 => Failure::NotConnected,
            _ => Failure::Stuck,
        }
    }

    /// Does what can be done now; to be called again at once unless it says that it waits.
    pub(crate) fn advance(&mut self, request: &[u8], buffer: &mut [u8]) -> Progress {
        while self.sent < request.len() {
            match self.stream.write(&request[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) => return self.broken(error.kind()),
            }
        }
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return self.broken(ErrorKind::UnexpectedEof),
                // It has been counted; whatever follows an answer is not looked at.
                Ok(_) if self.is_answered => return Progress::Ended,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) => return self.broken(error.kind()),
            }
            if is_whole(&self.received) {
                self.is_answered = true;
                return match self.received.starts_with(b"HTTP/1.1 200 ") {
                    true => Progress::Answered,
                    false => Progress::Failed(Failure::Wrong),
                };
            }
            if self.received.len() > RESPONSE_BYTES_MAX {
                return Progress::Failed(Failure::Wrong);
            }
        }
    }

    fn broken(&self, kind: ErrorKind) -> Progress {
        match kind {
            ErrorKind::WouldBlock | ErrorKind::NotConnected => Progress::Waiting,
            _ if self.is_answered => Progress::Ended,
            ErrorKind::ConnectionRefused => Progress::Failed(Failure::Refused),
            ErrorKind::TimedOut => Progress::Failed(Failure::NotConnected),
            _ => Progress::Failed(Failure::Reset),
        }
    }

    /// Whether the server has closed a connection that is kept.
    pub(crate) fn is_closed(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Whether all of a response is there. It is short, so that looking at it again costs nothing.
fn is_whole(response: &[u8]) -> bool {
    let Some(end) = find(response, b"\r\n\r\n") else {
        return false;
    };
    let (head, body) = (&response[..end], &response[end + 4..]);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    match length.and_then(|text| text.trim().parse::<usize>().ok()) {
        Some(length) => body.len() == length,
        // Neither component sends a trailer.
        None => body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n"),
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_at_its_end_and_not_before() {
        let whole = [
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n",
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ];
        for response in whole.map(str::as_bytes) {
            assert!(is_whole(response));
            assert!((0..response.len()).all(|end| !is_whole(&response[..end])));
        }
    }
}
