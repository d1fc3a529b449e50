//! Defines what the server would make of all that one client sends, without a connection: for tests, which give it the
//! bytes in one piece, or in any others, and compare the accounts.

use super::body::{BodyDecoder, Step};
use super::head::{Head, HeadScanner};
use super::limits::Limits;
use super::refusal::Refusal;

/// What came of the bytes of one client.
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// The requests whose heads were accepted, in order.
    pub requests: Vec<Request>,
    /// What came after them.
    pub end: End,
}

/// A request whose head was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its head.
    pub head: Head,
    /// Its content, as far as that came.
    pub content: Vec<u8>,
    /// Whether the content came to its end.
    pub complete: bool,
}

/// How the bytes of a client end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After a request; another may follow.
    Idle,
    /// In the middle of a request.
    Unfinished,
    /// After a request that ends the connection; whatever follows is not looked at.
    Close,
    /// With bytes that are refused.
    Refused(Refusal),
}

/// Reads what one client sends, in these pieces.
pub fn replay<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Account {
    let mut connection = Connection {
        limits: *limits,
        ..Connection::default()
    };
    let mut end = None;
    for piece in pieces {
        connection.buffer.extend_from_slice(piece);
        end = connection.drive();
        if end.is_some() {
            break;
        }
    }
    let idle = connection.body.is_none() && connection.buffer.is_empty();
    Account {
        requests: connection.requests,
        end: end.unwrap_or(if idle { End::Idle } else { End::Unfinished }),
    }
}

#[derive(Default)]
struct Connection {
    limits: Limits,
    buffer: Vec<u8>,
    heads: HeadScanner,
    /// Takes the content of the last request, which is not complete.
    body: Option<BodyDecoder>,
    requests: Vec<Request>,
}

impl Connection {
    /// Goes on until more bytes are needed, or with the end until there is one.
    fn drive(&mut self) -> Option<End> {
        loop {
            let last = self.requests.last();
            if self.body.is_none() && last.is_some_and(|request| !request.head.keep_alive) {
                return Some(End::Close);
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(refusal) => return Some(End::Refused(refusal)),
            }
        }
    }

    /// Takes one step; says whether it was possible.
    fn advance(&mut self) -> Result<bool, Refusal> {
        let (Some(body), Some(request)) = (&mut self.body, self.requests.last_mut()) else {
            let Some((head, consumed)) = self.heads.parse(&self.buffer, &self.limits)? else {
                return Ok(false);
            };
            self.buffer.drain(..consumed);
            self.body = Some(BodyDecoder::new(head.framing, &self.limits));
            self.requests.push(Request {
                head,
                content: Vec::new(),
                complete: false,
            });
            return Ok(true);
        };
        let step = body.decode(&self.buffer)?;
        let consumed = step.consumed();
        match step {
            Step::Data(range) => request.content.extend_from_slice(&self.buffer[range]),
            Step::NeedMore(_) => {}
            Step::End(_) => {
                request.complete = true;
                self.body = None;
            }
        }
        self.buffer.drain(..consumed);
        Ok(self.body.is_none() || consumed > 0)
    }
}
