//! Checks what becomes of a request's fields, for trusted peers and for others.

use super::claims::Whose;
use super::*;
use crate::http::head::parse;
use crate::http::limits::Limits;
use crate::http::property_tests::Random;

const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "203.0.113.9";

fn forwarding(root: &str) -> Forwarding {
    let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
    let secure = [
        ("X-FORWARDED-PROTOCOL", "ssl"),
        ("X-FORWARDED-PROTO", "https"),
        ("X-FORWARDED-SSL", "on"),
        ("front-door", "tls"),
    ];
    let secure = secure.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Forwarding::new(networks.to_vec(), &secure, root)
}

/// A request and the host that it asks for.
fn request(target: &str, fields: &str, scheme: &Scheme) -> (Parts, Option<Authority>) {
    let fields = fields.replace('\n', "\r\n");
    let text = format!("GET {target} HTTP/1.1\r\nHost: h.example\r\n{fields}\r\n\r\n");
    let parsed = parse(text.as_bytes(), &Limits::default());
    let (head, _) = parsed.unwrap().unwrap();
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.uri = head.uri(scheme.clone());
    parts.headers = head.headers;
    (parts, head.authority)
}

/// All fields but Host, in lines, and the URI in front of them.
fn resolved(peer: &Peer, fields: &str) -> Result<String, Refusal> {
    let (mut parts, mut authority) = request("/p?q", fields, &Scheme::HTTP);
    let client = forwarding("").resolve(&mut parts, &mut authority, peer, &Scheme::HTTP)?;
    let chain = parts.headers.get(FORWARDED_FOR);
    let first = chain.and_then(|chain| chain.to_str().unwrap().split(", ").next());
    let unknown = client.is_none().then_some("unknown");
    let text = client.map(|client| client.to_string());
    assert_eq!(
        first,
        text.as_deref().or(unknown.filter(|_| chain.is_some()))
    );
    assert_eq!(parts.headers.get_all(HOST).iter().count(), 1);
    assert_eq!(parts.headers[HOST], authority.as_ref().unwrap().as_str());
    assert_eq!(parts.uri.authority(), authority.as_ref());
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
    let others = parts.headers.iter().filter(|(name, _)| *name != HOST);
    let mut lines: Vec<String> = others.map(line).collect();
    lines.sort();
    lines.insert(0, parts.uri.to_string());
    Ok(lines.join("\n"))
}

fn from(address: &str, fields: &str) -> Result<String, u16> {
    let peer = forwarding("").peer(address.parse().unwrap());
    resolved(&peer, fields).map_err(|refusal| refusal.status.as_u16())
}

/// What the guest learns: address chain, scheme and host.
fn learnt(chain: &str, uri: &str) -> Result<String, u16> {
    let scheme = uri.split(':').next().unwrap();
    Ok(format!(
        "{uri}/p?q\nx-forwarded-for: {chain}\nx-forwarded-proto: {scheme}"
    ))
}

#[test]
fn a_request_without_claims_says_who_the_peer_is() {
    for address in [PROXY, STRANGER, "::1", "fd00::1"] {
        assert_eq!(from(address, ""), learnt(address, "http://h.example"));
    }
    let mapped = from("::ffff:10.0.0.1", "X-Forwarded-For: 192.0.2.7");
    assert_eq!(mapped, learnt("192.0.2.7, 10.0.0.1", "http://h.example"));
}

#[test]
fn claims_of_strangers_are_taken_off() {
    let plain = learnt(STRANGER, "http://h.example");
    for fields in [
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-For: not an address",
        "X-Forwarded-For: 10.0.0.1\nX-Forwarded-For: 10.0.0.2",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Proto: https\nX-Forwarded-Ssl: off",
        "X-Forwarded-Protocol: ssl\nFront-Door: tls",
        "X-Forwarded-Host: evil.example",
        "X-Forwarded-Prefix: //evil.example",
        "X-Forwarded-Port: 1\nX-Forwarded-User: root\nX-Forwarded-Anything: x",
        "Forwarded: for=192.0.2.7;proto=https;host=evil.example",
        "Forwarded: \"",
        "X-Real-IP: 192.0.2.7\nTrue-Client-IP: 192.0.2.7\nCF-Connecting-IP: 192.0.2.7",
        "X_Forwarded_For: 192.0.2.7\nX-Forwarded_Proto: https\nx_real_ip: 192.0.2.7",
        "x_forwarded_user: root\nfront_door: tls",
    ] {
        assert_eq!(from(STRANGER, fields), plain, "{fields}");
    }
    let others = "accept: */*\ncookie: c\ncontent_type: t\nproxy-authorization: p\nforward: f\nx-forward: f\nx-request-id: 7";
    let kept = from(STRANGER, others).unwrap();
    for line in others.lines() {
        assert!(kept.contains(line), "{line}: {kept}");
    }
}

