//! Tests of what goes over TLS: handshakes that are none, bytes in both directions, and the end of it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::control::{controlled, worker};
use crate::harness::{Address, Start, pattern, tls, tls_file, until};
// Those who speak badly.

#[test]
fn whoever_speaks_plain_http_is_told_what_to_do() {
    let start = Start::app("hello").args(["--access-logfile", "access.log"]);
    let server = start.certificates(&["server"]).start();
    let mut client = server.connect();
    let response = client.get("/plain");
    response.is(400, "400 Bad Request: this port speaks TLS, use https\n");
    assert!(client.is_closed());
    let log = server.folder().join("access.log");
    until("its first line is in the log", || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.contains("\"GET /plain HTTP/1.1\" 400 ")
    });
    server.connect_tls(&tls()).get("/").is(200, "hello\n");
}

#[test]
fn a_handshake_that_is_not_finished_holds_nobody_up() {
    let start = Start::app("hello").args(["--head-timeout", "1"]);
    let server = start.certificates(&["server"]).start();
    // Nothing, half a record's head, a record that says more than it holds.
    let beginnings: [&[u8]; 4] = [
        b"",
        b"\x16\x03",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x16\x03\x01\x00\x40\x01",
    ];
    let mut waiting = Vec::new();
    for beginning in beginnings.iter().cycle().take(100) {
        let mut client = server.connect();
        client.send(beginning);
        waiting.push(client);
    }
    for _ in 0..5 {
        server.connect_tls(&tls()).get("/").is(200, "hello\n");
    }
    for client in &mut waiting {
        assert!(client.is_closed());
    }
}

#[test]
fn garbage_is_answered_with_an_alert() {
    let server = Start::app("hello").certificates(&["server"]).start();
    let garbage: [&[u8]; 3] = [
        b"\x16garbage that goes on for a while",
        b"\x16\x03\x01\xff\xff and more of it",
        b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    ];
    for bytes in garbage {
        let mut client = server.connect();
        client.send(bytes);
        // Of the kind `alert` (RFC 8446 section 6), and then the end.
        let alert = client
            .bytes(7)
            .unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
        assert_eq!(alert[0], 21, "{bytes:?}");
        assert!(client.is_closed());
    }
    // A message that would be megabytes long is not waited for.
    let mut client = server.connect();
    client.send(b"\x16\x03\x01\x00\x05hello");
    assert!(client.is_closed());
    server.connect_tls(&tls()).get("/").is(200, "hello\n");
}

// Streams of bytes.

#[test]
fn both_sides_send_much_at_the_same_time() {
    let start = Start::app("echo").args(["--http2-initial-window-size", "1000000"]);
    let server = start.certificates(&["server"]).start();
    const BYTES: usize = 20 << 20;
    for version in ["--tlsv1.3", "--tls-max 1.2"] {
        for protocol in ["--http1.1", "--http2"] {
            let mut upload = tempfile::NamedTempFile::new().unwrap();
            upload.write_all(&pattern(BYTES)).unwrap();
            let Address::Tcp(address) = server.address() else {
                panic!("only for TCP")
            };
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--noproxy", "*", protocol, "-T"])
                .arg(upload.path());
            curl.args(version.split(' '))
                .args(["--cacert", &tls_file("authority.pem")]);
            curl.arg(format!("https://localhost:{}/", address.port()));
            let output = curl.output().expect("curl can be run");
            assert!(output.status.success(), "{curl:?}: {output:?}");
            assert!(
                output.stdout == pattern(BYTES),
                "{curl:?}: {} bytes",
                output.stdout.len()
            );
        }
    }
}

#[test]
fn requests_that_come_together_are_all_answered() {
    let server = Start::app("hello").certificates(&["server"]).start();
    let mut client = server.connect_tls(&tls());
    // In records that hold many of them, and halves of them.
    let all: String = (0..500)
        .map(|number| format!("GET /?name={number} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .collect();
    client.send(all);
    for number in 0..500 {
        client.response().is(200, &format!("hello, {number}\n"));
    }
}

#[test]
fn a_client_that_goes_away_takes_its_request_with_it() {
    let start = Start::app("wasi-sleep").args(["--timeout", "0"]);
    let server = controlled(start.certificates(&["server"]));
    let mut client = server.connect_tls(&tls());
    client.send("GET /?ms=86400000 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until("it is in flight", || worker(&server)["in_flight"] == 1);
    drop(client);
    until("it is not", || worker(&server)["in_flight"] == 0);
}

#[test]
fn a_slow_reader_gets_all_of_it() {
    let server = Start::app("wasi-large").certificates(&["server"]).start();
    let mut slow = server.connect_tls(&tls());
    slow.send("GET /?bytes=20000000&declare HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(slow.head().status, 200);
    // Meanwhile the server has to wait for it.
    for _ in 0..20 {
        let response = server.connect_tls(&tls()).get("/?bytes=52");
        assert_eq!(response.body.len(), 52);
    }
    let body = slow.bytes(20_000_000).unwrap();
    let alphabet: Vec<u8> = (b'a'..=b'z').collect();
    assert!(body.chunks(26).all(|piece| alphabet.starts_with(piece)));
}

#[test]
fn the_end_is_said_and_a_cut_is_not() {
    let server = Start::app("hello")
        .certificates(&["server"])
        .args(["--keep-alive", "0.2"])
        .start();
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        // Its connection ends when it has been idle.
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "no request\r\n\r\n",
    ] {
        let mut client = server.connect_tls(&tls());
        client.send(request);
        client.response();
        let end = client.closed_in_order();
        assert!(end.is_ok(), "{request:?}: {end:?}");
    }
    let start = Start::app("wasi-stream").args(["--timeout", "0.3"]);
    let server = start.certificates(&["server"]).start();
    let mut client = server.connect_tls(&tls());
    client.send("GET /?n=2&interval_ms=86400000 HTTP/1.0\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert!(
        client.closed_in_order().is_err(),
        "the response ends as if it were whole"
    );
}

#[test]
fn openssl_is_answered_and_sees_the_end() {
    let server = Start::app("hello").certificates(&["server"]).start();
    let Address::Tcp(address) = server.address() else {
        panic!("only for TCP")
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let mut openssl = Command::new("openssl");
        let at = format!("localhost:{}", address.port());
        openssl.args([
            "s_client",
            "-connect",
            &at,
            "-servername",
            "localhost",
            version,
        ]);
        openssl.args([
            "-verify_return_error",
            "-ign_eof",
            "-CAfile",
            &tls_file("authority.pem"),
        ]);
        openssl
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = openssl.spawn().expect("openssl can be run");
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut output = String::new();
        child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut output)
            .unwrap();
        assert!(child.wait().unwrap().success(), "{version}: {output}");
        assert!(output.contains("Verify return code: 0 (ok)"), "{output}");
        assert!(
            output.contains("HTTP/1.1 200 OK") && output.contains("hello\n"),
            "{output}"
        );
    }
}
