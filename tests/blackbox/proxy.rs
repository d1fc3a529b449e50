//! Tests of a server behind proxies: whose word is taken about clients, what guests see in the end,
//! and connections that begin with the PROXY protocol.

use std::net::Ipv4Addr;

use crate::h2::cleartext;
use crate::harness::h2::request;
use crate::harness::{Client, H2, Response, Server, Start, in_loop, in_repository};

/// What the guest says it was given: its first line, and the fields about its client.
fn told(response: &Response) -> String {
    assert_eq!(response.status(), 200, "{response:?}");
    let mut lines = response.text().lines().take_while(|line| !line.is_empty());
    let first = lines.next().expect("there is a line").to_owned();
    let mut fields: Vec<&str> = lines.filter(|line| !line.starts_with("host:")).collect();
    fields.sort_unstable();
    fields.insert(0, &first);
    fields.join("\n")
}

/// Asks for a target with some fields.
fn ask(client: &mut Client, target: &str, fields: &str) -> Response {
    let fields: String = fields.lines().map(|line| format!("{line}\r\n")).collect();
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: h.example\r\n{fields}\r\n"
    ));
    client.response()
}

/// What a guest is given.
fn given(scheme: &str, host: &str, chain: &str) -> String {
    format!("GET {scheme} {host} /\nx-forwarded-for: {chain}\nx-forwarded-proto: {scheme}")
}

/// A server whose guest says what it was given.
fn echo(args: &[&str]) -> Server {
    Start::app("app-echo").args(args.iter().copied()).start()
}

/// A header of version 2 for a TCP connection from an IPv4 address.
fn v2(source: [u8; 4], extensions: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    let length = u16::try_from(12 + extensions.len()).expect("it fits");
    bytes.extend(length.to_be_bytes());
    bytes.extend(source);
    bytes.extend([10, 0, 0, 1, 0x30, 0x39, 0, 80]);
    bytes.extend(extensions);
    bytes
}

const CLAIMS: &str = "X-Forwarded-For: 198.51.100.9, 192.0.2.7\nX-Forwarded-Proto: https\n\
                      X-Forwarded-Host: a.example:8443\nX-Real-IP: 1.2.3.4\nX_Forwarded_For: 1.2.3.4";

#[test]
fn without_a_proxy_a_guest_learns_who_the_client_is() {
    for name in ["app-echo", "wasi-request"] {
        let server = Start::app(name).start();
        let said = told(&ask(&mut server.connect(), "/", ""));
        assert_eq!(said, given("http", "h.example", "127.0.0.1"), "{name}");
    }
}

#[test]
fn what_a_trusted_proxy_says_reaches_the_guest() {
    let forwarded = "Forwarded: for=1.1.1.1, for=192.0.2.7;proto=https;host=\"a.example:8443\"";
    let expect = given("https", "a.example:8443", "192.0.2.7, 127.0.0.1");
    for name in ["app-echo", "wasi-request"] {
        let server = Start::app(name).start();
        let mut client = server.connect();
        for fields in [CLAIMS, forwarded] {
            let response = ask(&mut client, "/", fields);
            assert_eq!(told(&response), expect, "{name}: {fields}");
            // wasi:http tells the host in the authority alone.
            let hosts = response.text().lines();
            let mut hosts = hosts.filter(|line| line.starts_with("host:"));
            assert!(hosts.all(|line| line == "host: a.example:8443"), "{name}");
        }
        let user = told(&ask(&mut client, "/", "X-Forwarded-User: alice"));
        assert!(user.ends_with("\nx-forwarded-user: alice"), "{user}");
    }
}

#[test]
fn what_anybody_else_says_does_not() {
    let server = echo(&["--forwarded-allow-ips", "10.0.0.0/8,192.0.2.7"]);
    let mut client = server.connect();
    let plain = given("http", "h.example", "127.0.0.1");
    for fields in [
        CLAIMS,
        "Forwarded: for=192.0.2.7;proto=https;host=a.example",
        "X-Forwarded-Ssl: on\nX-Forwarded-Proto: http",
        "X-Forwarded-For: ,;\"",
        "X-Forwarded-User: alice\nX-Forwarded-Prefix: /x\nTrue-Client-IP: 192.0.2.7",
        "X-Original-URL: /admin\nScript-Name: /x\nProxy: http://evil\nX-Host: evil\nTransfer_Encoding: x",
        "Connection: X-Forwarded-For",
    ] {
        let said = told(&ask(&mut client, "/", fields));
        let said = said.replace("\nconnection: X-Forwarded-For", "");
        assert_eq!(said, plain, "{fields}");
    }
}