#[test]
fn each_claim_is_taken_off_in_every_spelling_and_in_the_manual() {
    let manual = include_str!("../../../docs/proxies.md").to_lowercase();
    for (whose, names) in claims::CLAIMS {
        for name in names {
            let underscores = name.replace('-', "_");
            for spelling in [*name, &underscores, &name.replacen('-', "_", 1)] {
                // With a hyphen they are HTTP's.
                if whose == Whose::Misspelt && spelling == *name {
                    continue;
                }
                // An empty value says nothing where it is read.
                let field = format!("{spelling}:");
                let plain = |address| learnt(address, "http://h.example");
                assert_eq!(from(STRANGER, &field), plain(STRANGER), "{field}");
                let kept = from(PROXY, &field) != plain(PROXY);
                assert_eq!(kept, whose == Whose::Strangers, "{field}");
            }
            let listed = match whose {
                Whose::Misspelt => &underscores,
                Whose::Anybody | Whose::Strangers => *name,
            };
            assert!(manual.contains(&format!("`{listed}`")), "{listed}");
        }
    }
}

#[test]
fn the_client_is_the_last_address_that_is_not_trusted() {
    for (fields, chain) in [
        ("X-Forwarded-For: 192.0.2.7", "192.0.2.7, 10.0.0.1"),
        ("X-Forwarded-For: 192.0.2.7:4711", "192.0.2.7, 10.0.0.1"),
        (
            "X-Forwarded-For: [2001:DB8::7]:4711",
            "2001:db8::7, 10.0.0.1",
        ),
        (
            "X-Forwarded-For: 192.0.2.7, 10.1.2.3,10.3.2.1",
            "192.0.2.7, 10.1.2.3, 10.3.2.1, 10.0.0.1",
        ),
        (
            "X-Forwarded-For: 192.0.2.7\nX-Forwarded-For: ,fd00::2,",
            "192.0.2.7, fd00::2, 10.0.0.1",
        ),
        // What the client wrote itself, for the proxy to add to.
        ("X-Forwarded-For: 8.8.8.8, 192.0.2.7", "192.0.2.7, 10.0.0.1"),
        (
            "X-Forwarded-For: 10.9.9.9, 192.0.2.7, 10.1.1.1",
            "192.0.2.7, 10.1.1.1, 10.0.0.1",
        ),
        ("X-Forwarded-For: rubbish, 192.0.2.7", "192.0.2.7, 10.0.0.1"),
        (
            "X-Forwarded-For: 8.8.8.8\nX-Forwarded-For: 192.0.2.7",
            "192.0.2.7, 10.0.0.1",
        ),
        // A request of a proxy's own.
        (
            "X-Forwarded-For: 10.9.9.9, 10.1.1.1",
            "10.9.9.9, 10.1.1.1, 10.0.0.1",
        ),
        ("X-Forwarded-For:", "10.0.0.1"),
        ("X-Forwarded-For: 8.8.8.8, unknown", "unknown, 10.0.0.1"),
        ("Forwarded: for=192.0.2.7", "192.0.2.7, 10.0.0.1"),
        (
            "Forwarded: for=8.8.8.8, for=192.0.2.7\nForwarded: for=\"[fd00::2]\"",
            "192.0.2.7, fd00::2, 10.0.0.1",
        ),
        (
            "Forwarded: for=8.8.8.8, for=_hidden, for=10.1.1.1",
            "unknown, 10.1.1.1, 10.0.0.1",
        ),
        ("Forwarded: for=8.8.8.8, by=_proxy", "10.0.0.1"),
        (
            "Forwarded: for=192.0.2.7\nX-Forwarded-For: 192.0.2.7, 10.1.1.1",
            "192.0.2.7, 10.1.1.1, 10.0.0.1",
        ),
        (
            "X-Real-IP: 192.0.2.7\nTrue-Client-IP: 192.0.2.7",
            "10.0.0.1",
        ),
    ] {
        assert_eq!(
            from(PROXY, fields),
            learnt(chain, "http://h.example"),
            "{fields}"
        );
    }
}

