//! Tests of HTTP/2 as clients see it: requests and responses, streams beside each other, refusals.

use std::future::poll_fn;
use std::process::Command;

use bytes::Bytes;
use h2::Reason;
use http::HeaderMap;

use crate::harness::h2::{request, send, whole};
use crate::harness::{
    Address, Frame, Frames, H2, Server, Start, Tls, in_loop, literal, pattern, tls_file, until,
};

/// Starts a server that speaks HTTP/2 without TLS.
pub(crate) fn cleartext(start: Start) -> Server {
    start.args(["--http2-cleartext", "prior-knowledge"]).start()
}

/// The values of a field.
fn values<'a>(response: &'a crate::harness::Response, name: &str) -> Vec<&'a str> {
    let fields = response.head.fields.iter();
    let named = fields.filter(|(known, _)| known == name);
    named.map(|(_, value)| value.as_str()).collect()
}

// Requests and responses.

const TWO_APPS: &str = "[apps.hello]\ncomponent = '{hello}'\n\
                        [apps.echo]\ncomponent = '{echo}'\nroutes = ['/echo']\n";

/// What every client does.
async fn ask_in_every_way(client: &H2) {
    let response = client.get("/").await;
    response.is(200, "hello\n");
    assert_eq!(response.field("content-length"), Some("6"));
    assert!(response.field("date").is_some() && response.field("connection").is_none());
    let head = client.ask(request("HEAD", "/")).await.unwrap();
    assert_eq!((head.status(), head.body.len()), (200, 0));
    assert_eq!(head.field("content-length"), Some("6"));
    for size in [0, 1, 70_000, 3_000_000] {
        let body = pattern(size);
        let post = request("POST", "/echo").header("content-length", size);
        let response = client.ask_with(post, body.clone()).await.unwrap();
        assert!(
            response.status() == 200 && response.body == body,
            "{size}: {response:?}"
        );
        let response = client
            .ask_with(request("PUT", "/echo"), body.clone())
            .await
            .unwrap();
        assert!(
            response.status() == 200 && response.body == body,
            "{size}: {response:?}"
        );
    }
}

#[test]
fn requests_of_every_kind_are_answered_without_tls() {
    let server = cleartext(Start::config(TWO_APPS));
    in_loop(async { ask_in_every_way(&H2::connect(&server).await).await });
    // Whoever speaks HTTP/1.1 is answered at the same port.
    server.get("/").is(200, "hello\n");
}

#[test]
fn requests_of_every_kind_are_answered_with_tls() {
    let server = Start::config(TWO_APPS).certificates(&["server"]).start();
    let config = Tls::any().alpn(&["h2"]).config();
    in_loop(async { ask_in_every_way(&H2::connect_tls(&server, config).await).await });
}

#[test]
fn streams_are_answered_beside_each_other() {
    let server = cleartext(Start::app("echo"));
    in_loop(async {
        let client = H2::connect(&server).await;
        let mut open = Vec::new();
        for _ in 0..60 {
            open.push(client.begin_echo().await);
        }
        while let Some(stream) = open.pop() {
            stream.finish().await;
        }
    });
}

#[test]
fn what_has_no_body_ends_with_its_head() {
    let server = cleartext(Start::app("app-status"));
    in_loop(async {
        let client = H2::connect(&server).await;
        for status in [204, 304] {
            let response = client.get(&format!("/?status={status}")).await;
            assert_eq!((response.status(), response.body.len()), (status, 0));
        }
        client.get("/?status=404").await.is(404, "body\n");
    });
}

