//! Tests of the limits of apps: what each of them answers, and that nothing else changes.

use std::time::Duration;

use crate::harness::{Client, Start, pattern, until};

#[test]
fn the_time_limit_is_504_and_waiting_is_no_cpu_time() {
    let start = Start::app("wasi-sleep").args(["--timeout", "0.3", "--cpu-timeout", "0.05"]);
    let server = start.start();
    let worker = server.worker();
    server.get("/?ms=86400000").is_own(504);
    server.get("/?ms=150").is(200, "slept 150 ms\n");
    server.wait_log(&[
        " WARN ",
        "GET /?ms=86400000: time limit reached",
        "app=\"wasi-sleep\"",
    ]);
    assert_eq!(server.worker(), worker);
}

#[test]
fn the_time_limit_cuts_a_response_that_has_begun() {
    let server = Start::app("wasi-stream").args(["--timeout", "0.3"]).start();
    let mut client = server.connect();
    client.send("GET /?n=2&interval_ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk().unwrap().unwrap(), b"chunk 0\n");
    assert!(
        client.chunk().is_err(),
        "the response ends as if it were whole"
    );
    assert!(client.is_closed());
}

/// HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
#[test]
fn a_response_that_breaks_off_is_no_whole_one_for_http_1_0() {
    let server = Start::app("wasi-stream").args(["--timeout", "0.3"]).start();
    let mut client = server.connect();
    client.send("GET /?n=2&interval_ms=86400000 HTTP/1.0\r\n\r\n");
    let error = client.try_response().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn the_time_limit_holds_for_a_body_that_does_not_come() {
    for name in ["app-echo", "wasi-sink"] {
        let settings = ["--timeout=0.3", "--min-body-rate=0"];
        let server = Start::app(name).args(settings).start();
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
        client.response().is_own(408);
    }
}

#[test]
fn a_body_must_not_come_too_slowly() {
    // It is waited for before the guest runs, or read by it.
    for (name, length, sent) in [("app-echo", 10, 3), ("wasi-sink", 1_000_000, 70_000)] {
        let server = Start::app(name).args(["--min-body-rate", "20000"]).start();
        let mut slow = server.connect();
        slow.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
        ));
        slow.send(pattern(sent));
        // Who has sent much may rest: what came has earned time.
        let mut early = server.connect();
        early.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n");
        early.send("a".repeat(499_999));
        slow.response().is_own(408);
        early.send("b");
        assert_eq!(early.response().status(), 200, "{name}");
    }
}

#[test]
fn cpu_time_is_limited_and_a_request_within_it_is_answered() {
    let server = Start::app("app-work")
        .args(["--cpu-timeout", "0.3"])
        .start();
    server.get("/?iterations=0").is(200, "0 9e3779b97f4a7c15\n");
    assert_eq!(server.get("/?iterations=1000").status(), 200);
    server.get("/?iterations=100000000000").is_own(504);
    server.wait_log(&["cpu limit of 300ms reached"]);
}

#[test]
fn cpu_time_of_an_earlier_request_is_not_charged_to_a_later_one() {
    let server = Start::app("app-work").args(["--cpu-timeout", "1"]).start();
    let mut client = server.connect();
    // Together far more than the limit.
    for _ in 0..30 {
        assert_eq!(client.get("/?iterations=50000000").status(), 200);
    }
}

#[test]
fn a_request_body_that_is_too_long_is_413() {
    for name in ["echo", "app-echo"] {
        let server = Start::app(name)
            .args(["--request-body-limit", "1000"])
            .start();
        let worker = server.worker();
        let mut client = server.connect();
        assert_eq!(client.post("/", pattern(1000)).status(), 200, "{name}");
        let chunks = ["a".repeat(400), "b".repeat(600)];
        let chunks = [chunks[0].as_str(), chunks[1].as_str()];
        assert_eq!(client.post_chunks("/", &chunks).status(), 200, "{name}");
        // Refused by what it declares, before a byte of it has come.
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
        client.response().is_own(413);
        assert!(client.is_closed());
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n");
        assert!([400, 413].contains(&client.response().status()));
        assert_eq!(server.worker(), worker);
    }
}

