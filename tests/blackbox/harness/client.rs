//! Defines a small HTTP/1.1 client: it sends what a test writes, byte by byte if need be, and reads
//! responses strictly.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use super::tls::{Agreed, TlsSocket};
use super::{READ_AHEAD, pattern};

/// How long a client waits for a byte.
const READ_PATIENCE: Duration = Duration::from_secs(60);

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    /// The address in a ready line.
    pub(crate) fn of_url(url: &str) -> Self {
        if let Some(path) = url.strip_prefix("unix:") {
            return Self::Unix(PathBuf::from(path));
        }
        let address = url
            .strip_prefix("http://")
            .or_else(|| url.strip_prefix("https://"))
            .and_then(|rest| rest.strip_suffix('/'));
        let address = address.and_then(|text| text.parse().ok());
        Self::Tcp(address.unwrap_or_else(|| panic!("not an address: {url}")))
    }
}

/// A connection of any kind.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(TlsSocket<Box<Socket>>),
}

impl Socket {
    fn connect(address: &Address) -> io::Result<Self> {
        let socket = match address {
            Address::Tcp(address) => Self::Tcp(TcpStream::connect(address)?),
            Address::Unix(path) => Self::Unix(UnixStream::connect(path)?),
        };
        match &socket {
            Self::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(READ_PATIENCE))?;
                stream.set_write_timeout(Some(READ_PATIENCE))?;
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(READ_PATIENCE))?;
                stream.set_write_timeout(Some(READ_PATIENCE))?;
            }
            Self::Tls(_) => unreachable!("it was made above"),
        }
        Ok(socket)
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Tls(stream) => Self::Tls(stream.clone()),
        })
    }

    fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream) => stream.with(|stream| {
                stream.conn.send_close_notify();
                stream.conn.complete_io(&mut stream.sock)?;
                stream.sock.shutdown_write()
            }),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The head of a response.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The value of a field that is there once at most.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(
            values.next(),
            None,
            "{name} is there more than once: {self:?}"
        );
        value
    }
}

/// As much as a person reads.
impl fmt::Debug for Head {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self
            .fields
            .iter()
            .take(20)
            .map(|(name, value)| (name, abridged(value.as_bytes())));
        write!(
            formatter,
            "{} {:?}",
            self.status,
            fields.collect::<Vec<_>>()
        )
    }
}

/// As much as a person reads.
impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:?} {:?} {} bytes",
            self.head,
            abridged(&self.body),
            self.body.len()
        )
    }
}

fn abridged(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(500)]).into_owned()
}

/// A response.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// Checks status and body in one.
    #[track_caller]
    pub(crate) fn is(&self, status: u16, text: &str) {
        assert_eq!((self.status(), self.text()), (status, text));
    }

    /// Checks that it is the server's own answer with this status, which tells nothing else.
    #[track_caller]
    pub(crate) fn is_own(&self, status: u16) {
        assert_eq!(self.status(), status, "{self:?}");
        assert!(self.text().starts_with(&format!("{status} ")), "{self:?}");
        assert_eq!(self.text().lines().count(), 1, "{self:?}");
        assert_eq!(self.field("server"), Some("rgunicorn"));
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    input: BufReader<Socket>,
    output: Socket,
}

impl Client {
    pub(crate) fn connect(address: &Address) -> Self {
        Self::try_connect(address).expect("the server accepts connections")
    }

    pub(crate) fn try_connect(address: &Address) -> io::Result<Self> {
        let output = Socket::connect(address)?;
        Ok(Self {
            input: BufReader::new(output.try_clone()?),
            output,
        })
    }

    /// A connection with TLS to a server of this name.
    #[track_caller]
    pub(crate) fn connect_tls(address: &Address, config: &Arc<ClientConfig>, name: &str) -> Self {
        Self::try_connect_tls(address, config, name).expect("the server shakes hands")
    }

    pub(crate) fn try_connect_tls(
        address: &Address,
        config: &Arc<ClientConfig>,
        name: &str,
    ) -> io::Result<Self> {
        let socket = Box::new(Socket::connect(address)?);
        let output = Socket::Tls(TlsSocket::connect(socket, config, name)?);
        Ok(Self {
            input: BufReader::new(output.try_clone()?),
            output,
        })
    }

    /// What the handshake of TLS has come to.
    pub(crate) fn agreed(&self) -> Agreed {
        let Socket::Tls(stream) = &self.output else {
            panic!("only for TLS")
        };
        stream.agreed()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the bytes can be sent");
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.output.write_all(bytes.as_ref())
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish_sending(&mut self) {
        self.output
            .shutdown_write()
            .expect("the connection is open");
    }

    /// Another handle to send with, while this one reads.
    pub(crate) fn sender(&self) -> impl Write + Send + use<> {
        self.output.try_clone().expect("the socket can be shared")
    }

    /// Sends a GET request and reads the response.
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.response()
    }

    /// Sends a GET request to a host and reads the response.
    pub(crate) fn get_from(&mut self, host: &str, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response()
    }