#[test]
fn errors_have_the_same_answers_as_in_http_1() {
    let server = cleartext(Start::config(
        "[apps.trap]\ncomponent = '{wasi-trap-before}'\nroutes = ['/trap']\n\
         [apps.full]\ncomponent = '{wasi-sleep}'\nroutes = ['/full']\nrequests-in-flight = 1\nrequest-queue = 0\n\
         [apps.late]\ncomponent = '{wasi-sleep}'\nroutes = ['/late']\ntimeout = 0.2\n\
         [apps.sink]\ncomponent = '{wasi-sink}'\nroutes = ['/sink']\nrequest-body-limit = 1000\n",
    ));
    in_loop(async {
        let client = H2::connect(&server).await;
        client.get("/trap").await.is_own(500);
        client.get("/late?ms=86400000").await.is_own(504);
        client.get("/nobody").await.is_own(404);
        let post = || request("POST", "/sink");
        let declared = post().header("content-length", 1001);
        let response = client.ask_with(declared, pattern(1001)).await.unwrap();
        response.is_own(413);
        let response = client.ask_with(post(), pattern(100_000)).await.unwrap();
        response.is_own(413);
        let response = client.ask_with(post(), "abc").await.unwrap();
        response.is(200, "3 e71fa2190541574b\n");
        // One that shakes hands with the first is turned away: the first is in flight when its head has come.
        let sleep = request("GET", "/full?ms=500").body(()).unwrap();
        let (first, _) = client.begin(sleep, false).await.unwrap();
        let second = client.get("/full?ms=0").await;
        second.is_own(503);
        assert_eq!(second.field("retry-after"), Some("1"));
        whole(first).await.unwrap().is(200, "slept 500 ms\n");
    });
}

#[test]
fn an_app_that_fails_early_has_a_status_and_one_that_fails_late_is_reset() {
    for name in ["wasi-trap-after", "wasi-unfinished"] {
        let server = cleartext(Start::app(name));
        in_loop(async {
            let client = H2::connect(&server).await;
            for _ in 0..2 {
                client.get("/").await.is_own(500);
            }
        });
    }
    let server = cleartext(Start::app("wasi-large").args(["--response-body-limit=100000"]));
    in_loop(async {
        let client = H2::connect(&server).await;
        let large = || request("GET", "/large?bytes=200000");
        for _ in 0..2 {
            let error = client.ask(large()).await.unwrap_err();
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{error}");
        }
    });
}

#[test]
fn a_client_that_asks_before_its_body_is_told_to_go_on() {
    let server = cleartext(Start::app("echo"));
    in_loop(async {
        let client = H2::connect(&server).await;
        let asks = request("POST", "/")
            .header("expect", "100-continue")
            .body(())
            .unwrap();
        let (mut response, mut sender) = client.begin(asks, true).await.unwrap();
        let interim = poll_fn(|cx| response.poll_informational(cx)).await;
        assert_eq!(interim.unwrap().unwrap().status(), 100);
        send(&mut sender, Bytes::from_static(b"body"), true)
            .await
            .unwrap();
        whole(response).await.unwrap().is(200, "body");
    });
}

#[test]
fn an_app_sees_what_it_would_see_of_http_1() {
    let server = Start::app("app-echo").certificates(&["server"]).start();
    let config = Tls::any().alpn(&["h2"]).config();
    in_loop(async {
        let client = H2::connect_tls(&server, config).await;
        let asks = request("GET", "/a?b")
            .header("cookie", "a=1")
            .header("x-y", "z");
        let response = client.ask(asks.header("cookie", "b=2")).await.unwrap();
        let (first, fields) = response.text().split_once('\n').unwrap();
        assert_eq!(first, "GET https localhost /a?b");
        let mut fields: Vec<&str> = fields.lines().filter(|line| !line.is_empty()).collect();
        fields.sort_unstable();
        let expect = [
            "cookie: a=1; b=2",
            "host: localhost",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: https",
            "x-y: z",
        ];
        assert_eq!(fields, expect);
    });
}

#[test]
fn what_http_2_forbids_in_a_response_is_dropped() {
    let server = cleartext(Start::app("app-fields"));
    in_loop(async {
        let client = H2::connect(&server).await;
        let response = client.get("/?kind=framing").await;
        response.is(200, "fields\n");
        assert_eq!(response.field("content-length"), Some("7"));
        assert_ne!(response.field("date"), Some("yesterday"));
        for name in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
            assert_eq!(response.field(name), None);
        }
        assert_eq!(
            values(&client.get("/?kind=good").await, "x-two"),
            ["first", "second"]
        );
        for kind in ["crlf", "lf", "nul", "name", "colon", "empty"] {
            let response = client.get(&format!("/?kind={kind}")).await;
            assert_eq!(response.status(), 500, "{kind}: {response:?}");
        }
    });
}