#[test]
fn trust_is_a_setting() {
    let trusts = |start: Start| {
        let server = start.start();
        let said = told(&ask(&mut server.connect(), "/", "X-Forwarded-Proto: https"));
        said.starts_with("GET https ")
    };
    let app = || Start::app("app-echo");
    for (networks, expect) in [
        ("127.0.0.0/8", true),
        ("10.0.0.1,127.0.0.1", true),
        ("*", true),
        ("::ffff:127.0.0.0/104", true),
        ("::1", false),
        ("", false),
    ] {
        let start = app().args(["--forwarded-allow-ips", networks]);
        assert_eq!(trusts(start), expect, "{networks}");
    }
    assert!(!trusts(app().env("FORWARDED_ALLOW_IPS", "10.0.0.1")));
    assert!(!trusts(
        app().args(["--secure-scheme-headers", "X-Scheme=https"])
    ));
}

#[test]
fn a_proxy_that_contradicts_itself_is_refused() {
    let server = Start::config(
        "app = '{app-echo}'\nlog-level = 'debug'\n[secure-scheme-headers]\n\
         X-Forwarded-Proto = 'https'\nFront-Door = 'tls'\n",
    )
    .start();
    for (fields, reason) in [
        ("X-Forwarded-Proto: https\nFront-Door: none", "schemes"),
        (
            "Forwarded: for=1.1.1.1\nX-Forwarded-For: 1.1.1.2",
            "addresses",
        ),
        ("Forwarded: host=a\nX-Forwarded-Host: b", "hosts"),
        ("X-Forwarded-For: rubbish", "malformed X-Forwarded-For"),
        ("Forwarded: for=\"", "malformed Forwarded"),
        ("X-Forwarded-Host: a b", "malformed forwarded host"),
    ] {
        let mut client = server.connect();
        ask(&mut client, "/", fields).is_own(400);
        assert!(client.is_closed());
        server.wait_log(&["DEBUG", reason]);
    }
    let said = told(&ask(&mut server.connect(), "/", "Front-Door: tls"));
    assert_eq!(said, given("https", "h.example", "127.0.0.1"));
}

#[test]
fn whoever_can_open_a_unix_socket_is_trusted() {
    let start = Start::app("app-echo").args(["--forwarded-allow-ips", ""]);
    let path = start.folder().join("s");
    let bind = format!("unix:{}", path.display());
    let server = start.env("RGUNICORN_BIND", &bind).start();
    let mut client = server.connect();
    let said = told(&ask(&mut client, "/", CLAIMS));
    assert_eq!(said, given("https", "a.example:8443", "192.0.2.7"));
    let said = told(&ask(&mut client, "/", ""));
    assert_eq!(said, "GET http h.example /\nx-forwarded-proto: http");
}

#[test]
fn only_a_trusted_proxy_asks_for_https_in_the_clear() {
    for (trusted, status) in [("127.0.0.1", 200), ("", 421)] {
        let start = Start::app("app-echo").args(["--forwarded-allow-ips", trusted]);
        let server = cleartext(start);
        let mut client = server.connect();
        for (target, status) in [("http://h.example/", 200), ("https://h.example/", status)] {
            let response = ask(&mut client, target, "");
            assert_eq!(response.status(), status, "{trusted} {target}");
            if status == 200 {
                assert_eq!(told(&response), given("http", "h.example", "127.0.0.1"));
            }
        }
        in_loop(async {
            let client = H2::connect(&server).await;
            let asks = request("GET", "/").uri("https://localhost/");
            assert_eq!(client.ask(asks).await.unwrap().status(), status);
            assert_eq!(client.get("/").await.status(), 200);
        });
    }
}

#[test]
fn routes_follow_the_forwarded_host() {
    let server = Start::config(
        "[apps.outer]\ncomponent = '{app-echo}'\nroutes = ['a.example']\n\
         [apps.inner]\ncomponent = '{hello-wasi}'\nroutes = ['h.example']\n",
    )
    .start();
    let mut client = server.connect();
    ask(&mut client, "/", "").is(200, "hello\n");
    let said = told(&ask(&mut client, "/", "X-Forwarded-Host: A.example"));
    assert_eq!(said, given("http", "A.example", "127.0.0.1"));
    let response = ask(&mut client, "/", "X-Forwarded-Host: b.example");
    response.is_own(404);
}

