//! Tests of how connections of HTTP/2 begin and end: idle ones, those of a worker that leaves, and
//! those of clients that go away.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::control::{controlled, worker};
use crate::h2::cleartext;
use crate::harness::h2::{request, whole};
use crate::harness::{Frame, Frames, H2, Server, Start, Tls, in_loop, until};

/// The number of the setting for streams at the same time.
const MAX_CONCURRENT_STREAMS: u16 = 3;
/// The number of the setting for bytes of a response that may come before they are asked for.
const INITIAL_WINDOW_SIZE: u16 = 4;
/// How long a slow client takes for one frame.
const MOMENT: Duration = Duration::from_millis(25);

/// Waits until the server takes no new request on a connection.
async fn refused(client: &H2) {
    while client.ask(request("HEAD", "/")).await.is_ok() {}
}

// Connections of a worker that leaves.

/// A request that is in flight while `leave` makes the worker leave is answered; new ones on the connection
/// are refused, and it ends.
fn in_flight_is_answered(server: &Server, leave: impl FnOnce(&Server)) {
    in_loop(async {
        let client = H2::connect(server).await;
        let idle = H2::connect(server).await;
        let (one, other) = (client.begin_echo().await, client.begin_echo().await);
        leave(server);
        refused(&client).await;
        one.finish().await;
        other.finish().await;
        client.connection.await.unwrap().unwrap();
        idle.connection.await.unwrap().unwrap();
    });
}

#[test]
fn what_is_in_flight_at_a_stop_is_answered() {
    let mut server = cleartext(Start::app("echo"));
    in_flight_is_answered(&server, |server| server.signal(Signal::SIGTERM));
    server.stopped();
}

#[test]
fn what_is_in_flight_at_a_reload_is_answered() {
    let server = cleartext(Start::app("echo"));
    let old = server.worker();
    in_flight_is_answered(&server, |server| {
        server.signal(Signal::SIGHUP);
        server.wait_log(&["generation 2 serves"]);
    });
    until("the old worker leaves", || {
        !server.workers_now().contains(&old)
    });
    in_loop(async { H2::connect(&server).await.begin_echo().await.finish().await });
}

#[test]
fn what_is_in_flight_at_retirement_is_answered() {
    let server = cleartext(Start::app("echo").args(["--max-requests", "3"]));
    let old = server.worker();
    in_flight_is_answered(&server, |server| {
        let mut client = server.connect();
        client.post("/", "the last straw").is(200, "the last straw");
    });
    until("the old worker leaves", || {
        !server.workers_now().contains(&old)
    });
    in_loop(async { H2::connect(&server).await.begin_echo().await.finish().await });
}

// Idle connections.

#[test]
fn an_idle_connection_is_told_to_go() {
    let server = cleartext(Start::app("hello").args(["--keep-alive", "0.2"]));
    let mut frames = Frames::connect(&server);
    frames.send(&Frame::get(1));
    frames.answered(1);
    assert_eq!(frames.end(), Some(0));
    // One that has something to do is not idle.
    in_loop(async {
        let client = H2::connect(&server).await;
        client.get("/").await.is(200, "hello\n");
        client.connection.await.unwrap().unwrap();
    });
}

#[test]
fn a_stream_that_takes_long_keeps_its_connection() {
    let start = Start::app("wasi-sleep").args(["--keep-alive", "0.1"]);
    let server = cleartext(start);
    in_loop(async {
        let client = H2::connect(&server).await;
        client.get("/?ms=500").await.is(200, "slept 500 ms\n");
    });
}

