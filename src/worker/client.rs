//! Defines what is known of whoever is at the other end of a connection: what the kernel says, or
//! the proxy that the connection comes from.
//!
//! Invariant: a proxy's word for a connection is taken before anything else is read from it.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use http::uri::Scheme;
use tokio::time::Instant;

use super::shared::Shared;
use super::socket::Socket;
use crate::http::forwarded::{self, Peer};
use crate::http::proxy_protocol::{self, HEADER_BYTES_MAX, Header, Malformed, Versions};

/// The client of one connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Its address, which only TCP has.
    pub(super) peer: Option<SocketAddr>,
    /// Whether its requests may speak for somebody else.
    pub(super) forwarder: Peer,
    /// How it speaks to the server.
    pub(super) scheme: Scheme,
    /// The version of TLS that was agreed on, such as `TLSv1.3`.
    pub(super) tls: Option<&'static str>,
}

/// Its address, for the log.
impl fmt::Display for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&shown(self.peer))
    }
}

/// A peer's address, for the log.
fn shown(peer: Option<SocketAddr>) -> String {
    peer.map_or_else(|| "unix".to_owned(), |address| address.to_string())
}

/// Why nothing is known of a connection that a proxy has to introduce.
#[derive(Debug, thiserror::Error)]
enum Unintroduced {
    /// It begins with something else.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It began with nothing in time.
    #[error("no whole PROXY header within head-timeout")]
    Late,
    /// It ended before.
    #[error("closed before its PROXY header was whole")]
    Closed,
    /// It cannot be read.
    #[error(transparent)]
    Lost(#[from] io::Error),
}

impl Client {
    /// Whoever is at the other end of a socket, of which the kernel says that it is `peer`. If the
    /// peer is a proxy that speaks the PROXY protocol, this waits for what it says, and reads nothing
    /// beyond. `None` if it does not say so, or not in time.
    pub(super) async fn meet(
        shared: &Shared,
        peer: Option<SocketAddr>,
        socket: &Socket,
        deadline: Instant,
    ) -> Option<Self> {
        let Some(versions) = shared.introduced_by(peer) else {
            return Some(Self::new(shared, peer));
        };
        Box::pin(Self::introduced(shared, peer, socket, versions, deadline))
            .await
            .inspect_err(|error| {
                tracing::debug!(client = shown(peer), "connection refused: {error}");
            })
            .ok()
    }

    async fn introduced(
        shared: &Shared,
        peer: Option<SocketAddr>,
        socket: &Socket,
        versions: Versions,
        deadline: Instant,
    ) -> Result<Self, Unintroduced> {
        let header = shared.unless_leaving(introduction(socket, versions));
        let header = tokio::time::timeout_at(deadline, header).await;
        match header.ok().flatten().ok_or(Unintroduced::Late)?? {
            Header::Relayed { source, .. } => Ok(Self::new(shared, Some(source))),
            Header::Local => Ok(Self::new(shared, peer)),
            Header::Unknown => {
                let client = Self::new(shared, peer);
                Ok(Self {
                    forwarder: client.forwarder.relaying(),
                    ..client
                })
            }
        }
    }

    fn new(shared: &Shared, peer: Option<SocketAddr>) -> Self {
        Self {
            peer,
            forwarder: match peer {
                Some(address) => shared.forwarding.peer(address.ip()),
                None => shared.forwarding.local_peer(),
            },
            scheme: if shared.tls.is_some() {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            tls: None,
        }
    }
}

/// Reads what a proxy says at the start of a connection. What follows is for somebody else, such as
/// TLS, so it is only looked at until it is whole.
async fn introduction(socket: &Socket, versions: Versions) -> Result<Header, Unintroduced> {
    let mut bytes = vec![0; HEADER_BYTES_MAX];
    loop {
        let mut ready = socket.0.readable().await?;
        // Asked before looking: then whatever was sent before the end is seen.
        let ends = ready.ready().is_read_closed();
        let seen = match ready.get_inner().peek(&mut bytes) {
            Ok(0) => return Err(Unintroduced::Closed),
            Ok(seen) => proxy_protocol::parse(&bytes[..seen], versions)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => return Err(error.into()),
        };
        if let Some((header, used)) = seen {
            let mut left = used;
            while left > 0 {
                match ready.get_inner().read(&mut bytes[..left])? {
                    0 => return Err(Unintroduced::Closed),
                    count => left -= count,
                }
            }
            return Ok(header);
        }
        // What was not read hides the end of the stream, which stays ready for ever.
        if ends {
            return Err(Unintroduced::Closed);
        }
        // The kernel tells of what comes next, though this was not read.
        ready.clear_ready();
    }
}

impl Shared {
    /// How a connection of this peer begins, if it begins with the PROXY protocol.
    fn introduced_by(&self, peer: Option<SocketAddr>) -> Option<Versions> {
        let (versions, proxies) = self.proxy_protocol.as_ref()?;
        // Who may open a Unix socket's file was given the right to.
        let is_proxy = peer.is_none_or(|peer| forwarded::contains(proxies, peer.ip()));
        is_proxy.then_some(*versions)
    }
}