#[test]
fn the_path_prefix_of_a_proxy_is_taken_off() {
    let server = Start::config(
        "root-path = '/shop/'\n[apps.all]\ncomponent = '{app-echo}'\n\
         [apps.cart]\ncomponent = '{hello-wasi}'\nroutes = ['/cart']\n",
    )
    .start();
    let mut client = server.connect();
    for target in ["/shop/cart", "/shop/cart/1?x", "/cart", "/shop/cart?x"] {
        ask(&mut client, target, "").is(200, "hello\n");
    }
    for (target, expect) in [
        ("/shop", "/"),
        ("/shop?id=1", "/?id=1"),
        ("/shop/list/2", "/list/2"),
        ("/shopping", "/shopping"),
        ("/", "/"),
    ] {
        let said = told(&ask(&mut client, target, "X-Forwarded-Prefix: //evil"));
        let expect =
            given("http", "h.example", "127.0.0.1").replacen(" /\n", &format!(" {expect}\n"), 1);
        let (head, proto) = expect.rsplit_once('\n').unwrap();
        let expect = format!("{head}\nx-forwarded-prefix: /shop\n{proto}");
        assert_eq!(said, expect, "{target}");
    }
}

#[test]
fn the_proxy_protocol_names_the_client() {
    let stranger = given("http", "h.example", "192.0.2.7");
    let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n".to_vec();
    let v1_six = b"PROXY TCP6 2001:db8::7 ::1 12345 80\r\n".to_vec();
    let long = v2([192, 0, 2, 7], &[4; 4000]);
    for (version, header, expect) in [
        ("v1", v1.clone(), stranger.clone()),
        ("auto", v1, stranger.clone()),
        ("auto", v1_six, given("http", "h.example", "2001:db8::7")),
        ("v2", v2([192, 0, 2, 7], b""), stranger.clone()),
        (
            "v2",
            v2([192, 0, 2, 7], b"\x04\x00\x01\x00"),
            stranger.clone(),
        ),
        ("auto", long, stranger.clone()),
    ] {
        let server = echo(&["--proxy-protocol", version]);
        let mut client = server.connect();
        client.send(&header);
        // The proxy relays bytes: what it is trusted with is not the client's.
        for fields in ["", "X-Forwarded-For: 1.1.1.1\nX-Forwarded-Proto: https", ""] {
            let said = told(&ask(&mut client, "/", fields));
            assert_eq!(said, expect, "{version}: {fields}");
        }
        // In one write with the first request, and in single bytes.
        let mut whole = header;
        whole.extend(b"GET / HTTP/1.1\r\nHost: h.example\r\n\r\n");
        let mut client = server.connect();
        client.send(&whole);
        assert_eq!(told(&client.response()), expect, "{version}");
        let mut client = server.connect();
        for byte in &whole {
            client.send([*byte]);
        }
        assert_eq!(told(&client.response()), expect, "{version}");
    }
}

#[test]
fn the_client_that_the_proxy_protocol_names_may_be_a_proxy() {
    let server = echo(&[
        "--proxy-protocol=auto",
        "--forwarded-allow-ips=192.0.2.0/24",
    ]);
    let mut client = server.connect();
    client.send(v2([192, 0, 2, 9], b""));
    let said = told(&ask(&mut client, "/", CLAIMS.split('\n').next().unwrap()));
    // 192.0.2.7 is trusted too.
    let chain = "198.51.100.9, 192.0.2.7, 192.0.2.9";
    assert_eq!(said, given("http", "h.example", chain));
}

#[test]
fn a_proxy_may_speak_for_itself_or_for_somebody_unknown() {
    let server = echo(&["--proxy-protocol=auto"]);
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\0\0".to_vec();
    let unspecified = b"\r\n\r\n\0\r\nQUIT\n\x21\x00\0\x03\x04\0\0".to_vec();
    let unknown = b"PROXY UNKNOWN\r\n".to_vec();
    let believed = given("https", "a.example:8443", "192.0.2.7, 127.0.0.1");
    let plain = given("http", "h.example", "127.0.0.1");
    for (header, expect) in [
        (local, believed),
        (unspecified, plain.clone()),
        (unknown, plain),
    ] {
        let mut client = server.connect();
        client.send(&header);
        assert_eq!(told(&ask(&mut client, "/", CLAIMS)), expect, "{header:?}");
    }
}

#[test]
fn a_connection_that_does_not_begin_as_it_must_is_closed() {
    let args = [
        "--proxy-protocol=v2",
        "--log-level=debug",
        "--head-timeout=60",
    ];
    let server = echo(&args);
    let mut too_long = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec();
    too_long.extend([0; 100]);
    let garbage = [0x16, 3, 1, 2, 0, 1, 0, 1];
    let unknown_command = b"\r\n\r\n\0\r\nQUIT\n\x2f";
    let datagram = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c";
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"[..],
        b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        &garbage,
        &too_long,
        unknown_command,
        datagram,
    ] {
        let mut client = server.connect();
        client.send(bytes);
        assert!(client.is_closed(), "{}", bytes.escape_ascii());
    }
    server.wait_logs(&["DEBUG", "PROXY header"], 7);
    let mut client = server.connect();
    client.send(v2([192, 0, 2, 7], b""));
    assert_eq!(ask(&mut client, "/", "").status(), 200);
}

