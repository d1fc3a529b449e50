//! Defines the fields by which proxies say who a client is, and how they are read.
//!
//! Invariant: what is read was said by a trusted proxy. A list is read from its end, where the
//! nearest proxy has written, and no further than to the first address that is not trusted: what
//! is left of that one the client may have written itself.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, Scheme};

use super::super::fields::{list, trim};
use super::super::refusal::Refusal;
use super::node::Node;
use super::{FORWARDED_FOR, element, parse_host};

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Begins the names of a family of claims, some of which are no address, scheme or host: who has
/// logged in, for instance. Strangers' are taken off.
const FAMILY: &str = "x-forwarded-";
/// Fields that are taken off, and why; docs/proxies.md lists them too.
pub(super) const CLAIMS: [(Whose, &[&str]); 3] = [
    // Who the client is, by which scheme and for which host. The server has read those that it
    // knows, and a proxy that sets one of them lets others pass as clients send them.
    (
        Whose::Anybody,
        &[
            "cf-connecting-ip",
            "cf-connecting-ipv6",
            "cf-pseudo-ipv4",
            "client-ip",
            "fastly-client-ip",
            "fly-client-ip",
            "forwarded",
            "forwarded-for",
            "front-end-https",
            "proxy-client-ip",
            "remote-addr",
            "true-client-ip",
            "wl-proxy-client-ip",
            "x-appengine-user-ip",
            "x-azure-clientip",
            "x-azure-socketip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-envoy-external-address",
            "x-forwarded",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-prefix",
            "x-forwarded-proto",
            "x-forwarded-protocol",
            "x-forwarded-scheme",
            "x-forwarded-ssl",
            "x-host",
            "x-http-host-override",
            "x-nf-client-connection-ip",
            "x-original-forwarded-for",
            "x-original-host",
            "x-originating-ip",
            "x-proxyuser-ip",
            "x-real-ip",
            "x-remote-addr",
            "x-remote-ip",
            "x-scheme",
            "x-true-client-ip",
            "x-url-scheme",
            "x-vercel-forwarded-for",
            // Where a name becomes a variable with HTTP_ in front, it is the proxy that an app sends
            // its own requests to: CVE-2016-5385.
            "proxy",
        ],
    ),
    // Which path was asked for, and where below it the app is. Some frameworks route by them; a
    // proxy that authorises requests by an app tells it of them so.
    (
        Whose::Strangers,
        &[
            "path-info",
            "script-name",
            "x-original-uri",
            "x-original-url",
            "x-rewrite-url",
            "x-script-name",
        ],
    ),
    // How long the body is. Of these the server has read the ones with a hyphen, which alone are
    // HTTP's; an app that cannot tell them apart must not find others.
    (Whose::Misspelt, &["content-length", "transfer-encoding"]),
];
/// More proxies than anybody has in a row.
const HOPS_MAX: usize = 64;

/// Whose fields of some names do not get past the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of trusted peers neither.
    Anybody,
    /// Those of all peers that are not trusted.
    Strangers,
    /// Anybody's, if there is an underscore in the place of a hyphen.
    Misspelt,
}

/// Which fields are claims, and which of them mean https.
#[derive(Debug, Clone)]
pub(super) struct Claims {
    /// Fields and the values that mean https.
    secure: Vec<(HeaderName, HeaderValue)>,
    /// First bytes of all names, so that most fields cost one look.
    initials: [bool; 256],
}

/// What trusted proxies say.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// From the client to the proxy before the peer.
    nodes: Vec<Node>,
    pub(super) scheme: Option<Scheme>,
    pub(super) host: Option<Authority>,
}

