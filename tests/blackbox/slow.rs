//! Tests of clients that are slow: what they may hold, and who makes way when others need it.

use std::time::{Duration, Instant};

use h2::client::Builder;

use crate::access_log::{lines, logged};
use crate::h2::cleartext;
use crate::harness::h2::request;
use crate::harness::{Client, H2, READ_AHEAD, Server, Start, in_loop, pattern, until};

/// The only instance that an app of this server has.
const ONE: &str = "--requests-in-flight=1";

/// Sends a head and so much of a long body.
fn begin_upload(server: &Server, length: usize, sent: usize) -> Client {
    let mut client = server.connect();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    ));
    client.send(pattern(sent));
    client
}

#[test]
fn a_body_that_only_begins_takes_no_instance() {
    let settings = [ONE, "--min-body-rate=0", "--timeout=3600"];
    let server = Start::app("wasi-sink").args(settings).start();
    let mut chunked = server.connect();
    chunked.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    let mut sized = begin_upload(&server, 1_000_000, READ_AHEAD - 1);
    for _ in 0..3 {
        assert_eq!(server.get("/").status(), 200);
    }
    chunked.send("0\r\n\r\n");
    assert!(chunked.response().text().starts_with("1 "));
    sized.send(vec![b'a'; 1_000_001 - READ_AHEAD]);
    assert!(sized.response().text().starts_with("1000000 "));
}

#[test]
fn a_chunk_that_is_none_is_refused_before_the_app_starts() {
    let server = Start::app("echo").start();
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nX\r\n");
    client.response().is_own(400);
}

#[test]
fn an_upload_that_rests_makes_way() {
    let apps = "requests-in-flight = 1\n[apps.sink]\ncomponent = '{wasi-sink}'\n";
    let server = logged("%(s)s %(m)s %(reason)s", apps).start();
    let mut slow = begin_upload(&server, 1_000_000, 2 * READ_AHEAD);
    assert_eq!(server.get("/").status(), 200);
    slow.response().is_own(408);
    server.wait_log(&[
        " WARN ",
        "the client is slow and others wait",
        "app=\"sink\"",
    ]);
    let mut lines = lines(&server, 2);
    lines.sort();
    assert_eq!(lines, ["200 GET -", "408 POST slow-client"]);
}

