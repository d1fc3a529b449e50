//! Defines a connection of the load: it knows which port it has, and says of a response that broke
//! off whether it had begun.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a client waits for a byte before it gives the request up for lost.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// The port on the client's side: what the connection is known by on both sides.
    pub(crate) port: u16,
    /// When the client began to connect.
    pub(crate) opened: Instant,
    /// Responses that came over it.
    pub(crate) answered: usize,
    input: Vec<u8>,
    /// Bytes that came of the response that is due.
    received: usize,
}

/// A response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Whether the server closes the connection after it.
    pub(crate) is_last: bool,
}

/// Why there is no whole response.
#[derive(Debug)]
pub(crate) struct Broken {
    what: String,
    /// Whether the connection was closed or reset before a byte of the response.
    pub(crate) before_response: bool,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

/// How a connection is found that waited for its next request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    Open,
    /// The server has closed it, as it may.
    Closed,
    /// It was reset, or something came that nobody had asked for.
    Spoilt(String),
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> std::io::Result<Self> {
        let opened = Instant::now();
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_PATIENCE))?;
        stream.set_write_timeout(Some(READ_PATIENCE))?;
        Ok(Self {
            port: stream.local_addr()?.port(),
            stream,
            opened,
            answered: 0,
            input: Vec::new(),
            received: 0,
        })
    }

    /// Looks at a connection on which nothing is due.
    pub(crate) fn idle(&self) -> Idle {
        let seen = self
            .stream
            .set_nonblocking(true)
            .and_then(|()| self.stream.peek(&mut [0]));
        self.stream
            .set_nonblocking(false)
            .expect("the socket is ours");
        match seen {
            Ok(0) => Idle::Closed,
            Ok(_) => Idle::Spoilt("a byte that nobody asked for".to_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Idle::Open,
            Err(error) => Idle::Spoilt(error.to_string()),
        }
    }

    /// Sends a part of a request.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.stream.write_all(bytes).map_err(|error| Broken {
            what: format!("while it was sent: {error}"),
            before_response: is_cut(error.kind()),
        })
    }

    /// Sends a request and reads its response.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> Result<Response, Broken> {
        self.send(request)?;
        self.response()
    }

    /// Reads a response.
    pub(crate) fn response(&mut self) -> Result<Response, Broken> {
        self.received = 0;
        let head = loop {
            if let Some(end) = find(&self.input, b"\r\n\r\n") {
                let head = self.take(end + 4);
                break String::from_utf8_lossy(&head).into_owned();
            }
            self.fill()?;
        };
        let field = |name: &str| {
            let value = |line: &str| {
                let (known, value) = line.split_once(": ")?;
                known.eq_ignore_ascii_case(name).then(|| value.to_owned())
            };
            head.lines().find_map(value)
        };
        let status = head
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| wrong(format!("not a status line: {head:?}")))?;
        let body = match (field("content-length"), field("transfer-encoding")) {
            (Some(length), None) => {
                let length = length
                    .parse()
                    .map_err(|_| wrong(format!("not a length: {length}")))?;
                self.exactly(length)?
            }
            (None, Some(_)) => self.chunks()?,
            (None, None) | (Some(_), Some(_)) => {
                return Err(wrong(format!("no length, or two: {head:?}")));
            }
        };
        if !self.input.is_empty() {
            return Err(wrong("more than the response".to_owned()));
        }
        self.answered += 1;
        Ok(Response {
            status,
            body,
            is_last: field("connection").as_deref() == Some("close"),
        })
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        loop {
            let line = loop {
                match find(&self.input, b"\r\n") {
                    Some(end) => break self.take(end + 2),
                    None => self.fill()?,
                }
            };
            let text = String::from_utf8_lossy(&line);
            let size = usize::from_str_radix(text.trim_end(), 16)
                .map_err(|_| wrong(format!("not a size: {text:?}")))?;
            let chunk = self.exactly(size + 2)?;
            let Some(data) = chunk.strip_suffix(b"\r\n") else {
                return Err(wrong("a chunk without its end".to_owned()));
            };
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(data);
        }
    }

    fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Broken> {
        while self.input.len() < count {
            self.fill()?;
        }
        Ok(self.take(count))
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.input.split_off(count);
        std::mem::replace(&mut self.input, rest)
    }

    fn fill(&mut self) -> Result<(), Broken> {
        let mut bytes = [0; 16 << 10];
        let (what, is_cut) = match self.stream.read(&mut bytes) {
            Ok(0) => ("closed".to_owned(), true),
            Ok(count) => {
                self.received += count;
                self.input.extend_from_slice(&bytes[..count]);
                return Ok(());
            }
            Err(error) => (error.to_string(), is_cut(error.kind())),
        };
        Err(Broken {
            what: format!("{what}, after {} bytes of the response", self.received),
            before_response: is_cut && self.received == 0,
        })
    }
}

fn is_cut(kind: ErrorKind) -> bool {
    [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&kind)
}

fn wrong(what: String) -> Broken {
    Broken {
        what,
        before_response: false,
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
