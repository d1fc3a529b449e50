//! Tests of the worlds: what each kind of component gets and what becomes of its answer, bodies in
//! both directions, and instances that share nothing.

use std::io::Write;

use crate::harness::{Client, Process, Start, pattern, until};

#[test]
fn a_component_of_our_world_is_served() {
    let server = Start::app("hello").start();
    let mut client = server.connect();
    let response = client.get("/?name=you");
    response.is(200, "hello, you\n");
    assert_eq!(response.field("content-length"), Some("11"));
    assert_eq!(client.get("/else").status(), 404);
    client.send("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), 405);
    assert!(
        response
            .field("allow")
            .is_some_and(|allow| allow.contains("GET"))
    );
}

#[test]
fn a_core_module_with_its_world_in_it_is_served() {
    let server = Start::app("hello-module").start();
    server.get("/?name=you").is(200, "hello, you\n");
}

#[test]
fn a_component_of_our_world_gets_the_whole_request() {
    let server = Start::app("app-echo").start();
    let mut client = server.connect();
    client.send(
        "PUT /a%20b?c=%2F HTTP/1.1\r\nHost: Example.com:81\r\nX-Two: one\r\nx-two: two\r\n\
         Content-Length: 5\r\n\r\nhello",
    );
    let response = client.response();
    let expect = "PUT http Example.com:81 /a%20b?c=%2F\n";
    assert!(response.text().starts_with(expect), "{response:?}");
    assert!(response.text().contains("\nx-two: one\n"), "{response:?}");
    assert!(response.text().contains("\nx-two: two\n"), "{response:?}");
    assert!(response.text().ends_with("\n\nhello"), "{response:?}");
    let every_byte: Vec<u8> = (0..=255).collect();
    assert!(client.post("/", &every_byte).body.ends_with(&every_byte));
    let response = client.post_chunks("/", &["ab", "c", "defg"]);
    assert!(response.text().ends_with("\n\nabcdefg"), "{response:?}");
}

#[test]
fn a_wasi_component_gets_the_whole_request() {
    let server = Start::app("wasi-request").start();
    let mut client = server.connect();
    client.send(
        "PATCH /a%20b?c=%2F HTTP/1.1\r\nHost: Example.com:81\r\nX-Two: one\r\nx-two: two\r\n\
         Content-Length: 5\r\n\r\nhello",
    );
    let response = client.response();
    let expect = "PATCH http Example.com:81 /a%20b?c=%2F\n";
    assert!(response.text().starts_with(expect), "{response:?}");
    assert!(response.text().contains("\nx-two: one\n"), "{response:?}");
    assert!(response.text().contains("\nx-two: two\n"), "{response:?}");
    assert!(response.text().ends_with("\n\nhello"), "{response:?}");
}

#[test]
fn the_smallest_wasi_component_is_served() {
    let server = Start::app("hello-wasi").start();
    let mut client = server.connect();
    for _ in 0..50 {
        client.get("/").is(200, "hello\n");
    }
}

#[test]
fn components_from_other_tool_chains_are_served_as_they_are() {
    for name in ["python", "javascript"] {
        let server = Start::app(name).start();
        let mut client = server.connect();
        for _ in 0..3 {
            let response = client.get("/path?and=query");
            response.is(200, &format!("hello from {name}: /path?and=query\n"));
        }
        client
            .post("/", "body of a request")
            .is(200, "body of a request");
        let large = pattern(1 << 20)
            .iter()
            .map(|byte| byte % 95 + 32)
            .collect::<Vec<u8>>();
        let response = client.post("/", &large);
        assert!(
            response.status() == 200 && response.body == large,
            "{name} gives a body back"
        );
        client.send("DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.response().is(405, "only GET and POST\n");
    }
}

#[test]
fn every_request_gets_a_new_instance() {
    for name in ["app-counter", "wasi-counter"] {
        let server = Start::app(name).start();
        let mut client = server.connect();
        for _ in 0..100 {
            client.get("/").is(200, "1\n");
        }
    }
}

#[test]
fn memory_of_one_request_is_not_seen_by_the_next() {
    // Each instance fills memory that the next gets: what it finds there must be zero, or its
    // allocator would stumble.
    let server = Start::config(
        "[apps.grow]\ncomponent = '{app-grow}'\nroutes = ['/grow']\n\
         [apps.large]\ncomponent = '{app-large}'\n",
    );
    let server = server.start();
    let mut client = server.connect();
    for _ in 0..20 {
        client.get("/grow?mib=20").is(200, "20 of 20 MiB\n");
        let response = client.get("/?bytes=100000");
        assert!(
            response
                .body
                .iter()
                .zip((b'a'..=b'z').cycle())
                .all(|(found, expect)| *found == expect)
        );
    }
}

#[test]
fn a_body_larger_than_memory_passes_through() {
    const BYTES: usize = 300 << 20;
    const MOST_MEMORY: u64 = 64 << 20;
    let server = Start::app("echo")
        .args(["--request-body-limit", "0", "--timeout", "0"])
        .start();
    server.connect().post("/", "warm").is(200, "warm");
    let worker = server.worker();
    let before = Process::peak_memory(worker);
    let mut client = server.connect();
    let mut sender = client.sender();
    let piece = pattern(251 * 1024);
    let sent = piece.clone();
    let sending = std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BYTES}\r\n\r\n");
        sender.write_all(head.as_bytes()).unwrap();
        let mut left = BYTES;
        while left > 0 {
            let now = left.min(sent.len());
            sender.write_all(&sent[..now]).unwrap();
            left -= now;
        }
    });
    let head = client.head();
    assert_eq!(head.status, 200);
    let mut received = 0;
    while let Some(chunk) = client.chunk().unwrap() {
        for (at, byte) in chunk.iter().enumerate().step_by(997) {
            assert_eq!(*byte, ((received + at) % 251) as u8);
        }
        received += chunk.len();
    }
    sending.join().unwrap();
    assert_eq!(received, BYTES);
    let grown = Process::peak_memory(worker) - before;
    assert!(grown < MOST_MEMORY, "the worker grew by {grown} bytes");
    assert_eq!(server.worker(), worker);
}