#[test]
fn trailers_of_a_request_are_not_passed_on_and_break_nothing() {
    let server = cleartext(Start::app("wasi-trailers"));
    in_loop(async {
        let client = H2::connect(&server).await;
        let asks = request("POST", "/").body(()).unwrap();
        let (response, mut sender) = client.begin(asks, true).await.unwrap();
        send(&mut sender, Bytes::from_static(b"body"), false)
            .await
            .unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "4".parse().unwrap());
        sender.send_trailers(trailers).unwrap();
        whole(response).await.unwrap().is(200, "");
        client.get("/").await.is(200, "");
    });
}

// Refusals.

#[test]
fn heads_that_cannot_be_served_are_refused_and_the_connection_lives_on() {
    let limits = ["--limit-request-line", "100", "--limit-request-fields", "5"];
    let start = Start::app("hello").args(limits);
    let server = cleartext(start.args(["--limit-request-field-size", "200"]));
    in_loop(async {
        let client = H2::connect(&server).await;
        let get = || request("GET", "/");
        let many = (0..6).fold(get(), |asks, n| asks.header(format!("x-{n}"), "y"));
        let cases = [
            (get().header("host", "elsewhere"), 400),
            (request("GET", &format!("/{}", "a".repeat(100))), 414),
            (many, 431),
            (get().header("x-long", "a".repeat(200)), 431),
            (get().header("expect", "a-miracle"), 417),
            (
                http::Request::builder()
                    .method("CONNECT")
                    .uri("localhost:80"),
                501,
            ),
        ];
        for (asks, status) in cases {
            let what = format!("{asks:?}");
            let response = client.ask(asks).await;
            let response = response.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(response.status(), status, "{what}: {response:?}");
        }
        client.get("/").await.is(200, "hello\n");
    });
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let args = [
        "--http2-max-header-list-size",
        "2000",
        "--access-logfile",
        "access.log",
    ];
    let server = cleartext(Start::app("hello").args(args));
    let mut frames = Frames::connect(&server);
    let settings = frames.until("settings", |frame| frame.kind == Frame::SETTINGS);
    // What is no longer than that has a line in the log.
    assert_eq!(settings.setting(6), Some(4000));
    for (stream, fields) in [(1, 70), (3, 200)] {
        let fields = vec![("x", "y"); fields];
        frames.send(&Frame::head(stream, Frame::END_STREAM, &fields));
        // `:status: 431` is in no table of HPACK; once it was sent it is the first of the connection's.
        let head = frames.until("answer", |frame| {
            (frame.kind, frame.stream) == (Frame::HEADERS, stream)
        });
        assert!(matches!(head.payload[0], 0x48 | 0xbe..), "{head:?}");
    }
    frames.send(&Frame::get(5));
    frames.answered(5);
    let log = server.folder().join("access.log");
    let text = || std::fs::read_to_string(&log).unwrap();
    until("both have a line", || text().lines().count() == 2);
    assert!(
        text()
            .lines()
            .next()
            .unwrap()
            .contains("\"GET / HTTP/2.0\" 431 "),
        "{}",
        text()
    );
}