#[test]
fn a_request_body_in_chunks_that_is_too_long_is_413() {
    let server = Start::app("app-echo")
        .args(["--request-body-limit", "1000"])
        .start();
    let mut client = server.connect();
    client.post_chunks("/", &[&"a".repeat(1001)]).is_own(413);
    let mut client = server.connect();
    client
        .post_chunks("/", &[&"a".repeat(600), &"b".repeat(600)])
        .is_own(413);
    // A guest that reads as it comes, and answers at the end.
    let server = Start::app("wasi-sink")
        .args(["--request-body-limit", "1000"])
        .start();
    let mut client = server.connect();
    client
        .post_chunks("/", &[&"a".repeat(600), &"b".repeat(600)])
        .is_own(413);
    let mut client = server.connect();
    client.post("/", "abc").is(200, "3 e71fa2190541574b\n");
}

#[test]
fn a_body_that_must_be_held_has_a_limit_of_its_own() {
    let args = ["--buffered-body-limit", "1000", "--request-body-limit", "0"];
    let server = Start::app("app-echo").args(args).start();
    assert_eq!(server.connect().post("/", pattern(1000)).status(), 200);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    client.response().is_own(413);
    let server = Start::app("echo").args(args).start();
    assert_eq!(
        server.connect().post("/", pattern(100_000)).body.len(),
        100_000
    );
}

#[test]
fn memory_is_limited_for_each_app() {
    let server = Start::config(
        "[apps.small]\ncomponent = '{app-grow}'\nroutes = ['/small']\nmemory-limit = '32MiB'\n\
         [apps.large]\ncomponent = '{wasi-grow}'\nroutes = ['/large']\nmemory-limit = '128MiB'\n",
    );
    let server = server.start();
    let granted = |target: &str| {
        let response = server.get(target);
        assert_eq!(response.status(), 200, "{response:?}");
        let number = response
            .text()
            .split(' ')
            .next()
            .and_then(|number| number.parse::<u32>().ok());
        number.expect("a number of MiB")
    };
    // What the component needs to be there at all is a part of it.
    assert!((24..32).contains(&granted("/small?mib=100")));
    assert!((120..128).contains(&granted("/large?mib=1000")));
    assert_eq!(granted("/large?mib=100"), 100);
    server.get("/small").is_own(500);
    server.wait_log(&["memory limit of 33554432 bytes reached", "app=\"small\""]);
}

#[test]
fn an_app_that_needs_more_memory_than_its_limit_does_not_start() {
    let ended = Start::app("app-big-memory")
        .args(["--memory-limit", "32MiB"])
        .run();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    assert!(ended.stderr.contains("memory"), "{ended:?}");
    let server = Start::app("app-big-memory")
        .args(["--memory-limit", "66MiB"])
        .start();
    server.get("/").is(200, "1 of 67108864\n");
}

#[test]
fn a_response_body_that_is_too_long_is_cut_off() {
    for (name, target) in [
        ("wasi-large", "/?bytes=10000000"),
        ("app-large", "/?bytes=10000000"),
    ] {
        let server = Start::app(name)
            .args(["--response-body-limit", "100000"])
            .start();
        assert_eq!(server.get("/?bytes=100000").body.len(), 100_000);
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        match client.try_response() {
            Ok(response) => response.is_own(500),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof),
        }
        server.wait_log(&[
            &format!("GET {target}: "),
            "longer than response-body-limit",
        ]);
    }
}

/// Clients of a guest that waits, which take up all places.
fn waiting(server: &crate::harness::Server, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /?ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    clients
}