#[test]
fn a_download_that_rests_makes_way() {
    let apps = "requests-in-flight = 1\n[apps.large]\ncomponent = '{wasi-large}'\n";
    let server = logged("%(s)s %(reason)s", apps).start();
    let mut slow = server.connect();
    slow.send("GET /?bytes=90000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(slow.head().status, 200);
    assert_eq!(server.get("/?bytes=1").status(), 200);
    let mut lines = lines(&server, 2);
    lines.sort();
    assert_eq!(lines, ["200 -", "200 slow-client"]);
}

#[test]
fn nobody_makes_way_for_nobody() {
    let settings = ["--requests-in-flight=2", "--min-body-rate=0"];
    let server = Start::app("wasi-sink").args(settings).start();
    let mut slow = begin_upload(&server, 1_000_000, 2 * READ_AHEAD);
    // Longer than anybody waits who has to make way.
    Start::app("wasi-sleep")
        .start()
        .get("/?ms=7000")
        .is(200, "slept 7000 ms\n");
    assert_eq!(server.get("/").status(), 200);
    slow.send(vec![b'a'; 1_000_000 - 2 * READ_AHEAD]);
    assert!(slow.response().text().starts_with("1000000 "));
}

#[test]
fn the_time_that_a_client_takes_is_not_its_apps() {
    let apps = "timeout = 1\n[apps.sink]\ncomponent = '{wasi-sink}'\n\
                [apps.large]\ncomponent = '{wasi-large}'\nroutes = ['/large']\n\
                [apps.sleep]\ncomponent = '{wasi-sleep}'\nroutes = ['/sleep']\ntimeout = 60\n";
    let server = Start::config(apps).start();
    let mut upload = begin_upload(&server, 1_000_000, 2 * READ_AHEAD);
    let mut download = server.connect();
    download.send("GET /large?bytes=30000000&declare HTTP/1.1\r\nHost: a\r\n\r\n");
    server.get("/sleep?ms=2500").is(200, "slept 2500 ms\n");
    upload.send(vec![b'a'; 1_000_000 - 2 * READ_AHEAD]);
    assert!(upload.response().text().starts_with("1000000 "));
    assert_eq!(download.response().body.len(), 30_000_000);
}

#[test]
fn a_guest_is_done_before_a_slow_client_has_its_response() {
    let server = cleartext(Start::app("wasi-large").args([ONE, "--min-body-rate=0"]));
    in_loop(async {
        let mut settings = Builder::new();
        settings.initial_window_size(1000);
        let slow = H2::connect_as(&server, &settings).await;
        let large = request("GET", "/?bytes=500000").body(()).unwrap();
        let (response, _) = slow.begin(large, false).await.unwrap();
        let mut body = response.await.unwrap().into_body();
        // The only instance is free, though nothing was read yet.
        let other = H2::connect(&server).await;
        for _ in 0..3 {
            assert_eq!(other.get("/?bytes=1").await.status(), 200);
        }
        let mut received = 0;
        while let Some(piece) = body.data().await {
            let piece = piece.expect("it is whole");
            received += piece.len();
            body.flow_control().release_capacity(piece.len()).unwrap();
        }
        assert_eq!(received, 500_000);
    });
}

#[test]
fn memory_for_bodies_is_bounded_and_who_rests_makes_way() {
    let apps = "body-memory = '1MiB'\nbuffered-body-limit = '512KiB'\n\
                [apps.echo]\ncomponent = '{app-echo}'\n\
                [apps.spin]\ncomponent = '{app-spin}'\nroutes = ['/spin']\n\
                requests-in-flight = 1\ncpu-timeout = 3\n";
    let server = logged("%(s)s %(reason)s", apps).start();
    let long = 500_000;
    let mut first = begin_upload(&server, long, long - 1);
    // There is not enough for a second one, but for short ones there is.
    assert_eq!(server.connect().post("/", "short").status(), 200);
    assert_eq!(server.connect().post("/", pattern(long)).status(), 200);
    first.response().is_own(408);
    // Those that wait for their turn do not wait for their clients, and keep what they have.
    let spin = |body: Vec<u8>| {
        let mut client = server.connect();
        client.send(format!(
            "POST /spin HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        client.send(body);
        client
    };
    let _waiting: Vec<Client> = (0..3).map(|_| spin(pattern(long))).collect();
    until("there is no memory", || {
        server.connect().post("/", pattern(long)).status() == 503
    });
    assert_eq!(server.connect().post("/", "short").status(), 200);
    let text = crate::access_log::text(&server);
    assert!(text.contains("408 slow-client\n"), "{text}");
    assert!(text.contains("503 body-memory\n"), "{text}");
}

#[test]
fn memory_for_bodies_holds_those_that_apps_take_whole() {
    let settings = ["--buffered-body-limit=65MiB"];
    let ended = Start::app("app-echo").args(settings).run();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    let problem = "body-memory: too little: app-echo takes bodies of up to 68157440 bytes";
    assert!(ended.line().contains(problem), "{ended:?}");
}

#[test]
fn a_slow_client_takes_a_sync_worker_for_the_apps_time_and_no_longer() {
    let settings = ["-k", "sync", "--timeout=1"];
    let server = Start::app("wasi-sink").args(settings).start();
    let mut begins = begin_upload(&server, 1_000_000, 1);
    begins.response().is_own(408);
    let mut rests = begin_upload(&server, 1_000_000, 2 * READ_AHEAD);
    rests.response().is_own(504);
}

/// Begins an upload to a guest that sleeps before it has read all of what is sent.
fn upload_to_a_sleeper(server: &Server) -> Client {
    let mut client = server.connect();
    client.send("POST /?delay_ms=86400000 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(pattern(READ_AHEAD + 256));
    client
}

#[test]
fn who_leaves_an_upload_that_nobody_reads_frees_the_instance() {
    let apps = "requests-in-flight = 1\ntimeout = 3600\n[apps.sink]\ncomponent = '{wasi-sink}'\n";
    let server = logged("%(s)s %(m)s %(reason)s", apps).start();
    let gone = upload_to_a_sleeper(&server);
    // It has its instance when another one has to wait.
    let mut waits = server.connect();
    waits.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(waits.is_silent(Duration::from_millis(500)));
    drop(gone);
    waits.patience(Duration::from_secs(60));
    assert_eq!(waits.response().status(), 200);
    let mut lines = lines(&server, 2);
    lines.sort();
    assert_eq!(lines, ["000 POST client-gone", "200 GET -"]);
}

#[test]
fn a_guest_that_does_not_wait_for_its_client_has_its_own_time() {
    let settings = ["--timeout=1", "--min-body-rate=0"];
    let server = Start::app("wasi-sink").args(settings).start();
    upload_to_a_sleeper(&server).response().is_own(504);
}

#[test]
fn a_slow_reader_of_many_small_pieces_is_served() {
    let server = Start::app("wasi-stream").start();
    let clock = Start::app("wasi-sleep").start();
    let mut client = server.connect();
    client.send("GET /?n=100000000&interval_ms=0 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    let started = Instant::now();
    // Far above the rate, and for longer than a client may keep a worker waiting.
    while started.elapsed() < Duration::from_secs(8) {
        for _ in 0..100 {
            assert!(client.chunk().expect("it goes on").is_some());
        }
        clock.get("/?ms=100").is(200, "slept 100 ms\n");
    }
}

#[test]
fn responses_that_nobody_takes_make_way_for_others() {
    let apps = "body-memory = '2MiB'\nbuffered-body-limit = '1MiB'\n\
                [apps.large]\ncomponent = '{app-large}'\n";
    let server = logged("%(s)s %(reason)s", apps).start();
    let mut greedy = server.connect();
    greedy.send("GET /?bytes=20000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(greedy.head().status, 200);
    until("somebody else is answered", || {
        server.get("/?bytes=1").status() == 200
    });
    let text = crate::access_log::text(&server);
    assert!(text.contains("200 slow-client\n"), "{text}");
}

#[test]
fn who_leaves_the_queue_leaves_a_place_in_it() {
    let settings = [ONE, "--request-queue=1"];
    let server = Start::app("wasi-sleep").args(settings).start();
    let ask = |target: &str| {
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client
    };
    let mut running = ask("/?ms=4000");
    let queued = ask("/?ms=0");
    until("the queue is full", || server.get("/?ms=0").status() == 503);
    drop(queued);
    until("there is a place", || {
        let mut next = ask("/?ms=0");
        next.response().status() == 200
    });
    running.response().is(200, "slept 4000 ms\n");
}