#[test]
fn a_response_of_any_length_arrives_whole() {
    let server = Start::app("wasi-large").start();
    let mut client = server.connect();
    for bytes in [
        0, 1, 25, 16_383, 16_384, 16_385, 53_248, 1_000_003, 20_000_000,
    ] {
        for declare in ["", "&declare"] {
            let response = client.get(&format!("/?bytes={bytes}{declare}"));
            assert_eq!(
                (response.status(), response.body.len()),
                (200, bytes),
                "{declare}"
            );
            let declared = response.field("content-length").is_some();
            assert!(declared || declare.is_empty(), "{:?}", response.head);
            let filler = (b'a'..=b'z').cycle();
            assert!(
                response
                    .body
                    .iter()
                    .zip(filler)
                    .all(|(found, expect)| *found == expect)
            );
        }
    }
    let server = Start::app("app-large").start();
    let mut client = server.connect();
    for bytes in [0, 1, 16_384, 1_000_003, 20_000_000] {
        let response = client.get(&format!("/?bytes={bytes}"));
        assert_eq!((response.status(), response.body.len()), (200, bytes));
    }
}

#[test]
fn a_body_arrives_unchanged_however_it_is_cut() {
    let server = Start::app("wasi-sink").start();
    let mut client = server.connect();
    client.post("/", "").is(200, "0 cbf29ce484222325\n");
    client.post("/", "abc").is(200, "3 e71fa2190541574b\n");
    client
        .post_chunks("/", &["a", "b", "c"])
        .is(200, "3 e71fa2190541574b\n");
    let body = pattern(3_000_000);
    let expect = format!("{} {:016x}\n", body.len(), fnv1a(&body));
    client.post("/", &body).is(200, &expect);
    client.post("/?delay_ms=1", &body).is(200, &expect);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(70_001) {
        client.send(format!("{:X};ext=1\r\n", chunk.len()));
        client.send(chunk);
        client.send("\r\n");
    }
    client.send("0\r\nX-Trailer: 1\r\n\r\n");
    client.response().is(200, &expect);
    // Byte by byte.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    for byte in ["a", "b", "c"] {
        client.send(byte);
    }
    client.response().is(200, "3 e71fa2190541574b\n");
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[test]
fn the_first_byte_leaves_before_the_last_is_made() {
    let server = Start::app("wasi-stream").args(["--timeout", "0"]).start();
    let mut client = server.connect();
    // The second line will not be made while this test runs.
    client.send("GET /?n=2&interval_ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk().unwrap().unwrap(), b"chunk 0\n");
}

#[test]
fn a_request_body_is_passed_on_while_it_arrives() {
    let server = Start::app("echo").args(["--request-read-ahead=0"]).start();
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.head().status, 200);
    for piece in ["first", "second", "third"] {
        client.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        // The rest of the body is sent only when this has come back.
        assert_eq!(client.chunk().unwrap().unwrap(), piece.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk().unwrap(), None);
    client.post("/", "again").is(200, "again");
}

#[test]
fn a_client_that_goes_away_cancels_its_instance() {
    let start = Start::app("wasi-stream").args(["--timeout", "0", "--requests-in-flight", "1"]);
    let server = start.start();
    let mut client = server.connect();
    client.send("GET /?n=2&interval_ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.head().status, 200);
    drop(client);
    // The only place is free again.
    server.get("/?n=1").is(200, "chunk 0\n");
    // It was cancelled where it waited, and did not run on to find out.
    assert!(!server.log().contains("the client has gone"));
}

#[test]
fn a_client_that_goes_away_before_the_response_cancels_its_instance() {
    let start = Start::app("wasi-sleep").args(["--timeout", "0", "--requests-in-flight", "1"]);
    let server = start.start();
    let mut client = server.connect();
    client.send("GET /?ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut next = server.connect();
    next.send("GET /?ms=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        next.is_silent(std::time::Duration::from_millis(300)),
        "the only place was not taken"
    );
    drop(client);
    next.response().is(200, "slept 1 ms\n");
}

#[test]
fn a_client_that_goes_away_in_the_middle_of_its_body_is_no_error() {
    let server = Start::app("wasi-sink").start();
    let worker = server.worker();
    for _ in 0..10 {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
        drop(client);
    }
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
    client.finish_sending();
    assert!(client.is_closed());
    server
        .connect()
        .post("/", "abc")
        .is(200, "3 e71fa2190541574b\n");
    assert_eq!(server.worker(), worker);
}

#[test]
fn a_guest_may_work_on_after_its_response() {
    let server = Start::app("wasi-after").start();
    let mut client = server.connect();
    client.get("/?ms=200").is(200, "answered\n");
    // The connection does not wait for it.
    client.get("/?ms=10").is(200, "answered\n");
    server.wait_log(&["worked on for 200 ms", "app=\"wasi-after\""]);
}

#[test]
fn a_guest_that_works_on_is_finished_before_the_server_stops() {
    let mut server = Start::app("wasi-after").start();
    server.get("/?ms=500").is(200, "answered\n");
    server.stop();
    assert!(server.log().contains("worked on for 500 ms"));
}

#[test]
fn a_guest_that_does_not_read_its_body_can_answer() {
    let server = Start::app("wasi-ignore").start();
    let mut client = server.connect();
    client.post("/", "abc").is(200, "ignored\n");
    client.post("/", pattern(60_000)).is(200, "ignored\n");
    // Too long to be waited for: the answer comes, and the connection ends or goes on in step.
    let mut client = server.connect();
    client.post("/", pattern(200_000)).is(200, "ignored\n");
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    client.send(pattern(100_000));
    let response = client.response();
    response.is(200, "ignored\n");
    assert!(client.is_closed());
}

#[test]
fn trailers_of_a_response_do_not_break_its_framing() {
    let server = Start::app("wasi-trailers").start();
    let mut client = server.connect();
    for _ in 0..3 {
        client.send(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\nX-One: 1\r\nX-Two: 2\r\n\r\n",
        );
        let response = client.response();
        assert_eq!(response.status(), 200, "{response:?}");
    }
}

#[test]
fn many_clients_at_once_each_get_their_own_answer() {
    let server = Start::app("app-echo").args(["-w", "2"]).start();
    std::thread::scope(|scope| {
        for number in 0..16 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.connect();
                for round in 0..50 {
                    let body = format!("body {number} {round}");
                    let response = client.post(&format!("/{number}/{round}"), &body);
                    assert!(response.text().ends_with(&body), "{response:?}");
                    assert!(response.text().contains(&format!("/{number}/{round}\n")));
                }
            });
        }
    });
}