#[test]
fn a_client_that_says_too_little_is_left() {
    let args = ["--head-timeout", "0.3", "--keep-alive", "60"];
    let server = cleartext(Start::app("hello").args(args));
    // Half a preface, a preface alone, and one with settings but without a request.
    let beginnings = ["PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    let mut silent = beginnings.map(|bytes| {
        let mut client = server.connect();
        client.send(bytes);
        client
    });
    let mut frames = Frames::connect(&server);
    server.get("/").is(200, "hello\n");
    for client in &mut silent {
        // A reset is an end, too.
        let _ = client.closed_in_order();
    }
    assert_eq!(frames.end(), Some(0));
    // What begins as HTTP/2 does and goes on in another way is HTTP/1.1, and no good one.
    let mut client = server.connect();
    client.send("PRI * HTTP/1.1\r\n\r\n");
    assert_eq!(client.response().status(), 400);
    server.get("/").is(200, "hello\n");
}

#[test]
fn all_that_comes_before_a_request_has_one_deadline() {
    let args = ["--head-timeout", "2", "--keep-alive", "60"];
    let server = cleartext(Start::app("hello").args(args));
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = Frame::new(Frame::SETTINGS, 0, 0, []).bytes();
    let (tell, told) = std::sync::mpsc::channel();
    let mut slow = server.connect();
    slow.send(&preface[..10]);
    let began = Instant::now();
    until("half of its time is over", || {
        began.elapsed() > Duration::from_secs(1)
    });
    let mut late = server.connect();
    late.send(preface);
    late.send(&settings);
    // It has not begun anew.
    slow.send(&preface[10..]);
    slow.send(&settings);
    std::thread::scope(|scope| {
        for (name, mut client) in [("slow", slow), ("late", late)] {
            let tell = tell.clone();
            scope.spawn(move || {
                // A reset is an end, too.
                let _ = client.closed_in_order();
                tell.send(name).unwrap();
            });
        }
    });
    assert_eq!(
        [told.recv().unwrap(), told.recv().unwrap()],
        ["slow", "late"]
    );
}

#[test]
fn who_is_told_to_leave_and_only_asks_for_pongs_is_left() {
    let args = ["--head-timeout", "0.3", "--keep-alive", "60"];
    let server = cleartext(Start::app("hello").args(args));
    let mut frames = Frames::connect(&server);
    frames.until("it is told to leave", |frame| frame.kind == Frame::GOAWAY);
    // The ping that goes with it is never answered.
    let ping = Frame::new(Frame::PING, 0, 0, [0; 8]);
    until("the connection is closed", || {
        frames.try_send(std::slice::from_ref(&ping)).is_err()
    });
}

#[test]
fn who_has_its_response_and_answers_no_ping_does_not_hold_up_a_stop() {
    let args = ["--keep-alive", "60", "--graceful-timeout", "15"];
    let mut server = cleartext(Start::app("hello").args(args));
    let mut frames = Frames::connect(&server);
    frames.send(&Frame::get(1));
    frames.answered(1);
    server.signal(Signal::SIGTERM);
    server.stopped();
    let log = server.log();
    assert!(!log.contains("did not finish in time"), "{log}");
}

#[test]
fn without_the_setting_there_is_no_http_2() {
    let server = Start::app("hello").start();
    let mut client = server.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let status = client.response().status();
    assert!([400, 505].contains(&status), "{status}");
}

// How many streams.

#[test]
fn streams_at_the_same_time_are_bounded() {
    let start = Start::app("echo").args(["--http2-max-concurrent-streams", "2"]);
    let server = cleartext(start);
    let mut frames = Frames::connect(&server);
    let settings = frames.until("settings", |frame| frame.kind == Frame::SETTINGS);
    assert_eq!(settings.setting(MAX_CONCURRENT_STREAMS), Some(2));
    for stream in [1, 3, 5] {
        frames.send(&Frame::head(stream, 0, &[]));
    }
    assert_eq!(frames.was_reset(5), Some(Frame::REFUSED_STREAM));
    for stream in [1, 3] {
        frames.send(&Frame::new(Frame::DATA, Frame::END_STREAM, stream, "x"));
        let ended = |frame: &Frame| frame.stream == stream && frame.flags & Frame::END_STREAM != 0;
        frames.until("end", ended);
    }
    frames.send(&Frame::get(7));
    frames.answered(7);
}

