//! Defines a client that writes the frames of HTTP/2 as a test wants them, and reads what comes back:
//! the way to what no decent client does (RFC 9113 section 4).

use std::io;
use std::time::Duration;

use super::{Client, Server};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `:method: GET`, `:scheme: http`, `:path: /` and `:authority: localhost` (RFC 7541 appendix A).
const GET: &[u8] = b"\x82\x86\x84\x41\x09localhost";
/// `:status: 200`, as it is written in short.
const STATUS_200: u8 = 0x88;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;

    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;

    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
    pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
    pub(crate) const REFUSED_STREAM: u32 = 7;
    pub(crate) const CANCEL: u32 = 8;
    pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        let payload = payload.into();
        Self {
            kind,
            flags,
            stream,
            payload,
        }
    }

    /// A whole request for `/`.
    pub(crate) fn get(stream: u32) -> Self {
        Self::head(stream, Self::END_STREAM, &[])
    }

    /// A whole request for another target.
    pub(crate) fn get_target(stream: u32, target: &str) -> Self {
        let mut block = vec![0x82, 0x86, 0x41, 1, b'a', 4];
        block.push(short(target));
        block.extend(target.bytes());
        Self::new(
            Self::HEADERS,
            Self::END_HEADERS | Self::END_STREAM,
            stream,
            block,
        )
    }

    /// The whole head of a GET request for `/`, with fields.
    pub(crate) fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Self {
        let mut block = GET.to_vec();
        for (name, value) in fields {
            block.extend(literal(name, value));
        }
        Self::new(Self::HEADERS, flags | Self::END_HEADERS, stream, block)
    }

    /// The client wants no answer any more.
    pub(crate) fn reset(stream: u32) -> Self {
        Self::new(Self::RST_STREAM, 0, stream, Self::CANCEL.to_be_bytes())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a payload fits");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The code of RST_STREAM, or of GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == Self::GOAWAY { 4 } else { 0 };
        let code = self.payload[at..at + 4]
            .try_into()
            .expect("a code has four bytes");
        u32::from_be_bytes(code)
    }

    /// The value of a setting.
    pub(crate) fn setting(&self, number: u16) -> Option<u32> {
        let mut all = self.payload.chunks_exact(6);
        let found = all.find(|setting| setting[..2] == number.to_be_bytes())?;
        Some(u32::from_be_bytes(
            found[2..].try_into().expect("a value has four bytes"),
        ))
    }

    fn is_answer(&self, stream: u32) -> bool {
        (self.kind, self.stream, self.payload.first()) == (Self::HEADERS, stream, Some(&STATUS_200))
    }
}

/// A field that is not to be remembered, in plain letters (RFC 7541 section 6.2.2).
pub(crate) fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        field.push(short(text));
        field.extend(text.bytes());
    }
    field
}

/// A length in seven bits: what is longer goes on in further bytes (RFC 7541 section 5.1).
fn short(text: &str) -> u8 {
    assert!(text.len() < 127, "only for short fields");
    u8::try_from(text.len()).expect("it is short")
}

/// A connection without TLS.
pub(crate) struct Frames {
    client: Client,
    /// The code of the last GOAWAY.
    goaway: Option<u32>,
}

impl Frames {
    /// Says what a client says first.
    pub(crate) fn connect(server: &Server) -> Self {
        Self::connect_with(server, &[])
    }

    /// The same, with settings of the client's.
    pub(crate) fn connect_with(server: &Server, settings: &[(u16, u32)]) -> Self {
        let mut client = server.connect();
        client.send(PREFACE);
        let setting = |(number, value): &(u16, u32)| {
            let number = number.to_be_bytes().into_iter();
            number.chain(value.to_be_bytes()).collect::<Vec<u8>>()
        };
        let payload: Vec<u8> = settings.iter().flat_map(setting).collect();
        let mut frames = Self {
            client,
            goaway: None,
        };
        frames.send(&Frame::new(Frame::SETTINGS, 0, 0, payload));
        frames
    }

    pub(crate) fn send(&mut self, frame: &Frame) {
        self.client.send(frame.bytes());
    }

    /// Sends many; an error is the server's, which wants no more.
    pub(crate) fn try_send(&mut self, frames: &[Frame]) -> io::Result<()> {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.client.try_send(bytes)
    }

    /// Reads a frame, and answers it if it is a ping: the server hangs up when it knows that the client
    /// has heard of it.
    pub(crate) fn next(&mut self) -> io::Result<Frame> {
        let head = self.client.bytes(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = head[5..].try_into().expect("it has four bytes");
        let frame = Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(stream),
            payload: self.client.bytes(length as usize)?,
        };
        if frame.kind == Frame::GOAWAY {
            self.goaway = Some(frame.code());
        }
        if (frame.kind, frame.flags) == (Frame::PING, 0) {
            let pong = Frame::new(Frame::PING, Frame::ACK, 0, frame.payload.clone());
            // Who hangs up needs none.
            let _ = self.try_send(&[pong]);
        }
        Ok(frame)
    }

    /// Reads until there is such a frame.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, is_it: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            match self.next() {
                Ok(frame) if is_it(&frame) => return frame,
                Ok(_) => {}
                Err(error) => panic!("no {what}: {error}"),
            }
        }
    }

    /// Reads until a stream is answered with 200.
    #[track_caller]
    pub(crate) fn answered(&mut self, stream: u32) {
        self.until("answer", |frame| frame.is_answer(stream));
    }

    /// Reads until a stream is reset, or the connection with it, and returns the code.
    pub(crate) fn was_reset(&mut self, stream: u32) -> Option<u32> {
        loop {
            let Ok(frame) = self.next() else {
                return self.goaway;
            };
            if (frame.kind, frame.stream) == (Frame::RST_STREAM, stream) {
                return Some(frame.code());
            }
        }
    }

    /// Reads to the end; what the server said of its reason, now or before.
    pub(crate) fn end(&mut self) -> Option<u32> {
        while self.next().is_ok() {}
        self.goaway
    }

    /// Lets writes wait for no longer than this.
    pub(crate) fn patience(&self, longest: Duration) {
        self.client.patience(longest);
    }

    /// Another handle to send with, while this one reads.
    pub(crate) fn sender(&self) -> impl io::Write + Send + use<> {
        self.client.sender()
    }
}