#[test]
fn fields_that_http_2_forbids_are_refused() {
    let server = cleartext(Start::app("hello"));
    let cases = [
        ("X-Upper", "a"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("x y", "z"),
        (":path", "/again"),
        (":status", "200"),
        (":unknown", "a"),
        ("x-smuggled", "a\r\nx: y"),
        ("x-nul", "a\0b"),
        ("content-length", "x"),
    ];
    for field in cases {
        let mut frames = Frames::connect(&server);
        frames.send(&Frame::head(1, Frame::END_STREAM, &[field]));
        let code = frames.was_reset(1);
        assert_eq!(code, Some(Frame::PROTOCOL_ERROR), "{field:?}");
    }
    // Without a path, and with a body that is shorter than it says.
    let mut frames = Frames::connect(&server);
    let mut bare = vec![0x82, 0x86, 0x41, 1, b'a'];
    bare.extend(literal("x", "y"));
    let flags = Frame::END_HEADERS | Frame::END_STREAM;
    frames.send(&Frame::new(Frame::HEADERS, flags, 1, bare));
    assert_eq!(frames.was_reset(1), Some(Frame::PROTOCOL_ERROR));
    frames.send(&Frame::head(3, 0, &[("content-length", "5")]));
    frames.send(&Frame::new(Frame::DATA, Frame::END_STREAM, 3, "abc"));
    assert_eq!(frames.was_reset(3), Some(Frame::PROTOCOL_ERROR));
    frames.send(&Frame::get(5));
    frames.answered(5);
}

// Programs that people use.

fn url(server: &Server, scheme: &str) -> String {
    let Address::Tcp(address) = server.address() else {
        panic!("only for TCP")
    };
    format!("{scheme}://localhost:{}/", address.port())
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn h2load_is_answered_always() {
    for with_tls in [false, true] {
        let start = Start::app("hello-wasi").args(["-w", "2"]);
        let (server, scheme) = match with_tls {
            false => (cleartext(start), "http"),
            true => (start.certificates(&["server"]).start(), "https"),
        };
        let url = url(&server, scheme).replace("localhost", "127.0.0.1");
        let output = run("h2load", &["-n", "2000", "-c", "10", "-m", "20", &url]);
        assert!(
            output.contains(" 2000 succeeded, 0 failed, 0 errored, 0 timeout"),
            "{output}"
        );
        assert!(output.contains("status codes: 2000 2xx,"), "{output}");
    }
}

#[test]
fn curl_speaks_all_of_it() {
    let shows = "%{http_version} %{http_code} %{ssl_verify_result}";
    let ask = |args: &[&str], url: &str| {
        let common = [
            "-sS",
            "--noproxy",
            "*",
            "-w",
            shows,
            "--cacert",
            &tls_file("authority.pem"),
        ];
        run("curl", &[&common, args, &[url]].concat())
    };
    let server = Start::app("hello").certificates(&["server"]).start();
    let url_tls = url(&server, "https");
    assert_eq!(ask(&["--http2"], &url_tls), "hello\n2 200 0");
    assert_eq!(ask(&["--http1.1"], &url_tls), "hello\n1.1 200 0");
    assert_eq!(ask(&["--no-alpn"], &url_tls), "hello\n1.1 200 0");
    assert_eq!(ask(&["--tls-max", "1.2"], &url_tls), "hello\n2 200 0");
    let server = cleartext(Start::app("hello"));
    let url = url(&server, "http").replace("localhost", "127.0.0.1");
    assert_eq!(ask(&["--http2-prior-knowledge"], &url), "hello\n2 200 0");
    // A wish for an upgrade is not followed.
    assert_eq!(ask(&["--http2"], &url), "hello\n1.1 200 0");
}

#[test]
fn curl_has_the_status_of_an_upload_that_is_answered_early() {
    let server = cleartext(Start::config(
        "[apps.hello]\ncomponent = '{hello-wasi}'\nroutes = ['/hello']\n\
         [apps.small]\ncomponent = '{wasi-sink}'\nroutes = ['/small']\nrequest-body-limit = 1000\n",
    ));
    let file = server.folder().join("upload");
    std::fs::write(&file, pattern(20 << 20)).unwrap();
    let file = file.to_string_lossy();
    let url = url(&server, "http").replace("localhost", "127.0.0.1");
    // With a length, and without.
    for (path, field, expect) in [
        ("nobody", "x-y: z", "404"),
        ("small", "x-y: z", "413"),
        ("small", "content-length:", "413"),
    ] {
        let shows = [
            "-sS",
            "--noproxy",
            "*",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ];
        let sends = ["--http2-prior-knowledge", "-T", &file, "-H", field];
        let url = format!("{url}{path}");
        let output = run("curl", &[&shows[..], &sends, &[&url]].concat());
        assert_eq!(output, expect, "{path} {field}");
    }
    // An upload that is all right and is not whole is an error of curl's; there is a status.
    let url = format!("{url}hello");
    let args = [
        "-sS",
        "--noproxy",
        "*",
        "-w",
        " %{http_code}",
        "--http2-prior-knowledge",
        "-T",
    ];
    let output = Command::new("curl")
        .args(args)
        .args([&file, &*url])
        .output()
        .unwrap();
    assert!(output.stdout.ends_with(b" 200"), "{output:?}");
}