#[test]
fn scheme_and_host_are_those_that_the_client_used() {
    for (fields, uri) in [
        ("X-Forwarded-Proto: https", "https://h.example"),
        ("X-Forwarded-Proto: HTTPS", "https://h.example"),
        ("X-Forwarded-Proto: http", "http://h.example"),
        ("X-Forwarded-Proto: wss", "http://h.example"),
        ("X-Forwarded-Proto: https, http", "http://h.example"),
        ("X-Forwarded-Protocol: ssl", "https://h.example"),
        (
            "X-Forwarded-Ssl: on\nX-Forwarded-Proto: https",
            "https://h.example",
        ),
        ("Front-Door: tls", "https://h.example"),
        ("Front-End-Https: on", "http://h.example"),
        ("X-Forwarded-Host: a.example:8080", "http://a.example:8080"),
        (
            "X-Forwarded-Host: evil.example, a.example",
            "http://a.example",
        ),
        (
            "X-Forwarded-Host: evil.example\nX-Forwarded-Host: a.example",
            "http://a.example",
        ),
        ("X-Forwarded-Host:", "http://h.example"),
        ("Forwarded: proto=https;host=a.example", "https://a.example"),
        (
            "Forwarded: proto=https\nX-Forwarded-Proto: https",
            "https://h.example",
        ),
        (
            "Forwarded: host=A.example\nX-Forwarded-Host: a.example",
            "http://a.example",
        ),
    ] {
        assert_eq!(from(PROXY, fields), learnt(PROXY, uri), "{fields}");
    }
    let fields = "Forwarded: for=8.8.8.8;proto=http;host=evil.example, \
                  for=192.0.2.7;proto=https;host=a.example, for=10.1.1.1;proto=http;host=inner";
    let chain = "192.0.2.7, 10.1.1.1, 10.0.0.1";
    assert_eq!(from(PROXY, fields), learnt(chain, "https://a.example"));
}

#[test]
fn what_a_trusted_peer_says_in_two_ways_or_in_none_is_refused() {
    let hops = format!("X-Forwarded-For: 1.1.1.1{}", ", 10.0.0.1".repeat(64));
    for fields in [
        "X-Forwarded-Proto: https\nX-Forwarded-Ssl: off",
        "X-Forwarded-Proto: https\nX-Forwarded-Proto: http",
        "X-Forwarded-Proto: http\nForwarded: proto=https",
        "X-Forwarded-For: 192.0.2.7\nForwarded: for=192.0.2.8",
        "X-Forwarded-For: 192.0.2.7\nForwarded: for=unknown",
        "X-Forwarded-Host: a.example\nForwarded: host=b.example",
        "X-Forwarded-For: rubbish",
        "X-Forwarded-For: 192.0.2.7, rubbish, 10.1.1.1",
        "X-Forwarded-For: 192.0.2.7, 10.1.1.1/8",
        "X-Forwarded-Host: a b",
        "X-Forwarded-Host: user@a.example",
        "X-Forwarded-Host: http://a.example",
        "Forwarded: for=rubbish",
        "Forwarded: for=192.0.2.7;for=192.0.2.8",
        "Forwarded: x=\"\nX-Forwarded-For: 192.0.2.7",
        &hops,
    ] {
        assert_eq!(from(PROXY, fields), Err(400), "{fields}");
    }
}

#[test]
fn a_trusted_peer_may_say_more_of_the_client() {
    let said = from(PROXY, "X-Forwarded-User: alice\nX_Forwarded_Email: a@b").unwrap();
    assert!(said.contains("x-forwarded-user: alice") && said.contains("x_forwarded_email: a@b"));
}