impl Claims {
    pub(super) fn new(secure: &[(String, String)]) -> Self {
        let field = |(name, value): &(String, String)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        };
        let secure: Vec<_> = secure.iter().filter_map(field).collect();
        let mut initials = [false; 256];
        let known = CLAIMS.iter().flat_map(|(_, names)| names.iter().copied());
        let names = secure.iter().map(|(name, _)| name.as_str()).chain(known);
        for initial in names.filter_map(|name| name.bytes().next()) {
            initials[usize::from(initial)] = true;
        }
        Self { secure, initials }
    }

    /// Whether any field is a claim.
    pub(super) fn any(&self, headers: &HeaderMap) -> bool {
        headers.keys().any(|name| self.is_claim(name, false))
    }

    /// Whether nobody's fields of this name get past the server; or, unless the peer is trusted,
    /// none that says anything of the client.
    fn is_claim(&self, name: &HeaderName, trusted: bool) -> bool {
        let name = name.as_str();
        let initial = name.as_bytes().first().copied().unwrap_or_default();
        // Interfaces that are descended from CGI take an underscore for a hyphen.
        self.initials[usize::from(initial)]
            && (CLAIMS.iter().any(|(whose, claims)| {
                let counts = match whose {
                    Whose::Anybody => true,
                    Whose::Strangers => !trusted,
                    Whose::Misspelt => name.contains('_'),
                };
                counts && claims.iter().any(|claim| is_same(name, claim))
            }) || self
                .secure
                .iter()
                .any(|(claim, _)| is_same(name, claim.as_str()))
                || !trusted
                    && name
                        .get(..FAMILY.len())
                        .is_some_and(|name| is_same(name, FAMILY)))
    }

    /// Takes the claims off.
    pub(super) fn remove(&self, headers: &mut HeaderMap, trusted: bool) {
        let claims = headers.keys().filter(|name| self.is_claim(name, trusted));
        for name in claims.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
    }

    /// Reads what a trusted peer says.
    pub(super) fn read(
        &self,
        headers: &HeaderMap,
        trusts: impl Fn(IpAddr) -> bool,
    ) -> Result<Told, Refusal> {
        let older = Told {
            nodes: addresses(headers, &trusts)?,
            scheme: self.scheme(headers)?,
            host: last_host(headers)?,
        };
        let newer = forwarded(headers, &trusts)?;
        older.and(newer)
    }

    /// The scheme of which X-Forwarded-Proto and its like speak, as in gunicorn: https if the value
    /// is the one that means it, else http.
    fn scheme(&self, headers: &HeaderMap) -> Result<Option<Scheme>, Refusal> {
        let mut scheme = None;
        for (name, secure) in &self.secure {
            for value in headers.get_all(name) {
                let said = if value.as_bytes().eq_ignore_ascii_case(secure.as_bytes()) {
                    Scheme::HTTPS
                } else {
                    Scheme::HTTP
                };
                scheme = agreed(scheme, Some(said), "contradictory forwarded schemes")?;
            }
        }
        Ok(scheme)
    }
}

impl Told {
    /// The value of X-Forwarded-For: whom they name, and the peer itself.
    pub(super) fn chain(&self, peer: Option<&HeaderValue>) -> Option<HeaderValue> {
        if self.nodes.is_empty() {
            return peer.cloned();
        }
        let text = |node: &Node| match node {
            Node::Address(address) => address.to_string(),
            Node::Unknown => "unknown".to_owned(),
        };
        let mut chain: Vec<String> = self.nodes.iter().map(text).collect();
        chain.extend(peer.and_then(|peer| peer.to_str().ok()).map(str::to_owned));
        HeaderValue::try_from(chain.join(", ")).ok()
    }

    /// The address of the client, which is the peer if they name nobody.
    pub(super) fn client(&self, peer: Option<IpAddr>) -> Option<IpAddr> {
        match self.nodes.first() {
            Some(Node::Address(address)) => Some(*address),
            Some(Node::Unknown) => None,
            None => peer,
        }
    }