    /// Sends a POST request with its length and reads the response.
    pub(crate) fn post(&mut self, target: &str, body: impl AsRef<[u8]>) -> Response {
        let body = body.as_ref();
        let length = body.len();
        self.send(format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        ));
        self.send(body);
        self.response()
    }

    /// Sends a POST request in chunks and reads the response.
    pub(crate) fn post_chunks(&mut self, target: &str, chunks: &[&str]) -> Response {
        self.send(format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        for chunk in chunks {
            self.send(format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        }
        self.send("0\r\n\r\n");
        self.response()
    }

    /// Reads a whole response to anything but HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        match self.try_response() {
            Ok(response) => response,
            Err(error) => panic!("no whole response: {error}"),
        }
    }

    /// Reads a whole response; an error tells where it ended.
    pub(crate) fn try_response(&mut self) -> io::Result<Response> {
        let head = self.try_head()?;
        let body = self.body(&head)?;
        Ok(Response { head, body })
    }

    /// Reads the head of a response.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Head {
        match self.try_head() {
            Ok(head) => head,
            Err(error) => panic!("no head of a response: {error}"),
        }
    }

    fn try_head(&mut self) -> io::Result<Head> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {line}"));
        Ok(Head {
            status,
            fields: self.fields()?,
        })
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line
                .split_once(": ")
                .unwrap_or_else(|| panic!("not a field: {line}"));
            fields.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.input.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let text = String::from_utf8(line).expect("it is text");
        let text = text
            .strip_suffix("\r\n")
            .unwrap_or_else(|| panic!("not a line: {text:?}"));
        Ok(text.to_owned())
    }

    fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if head.status < 200 || [204, 304].contains(&head.status) {
            return Ok(body);
        }
        match (
            head.field("content-length"),
            head.field("transfer-encoding"),
        ) {
            (Some(length), None) => {
                body.resize(length.parse().expect("the length is a number"), 0);
                self.input.read_exact(&mut body)?;
            }
            (None, Some("chunked")) => {
                while let Some(chunk) = self.chunk()? {
                    body.extend_from_slice(&chunk);
                }
            }
            (None, None) => {
                assert_eq!(
                    head.field("connection"),
                    Some("close"),
                    "no length: {head:?}"
                );
                self.input.read_to_end(&mut body)?;
            }
            (_, Some(_)) => panic!("two framings: {head:?}"),
        }
        Ok(body)
    }

    /// Reads a chunk; `None` is the last one.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size =
            usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("not a size: {line}"));
        let mut chunk = vec![0; size];
        self.input.read_exact(&mut chunk)?;
        let end = self.line()?;
        assert!(end.is_empty(), "after a chunk: {end}");
        Ok((size > 0).then_some(chunk))
    }

    /// Reads on to the end of the connection; with TLS, one that nobody announces is an error.
    pub(crate) fn closed_in_order(&mut self) -> io::Result<()> {
        io::copy(&mut self.input, &mut io::sink()).map(|_| ())
    }

    /// Lets writes wait for no longer than this.
    pub(crate) fn patience(&self, longest: Duration) {
        let Socket::Tcp(stream) = &self.output else {
            panic!("only for TCP")
        };
        stream
            .set_write_timeout(Some(longest))
            .expect("a timeout can be set");
    }

    /// Reads so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Begins to ask the guest `echo`: the request is in flight until [`finish_echo`](Self::finish_echo).
    pub(crate) fn begin_echo(&mut self) {
        let first = pattern(READ_AHEAD);
        self.send("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        self.send(format!("{READ_AHEAD:x}\r\n"));
        self.send(&first);
        self.send("\r\n");
        assert_eq!(self.head().status, 200);
        let mut echoed = Vec::new();
        while echoed.len() < first.len() {
            let chunk = self.chunk().expect("the response goes on");
            echoed.extend(chunk.expect("the response goes on"));
        }
        assert_eq!(echoed, first);
    }

    /// Sends the end of such a request, and checks that the rest of the response is whole.
    pub(crate) fn finish_echo(&mut self) {
        self.send("4\r\nlast\r\n0\r\n\r\n");
        let last = self.chunk().expect("the response goes on");
        assert_eq!(last.as_deref(), Some(&b"last"[..]));
        assert_eq!(self.chunk().expect("the response is whole"), None);
    }

    /// Waits until the server closes the connection, and says whether it sent nothing before.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.input.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    }

    /// Whether nothing has come by now.
    pub(crate) fn is_silent(&mut self, moment: Duration) -> bool {
        let Socket::Tcp(stream) = self.input.get_ref() else {
            panic!("only for TCP")
        };
        stream
            .set_read_timeout(Some(moment))
            .expect("a timeout can be set");
        let result = self.input.fill_buf().map(<[u8]>::is_empty);
        let Socket::Tcp(stream) = self.input.get_ref() else {
            panic!("only for TCP")
        };
        stream
            .set_read_timeout(Some(READ_PATIENCE))
            .expect("a timeout can be set");
        result.is_err_and(|error| {
            [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind())
        })
    }
}
