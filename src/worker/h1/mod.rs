//! Defines the life of an HTTP/1.1 connection: a head is read, a request is answered, and again,
//! until one side has had enough.

mod incoming;
mod outgoing;

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use http::{Method, StatusCode};
use incoming::Incoming;
use outgoing::Outgoing;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answer::{Outcome, answer};
use super::buffer::Buffer;
use super::client::Client;
use super::connection::Begun;
use super::patience::at_once;
use super::record::Record;
use super::shared::{Counted, Shared};
use super::side::Request;
use super::wire::Wire;
use crate::access::Reason;
use crate::http::body::BodyDecoder;
use crate::http::error_page::ErrorPage;
use crate::http::head::{self, Head, HeadScanner};
use crate::http::refusal::Refusal;

/// One client's connection.
struct Connection {
    shared: Rc<Shared>,
    client: Client,
    wire: Wire,
    input: Buffer,
    /// What is to be written next.
    output: BytesMut,
    /// Until when the first head is waited for; `None` after it.
    first: Option<Instant>,
    counted: Counted,
}

/// What the client sent in place of a request.
enum NoRequest {
    /// Nothing, or nothing more: it is not owed an answer.
    Silence,
    /// A head that did not come in time.
    Late,
    /// What cannot be served.
    Refused(Refusal),
}

/// What follows an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The connection takes another request.
    Reuse,
    /// The last word was said.
    Close,
    /// The same, and the client, which asked for it, has nothing more to say.
    Leave,
    /// The response broke off: the client must be able to tell.
    Cut,
}

/// Serves a connection to its end.
pub(super) async fn serve(begun: Begun) -> io::Result<()> {
    Connection::from(begun).run().await
}

/// Ends a connection that cannot be served, with an answer.
pub(super) async fn turn_away(
    begun: Begun,
    status: StatusCode,
    advice: &'static str,
) -> io::Result<()> {
    let mut connection = Connection::from(begun);
    // For the log: nobody has read it yet.
    connection.wire.fill_now(&mut connection.input);
    let why = (status, Reason::Malformed);
    connection.refuse(why, Duration::ZERO, Some(advice));
    connection.close().await
}

impl From<Begun> for Connection {
    fn from(begun: Begun) -> Self {
        let Begun {
            shared,
            client,
            transport,
            input,
            deadline,
            counted,
        } = begun;
        Self {
            shared,
            client,
            wire: transport.into(),
            input,
            output: BytesMut::new(),
            first: Some(deadline),
            counted,
        }
    }
}

impl Connection {
    async fn run(&mut self) -> io::Result<()> {
        loop {
            let next = match self.next_head().await {
                // In a box, or every idle connection had room for it.
                Ok(head) => Box::pin(self.answer(head)).await?,
                Err(NoRequest::Silence) => {
                    self.wire.end();
                    return Ok(());
                }
                Err(NoRequest::Late) => {
                    let took = self.shared.head_timeout;
                    let why = (StatusCode::REQUEST_TIMEOUT, Reason::HeadTimeout);
                    self.refuse(why, took, None);
                    Next::Close
                }
                Err(NoRequest::Refused(refusal)) => {
                    let (client, status) = (&self.client, refusal.status.as_u16());
                    tracing::debug!(%client, "refused with {status}: {}", refusal.reason);
                    let why = (refusal.status, Reason::Malformed);
                    self.refuse(why, Duration::ZERO, None);
                    Next::Close
                }
            };
            match next {
                Next::Cut => return Ok(()),
                Next::Close => return self.close().await,
                Next::Reuse | Next::Leave => {}
            }
            self.wire.write(&mut self.output, &[]).await?;
            // What arrived unasked would make the kernel drop the response: it is waited for then.
            if next == Next::Leave {
                if self.wire.fill_now(&mut self.input) {
                    return self.close().await;
                }
                self.wire.end();
                return Ok(());
            }
            self.first = None;
        }
    }

    /// Says the last word and closes politely.
    async fn close(&mut self) -> io::Result<()> {
        self.wire.write(&mut self.output, &[]).await?;
        self.counted.close();
        self.shared.unless_leaving(self.wire.linger()).await;
        Ok(())
    }

    async fn answer(&mut self, head: Head) -> io::Result<Next> {
        let asks_to_leave = !head.keep_alive;
        let mut incoming = Incoming {
            wire: &self.wire,
            buffer: &mut self.input,
            decoder: BodyDecoder::new(head.framing, &self.shared.http),
        };
        let is_head = head.method == Method::HEAD;
        let mut outgoing = Outgoing::new(
            &self.shared,
            &self.wire,
            &mut self.output,
            (head.version, is_head, head.keep_alive),
        );
        let request = request(head, &self.client, incoming.is_empty());
        let mut record = Record::new(&self.shared, &self.client, &request);
        let sides = (&mut incoming, &mut outgoing);
        let outcome = answer(&self.shared, &self.client, request, sides, &mut record).await?;
        let is_end = incoming.is_end();
        Ok(match (outcome, outgoing.keeps_connection()) {
            (Outcome::Cut, _) => {
                if outgoing.ends_with_connection() {
                    self.wire.break_off();
                }
                Next::Cut
            }
            (Outcome::Responded, true) if is_end => Next::Reuse,
            (Outcome::Responded, false)
                if is_end && asks_to_leave && self.input.data().is_empty() =>
            {
                Next::Leave
            }
            // What is left of the request would be taken for the next one.
            (Outcome::Responded | Outcome::TurnedAway, _) => Next::Close,
        })
    }

