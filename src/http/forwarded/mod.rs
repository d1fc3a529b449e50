//! Defines who a request comes from, by which scheme and for which host, when proxies stand
//! between the client and the server.
//!
//! Invariant: after [`Forwarding::resolve`] no field of a request says anything of this but what
//! the server itself has found out. X-Forwarded-For begins with the client and ends with the
//! peer; every address after the first is that of a trusted proxy. A claim that two fields make
//! differently is refused, never chosen from.

mod claims;
mod element;
mod node;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use bytes::Bytes;
use http::Uri;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use ipnet::IpNet;

use super::refusal::Refusal;
use super::target;
use claims::{Claims, Told};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

const MALFORMED_HOST: Refusal = Refusal::bad_request("malformed forwarded host");

/// Whom to believe, and where the apps are published.
#[derive(Debug, Clone)]
pub struct Forwarding {
    proxies: Vec<IpNet>,
    claims: Claims,
    /// The prefix that proxies publish the apps under, as text and as a field's value.
    root: Option<(String, HeaderValue)>,
}

/// The other end of a connection: the client, or the proxy that is nearest to the server.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address, and the same as fields write it.
    address: Option<(IpAddr, HeaderValue)>,
    /// Whether its fields are believed.
    trusted: bool,
}

impl Peer {
    /// The same peer, speaking for somebody else: its own address does not vouch for the fields.
    #[must_use]
    pub fn relaying(self) -> Self {
        Self {
            trusted: false,
            ..self
        }
    }
}

impl Forwarding {
    /// Fields are believed if they come from an address in `proxies`. `secure` are fields and the
    /// values that mean https. `root` is a path prefix without a slash at its end; empty for none.
    ///
    /// A name or a prefix that cannot stand in a field is left out.
    #[must_use]
    pub fn new(proxies: Vec<IpNet>, secure: &[(String, String)], root: &str) -> Self {
        let value = HeaderValue::from_str(root).ok();
        let root = value.filter(|_| !root.is_empty());
        Self {
            proxies,
            claims: Claims::new(secure),
            root: root.map(|value| (value.to_str().unwrap_or_default().to_owned(), value)),
        }
    }

    /// The peer at this address.
    #[must_use]
    pub fn peer(&self, address: IpAddr) -> Peer {
        let address = address.to_canonical();
        Peer {
            address: HeaderValue::from_str(&address.to_string())
                .ok()
                .map(|text| (address, text)),
            trusted: self.trusts(address),
        }
    }

    /// A peer at the other end of a Unix socket: it has no address, and is trusted, for whoever
    /// may open the socket's file was given the right to.
    #[must_use]
    pub fn local_peer(&self) -> Peer {
        Peer {
            address: None,
            trusted: true,
        }
    }

    /// Puts what is known of the client in the place of what the request says: in the fields, in the
    /// URI, and in `authority`, which is the host that is asked for. Takes the prefix off the path.
    /// `scheme` is that of the connection. Answers with the client's address, if it is known.
    ///
    /// # Errors
    ///
    /// 400 for claims of a trusted peer that are malformed or contradict each other; 421 for an https
    /// target that nobody but a trusted peer may ask for in the clear (RFC 9110 section 7.4).
    pub fn resolve(
        &self,
        request: &mut Parts,
        authority: &mut Option<Authority>,
        peer: &Peer,
        scheme: &Scheme,
    ) -> Result<Option<IpAddr>, Refusal> {
        let asked = request.uri.scheme();
        if asked == Some(&Scheme::HTTPS) && *scheme == Scheme::HTTP && !peer.trusted {
            return Err(Refusal::misdirected("https without TLS"));
        }
        let headers = &mut request.headers;
        let mut told = Told::default();
        if self.claims.any(headers) {
            if peer.trusted {
                told = self.claims.read(headers, |address| self.trusts(address))?;
            }
            self.claims.remove(headers, peer.trusted);
        }
        let text = peer.address.as_ref().map(|(_, text)| text);
        set(headers, FORWARDED_FOR, told.chain(text))?;
        let scheme = told.scheme.as_ref().unwrap_or(scheme);
        set(headers, FORWARDED_PROTO, Some(proto(scheme)))?;
        if let Some(host) = &told.host {
            let value = HeaderValue::from_str(host.as_str()).map_err(|_| MALFORMED_HOST)?;
            set(headers, HOST, Some(value))?;
            *authority = Some(host.clone());
        }
        let mut path = None;
        if let Some((root, value)) = &self.root {
            set(headers, FORWARDED_PREFIX, Some(value.clone()))?;
            path = below(root, &request.uri);
        }
        let other_scheme = request.uri.scheme().is_some_and(|said| said != scheme);
        if other_scheme || told.host.is_some() || path.is_some() {
            change(&mut request.uri, scheme, told.host.as_ref(), path);
        }
        let address = peer.address.as_ref().map(|(address, _)| *address);
        Ok(told.client(address))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        contains(&self.proxies, address)
    }
}

/// Whether an address is in one of `networks`. An IPv4 address that is written as an IPv6 one is
/// what it was (RFC 4291 section 2.5.5.2).
#[must_use]
pub fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Changes the parts of a URI that are other ones. `*` stays as it is, and so does one without a
/// host: neither has a scheme.
fn change(uri: &mut Uri, scheme: &Scheme, host: Option<&Authority>, path: Option<PathAndQuery>) {
    let mut parts = uri.clone().into_parts();
    if let Some(path) = path {
        parts.path_and_query = Some(path);
    }
    if uri.path() != "*" {
        parts.authority = host.cloned().or(parts.authority);
        parts.scheme = parts.authority.is_some().then(|| scheme.clone());
    }
    if let Ok(changed) = Uri::from_parts(parts) {
        *uri = changed;
    }
}

fn set(
    headers: &mut HeaderMap,
    name: HeaderName,
    value: Option<HeaderValue>,
) -> Result<(), Refusal> {
    if let Some(value) = value {
        headers
            .try_insert(name, value)
            .map_err(|_| Refusal::fields_too_large("too many fields"))?;
    }
    Ok(())
}

fn proto(scheme: &Scheme) -> HeaderValue {
    HeaderValue::from_static(if *scheme == Scheme::HTTPS {
        "https"
    } else {
        "http"
    })
}

/// Reads a host as it stands in Host.
fn parse_host(value: &[u8]) -> Result<Authority, Refusal> {
    target::parse_host(Bytes::copy_from_slice(value)).map_err(|_| MALFORMED_HOST)
}

/// The request's path below the prefix, if it is there: `/api` holds `/api` and `/api/v1`, not
/// `/apis`.
fn below(root: &str, uri: &Uri) -> Option<PathAndQuery> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(root)?;
    match rest.as_bytes().first() {
        Some(b'/') => PathAndQuery::try_from(rest).ok(),
        None | Some(b'?') => PathAndQuery::try_from(format!("/{rest}")).ok(),
        Some(_) => None,
    }
}
