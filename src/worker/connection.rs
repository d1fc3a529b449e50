//! Defines how a connection begins: what a proxy says of it, TLS, if it is spoken, and the choice of
//! a protocol.

use std::io;
use std::rc::Rc;

use http::StatusCode;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use super::buffer::Buffer;
use super::client::Client;
use super::shared::{Counted, Shared};
use super::socket::{Socket, Transport};
use super::wire::Wire;
use super::{h1, h2};
use crate::config::{Http2Cleartext, HttpProtocols};
use crate::http::h2::PREFACE;
use crate::http::head::TLS_HANDSHAKE;
use crate::sys::stream::Stream;
use crate::sys::watch::watch;
use crate::tls;

/// What to do in place of plain HTTP.
const SPEAK_TLS: &str = "this port speaks TLS, use https";
/// What to do in place of HTTP/1.1.
const SPEAK_H2: &str = "this port speaks HTTP/2 alone";

/// A connection that has begun.
pub(super) struct Begun {
    pub(super) shared: Rc<Shared>,
    pub(super) client: Client,
    pub(super) transport: Transport,
    /// What the client has sent already.
    pub(super) input: Buffer,
    /// Until when the first request's head is waited for.
    pub(super) deadline: Instant,
    pub(super) counted: Counted,
}

/// Serves one connection to its end.
pub(super) async fn serve(shared: Rc<Shared>, stream: Stream, counted: Counted) {
    let peer = match stream.peer() {
        Ok(peer) => peer,
        // Whose request it was cannot be known any more.
        Err(error) => return tracing::debug!("connection lost: {error}"),
    };
    let socket = match watch(stream) {
        Ok(stream) => Socket(stream),
        Err(error) => return tracing::warn!("cannot watch a connection: {error}"),
    };
    let deadline = Instant::now() + shared.head_timeout;
    let Some(client) = Client::meet(&shared, peer, &socket, deadline).await else {
        return;
    };
    let for_log = client.clone();
    if let Err(error) = begin(shared, client, socket, deadline, counted).await {
        tracing::debug!(client = %for_log, "connection lost: {error}");
    }
}

async fn begin(
    shared: Rc<Shared>,
    mut client: Client,
    socket: Socket,
    deadline: Instant,
    counted: Counted,
) -> io::Result<()> {
    let mut input = Buffer::default();
    let hands = timeout_at(deadline, shake_hands(&shared, socket)).await;
    let (mut transport, mut protocol) = match hands.map_err(|_| io::ErrorKind::TimedOut)?? {
        Hands::Shaken(stream) => {
            let session = stream.get_ref().1;
            client.tls = session.protocol_version().map(tls::version_name);
            let protocol = chosen(&shared, session.alpn_protocol());
            (Transport::Tls(stream), protocol)
        }
        Hands::Plain(socket) if shared.tls.is_some() => {
            (Transport::Plain(socket), Protocol::Neither(SPEAK_TLS))
        }
        Hands::Plain(socket) => (Transport::Plain(socket), Protocol::H1),
    };
    let cleartext = shared.http2.cleartext == Http2Cleartext::PriorKnowledge;
    if cleartext && shared.tls.is_none() {
        let wire = Wire::from(transport);
        let begins = begins_with_preface(&shared, &wire, &mut input);
        // Whoever does not get that far is late with a head of HTTP/1.1 too.
        let begins = timeout_at(deadline, begins).await;
        if begins.unwrap_or(Ok(false))? {
            protocol = Protocol::H2;
        }
        transport = wire.into();
    }
    let begun = Begun {
        shared,
        client,
        transport,
        input,
        deadline,
        counted,
    };
    match protocol {
        Protocol::H1 => h1::serve(begun).await,
        // In a box, as TLS is: most connections need no room for it.
        Protocol::H2 => Box::pin(h2::serve(begun)).await,
        Protocol::Neither(advice) => h1::turn_away(begun, StatusCode::BAD_REQUEST, advice).await,
    }
}

/// What is spoken on a connection.
enum Protocol {
    H1,
    H2,
    /// Nothing that is spoken here: the client is told what to do.
    Neither(&'static str),
}

/// The protocol that was agreed on with TLS (RFC 7301); without an agreement it is HTTP/1.1.
fn chosen(shared: &Shared, agreed: Option<&[u8]>) -> Protocol {
    match agreed {
        Some(tls::ALPN_H2) => Protocol::H2,
        None if shared.http_protocols == HttpProtocols::H2 => Protocol::Neither(SPEAK_H2),
        Some(_) | None => Protocol::H1,
    }
}

/// Reads until it is clear whether the client begins as one that speaks HTTP/2 does.
async fn begins_with_preface(shared: &Shared, wire: &Wire, input: &mut Buffer) -> io::Result<bool> {
    loop {
        let data = input.data();
        let known = data.len().min(PREFACE.len());
        if data[..known] != PREFACE[..known] {
            return Ok(false);
        }
        if known == PREFACE.len() {
            return Ok(true);
        }
        let fill = wire.fill(input);
        let more = if known == 0 {
            shared.unless_leaving(fill).await.unwrap_or(Ok(false))
        } else {
            fill.await
        };
        if !more? {
            return Ok(false);
        }
    }
}

/// What came of a handshake.
enum Hands {
    /// TLS is spoken.
    Shaken(Box<TlsStream<Socket>>),
    /// The client speaks something else.
    Plain(Socket),
}

async fn shake_hands(shared: &Shared, socket: Socket) -> io::Result<Hands> {
    let Some(acceptor) = &shared.tls else {
        return Ok(Hands::Plain(socket));
    };
    let first = shared.unless_leaving(first_byte(&socket)).await;
    if first.ok_or(io::ErrorKind::TimedOut)?? != TLS_HANDSHAKE {
        return Ok(Hands::Plain(socket));
    }
    let stream = Box::pin(acceptor.accept(socket)).await?;
    Ok(Hands::Shaken(Box::new(stream)))
}

/// Waits for the first byte and leaves it where it is.
async fn first_byte(socket: &Socket) -> io::Result<u8> {
    let mut first = [0];
    loop {
        let mut ready = socket.0.readable().await?;
        match ready.get_inner().peek(&mut first) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(first[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => return Err(error),
        }
    }
}