    /// Puts an answer of our own into the output, to what was not a request; the connection closes
    /// after it.
    fn refuse(
        &mut self,
        (status, reason): (StatusCode, Reason),
        took: Duration,
        advice: Option<&'static str>,
    ) {
        let received = self.input.data();
        let why = (status, reason);
        Record::refuse(&self.shared, &self.client, received, why, took);
        let date = self.shared.date();
        let page = ErrorPage {
            status,
            advice,
            retry_after: None,
            head_request: head::is_head(received),
            date: &date,
            server: self.shared.server,
        };
        page.encode(&mut self.output);
    }

    /// Reads the next head. Whoever sends requests ahead does not keep the others of the worker waiting:
    /// each of them is a turn of its own.
    async fn next_head(&mut self) -> Result<Head, NoRequest> {
        let is_first = self.first.is_some();
        let mut head = pin!(self.read_head());
        let Some(head) = at_once(head.as_mut()).await else {
            return head.await;
        };
        if !is_first {
            yield_now().await;
        }
        head
    }

    /// Reads the next head. A connection may be idle before it; once it has begun it has a deadline.
    async fn read_head(&mut self) -> Result<Head, NoRequest> {
        let since = Instant::now();
        let mut deadline = self.first.unwrap_or(since + self.shared.head_timeout);
        while !self.has_begun()? {
            if self.first.is_some() {
                self.first_word(deadline).await?;
            } else {
                self.idle(since + self.shared.keep_alive).await?;
                deadline = Instant::now() + self.shared.head_timeout;
            }
        }
        let mut scanner = HeadScanner::default();
        if let Some(head) = self.scan(&mut scanner)? {
            return Ok(head);
        }
        let rest = async {
            loop {
                match self.wire.fill(&mut self.input).await {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return Err(NoRequest::Silence),
                }
                if let Some(head) = self.scan(&mut scanner)? {
                    return Ok(head);
                }
            }
        };
        let head = timeout_at(deadline, rest).await;
        head.unwrap_or(Err(NoRequest::Late))
    }

    /// Whether anything of a request has arrived. The few empty lines that may come before it are
    /// nothing, and leave a connection as idle as it was.
    fn has_begun(&self) -> Result<bool, NoRequest> {
        head::has_begun(self.input.data()).map_err(NoRequest::Refused)
    }

    fn scan(&mut self, scanner: &mut HeadScanner) -> Result<Option<Head>, NoRequest> {
        let found = scanner
            .parse(self.input.data(), &self.shared.http)
            .map_err(NoRequest::Refused)?;
        Ok(found.map(|(head, used)| {
            self.input.consume(used);
            head
        }))
    }

    /// Waits for the first bytes of the first request. A client that sends none has not asked for an
    /// answer.
    async fn first_word(&mut self, deadline: Instant) -> Result<(), NoRequest> {
        let word = timeout_at(deadline, self.wire.fill(&mut self.input));
        match self.shared.unless_leaving(word).await {
            Some(Ok(Ok(true))) => Ok(()),
            Some(Ok(Ok(false) | Err(_)) | Err(_)) | None => Err(NoRequest::Silence),
        }
    }

    /// Waits for the first bytes of a further request, as long as keep-alive allows.
    async fn idle(&mut self, until: Instant) -> Result<(), NoRequest> {
        let shared = Rc::clone(&self.shared);
        let drain = shared.drain.notified();
        if !shared.keeps_connections() {
            return self.last_request();
        }
        self.input.release();
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        self.counted.rest();
        let came = tokio::select! {
            biased;
            filled = self.wire.fill(&mut self.input) => match filled {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err(NoRequest::Silence),
            },
            () = drain => self.last_request(),
            () = self.counted.is_wanted() => self.last_request(),
            () = sleep_until(until) => Err(NoRequest::Silence),
        };
        if came.is_ok() {
            self.counted.work();
        }
        came
    }

    /// A request that has arrived before the connection could be closed is answered still.
    fn last_request(&mut self) -> Result<(), NoRequest> {
        if self.wire.fill_now(&mut self.input) {
            Ok(())
        } else {
            Err(NoRequest::Silence)
        }
    }
}

/// `asks` says whether a client that waits to be asked for the body really does so.
fn request(head: Head, client: &Client, asks: bool) -> Request {
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.uri = head.uri(client.scheme.clone());
    parts.version = head.version.into();
    parts.method = head.method;
    parts.headers = head.headers;
    Request {
        parts,
        authority: head.authority,
        framing: head.framing,
        expects_continue: head.expect_continue && asks,
    }
}
