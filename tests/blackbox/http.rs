//! Tests of HTTP/1.1 as clients see it: connections, framing, refusals and their limits.

use std::io::Write;
use std::time::Duration;

use crate::harness::{Client, Start, until};

#[test]
fn a_connection_carries_many_requests() {
    let server = Start::app("hello").start();
    let mut client = server.connect();
    for number in 0..100 {
        let response = client.get(&format!("/?name={number}"));
        response.is(200, &format!("hello, {number}\n"));
        assert_eq!(response.field("connection"), None);
    }
}

#[test]
fn requests_that_come_together_are_answered_in_order() {
    let server = Start::app("app-echo").start();
    let mut client = server.connect();
    let mut bytes = String::new();
    for number in 0..100 {
        bytes +=
            &format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{number:03}");
    }
    client.send(&bytes);
    for number in 0..100 {
        let response = client.response();
        assert!(
            response
                .text()
                .starts_with(&format!("POST http a /{number}\n")),
            "{response:?}"
        );
        assert!(
            response.text().ends_with(&format!("\n\n{number:03}")),
            "{response:?}"
        );
    }
}

#[test]
fn more_requests_together_than_are_read_ahead_are_all_answered() {
    let server = Start::app("hello-wasi").start();
    let mut client = server.connect();
    const COUNT: usize = 4000;
    let mut sender = client.sender();
    let sending = std::thread::spawn(move || {
        for _ in 0..COUNT {
            sender.write_all(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Filler: aaaaaaaaaaaaaaaaaaaaaaaa\r\n\r\n",
            )?;
        }
        std::io::Result::Ok(())
    });
    for _ in 0..COUNT {
        client.response().is(200, "hello\n");
    }
    sending.join().unwrap().unwrap();
}

#[test]
fn a_request_in_single_bytes_is_understood() {
    let server = Start::app("app-echo").start();
    let mut client = server.connect();
    for byte in
        b"POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    {
        client.send([*byte]);
    }
    let response = client.response();
    assert!(response.text().ends_with("\n\nabc"), "{response:?}");
}

#[test]
fn head_is_answered_without_a_body() {
    for (name, target) in [
        ("hello", "/"),
        ("wasi-large", "/?bytes=100000&declare"),
        ("echo", "/"),
    ] {
        let server = Start::app(name).start();
        let mut client = server.connect();
        client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let head = client.head();
        assert_eq!(head.status, 200, "{name}");
        if name == "wasi-large" {
            assert_eq!(head.field("content-length"), Some("100000"));
        }
        // Whatever comes next is the next response.
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.response().status(), 200, "{name}");
    }
}

#[test]
fn head_is_refused_without_a_body() {
    let server = Start::app("app-trap").start();
    for (head, status) in [
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 500),
        // Whatever else is wrong with it.
        ("HEAD / HTTP/1.1\r\n\r\n", 400),
        ("HEAD / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    ] {
        let mut client = server.connect();
        client.send(head);
        assert_eq!(client.head().status, status);
        assert!(client.is_closed());
    }
}

#[test]
fn a_client_that_asks_before_its_body_is_told_to_go_on() {
    for name in ["echo", "app-echo"] {
        let server = Start::app(name).start();
        let mut client = server.connect();
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
        client.send(head);
        assert_eq!(client.head().status, 100);
        client.send("hello");
        let response = client.response();
        assert!(
            response.status() == 200 && response.text().ends_with("hello"),
            "{response:?}"
        );
        // One that does not wait is not told.
        client.send(format!("{head}again"));
        let response = client.response();
        assert!(
            response.status() == 200 && response.text().ends_with("again"),
            "{response:?}"
        );
    }
}

#[test]
fn a_client_that_asks_in_vain_gets_the_answer_at_once() {
    let server = Start::app("echo")
        .args(["--request-body-limit", "10"])
        .start();
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 11\r\n\r\n");
    client.response().is_own(413);
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: a-miracle\r\nContent-Length: 1\r\n\r\n");
    client.response().is_own(417);
}

