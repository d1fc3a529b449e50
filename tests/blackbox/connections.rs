//! Tests of how the connections of a worker get along: nobody takes the turns or the place of
//! somebody else.

use std::collections::VecDeque;
use std::io::Write;

use nix::sys::signal::Signal;

use crate::accept::{ALL, accepting, each, sum};
use crate::access_log::{ONE, lines, logged};
use crate::control::show;
use crate::h2::cleartext;
use crate::harness::h2::request;
use crate::harness::{Client, H2, Start, in_loop, pattern, tls, until};
use crate::process::signal_process;

// Turns.

#[test]
fn requests_that_come_together_are_one_turn_each() {
    const COUNT: usize = 500;
    let server = logged("%(q)s", ONE).start();
    let worker = server.worker();
    let mut clients: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.get("/?name=0");
    }
    // Both have sent all before the worker sees any of it.
    signal_process(worker, Signal::SIGSTOP);
    let mut senders = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        let request = format!("GET /?name={number} HTTP/1.1\r\nHost: a\r\n\r\n");
        senders.push(client.sender());
        senders[number]
            .write_all(request.repeat(COUNT).as_bytes())
            .unwrap();
    }
    signal_process(worker, Signal::SIGCONT);
    let readers = clients.into_iter().map(|mut client| {
        std::thread::spawn(move || {
            for _ in 0..COUNT {
                assert_eq!(client.response().status(), 200);
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for reader in readers {
        reader.join().unwrap();
    }
    let lines = lines(&server, 2 * COUNT + 2);
    let turns = lines.windows(2).filter(|pair| pair[0] != pair[1]).count();
    // Whoever had the last turn may have the next one, too.
    assert!(turns > COUNT / 2, "they took {turns} turns");
}

// Last words.

/// More than any socket's buffers hold.
const UPLOAD: usize = 16 << 20;

#[test]
fn an_answer_reaches_a_client_that_sends_on_whatever_it_is_told() {
    let settings = "http2-cleartext = 'prior-knowledge'\nrequest-body-limit = '1MiB'\n\
                    [apps.sink]\ncomponent = '{wasi-sink}'\n\
                    [apps.ignore]\ncomponent = '{wasi-ignore}'\nroutes = ['/ignore']\n\
                    request-body-limit = 0\n";
    let server = Start::config(settings).start();
    let body = pattern(UPLOAD);
    let mut client = server.connect();
    client.post("/", &body).is_own(413);
    client.closed_in_order().unwrap();
    let mut client = server.connect();
    let chunk = "a".repeat(UPLOAD / 16);
    client.post_chunks("/", &[chunk.as_str(); 16]).is_own(413);
    client.closed_in_order().unwrap();
    let mut client = server.connect();
    client.post("/ignore", &body).is(200, "ignored\n");
    client.closed_in_order().unwrap();
    in_loop(async {
        let client = H2::connect(&server).await;
        let refused = client.ask_with(request("POST", "/"), body.clone()).await;
        refused.unwrap().is_own(413);
        let ignored = client.ask_with(request("POST", "/ignore"), body).await;
        ignored.unwrap().is(200, "ignored\n");
    });
}

#[test]
fn whoever_pours_bytes_after_the_last_word_holds_up_nobody() {
    let args = ["--request-body-limit", "10", "--graceful-timeout", "10"];
    let start = Start::app("echo").args(args);
    // It takes nobody's place either.
    let mut server = start.args(["--worker-connections", "1"]).start();
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n");
    client.response().is_own(413);
    let mut sender = client.sender();
    let pours = std::thread::spawn(move || while sender.write_all(&[b'a'; 65536]).is_ok() {});
    for _ in 0..100 {
        server.connect().post("/", "others").is(200, "others");
    }
    assert!(!pours.is_finished());
    server.stop();
    pours.join().unwrap();
}

// Empty lines.

#[test]
fn empty_lines_before_a_request_are_nothing() {
    let settings = "head-timeout = 0.3\nkeep-alive = 0.3\n";
    let server = logged("%(r)s %(s)s", &format!("{settings}{ONE}")).start();
    // Some clients send one after a request.
    let mut client = server.connect();
    client.send("GET /?after HTTP/1.1\r\nHost: a\r\n\r\n\r\n");
    client.response().is(200, "hello\n");
    assert!(client.is_closed(), "nobody has asked");
    for bytes in ["\r", "\r\n", "\r\n\r\n"] {
        let mut client = server.connect();
        client.send(bytes);
        assert!(client.is_closed(), "nobody has asked");
    }
    let mut client = server.connect();
    client.send("\r\n\r\nGET /?before HTTP/1.1\r\nHost: a\r\n\r\n");
    client.response().is(200, "hello\n");
    // There is an end to it.
    let mut client = server.connect();
    client.send("\r\n".repeat(5));
    client.response().is_own(400);
    let expect = [
        "GET /?after HTTP/1.1 200",
        "GET /?before HTTP/1.1 200",
        "- 400",
    ];
    assert_eq!(lines(&server, 3), expect);
}

#[test]
fn a_part_of_a_preface_is_a_head_that_does_not_come() {
    let settings = "http2-cleartext = 'prior-knowledge'\nhead-timeout = 0.3\n";
    let server = logged("%(r)s %(s)s %(reason)s", &format!("{settings}{ONE}")).start();
    let mut client = server.connect();
    client.send("PRI * HT");
    client.response().is_own(408);
    assert!(client.is_closed());
    assert_eq!(lines(&server, 1), ["PRI * HT 408 head-timeout"]);
    // Whoever says nothing is told nothing.
    assert!(server.connect().is_closed());
    assert_eq!(lines(&server, 1).len(), 1);
}

// Places.

/// Opens connections with `connect` to a server whose worker has three places, and asks on them: those
/// that are idle for longest make room for others.
fn idle_ones_make_room(mut connect: impl FnMut() -> Client) {
    let mut ask = || {
        let mut client = connect();
        client.get("/").is(200, "hello\n");
        client
    };
    let (mut first, mut second) = (ask(), ask());
    first.get("/").is(200, "hello\n");
    let mut third = ask();
    assert!(second.is_closed(), "it was idle for longest");
    first.get("/").is(200, "hello\n");
    let mut fourth = ask();
    assert!(third.is_closed());
    for client in [&mut fourth, &mut first] {
        client.get("/").is(200, "hello\n");
    }
    let mut many: Vec<Client> = (0..6).map(|_| ask()).collect();
    assert!(first.is_closed() && fourth.is_closed());
    for client in &mut many[..4] {
        assert!(client.is_closed());
    }
    for client in &mut many[4..] {
        client.get("/").is(200, "hello\n");
    }
}

const THREE: [&str; 2] = ["--worker-connections", "3"];

#[test]
fn whoever_has_been_idle_for_longest_makes_room() {
    let server = Start::app("hello").args(THREE).start();
    idle_ones_make_room(|| server.connect());
}

#[test]
fn whoever_has_been_idle_for_longest_makes_room_with_tls() {
    let start = Start::app("hello").args(THREE);
    let server = start.certificates(&["server"]).start();
    idle_ones_make_room(|| server.connect_tls(&tls()));
}

#[test]
fn whoever_has_been_idle_for_longest_makes_room_with_http_2() {
    let server = cleartext(Start::app("hello").args(THREE));
    in_loop(async {
        let mut clients = VecDeque::new();
        for _ in 0..6 {
            let client = H2::connect(&server).await;
            client.get("/").await.is(200, "hello\n");
            clients.push_back(client);
            if clients.len() == 3 {
                let longest = clients.pop_front().unwrap();
                longest.connection.await.unwrap().unwrap();
            }
        }
        for client in clients {
            client.get("/").await.is(200, "hello\n");
        }
    });
}

#[test]
fn idle_ones_make_room_whoever_accepts() {
    for accept in ALL {
        let server = accepting("hello", accept, &["-w", "2", "--worker-connections", "2"]);
        let ask = |_| {
            let mut client = server.connect();
            client.get("/").is(200, "hello\n");
            client
        };
        let clients: Vec<Client> = (0..8).map(ask).collect();
        assert_eq!(sum(&server, "accepted"), 8, "{accept}");
        until("there is a place", || {
            each(&server, "connections").iter().all(|it| *it < 2)
        });
        drop(clients);
    }
}

#[test]
fn whoever_has_begun_to_ask_keeps_its_place() {
    let server = cleartext(Start::app("echo").args(["--worker-connections", "2"]));
    let mut begins = server.connect();
    begins.get("/").is(200, "");
    begins.send("GET / HT");
    let mut idle = server.connect();
    idle.get("/").is(200, "");
    assert!(idle.is_closed(), "nobody else is idle");
    begins.send("TP/1.1\r\nHost: a\r\n\r\n");
    begins.response().is(200, "");
    drop(begins);
    in_loop(async {
        let client = H2::connect(&server).await;
        let echo = client.begin_echo().await;
        for _ in 0..3 {
            let mut other = server.connect();
            other.get("/").is(200, "");
            assert!(other.is_closed(), "nobody else is idle");
        }
        echo.finish().await;
    });
}

#[test]
fn busy_clients_keep_their_places() {
    let server = Start::app("hello").args(THREE).start();
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for _ in 0..1000 {
        for client in &mut clients {
            client.get("/").is(200, "hello\n");
        }
    }
}

#[test]
fn where_nobody_is_idle_the_next_one_waits_for_a_place() {
    let server = accepting("echo", "auto", &["--worker-connections", "2"]);
    let (mut first, mut second) = (server.connect(), server.connect());
    first.begin_echo();
    second.begin_echo();
    let mut third = server.connect();
    third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("one waits", || {
        show(&server, "listeners")["listeners"][0]["queue"] == 1
    });
    first.finish_echo();
    assert!(first.is_closed(), "its place is wanted");
    third.response().is(200, "");
    second.finish_echo();
}