#[test]
fn a_unix_socket_is_trusted_and_has_no_address() {
    let peer = forwarding("").local_peer();
    let fields = "X-Forwarded-For: 8.8.8.8, 192.0.2.7, 10.1.1.1\nX-Forwarded-Proto: https";
    let expect = learnt("192.0.2.7, 10.1.1.1", "https://h.example");
    assert_eq!(resolved(&peer, fields).map_err(|_| 400), expect);
    let plain = "http://h.example/p?q\nx-forwarded-proto: http";
    assert_eq!(resolved(&peer, "").as_deref(), Ok(plain));
    let relayed = resolved(&peer.relaying(), fields);
    assert_eq!(relayed.as_deref(), Ok(plain));
}

#[test]
fn a_peer_that_relays_for_somebody_unknown_is_not_believed() {
    let peer = forwarding("").peer(PROXY.parse().unwrap()).relaying();
    let fields = "X-Forwarded-For: 192.0.2.7\nX-Forwarded-Proto: https";
    let said = resolved(&peer, fields).map_err(|_| 400);
    assert_eq!(said, learnt(PROXY, "http://h.example"));
}

#[test]
fn the_scheme_of_the_connection_counts_if_nobody_says_more() {
    let forwarding = forwarding("");
    for (address, fields, expect) in [
        (STRANGER, "X-Forwarded-Proto: http", "https"),
        (PROXY, "", "https"),
        (PROXY, "X-Forwarded-Proto: http", "http"),
    ] {
        let (mut parts, mut authority) = request("/", fields, &Scheme::HTTPS);
        let peer = forwarding.peer(address.parse().unwrap());
        forwarding
            .resolve(&mut parts, &mut authority, &peer, &Scheme::HTTPS)
            .unwrap();
        assert_eq!(parts.uri.scheme_str(), Some(expect));
        assert_eq!(parts.headers[FORWARDED_PROTO], expect);
    }
}

#[test]
fn the_client_does_not_choose_the_scheme() {
    let forwarding = forwarding("");
    for (address, target, scheme, expect) in [
        (STRANGER, "http://h.example/", Scheme::HTTP, Ok("http")),
        (STRANGER, "http://h.example/", Scheme::HTTPS, Ok("https")),
        (STRANGER, "https://h.example/", Scheme::HTTPS, Ok("https")),
        (STRANGER, "https://h.example/", Scheme::HTTP, Err(421)),
        (STRANGER, "HTTPS://h.example/", Scheme::HTTP, Err(421)),
        // What a proxy was asked for it says in fields.
        (PROXY, "https://h.example/", Scheme::HTTP, Ok("http")),
    ] {
        let (mut parts, mut authority) = request(target, "X-Forwarded-Port: 1", &scheme);
        let peer = forwarding.peer(address.parse().unwrap());
        let resolved = forwarding.resolve(&mut parts, &mut authority, &peer, &scheme);
        let status = resolved.map_err(|refusal| refusal.status.as_u16());
        let said = status.map(|_| parts.uri.scheme_str().unwrap());
        assert_eq!(said, expect, "{address} {target} {scheme}");
    }
}

#[test]
fn the_prefix_is_taken_off_at_the_end_of_a_segment() {
    let forwarding = forwarding("/api/v1");
    let peer = forwarding.peer(STRANGER.parse().unwrap());
    for (target, expect) in [
        ("/api/v1", "/"),
        ("/api/v1/", "/"),
        ("/api/v1?q=/api/v1", "/?q=/api/v1"),
        ("/api/v1/a/b?q", "/a/b?q"),
        ("/api/v1//a", "//a"),
        ("/api/v1/api/v1/a", "/api/v1/a"),
        ("http://h.example/api/v1/a", "/a"),
        ("/api/v10", "/api/v10"),
        ("/api", "/api"),
        ("/API/v1/a", "/API/v1/a"),
        ("/a?/api/v1", "/a?/api/v1"),
        ("/", "/"),
    ] {
        let (mut parts, mut authority) =
            request(target, "X-Forwarded-Prefix: /else", &Scheme::HTTP);
        forwarding
            .resolve(&mut parts, &mut authority, &peer, &Scheme::HTTP)
            .unwrap();
        assert_eq!(
            parts.uri,
            format!("http://h.example{expect}").as_str(),
            "{target}"
        );
        let prefixes: Vec<_> = parts.headers.get_all(FORWARDED_PREFIX).iter().collect();
        assert_eq!(prefixes, ["/api/v1"]);
    }
}