    /// What both say. A proxy that sets the ones lets the client's others pass, so where both are
    /// there they must agree.
    fn and(self, other: Self) -> Result<Self, Refusal> {
        let client = |told: &Self| told.nodes.first().copied();
        agreed(
            client(&self),
            client(&other),
            "contradictory forwarded addresses",
        )?;
        let nodes = if self.nodes.is_empty() {
            other.nodes
        } else {
            self.nodes
        };
        Ok(Self {
            nodes,
            scheme: agreed(self.scheme, other.scheme, "contradictory forwarded schemes")?,
            host: agreed(self.host, other.host, "contradictory forwarded hosts")?,
        })
    }
}

/// The one that is there; both if they are the same.
fn agreed<T: PartialEq>(
    one: Option<T>,
    other: Option<T>,
    contradiction: &'static str,
) -> Result<Option<T>, Refusal> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Err(Refusal::bad_request(contradiction)),
        (one, other) => Ok(one.or(other)),
    }
}

/// Whether names are the same but for underscores that stand for hyphens.
fn is_same(name: &str, claim: &str) -> bool {
    let hyphen = |byte: u8| if byte == b'_' { b'-' } else { byte };
    name.len() == claim.len()
        && name
            .bytes()
            .zip(claim.bytes())
            .all(|(a, b)| hyphen(a) == hyphen(b))
}

/// Reads X-Forwarded-For from its end.
fn addresses(headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Result<Vec<Node>, Refusal> {
    let mut hops = Hops::default();
    for line in headers.get_all(FORWARDED_FOR).iter().rev() {
        for member in line.as_bytes().rsplit(|byte| *byte == b',').map(trim) {
            if member.is_empty() {
                continue;
            }
            // What nobody understands may be the client: the request is not the proxy's own.
            let node = Node::parse(member);
            let node = node.ok_or(Refusal::bad_request("malformed X-Forwarded-For"))?;
            if hops.push(node, &trusts)? {
                return Ok(hops.client_first());
            }
        }
    }
    Ok(hops.client_first())
}

/// Reads Forwarded (RFC 7239) from its end. The scheme and the host are those that the farthest
/// trusted proxy tells: it is the one that the client was connected to.
fn forwarded(headers: &HeaderMap, trusts: impl Fn(IpAddr) -> bool) -> Result<Told, Refusal> {
    let mut elements = Vec::new();
    for line in headers.get_all(FORWARDED) {
        element::parse(line.as_bytes(), &mut elements)?;
    }
    let mut told = Told::default();
    let mut hops = Hops::default();
    for element in elements.into_iter().rev() {
        told.scheme = element.scheme.or(told.scheme);
        told.host = element.host.or(told.host);
        let Some(node) = element.node else { break };
        if hops.push(node, &trusts)? {
            break;
        }
    }
    told.nodes = hops.client_first();
    Ok(told)
}

/// Nodes from the nearest to the client.
#[derive(Default)]
struct Hops(Vec<Node>);

impl Hops {
    /// Adds the next node; whether it is the client: not a trusted proxy, which would have told
    /// whom it relays.
    fn push(&mut self, node: Node, trusts: impl Fn(IpAddr) -> bool) -> Result<bool, Refusal> {
        if self.0.len() == HOPS_MAX {
            return Err(Refusal::bad_request("too many forwarded addresses"));
        }
        self.0.push(node);
        Ok(match node {
            Node::Address(address) => !trusts(address),
            Node::Unknown => true,
        })
    }

    fn client_first(mut self) -> Vec<Node> {
        self.0.reverse();
        self.0
    }
}

/// The host that the nearest proxy says the client named. What is left of it in a list the client
/// may have written.
fn last_host(headers: &HeaderMap) -> Result<Option<Authority>, Refusal> {
    let last = headers.get_all(FORWARDED_HOST).iter().next_back();
    let host = last.and_then(|line| list(line.as_bytes()).last());
    host.filter(|host| !host.is_empty())
        .map(parse_host)
        .transpose()
}
