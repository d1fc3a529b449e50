//! Tests that a request has the same line of the access log however it came: by HTTP/1.1 or HTTP/2,
//! with TLS or without it.

use http::request::Builder;
use nix::sys::signal::Signal;

use crate::access_log::{lines, logged};
use crate::harness::h2::request;
use crate::harness::{Client, H2, Server, Tls, in_loop, tls};
use crate::process::signal_process;

const APPS: &str = "limit-request-line = 100\nlimit-request-field-size = 200\nrequest-body-limit = 100\n\
                    http2-cleartext = 'prior-knowledge'\n\
                    [apps.status]\ncomponent = '{app-status}'\nroutes = ['/status']\n\
                    [apps.trap]\ncomponent = '{app-trap}'\nroutes = ['/trap']\n\
                    [apps.sink]\ncomponent = '{wasi-sink}'\nroutes = ['/sink']\n\
                    [apps.large]\ncomponent = '{wasi-large}'\nroutes = ['/large']\n\
                    [apps.late]\ncomponent = '{wasi-sleep}'\nroutes = ['/late']\ntimeout = 1\n\
                    [apps.sleep]\ncomponent = '{wasi-sleep}'\nroutes = ['/sleep']\ntimeout = 0\n";
const FINE: &str = "/status?status=203";
/// The start of its line.
const FINE_LINE: &str = r#"203 5 status - "GET /status?status=203"#;
const FOR_EVER: &str = "/sleep?ms=86400000";

/// A server, how it is spoken to, and how many lines were read.
struct Log {
    server: Server,
    /// As the log has it.
    protocol: &'static str,
    tls: bool,
    count: usize,
}

impl Log {
    fn start(protocol: &'static str, tls: bool) -> Self {
        let format = r#"%(s)s %(B)s %(app)s %(reason)s "%(r)s" %(tls)s %(h)s %(client)s"#;
        let start = logged(format, APPS);
        let start = match tls {
            true => start.certificates(&["server"]),
            false => start,
        };
        Self {
            server: start.start(),
            protocol,
            tls,
            count: 0,
        }
    }

    fn is_h2(&self) -> bool {
        self.protocol == "HTTP/2.0"
    }

    fn connect(&self) -> Client {
        match self.tls {
            true => self.server.connect_tls(&tls()),
            false => self.server.connect(),
        }
    }

    async fn connect_h2(&self) -> H2 {
        match self.tls {
            true => H2::connect_tls(&self.server, Tls::any().alpn(&["h2"]).config()).await,
            false => H2::connect(&self.server).await,
        }
    }