#[test]
fn requests_beyond_the_queue_are_503() {
    let server = Start::config(
        "timeout = 0\n\
         [apps.busy]\ncomponent = '{wasi-sleep}'\nrequests-in-flight = 2\nrequest-queue = 1\n\
         [apps.other]\ncomponent = '{hello}'\nroutes = ['/hello']\n",
    );
    let server = server.start();
    let mut running = waiting(&server, 2);
    let mut queued = server.connect();
    // Who is third is known when it is the only one that can be.
    for client in &mut running {
        assert!(client.is_silent(Duration::from_millis(200)));
    }
    queued.send("GET /?ms=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(queued.is_silent(Duration::from_millis(200)));
    for _ in 0..3 {
        let response = server.get("/?ms=1");
        response.is_own(503);
        assert_eq!(response.field("retry-after"), Some("1"));
    }
    server.wait_log(&[" WARN ", "queue is full", "app=\"busy\""]);
    assert_eq!(
        server.get("/hello").status(),
        404,
        "another app has places of its own"
    );
    running.pop();
    queued.response().is(200, "slept 1 ms\n");
    server.get("/?ms=1").is(200, "slept 1 ms\n");
}

#[test]
fn a_request_that_waits_in_vain_is_503() {
    let start = Start::app("wasi-sleep").args(["--timeout", "1", "--requests-in-flight", "1"]);
    let server = start.start();
    let mut running = waiting(&server, 1);
    assert!(running[0].is_silent(Duration::from_millis(300)));
    let mut queued = server.connect();
    queued.send("GET /?ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    running[0].response().is_own(504);
    // Either it got the place in the end, or its own time was up while it waited.
    assert!([503, 504].contains(&queued.response().status()));
    server.get("/?ms=1").is(200, "slept 1 ms\n");
}

#[test]
fn a_client_that_leaves_the_queue_frees_its_place() {
    let args = [
        "--timeout",
        "0",
        "--requests-in-flight",
        "1",
        "--request-queue",
        "1",
    ];
    let server = Start::app("wasi-sleep").args(args).start();
    let mut running = waiting(&server, 1);
    assert!(running[0].is_silent(Duration::from_millis(200)));
    let mut queued = waiting(&server, 1);
    assert!(queued[0].is_silent(Duration::from_millis(200)));
    server.get("/?ms=1").is_own(503);
    drop(queued);
    drop(running);
    until("a place is free again", || {
        server.get("/?ms=1").status() == 200
    });
}

#[test]
fn host_objects_are_limited() {
    let server = Start::app("wasi-handles").start();
    server.get("/?n=1000").is(200, "1000 handles\n");
    server.get("/?n=1000000").is_own(500);
    server.get("/?n=1000").is(200, "1000 handles\n");
}

#[test]
fn what_a_guest_prints_is_in_the_log_under_its_name() {
    let server = Start::app("wasi-print").start();
    server.get("/?lines=3").is(200, "printed\n");
    for line in [
        "stdout: standard output, line 2",
        "stderr: standard error, line 2",
    ] {
        server.wait_log(&[" INFO ", line, "app=\"wasi-print\""]);
    }
}

#[test]
fn what_a_guest_may_print_is_limited_for_each_request() {
    let server = Start::app("wasi-print")
        .args(["--guest-log-limit", "10KiB"])
        .start();
    for round in 1..=2 {
        server.get("/?lines=1000&bytes=100").is(200, "printed\n");
        // The log is another stream than the response.
        let dropped = "the rest of what this request prints is dropped: guest-log-limit";
        server.wait_logs(&[dropped], round);
        let log = server.log();
        assert_eq!(log.matches(dropped).count(), round);
        let printed: usize = log
            .lines()
            .filter(|line| line.contains(", line "))
            .map(str::len)
            .sum();
        assert!(
            (8_000..25_000).contains(&(printed / round)),
            "{printed} bytes after {round} requests"
        );
    }
}