#[test]
fn a_sync_worker_answers_one_request_of_a_connection() {
    let server = cleartext(Start::app("hello").args(["-k", "sync"]));
    let mut frames = Frames::connect(&server);
    let settings = frames.until("settings", |frame| frame.kind == Frame::SETTINGS);
    assert_eq!(settings.setting(MAX_CONCURRENT_STREAMS), Some(1));
    frames.send(&Frame::get(1));
    frames.answered(1);
    assert_eq!(frames.end(), Some(0));
    in_loop(async {
        for _ in 0..3 {
            let client = H2::connect(&server).await;
            client.get("/").await.is(200, "hello\n");
            client.connection.await.unwrap().unwrap();
        }
    });
    server.get("/").is(200, "hello\n");
}

// Clients that go away.

#[test]
fn a_client_that_goes_away_takes_its_requests_with_it() {
    let start = Start::app("wasi-sleep").args(["--timeout", "0"]);
    let start = start.args(["--http2-cleartext", "prior-knowledge"]);
    let server = controlled(start);
    in_loop(async {
        let client = H2::connect(&server).await;
        let sleep = || request("GET", "/?ms=86400000").body(()).unwrap();
        let (one, _) = client.begin(sleep(), false).await.unwrap();
        let (other, _) = client.begin(sleep(), false).await.unwrap();
        client.get("/?ms=0").await.is(200, "slept 0 ms\n");
        let shown = &server;
        let in_flight = |count| move || worker(shown)["in_flight"] == count;
        until("both are in flight", in_flight(2));
        // To drop it is to reset it; the connection sends that while something else is asked.
        drop(one);
        client.get("/?ms=0").await.is(200, "slept 0 ms\n");
        until("one is in flight", in_flight(1));
        client.connection.abort();
        assert!(client.connection.await.unwrap_err().is_cancelled());
        until("none is in flight", in_flight(0));
        assert!(whole(other).await.is_err());
    });
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_its_body_leaves_nothing() {
    let server = controlled(Start::app("echo").certificates(&["server"]));
    in_loop(async {
        let config = Tls::any().alpn(&["h2"]).config();
        let client = H2::connect_tls(&server, config).await;
        let echo = client.begin_echo().await;
        assert_eq!(worker(&server)["in_flight"], 1);
        client.connection.abort();
        assert!(client.connection.await.unwrap_err().is_cancelled());
        drop(echo);
        until("none is in flight", || worker(&server)["in_flight"] == 0);
    });
}

/// What waits in the server for a client that takes it slowly is waited for, as long as it takes it.
#[test]
fn a_slow_reader_gets_all_of_it_though_the_worker_leaves() {
    const STREAMS: u32 = 30;
    const BYTES: usize = 60_000;
    let start = Start::app("app-large").args(["-b", "unix:web.sock"]);
    let mut server = cleartext(start);
    // Windows for all of it: only the socket holds it up, and a Unix socket holds little.
    let mut frames = Frames::connect_with(&server, &[(INITIAL_WINDOW_SIZE, 1 << 20)]);
    let more = 1_u32 << 24;
    frames.send(&Frame::new(Frame::WINDOW_UPDATE, 0, 0, more.to_be_bytes()));
    for stream in 0..STREAMS {
        frames.send(&Frame::get_target(2 * stream + 1, "/?bytes=60000"));
    }
    frames.answered(1);
    server.signal(Signal::SIGTERM);
    let (mut received, mut ended) = (0, 0);
    while ended < STREAMS {
        let frame = frames.next().expect("the responses are whole");
        if frame.kind == Frame::DATA {
            received += frame.payload.len();
            ended += u32::from(frame.flags & Frame::END_STREAM != 0);
            // Slower than a worker would wait for one that takes nothing.
            let moment = Instant::now();
            until("a moment is over", || moment.elapsed() > MOMENT);
        }
    }
    assert_eq!(received, BYTES * STREAMS as usize);
    frames.end();
    server.stopped();
}
