//! Tests of guests that fail: each costs its own request, and neither the worker nor the request of
//! anybody else.

use std::time::{Duration, Instant};

use crate::harness::{Start, until};

/// Serves a guest beside one that works, asks both in turn, and checks that nothing else happened.
fn fails(name: &str, target: &str, status: u16, log: &[&str]) {
    let server = Start::config(&format!(
        "[apps.good]\ncomponent = '{{hello}}'\nroutes = ['/good']\n\
         [apps.bad]\ncomponent = '{{{name}}}'\ncpu-timeout = '100ms'\ntimeout = 5\n",
    ));
    let server = server.env("RGUNICORN_LOG_LEVEL", "debug").start();
    let worker = server.worker();
    let mut good = server.connect();
    for _ in 0..2 {
        server.get(target).is_own(status);
        assert_eq!(
            good.get("/good").status(),
            404,
            "hello has no such path, and says so"
        );
    }
    let line = server.wait_log(&[" WARN ", "app=\"bad\"", &format!("GET {target}")]);
    assert!(log.iter().all(|part| line.contains(part)), "{line}");
    assert_eq!(server.worker(), worker, "the worker was replaced");
}

#[test]
fn traps_are_500_with_a_backtrace_in_the_log() {
    fails(
        "app-trap",
        "/a?b",
        500,
        &["trap: ", "unreachable", ".wasm!"],
    );
    fails(
        "wasi-trap-before",
        "/",
        500,
        &["trap: ", "unreachable", ".wasm!"],
    );
    fails("app-panic", "/", 500, &["trap: ", "unreachable", ".wasm!"]);
    fails("app-recurse", "/", 500, &["trap: ", "app_recurse"]);
}

#[test]
fn a_panic_message_is_in_the_log() {
    let server = Start::app("wasi-panic").start();
    server.get("/").is_own(500);
    server.wait_log(&[
        "stderr: ",
        "the guest panics on purpose",
        "app=\"wasi-panic\"",
    ]);
    server.wait_log(&[" WARN ", "trap", "app=\"wasi-panic\""]);
}

#[test]
fn a_guest_that_never_returns_is_504() {
    fails("app-spin", "/", 504, &["cpu limit of 100ms reached"]);
    fails("wasi-spin", "/", 504, &["cpu limit of 100ms reached"]);
}

#[test]
fn a_guest_that_wants_too_much_memory_is_500() {
    fails(
        "app-grow",
        "/",
        500,
        &["memory limit of 268435456 bytes reached"],
    );
    fails(
        "wasi-grow",
        "/",
        500,
        &["memory limit of 268435456 bytes reached"],
    );
}

#[test]
fn guests_without_a_proper_answer_are_500() {
    fails(
        "wasi-no-response",
        "/?how=drop",
        500,
        &["without a response"],
    );
    fails(
        "wasi-no-response",
        "/?how=keep",
        500,
        &["without a response"],
    );
    fails(
        "wasi-error-response",
        "/",
        500,
        &["answered with an error", "nternal"],
    );
    fails("wasi-exit", "/", 500, &[]);
    fails("wasi-exit", "/?ok", 500, &[]);
    fails("app-status", "/?status=99", 500, &["status"]);
    fails("app-status", "/?status=0", 500, &["status"]);
    fails("app-status", "/?status=1000", 500, &["status"]);
    fails("app-status", "/?status=65535", 500, &["status"]);
}

#[test]
fn fields_that_would_break_the_message_are_500() {
    for kind in ["crlf", "lf", "nul", "colon", "name", "empty", "big"] {
        fails("app-fields", &format!("/?kind={kind}"), 500, &["not valid"]);
    }
}

#[test]
fn as_many_fields_as_fit_are_passed_on() {
    let server = Start::app("app-fields").start();
    let response = server.get("/?kind=many");
    response.is(200, "fields\n");
    let many = response
        .head
        .fields
        .iter()
        .filter(|(name, value)| name.starts_with("x-") && value == "one");
    assert_eq!(many.count(), 10_000);
}

#[test]
fn fields_that_are_the_servers_are_dropped() {
    let server = Start::app("app-fields").start();
    let mut client = server.connect();
    let response = client.get("/?kind=framing");
    response.is(200, "fields\n");
    assert_eq!(response.field("content-length"), Some("7"));
    for name in ["transfer-encoding", "connection", "keep-alive", "upgrade"] {
        assert_eq!(response.field(name), None);
    }
    assert!(
        response
            .field("date")
            .is_some_and(|date| date.ends_with(" GMT")),
        "{response:?}"
    );
    let response = client.get("/?kind=server");
    response.is(200, "fields\n");
    assert_eq!(response.field("server"), Some("guest"));
    let response = client.get("/?kind=good");
    response.is(200, "fields\n");
    assert_eq!(response.field("x-empty"), Some(""));
    assert_eq!(
        response
            .head
            .fields
            .iter()
            .filter(|(name, _)| name == "x-two")
            .count(),
        2
    );
}

