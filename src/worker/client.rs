//! Defines what is known of whoever is at the other end of a connection.

use std::fmt;
use std::net::SocketAddr;

use http::uri::Scheme;

/// The client of one connection.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Its address, which only TCP has.
    pub(super) peer: Option<SocketAddr>,
    /// How it speaks to the server.
    pub(super) scheme: Scheme,
}

/// Its address, for the log.
impl fmt::Display for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(address) => write!(out, "{address}"),
            None => out.write_str("unix"),
        }
    }
}