    /// The next so many lines have these beginnings, in any order.
    #[track_caller]
    fn next_are<const N: usize>(&mut self, expect: [&str; N]) {
        self.count += N;
        let mut lines = lines(&self.server, self.count).split_off(self.count - N);
        lines.sort();
        let version = if self.tls { "TLSv1.3" } else { "-" };
        for (line, expect) in lines.iter().zip(expect) {
            let end = format!(r#" {}" {version} 127.0.0.1 127.0.0.1"#, self.protocol);
            let start = line.strip_suffix(&end).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(start, expect);
        }
    }

    /// The status of the response to a request of which nothing comes but its head.
    fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> u16 {
        if !self.is_h2() {
            let mut client = self.connect();
            client.send(head(method, target, fields));
            return client.response().status();
        }
        in_loop(async {
            let client = self.connect_h2().await;
            let asks = with(request(method, target), fields);
            let has_body = method == "POST";
            let (response, _body) = client.begin(asks, has_body).await.unwrap();
            response.await.unwrap().status().as_u16()
        })
    }

    /// Sends a request that does not end, has another one answered, and goes away.
    fn leave(&self, method: &str, target: &str, fields: &[(&str, &str)]) {
        if !self.is_h2() {
            let mut client = self.connect();
            client.send(head(method, target, fields));
            assert_eq!(self.ask("GET", FINE, &[]), 203);
            return;
        }
        in_loop(async {
            let client = self.connect_h2().await;
            let asks = with(request(method, target), fields);
            let begun = client.begin(asks, method == "POST").await.unwrap();
            assert_eq!(client.get(FINE).await.status(), 203);
            // It is reset, and the connection lives on.
            drop(begun);
            assert_eq!(client.get(FINE).await.status(), 203);
        });
    }

    /// Takes the start of a response that is still being sent, and goes away.
    fn break_off(&self, target: &str) {
        if !self.is_h2() {
            let mut client = self.connect();
            client.send(head("GET", target, &[]));
            client.bytes(1_000_000).unwrap();
            return;
        }
        in_loop(async {
            let client = self.connect_h2().await;
            let asks = with(request("GET", target), &[]);
            let (response, _) = client.begin(asks, false).await.unwrap();
            let mut body = response.await.unwrap().into_body();
            body.data().await.unwrap().unwrap();
            drop(body);
            assert_eq!(client.get(FINE).await.status(), 203);
        });
    }
}

fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let fields: String = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

fn with(request: Builder, fields: &[(&str, &str)]) -> http::Request<()> {
    let request = fields.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    request.body(()).unwrap()
}

fn check_answers(log: &mut Log) {
    let long_target = format!("/{}", "x".repeat(200));
    let long_field = "x".repeat(200);
    type Fields<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, &str, Fields<'_>, &str); 9] = [
        ("GET", FINE, &[], FINE_LINE),
        ("GET", "/none?x", &[], r#"404 0 - no-app "GET /none?x"#),
        (
            "GET",
            "/twice",
            &[("host", "elsewhere")],
            r#"400 0 - malformed "GET /twice"#,
        ),
        (
            "GET",
            &long_target,
            &[],
            &format!(r#"414 0 - malformed "GET {long_target}"#),
        ),
        (
            "GET",
            "/long?field",
            &[("x", &long_field)],
            r#"431 0 - malformed "GET /long?field"#,
        ),
        (
            "POST",
            "/sink",
            &[("content-length", "101")],
            r#"413 0 - body-too-large "POST /sink"#,
        ),
        ("GET", "/trap", &[], r#"500 0 trap trap "GET /trap"#),
        (
            "GET",
            "/status?status=99",
            &[],
            r#"500 0 status bad-response "GET /status?status=99"#,
        ),
        (
            "GET",
            "/late?ms=86400000",
            &[],
            r#"504 0 late timeout "GET /late?ms=86400000"#,
        ),
    ];
    for (method, target, fields, expect) in cases {
        let status = log.ask(method, target, fields);
        assert_eq!(status.to_string(), expect[..3], "{method} {target}");
        log.next_are([expect]);
    }
}

fn check_departures(log: &mut Log) {
    let body = [("content-length", "10")];
    for (method, target, fields, app) in [
        ("GET", FOR_EVER, &[][..], "sleep"),
        ("POST", "/sink", &body, "sink"),
    ] {
        log.leave(method, target, fields);
        let gone = format!(r#"000 0 {app} client-gone "{method} {target}"#);
        match log.is_h2() {
            true => log.next_are([&gone, FINE_LINE, FINE_LINE]),
            false => log.next_are([&gone, FINE_LINE]),
        }
    }
}

fn check_broken_off(log: &mut Log) {
    let whole = 20_000_000_000_u64;
    log.break_off(&format!("/large?bytes={whole}"));
    log.count += 1 + usize::from(log.is_h2());
    let lines = lines(&log.server, log.count);
    let line = lines.iter().find(|line| line.contains("/large")).unwrap();
    let sent = line.strip_prefix("200 ").unwrap().split_once(' ').unwrap();
    let expect = format!(
        r#"large client-gone "GET /large?bytes={whole} {}""#,
        log.protocol
    );
    assert!(sent.1.starts_with(&expect), "{line}");
    assert!((1..whole).contains(&sent.0.parse().unwrap()), "{line}");
}

fn check_crash(log: &mut Log) {
    log.server.expect_errors();
    let worker = log.server.worker();
    if log.is_h2() {
        in_loop(async {
            let client = log.connect_h2().await;
            let asks = with(request("GET", FOR_EVER), &[]);
            let (response, _) = client.begin(asks, false).await.unwrap();
            assert_eq!(client.get(FINE).await.status(), 203);
            log.next_are([FINE_LINE]);
            signal_process(worker, Signal::SIGKILL);
            response.await.unwrap_err();
        });
    } else {
        let mut client = log.connect();
        client.send(head("GET", FOR_EVER, &[]));
        assert_eq!(log.ask("GET", FINE, &[]), 203);
        log.next_are([FINE_LINE]);
        signal_process(worker, Signal::SIGKILL);
        assert!(client.try_response().is_err());
    }
    log.next_are([&format!(r#"000 0 sleep crashed "GET {FOR_EVER}"#)]);
}

fn check(protocol: &'static str, tls: bool) {
    let mut log = Log::start(protocol, tls);
    check_answers(&mut log);
    check_departures(&mut log);
    check_broken_off(&mut log);
    check_crash(&mut log);
}

#[test]
fn without_tls_by_http_1() {
    check("HTTP/1.1", false);
}

#[test]
fn with_tls_by_http_1() {
    check("HTTP/1.1", true);
}

#[test]
fn without_tls_by_http_2() {
    check("HTTP/2.0", false);
}

#[test]
fn with_tls_by_http_2() {
    check("HTTP/2.0", true);
}
