//! Defines a tiny HTTP server that guests ask: it answers every request with what it was asked, and
//! counts connections.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A server in a thread; it lives as long as the test program.
pub(crate) struct Upstream {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Plain HTTP.
    pub(crate) fn http() -> Self {
        Self::new(Ok)
    }

    /// HTTP over TLS.
    pub(crate) fn https(config: rustls::ServerConfig) -> Self {
        let config = Arc::new(config);
        Self::new(move |stream| {
            let session = rustls::ServerConnection::new(Arc::clone(&config));
            session
                .map(|session| rustls::StreamOwned::new(session, stream))
                .map_err(io::Error::other)
        })
    }

    fn new<S: Read + Write + Send + 'static>(
        wrap: impl Fn(TcpStream) -> io::Result<S> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                if let Ok(stream) = wrap(stream) {
                    // A client that goes away ends it.
                    std::thread::spawn(move || serve(stream));
                }
            }
        });
        Self { port, connections }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Connections that were accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Answers `METHOD TARGET BODY` to each request of a connection.
fn serve(stream: impl Read + Write) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(line) = line(&mut stream)? else {
            return Ok(());
        };
        let mut length = None;
        while let Some(field) = self::line(&mut stream)?.filter(|field| !field.is_empty()) {
            if let Some(value) = field.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.parse().ok();
            } else if field.eq_ignore_ascii_case("transfer-encoding: chunked") {
                length = Some(usize::MAX);
            }
        }
        let body = body(&mut stream, length)?;
        let (request, _) = line.rsplit_once(' ').unwrap_or_default();
        let text = format!("{request} {}\n", String::from_utf8_lossy(&body));
        let head = format!(
            "HTTP/1.1 203 Fine\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        let stream = stream.get_mut();
        stream.write_all((head + &text).as_bytes())?;
        stream.flush()?;
    }
}

fn line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    let count = stream.read_line(&mut line)?;
    Ok((count > 0).then(|| line.trim_end().to_owned()))
}

/// A body of known length, or in chunks if the length is the largest number.
fn body(stream: &mut impl BufRead, length: Option<usize>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let Some(usize::MAX) = length else {
        body.resize(length.unwrap_or(0), 0);
        stream.read_exact(&mut body)?;
        return Ok(body);
    };
    loop {
        let size = line(stream)?.and_then(|size| usize::from_str_radix(&size, 16).ok());
        let size = size.ok_or(io::ErrorKind::InvalidData)?;
        let start = body.len();
        body.resize(start + size, 0);
        stream.read_exact(&mut body[start..])?;
        line(stream)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
