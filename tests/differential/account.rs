//! Defines what a server has seen of the bytes of one client, in the terms that all servers share.

use differential::replay::Request;

/// A request that came whole.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    /// The path with its query, or `*`.
    pub(crate) target: String,
    pub(crate) content: Vec<u8>,
    /// The host that is asked, in small letters, without a port or a last dot; empty if there is
    /// none. Not everybody tells.
    pub(crate) host: Option<String>,
}

impl Exchange {
    /// Whether both are of the same request, as far as both tell.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        let hosts = self.host.as_ref().zip(other.host.as_ref());
        self.method == other.method
            && self.target == other.target
            && self.content == other.content
            && hosts.is_none_or(|(host, other)| host == other)
    }
}

impl From<&Request> for Exchange {
    fn from(request: &Request) -> Self {
        Self {
            method: request.head.method.to_string(),
            target: request.head.path_and_query.to_string(),
            content: request.content.clone(),
            host: Some(
                request
                    .head
                    .authority
                    .as_ref()
                    .map_or_else(String::new, |authority| {
                        let host = authority.host().to_ascii_lowercase();
                        host.strip_suffix('.').map(str::to_owned).unwrap_or(host)
                    }),
            ),
        }
    }
}

/// What another server made of a connection.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<Exchange>,
    /// Whether what came after them was refused; else it was incomplete, or nobody read it.
    pub(crate) refused: bool,
}