#[test]
fn http_1_0_is_served_and_closed_unless_it_asks_otherwise() {
    let server = Start::app("hello").start();
    let mut client = server.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    client.response().is(200, "hello\n");
    assert!(client.is_closed());
    let mut client = server.connect();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response();
        response.is(200, "hello\n");
        assert_eq!(response.field("connection"), Some("keep-alive"));
    }
    let server = Start::app("wasi-stream").start();
    let mut client = server.connect();
    client.send("GET /?n=2&interval_ms=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    response.is(200, "chunk 0\nchunk 1\n");
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.field("connection"), Some("close"));
}

#[test]
fn connection_close_is_obeyed() {
    let server = Start::app("hello").start();
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let response = client.response();
    response.is(200, "hello\n");
    assert_eq!(response.field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn every_response_has_a_date_and_a_server() {
    let server = Start::app("hello").start();
    let mut client = server.connect();
    for target in ["/", "/else"] {
        let response = client.get(target);
        assert_eq!(response.field("server"), Some("rgunicorn"));
        let date = response.field("date").expect("it is there");
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    }
    client.send("nonsense\r\n\r\n");
    assert!(client.response().field("date").is_some());
}

#[test]
fn what_breaks_the_grammar_is_400_and_the_end_of_the_connection() {
    let server = Start::app("echo").start();
    for request in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(format!(
            "{request}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        client.response().is_own(400);
        assert!(client.is_closed(), "{request:?}");
    }
}

#[test]
fn a_chunk_that_breaks_the_grammar_ends_the_request() {
    let server = Start::app("app-echo").start();
    for body in [
        "x\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "-1\r\n",
        "ffffffffffffffffff\r\n",
    ] {
        let mut client = server.connect();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        ));
        client.response().is_own(400);
        assert!(client.is_closed(), "{body:?}");
    }
}

#[test]
fn what_is_not_implemented_is_501_and_other_versions_505() {
    let server = Start::app("echo").start();
    let mut client = server.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n");
    client.response().is_own(501);
    for version in ["HTTP/2.0", "HTTP/1.2"] {
        let mut client = server.connect();
        client.send(format!("GET / {version}\r\nHost: a\r\n\r\n"));
        assert!([400, 505].contains(&client.response().status()));
    }
}

#[test]
fn heads_that_are_too_large_are_414_and_431() {
    let args = [
        "--limit-request-line",
        "100",
        "--limit-request-fields",
        "5",
        "--limit-request-field-size",
        "64",
    ];
    let server = Start::app("hello").args(args).start();
    let ask = |request: &str| {
        let mut client = server.connect();
        client.send(request);
        client.response()
    };
    ask(&format!(
        "GET /?a={} HTTP/1.1\r\nHost: a\r\n\r\n",
        "a".repeat(80)
    ))
    .is(200, "hello\n");
    ask(&format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "a".repeat(100)
    ))
    .is_own(414);
    ask(&format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(4)
    ))
    .is(200, "hello\n");
    ask(&format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(5)
    ))
    .is_own(431);
    ask(&format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "y".repeat(65)
    ))
    .is_own(431);
    // Before the line has come to its end, and however long it would become.
    ask(&format!("GET /{}", "a".repeat(60_000))).is_own(414);
    ask(&format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}",
        "y".repeat(60_000)
    ))
    .is_own(431);
}

#[test]
fn a_head_that_does_not_come_in_time_is_408() {
    let server = Start::app("hello").args(["--head-timeout", "0.3"]).start();
    let mut slow = server.connect();
    slow.send("GET / HTTP/1.1\r\nHost: a");
    // Others do not wait for it.
    server.get("/").is(200, "hello\n");
    slow.response().is_own(408);
    assert!(slow.is_closed());
    // One that sends a byte now and then is not spared.
    let mut slow = server.connect();
    slow.send("GET / HTTP/1.1\r\n");
    until("the connection is closed", || {
        slow.try_send("X: y\r\n").is_err() || !slow.is_silent(Duration::from_millis(50))
    });
    // One that says nothing is closed without a word.
    assert!(server.connect().is_closed());
}