#[test]
fn statuses_of_a_guest_are_passed_on() {
    let server = Start::app("app-status").start();
    let mut client = server.connect();
    for status in [200, 201, 299, 404, 418, 500, 599] {
        client
            .get(&format!("/?status={status}"))
            .is(status, "body\n");
    }
    for status in [204, 304] {
        let response = client.get(&format!("/?status={status}"));
        assert_eq!((response.status(), response.body.len()), (status, 0));
    }
    let server = Start::app("wasi-status").start();
    let mut client = server.connect();
    for status in [200, 404, 599] {
        client
            .get(&format!("/?status={status}"))
            .is(status, "body\n");
    }
    // An interim status is no answer: the next response would be taken for this one's.
    server.get("/?status=103").is_own(500);
    client.get("/").is(200, "refused\n");
}

#[test]
fn a_second_response_does_not_replace_the_first() {
    let server = Start::app("wasi-two-responses").start();
    let worker = server.worker();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // The first may get out, whole or not, or the trap comes before it: the second never.
    match client.try_response() {
        Ok(response) if response.status() == 200 => assert_eq!(response.text(), "first\n"),
        Ok(response) => response.is_own(500),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof),
    }
    server.wait_log(&["trap", "app=\"wasi-two-responses\""]);
    assert_eq!(server.worker(), worker);
}

#[test]
fn a_response_that_breaks_off_can_be_told_from_one_that_is_whole() {
    for (name, target, log) in [
        ("wasi-trap-after", "/", "trap"),
        ("wasi-unfinished", "/", ""),
        ("wasi-length", "/?declare=10&write=5", ""),
        ("wasi-length", "/?declare=5&write=10", ""),
        ("wasi-spin", "/?after", "cpu limit"),
    ] {
        let server = Start::app(name).args(["--cpu-timeout", "0.1"]).start();
        let worker = server.worker();
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        match client.try_response() {
            Ok(response) => response.is_own(if log == "cpu limit" { 504 } else { 500 }),
            Err(error) => {
                assert_eq!(
                    error.kind(),
                    std::io::ErrorKind::UnexpectedEof,
                    "{name}{target}"
                );
                assert!(client.is_closed(), "{name}{target}");
            }
        }
        server.wait_log(&[
            " WARN ",
            &format!("GET {target}: "),
            log,
            &format!("app=\"{name}\""),
        ]);
        assert_eq!(server.worker(), worker, "{name}{target}");
    }
}

#[test]
fn a_guest_that_fails_after_its_response_fails_nobody() {
    let server = Start::app("wasi-after")
        .args(["--cpu-timeout", "0.2"])
        .start();
    let worker = server.worker();
    server.get("/?spin").is(200, "answered\n");
    server.wait_log(&["after the response: cpu limit", "app=\"wasi-after\""]);
    server.get("/").is(200, "answered\n");
    assert_eq!(server.worker(), worker);
}

#[test]
fn a_spinning_guest_does_not_hold_up_others_of_its_worker() {
    let server = Start::config(
        "timeout = 0\n\
         [apps.spin]\ncomponent = '{app-spin}'\nroutes = ['/spin']\ncpu-timeout = '24h'\n\
         [apps.hello]\ncomponent = '{hello}'\n",
    );
    let server = server.start();
    let worker = server.worker();
    let mut spinning: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for client in &mut spinning {
        client.send("GET /spin HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let started = Instant::now();
    for _ in 0..50 {
        server.get("/").is(200, "hello\n");
    }
    // A few turns of 10 ms for each, and not seconds.
    let taken = started.elapsed();
    assert!(taken < Duration::from_secs(30), "{taken:?}");
    assert_eq!(server.worker(), worker);
    // Nobody waits for them any more: their instances end, and the worker is idle.
    drop(spinning);
    let cpu = || std::fs::read_to_string(format!("/proc/{worker}/schedstat")).unwrap();
    let (mut last, mut unchanged) = (cpu(), 0);
    until("the worker does nothing", || {
        let now = cpu();
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
        unchanged == 10
    });
}

#[test]
fn a_thousand_traps_leave_no_trace_in_the_worker() {
    let server = Start::app("app-trap").start();
    let worker = server.worker();
    let mut failed = 0;
    for _ in 0..1000 {
        server.get("/").is_own(500);
        failed += 1;
    }
    assert_eq!(failed, 1000);
    let open = || {
        std::fs::read_dir(format!("/proc/{worker}/fd"))
            .unwrap()
            .count()
    };
    until("all connections are closed", || open() < 40);
    assert_eq!(server.worker(), worker);
}
