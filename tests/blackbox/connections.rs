//! Tests of how the connections of a worker get along: nobody takes the turns or the place of
//! somebody else.

use std::io::Write;

use nix::sys::signal::Signal;

use crate::access_log::{ONE, lines, logged};
use crate::harness::h2::request;
use crate::harness::{Client, H2, Start, in_loop, pattern};
use crate::process::signal_process;

// Turns.

#[test]
fn requests_that_come_together_are_one_turn_each() {
    const COUNT: usize = 1000;
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
    assert!(turns > COUNT, "they took {turns} turns");
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
    let mut server = Start::app("echo").args(args).start();
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