#[test]
fn each_app_gets_its_own_random_numbers() {
    let server = Start::app("wasi-random").start();
    let mut client = server.connect();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let response = client.get("/");
        assert_eq!(response.text().trim().len(), 32, "{response:?}");
        assert!(seen.insert(response.body), "the same number twice");
    }
}

#[test]
fn the_whole_of_wasi_is_there_for_an_app_of_our_world() {
    let server = Start::app("app-wasi")
        .args(["-e", "A=1", "-e", "B=2"])
        .start();
    server.get("/").is(200, "A=1\nB=2\n");
    server.wait_log(&["stdout: a line on standard output"]);
    server.wait_log(&["stderr: a line on standard error"]);
}

#[test]
fn a_slow_reader_holds_up_nobody_else() {
    let server = Start::app("wasi-large").start();
    let mut slow: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut slow {
        client.send("GET /?bytes=50000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status, 200);
    }
    // What they do not read waits; others are served meanwhile.
    server
        .get("/?bytes=100")
        .is(200, &"abcdefghijklmnopqrstuvwxyz".repeat(4)[..100]);
    for client in &mut slow {
        let mut bytes = 0;
        while let Some(chunk) = client.chunk().unwrap() {
            bytes += chunk.len();
        }
        assert_eq!(bytes, 50_000_000);
    }
    until("all connections are idle", || {
        server.workers_now().len() == 1
    });
}
