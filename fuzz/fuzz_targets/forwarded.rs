//! The fields about a client, from every kind of peer: in the end a request says what the server has found out, and nothing
//! else.

#![no_main]

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::LazyLock;

use http::HeaderMap;
use http::header::{HOST, HeaderName};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use rgunicorn_fuzz::http::forwarded::{Forwarding, Peer, contains};
use rgunicorn_fuzz::http::h2::check;
use rgunicorn_fuzz::{CEILINGS, request};

const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "203.0.113.9";
const ROOT: &str = "/shop";
/// Some of those that nobody, and some of those that no stranger may send.
const CLAIMS: [&str; 12] = [
    "client-ip",
    "forwarded",
    "front-door",
    "proxy",
    "true-client-ip",
    "x-forwarded",
    "x-forwarded-host",
    "x-forwarded-ssl",
    "x-host",
    "x-original-forwarded-for",
    "x-real-ip",
    "x-scheme",
];
const OF_STRANGERS: [&str; 4] = [
    "path-info",
    "script-name",
    "x-original-url",
    "x-rewrite-url",
];

static PROXIES: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    let networks = ["10.0.0.0/8", "fd00::/8"];
    networks
        .map(|network| network.parse().expect("it is one"))
        .into()
});
static FORWARDING: LazyLock<Forwarding> = LazyLock::new(|| {
    let secure = [
        ("x-forwarded-proto", "https"),
        ("x-forwarded-ssl", "on"),
        ("front-door", "tls"),
    ];
    let secure = secure.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Forwarding::new(PROXIES.clone(), &secure, ROOT)
});

/// The other end of a connection.
struct End {
    peer: Peer,
    address: Option<IpAddr>,
    trusted: bool,
}

fuzz_target!(|input: &[u8]| {
    let Some((mut parts, has_content)) = request(input) else {
        return;
    };
    let Ok(meaning) = check(
        &mut parts,
        Scheme::HTTP,
        has_content,
        (&CEILINGS, usize::MAX),
    ) else {
        return;
    };
    for end in ends() {
        resolve(parts.clone(), meaning.authority.clone(), &end);
    }
});

fn ends() -> [End; 4] {
    let at = |address: &str, trusted| {
        let address = address.parse().expect("it is an address");
        End {
            peer: FORWARDING.peer(address),
            address: Some(address),
            trusted,
        }
    };
    let proxy = at(PROXY, true);
    let relaying = End {
        peer: proxy.peer.clone().relaying(),
        trusted: false,
        ..proxy
    };
    let local = End {
        peer: FORWARDING.local_peer(),
        address: None,
        trusted: true,
    };
    [at(PROXY, true), at(STRANGER, false), relaying, local]
}

fn resolve(mut parts: Parts, authority: Authority, end: &End) {
    let before = parts.headers.clone();
    let is_secure = parts.uri.scheme() == Some(&Scheme::HTTPS);
    let mut authority = Some(authority);
    let found = FORWARDING.resolve(&mut parts, &mut authority, &end.peer, &Scheme::HTTP);
    let client = match found.map_err(|refusal| refusal.status.as_u16()) {
        Ok(client) => client,
        Err(400) => return assert!(end.trusted, "a stranger's word is not even read"),
        Err(421) => return assert!(is_secure && !end.trusted),
        Err(status) => panic!("{status}"),
    };
    assert!(end.trusted || !is_secure);
    check_chain(client, &chain(&parts.headers), &before, end);
    check_fields(&parts, authority.as_ref(), &before, end);
    if !end.trusted {
        // There is nothing left to believe or to take off.
        let resolved = parts.headers.clone();
        let again = FORWARDING.resolve(&mut parts, &mut authority, &end.peer, &Scheme::HTTP);
        assert_eq!((again, parts.headers), (Ok(client), resolved));
    }
}

/// The addresses of X-Forwarded-For; `None` is a client whom nobody names.
fn chain(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let values: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let [value] = values[..] else {
        assert!(values.is_empty());
        return Vec::new();
    };
    let hops = value.to_str().expect("it is text").split(", ");
    let address = |hop: &str| {
        let address = hop.parse().ok();
        assert!(address.is_some() || hop == "unknown", "{hop}");
        address
    };
    hops.map(address).collect()
}

/// The client is a peer, or one whom a trusted peer names; only proxies stand between.
fn check_chain(client: Option<IpAddr>, chain: &[Option<IpAddr>], before: &HeaderMap, end: &End) {
    assert_eq!(chain.first().copied().flatten(), client);
    let told = match end.address {
        Some(address) => {
            let (last, told) = chain.split_last().expect("there is the peer");
            assert_eq!(*last, Some(address));
            told
        }
        None => chain,
    };
    assert!(end.trusted || told.is_empty());
    let named = named(before);
    for (at, hop) in told.iter().enumerate() {
        let is_proxy = hop.is_some_and(|hop| contains(&PROXIES, hop));
        assert!(at == 0 || is_proxy, "{chain:?}");
        assert!(hop.is_none_or(|hop| named.contains(&hop)), "{chain:?}");
    }
}

/// Every address that stands somewhere in a field.
fn named(headers: &HeaderMap) -> HashSet<IpAddr> {
    let mut named = HashSet::new();
    for value in headers.values() {
        let text = String::from_utf8_lossy(value.as_bytes()).replace('\\', "");
        for word in text.split([',', ';', '=', '"', ' ', '\t']) {
            let without_port = word.rsplit_once(':').map_or(word, |(address, _)| address);
            for word in [word, without_port] {
                let address = word.trim_start_matches('[').trim_end_matches(']').parse();
                named.extend(address.map(|address: IpAddr| address.to_canonical()));
            }
        }
    }
    named
}

fn check_fields(parts: &Parts, authority: Option<&Authority>, before: &HeaderMap, end: &End) {
    let one = |name: &str| {
        let values: Vec<_> = parts.headers.get_all(name).iter().collect();
        let [value] = values[..] else {
            panic!("{name}: {values:?}");
        };
        value.to_str().expect("it is text")
    };
    assert_eq!(one("x-forwarded-prefix"), ROOT);
    assert_eq!(Some(one("host")), authority.map(Authority::as_str));
    let proto = one("x-forwarded-proto");
    assert!(end.trusted || proto == "http");
    if parts.uri.path() != "*" {
        assert_eq!(parts.uri.scheme_str(), Some(proto));
        assert_eq!(parts.uri.authority(), authority);
    }
    for name in parts.headers.keys() {
        let hyphens = name.as_str().replace('_', "-");
        if matches!(
            &hyphens[..],
            "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-prefix"
        ) {
            assert_eq!(name.as_str(), hyphens);
            continue;
        }
        assert!(!CLAIMS.contains(&&hyphens[..]), "{name}");
        let is_of_strangers =
            hyphens.starts_with("x-forwarded-") || OF_STRANGERS.contains(&&hyphens[..]);
        assert!(end.trusted || !is_of_strangers, "{name}");
        let is_length = ["content-length", "transfer-encoding"].contains(&&hyphens[..]);
        assert!(!is_length || name.as_str() == hyphens, "{name}");
        assert!(
            *name == HOST || same(name, &parts.headers, before),
            "{name}"
        );
    }
}

fn same(name: &HeaderName, one: &HeaderMap, other: &HeaderMap) -> bool {
    one.get_all(name).iter().eq(other.get_all(name))
}