#[test]
fn a_request_about_the_whole_server_or_without_a_host_has_no_scheme() {
    let forwarding = forwarding("/api");
    let peer = forwarding.local_peer();
    for (target, fields, uri) in [
        (
            "*",
            "X-Forwarded-Proto: https\nX-Forwarded-Host: a.example",
            "*",
        ),
        ("/api/a", "X-Forwarded-Proto: https", "/a"),
        (
            "/api",
            "X-Forwarded-Proto: https\nX-Forwarded-Host: a.example",
            "https://a.example/",
        ),
    ] {
        let (mut parts, _) = request("/", fields, &Scheme::HTTP);
        parts.uri = target.parse().unwrap();
        let mut authority = None;
        forwarding
            .resolve(&mut parts, &mut authority, &peer, &Scheme::HTTP)
            .unwrap();
        assert_eq!(parts.uri, uri);
        assert_eq!(authority.is_some(), fields.contains("Host"), "{target}");
    }
}

/// Fields of made-up claims, and what their values are put together from.
const NAMES: [&str; 6] = [
    "X-Forwarded-For",
    "X-Forwarded-For",
    "Forwarded",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Real-IP",
];
const WORDS: [&str; 24] = [
    "192.0.2.7",
    "10.0.0.2",
    "fd00::2",
    "[2001:db8::7]:4711",
    "unknown",
    "_h",
    "for=",
    "For=",
    "proto=",
    "host=",
    "https",
    "http",
    "a.example",
    ", ",
    ",",
    ";",
    "\"",
    "\\",
    "=",
    " ",
    ":1",
    "for=192.0.2.7",
    "for=\"[fd00::2]\"",
    "x",
];

/// Whatever a trusted peer says, it is refused or leaves a chain that nobody else could have made
/// longer than it is.
#[test]
fn made_up_claims_are_refused_or_lead_to_one_client() {
    let forwarding = forwarding("");
    let peer = forwarding.peer(PROXY.parse().unwrap());
    let (mut accepted, mut refused) = (0, 0);
    for seed in 0..20_000 {
        let mut random = Random(seed);
        let mut fields = String::new();
        for _ in 0..1 + random.below(3) {
            fields += NAMES[random.below(NAMES.len())];
            fields += ": ";
            for _ in 0..random.below(6) {
                fields += WORDS[random.below(WORDS.len())];
            }
            fields += "\n";
        }
        let (mut parts, mut authority) = request("/", fields.trim_end(), &Scheme::HTTP);
        match forwarding.resolve(&mut parts, &mut authority, &peer, &Scheme::HTTP) {
            Ok(_) => accepted += 1,
            Err(refusal) => {
                assert_eq!(refusal.status, 400, "seed {seed}: {fields}");
                refused += 1;
                continue;
            }
        }
        let chain: Vec<_> = parts.headers.get_all(FORWARDED_FOR).iter().collect();
        let [chain] = chain[..] else {
            panic!("seed {seed}: {chain:?}")
        };
        let chain: Vec<&str> = chain.to_str().unwrap().split(", ").collect();
        assert_eq!(chain.last(), Some(&PROXY), "seed {seed}: {fields}");
        let trusted = |text: &&str| forwarding.trusts(text.parse().unwrap());
        assert!(chain[1..].iter().all(trusted), "seed {seed}: {fields}");
        let proto = parts.headers[FORWARDED_PROTO].to_str().ok();
        assert_eq!(parts.uri.scheme_str(), proto, "seed {seed}: {fields}");
        assert_eq!(parts.uri.authority(), authority.as_ref());
        assert_eq!(parts.headers.len(), 3, "seed {seed}: {fields}");
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
}