#[test]
fn whoever_does_not_say_who_it_is_in_time_is_let_go() {
    let server = echo(&["--proxy-protocol=auto", "--head-timeout=0.3"]);
    for bytes in [
        &b""[..],
        b"PROXY TCP4 192.0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
    ] {
        let mut client = server.connect();
        client.send(bytes);
        assert!(client.is_closed());
    }
    // The header does not prolong the time for the request by more than its own.
    let mut client = server.connect();
    client.send("PROXY UNKNOWN\r\nGET / HT");
    client.response().is_own(408);
    let mut client = server.connect();
    client.send("PROXY UNK");
    client.finish_sending();
    assert!(client.is_closed());
}

#[test]
fn nobody_but_the_allowed_proxies_speaks_the_proxy_protocol() {
    let server = echo(&["--proxy-protocol=auto", "--proxy-allow-from=10.0.0.1"]);
    let mut client = server.connect();
    let said = told(&ask(&mut client, "/", ""));
    assert_eq!(said, given("http", "h.example", "127.0.0.1"));
    for header in [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        v2([192, 0, 2, 7], b""),
    ] {
        let mut client = server.connect();
        client.send(&header);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.response().is_own(400);
        assert!(client.is_closed());
    }
    let all = echo(&["--proxy-protocol=v1", "--proxy-allow-ips=*"]);
    let mut client = all.connect();
    client.send(format!("PROXY TCP4 {0} {0} 1 2\r\n", Ipv4Addr::LOCALHOST));
    assert_eq!(ask(&mut client, "/", "").status(), 200);
}

#[test]
fn the_proxy_protocol_is_spoken_on_unix_sockets_too() {
    let start = Start::app("app-echo").args(["--proxy-protocol=v2", "--proxy-allow-from="]);
    let path = start.folder().join("s");
    let bind = format!("unix:{}", path.display());
    let server = start.env("RGUNICORN_BIND", &bind).start();
    let mut client = server.connect();
    client.send(v2([192, 0, 2, 7], b""));
    let said = told(&ask(&mut client, "/", CLAIMS));
    assert_eq!(said, given("http", "h.example", "192.0.2.7"));
    let mut client = server.connect();
    for byte in v2([192, 0, 2, 8], b"\x04\x00\x01\x00") {
        client.send([byte]);
    }
    let said = told(&ask(&mut client, "/", ""));
    assert_eq!(said, given("http", "h.example", "192.0.2.8"));
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.is_closed());
}

#[test]
fn the_proxy_protocol_comes_before_tls_and_http_2() {
    let pem = |name: &str| {
        let path = in_repository("tests/blackbox/tls").join(name);
        path.to_str().expect("the path is text").to_owned()
    };
    let (certificate, key) = (pem("server.pem"), pem("server.key"));
    let server = Start::app("app-echo")
        .args(["--proxy-protocol=auto", "--certfile", &certificate])
        .args(["--keyfile", &key])
        .start();
    // Whoever does not speak TLS after it is told to; nobody is who did not begin with it.
    let mut client = server.connect();
    client.send("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = client.response();
    assert!(response.text().contains("speaks TLS"), "{response:?}");
    let mut client = server.connect();
    client.send([22, 3, 1, 0, 1, 0]);
    assert!(client.is_closed());

    let server = echo(&["--proxy-protocol=auto", "--http2-cleartext=prior-knowledge"]);
    let mut client = server.connect();
    client.send("PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n");
    let said = told(&ask(&mut client, "/", ""));
    assert_eq!(said, given("http", "h.example", "192.0.2.7"));
}

#[test]
fn without_the_setting_nothing_of_the_kind_is_understood() {
    let server = echo(&[]);
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), v2([192, 0, 2, 7], b"")] {
        let mut client = server.connect();
        client.send(&header);
        client.response().is_own(400);
    }
    assert_eq!(ask(&mut server.connect(), "/", "").status(), 200);
}

#[test]
fn a_server_waits_for_a_silent_proxy_no_longer_than_it_drains() {
    let mut server = echo(&["--proxy-protocol=v1", "--head-timeout=1"]);
    let mut silent = server.connect();
    // It is accepted once a later connection is answered.
    let mut client = server.connect();
    client.send("PROXY UNKNOWN\r\n");
    assert_eq!(ask(&mut client, "/", "").status(), 200);
    server.stop();
    assert!(silent.is_closed());
}
