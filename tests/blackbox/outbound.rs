//! Tests of requests that guests send: to whom they may, what they get back, and over which
//! connections.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::harness::{Process, Start, Upstream, in_repository};

/// A target that lets the guest fetch a URL.
fn fetch(url: &str) -> String {
    format!("/?url={url}")
}

#[test]
fn nothing_is_allowed_unless_it_is_named() {
    let upstream = Upstream::http();
    let url = format!("http://127.0.0.1:{}/x", upstream.port());
    let server = Start::app("wasi-fetch").start();
    server
        .get(&fetch(&url))
        .is(502, "ErrorCode::HttpRequestDenied\n");
    let other = format!("http://127.0.0.1:{}", upstream.port() ^ 1);
    let server = Start::app("wasi-fetch")
        .args(["--outbound", &other, "--outbound", "https://127.0.0.1:*"])
        .start();
    server
        .get(&fetch(&url))
        .is(502, "ErrorCode::HttpRequestDenied\n");
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn what_is_named_is_reached_with_method_and_body() {
    let upstream = Upstream::http();
    let at = format!("http://127.0.0.1:{}", upstream.port());
    let server = Start::app("wasi-fetch").args(["--outbound", &at]).start();
    let mut client = server.connect();
    let response = client.get(&fetch(&format!("{at}/some/path")));
    response.is(203, "GET /some/path \n");
    assert_eq!(response.field("x-passed-on"), Some("yes"));
    client
        .post(&fetch(&format!("{at}/")), "the body")
        .is(203, "POST / the body\n");
    assert_eq!(
        Process::find(server.worker()).unwrap().threads,
        1,
        "another thread sends"
    );
}

#[test]
fn connections_are_kept_for_later_requests() {
    let upstream = Upstream::http();
    let at = format!("http://127.0.0.1:{}", upstream.port());
    let server = Start::app("wasi-fetch").args(["--outbound", &at]).start();
    let mut client = server.connect();
    for number in 0..20 {
        client
            .get(&fetch(&format!("{at}/{number}")))
            .is(203, &format!("GET /{number} \n"));
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn a_name_is_resolved_without_a_thread() {
    let upstream = Upstream::http();
    let at = format!("http://localhost:{}", upstream.port());
    let server = Start::app("wasi-fetch").args(["--outbound", &at]).start();
    server.get(&fetch(&format!("{at}/"))).is(203, "GET / \n");
    assert_eq!(Process::find(server.worker()).unwrap().threads, 1);
}

#[test]
fn a_pattern_with_a_star_reaches_no_private_address() {
    let upstream = Upstream::http();
    let port = upstream.port();
    let args = ["--outbound", "*", "--outbound", "http://*:*"];
    let server = Start::app("wasi-fetch").args(args).start();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "10.0.0.1",
        "169.254.169.254",
    ] {
        let response = server.get(&fetch(&format!("http://{host}:{port}/")));
        response.is(502, "ErrorCode::DestinationIpProhibited\n");
    }
    // Spellings of the same address that resolvers know.
    for host in ["127.1", "2130706433", "0x7f.1", "017700000001"] {
        let response = server.get(&fetch(&format!("http://{host}:{port}/")));
        assert_eq!(response.status(), 502, "{host}: {response:?}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn each_app_asks_only_whom_it_may() {
    let (one, two) = (Upstream::http(), Upstream::http());
    let (at_one, at_two) = (
        format!("http://127.0.0.1:{}", one.port()),
        format!("http://127.0.0.1:{}", two.port()),
    );
    let server = Start::config(&format!(
        "[apps.one]\ncomponent = '{{wasi-fetch}}'\nroutes = ['/one']\noutbound = ['{at_one}']\n\
         [apps.two]\ncomponent = '{{wasi-fetch}}'\nroutes = ['/two']\noutbound = ['{at_two}']\n\
         [apps.none]\ncomponent = '{{wasi-fetch}}'\nroutes = ['/none']\n",
    ));
    let server = server.start();
    let mut client = server.connect();
    for (app, url, allowed) in [
        ("one", &at_one, true),
        ("one", &at_two, false),
        ("two", &at_two, true),
        ("two", &at_one, false),
        ("none", &at_one, false),
        ("none", &at_two, false),
    ] {
        let response = client.get(&format!("/{app}?url={url}/"));
        match allowed {
            true => response.is(203, "GET / \n"),
            false => response.is(502, "ErrorCode::HttpRequestDenied\n"),
        }
    }
    assert_eq!((one.connections(), two.connections()), (1, 1));
}

#[test]
fn connections_of_one_app_are_not_used_by_another() {
    let upstream = Upstream::http();
    let at = format!("http://127.0.0.1:{}", upstream.port());
    let server = Start::config(&format!(
        "outbound = ['{at}']\n\
         [apps.one]\ncomponent = '{{wasi-fetch}}'\nroutes = ['/one']\n\
         [apps.two]\ncomponent = '{{wasi-fetch}}'\nroutes = ['/two']\n",
    ));
    let server = server.start();
    for _ in 0..3 {
        server.get(&format!("/one?url={at}/")).is(203, "GET / \n");
        server.get(&format!("/two?url={at}/")).is(203, "GET / \n");
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn an_upstream_that_is_not_there_is_told_to_the_guest() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let server = Start::app("wasi-fetch")
        .args([
            "--outbound",
            &at,
            "--outbound",
            "http://no-such-host.invalid",
        ])
        .start();
    server
        .get(&fetch(&format!("{at}/")))
        .is(502, "ErrorCode::ConnectionRefused\n");
    let response = server.get(&fetch("http://no-such-host.invalid/"));
    assert_eq!(response.status(), 502, "{response:?}");
}

/// A file of the folder `tls`.
fn tls(name: &str) -> String {
    let path = in_repository("tests/blackbox/tls").join(name);
    path.to_str().expect("the path is text").to_owned()
}

/// The configuration of a server that is localhost, as the authority of the tests says.
fn localhost() -> rustls::ServerConfig {
    let certificate = CertificateDer::from_pem_file(tls("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    builder
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

#[test]
fn https_is_spoken_with_servers_that_can_be_trusted_and_with_no_others() {
    let upstream = Upstream::https(localhost());
    let at = format!("https://localhost:{}", upstream.port());
    let start = |authority: &str| {
        let start = Start::app("wasi-fetch").env("SSL_CERT_FILE", &tls(authority));
        start.args(["--outbound", &at]).start()
    };
    let server = start("authority.pem");
    let mut client = server.connect();
    client
        .get(&fetch(&format!("{at}/secret")))
        .is(203, "GET /secret \n");
    client
        .post(&fetch(&format!("{at}/secret")), "body")
        .is(203, "POST /secret body\n");
    assert_eq!(upstream.connections(), 1);
    assert_eq!(
        Process::find(server.worker()).unwrap().threads,
        1,
        "another thread encrypts"
    );
    let server = start("other.pem");
    server
        .get(&fetch(&format!("{at}/secret")))
        .is(502, "ErrorCode::TlsCertificateError\n");
}

#[test]
fn a_large_body_passes_through_a_guest_and_back() {
    let upstream = Upstream::http();
    let at = format!("http://127.0.0.1:{}", upstream.port());
    let server = Start::app("wasi-fetch").args(["--outbound", &at]).start();
    let body = "0123456789".repeat(500_000);
    let response = server.connect().post(&fetch(&format!("{at}/")), &body);
    assert_eq!(response.status(), 203);
    assert!(
        response.text() == format!("POST / {body}\n"),
        "{response:?}"
    );
}