#[test]
fn responses_need_not_name_the_server() {
    let server = Start::app("hello").start();
    let named = server.get("/");
    assert_eq!(named.field("server"), Some("rgunicorn"));
    let server = Start::app("hello").args(["--server-header=false"]).start();
    assert_eq!(server.get("/").field("server"), None);
    let mut client = server.connect();
    client.send("GET\r\n\r\n");
    let refused = client.response();
    assert_eq!((refused.status(), refused.field("server")), (400, None));
}

#[test]
fn an_idle_connection_is_closed_after_keep_alive() {
    let server = Start::app("hello").args(["--keep-alive", "0.3"]).start();
    let mut client = server.connect();
    client.get("/").is(200, "hello\n");
    client.get("/").is(200, "hello\n");
    assert!(client.is_closed());
    let server = Start::app("hello").args(["--keep-alive", "0"]).start();
    let mut client = server.connect();
    client.get("/").is(200, "hello\n");
    assert!(client.is_closed());
}

#[test]
fn without_keep_alive_the_response_says_that_it_is_the_last() {
    let server = Start::app("hello").args(["--keep-alive", "0"]).start();
    assert_eq!(server.get("/").field("connection"), Some("close"));
}

#[test]
fn running_out_of_descriptors_is_survived() {
    let mut server = Start::app("hello").setup("ulimit -n 64").start();
    server.expect_errors();
    let worker = server.worker();
    let mut first = server.connect();
    first.get("/").is(200, "hello\n");
    // More than can be open, one after the other so that none is refused.
    let mut others: Vec<Client> = (0..100).map(|_| server.connect()).collect();
    server.wait_log(&[
        " ERROR ",
        "cannot accept connections, they wait in the backlog",
    ]);
    first.get("/").is(200, "hello\n");
    let mut last = others.pop().expect("there are many");
    last.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    drop(others);
    last.response().is(200, "hello\n");
    server.get("/").is(200, "hello\n");
    assert_eq!(server.worker(), worker);
}

#[test]
fn a_client_that_resets_its_connection_harms_nobody() {
    let server = Start::app("wasi-large").start();
    let worker = server.worker();
    for _ in 0..50 {
        let mut client = server.connect();
        client.send("GET /?bytes=10000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status, 200);
        // What was not read makes it a reset.
        drop(client);
    }
    server.get("/?bytes=1").is(200, "a");
    assert_eq!(server.worker(), worker);
}

#[test]
fn a_client_that_finishes_sending_gets_a_response_that_is_made_at_once_and_no_other() {
    let apps = "timeout = 0\n\
                [apps.hello]\ncomponent = '{hello}'\n\
                [apps.sleep]\ncomponent = '{wasi-sleep}'\nroutes = ['/sleep']\n\
                requests-in-flight = 1\n";
    let server = Start::config(apps).start();
    let half_closed = |target: &str| {
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.finish_sending();
        client
    };
    // Now and then a guest that needs no time is interrupted.
    let is_answered = |_| matches!(half_closed("/").try_response(), Ok(it) if it.status() == 200);
    assert!((0..20).any(is_answered));
    assert!(half_closed("/sleep?ms=86400000").is_closed());
    // The only place is free again.
    server.get("/sleep?ms=1").is(200, "slept 1 ms\n");
}

#[test]
fn the_asterisk_and_the_absolute_form_are_understood() {
    let server = Start::app("app-echo").start();
    let mut client = server.connect();
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.response().text().starts_with("OPTIONS http a *\n"));
    client.send("GET http://b.example/path?q HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(
        client
            .response()
            .text()
            .starts_with("GET http b.example /path?q\n")
    );
}

#[test]
fn a_response_reaches_a_client_that_has_sent_more_than_was_read() {
    let server = Start::app("echo")
        .args(["--request-body-limit", "10"])
        .start();
    for _ in 0..20 {
        let mut client = server.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
        // A reset would destroy the answer.
        let _ = client.try_send(vec![b'a'; 60_000]);
        client.response().is_own(413);
    }
}
