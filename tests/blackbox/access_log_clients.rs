//! Tests of what the access log says of clients that stand behind proxies, and of the proxies.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::access_log::{ONE, lines, logged, text};
use crate::harness::{Client, Server, until};
use crate::process::signal_process;

const FORMAT: &str = r#"%(h)s %(client)s %(s)s "%({x-forwarded-for}i)s""#;

/// Sends a request with these fields, and reads the status of its response.
fn ask(client: &mut Client, fields: &[&str]) -> u16 {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.response().status()
}

/// Sends a request with each of these lots of fields, and compares the lines.
#[track_caller]
fn check(server: &Server, cases: &[(&[&str], &str)]) {
    for (at, (fields, expect)) in cases.iter().enumerate() {
        ask(&mut server.connect(), fields);
        assert_eq!(lines(server, at + 1)[at], *expect, "{fields:?}");
    }
}

#[test]
fn the_client_is_whom_trusted_proxies_name() {
    let settings = format!("forwarded-allow-ips = '127.0.0.1,10.0.0.0/8'\n{ONE}");
    let server = logged(FORMAT, &settings).start();
    let own = "127.0.0.1 127.0.0.1";
    check(
        &server,
        &[
            (&[], &format!(r#"{own} 200 "-""#)),
            (
                &["X-Forwarded-For: 203.0.113.9"],
                r#"127.0.0.1 203.0.113.9 200 "203.0.113.9""#,
            ),
            // The field is told as it came: what is left of the client may be made up.
            (
                &["X-Forwarded-For: 1.1.1.1, 203.0.113.9, 10.0.0.2"],
                r#"127.0.0.1 203.0.113.9 200 "1.1.1.1, 203.0.113.9, 10.0.0.2""#,
            ),
            (
                &["Forwarded: for=\"[2001:db8::7]:4711\""],
                r#"127.0.0.1 2001:db8::7 200 "-""#,
            ),
            (
                &["X-Forwarded-For: unknown"],
                r#"127.0.0.1 - 200 "unknown""#,
            ),
            // Nobody is believed who says two things.
            (
                &["X-Forwarded-For: 1.1.1.1", "Forwarded: for=1.1.1.2"],
                &format!(r#"{own} 400 "1.1.1.1""#),
            ),
            (&["X-Forwarded-For"], &format!(r#"{own} 400 "-""#)),
        ],
    );
}

#[test]
fn whoever_is_not_trusted_names_nobody() {
    let server = logged(FORMAT, &format!("forwarded-allow-ips = ''\n{ONE}")).start();
    let expect = r#"127.0.0.1 127.0.0.1 200 "203.0.113.9""#;
    check(&server, &[(&["X-Forwarded-For: 203.0.113.9"], expect)]);
}

#[test]
fn a_unix_socket_has_no_address_but_its_clients_may() {
    let start = logged(FORMAT, ONE);
    let bind = format!("unix:{}", start.folder().join("s").display());
    let server = start.env("RGUNICORN_BIND", &bind).start();
    check(
        &server,
        &[
            (&[], r#"- - 200 "-""#),
            (
                &["X-Forwarded-For: 203.0.113.9"],
                r#"- 203.0.113.9 200 "203.0.113.9""#,
            ),
        ],
    );
}

#[test]
fn whom_the_proxy_protocol_names_is_the_peer() {
    let settings = "proxy-protocol = 'v1'\nforwarded-allow-ips = '192.0.2.7'";
    let server = logged(FORMAT, &format!("{settings}\n{ONE}")).start();
    let from = |address: &str| {
        let mut client = server.connect();
        client.send(format!("PROXY TCP4 {address} 10.0.0.1 12345 80\r\n"));
        ask(&mut client, &["X-Forwarded-For: 203.0.113.9"]);
    };
    from("192.0.2.8");
    let stranger = r#"192.0.2.8 192.0.2.8 200 "203.0.113.9""#;
    assert_eq!(lines(&server, 1), [stranger]);
    from("192.0.2.7");
    let proxy = r#"192.0.2.7 203.0.113.9 200 "203.0.113.9""#;
    assert_eq!(lines(&server, 2), [stranger, proxy]);
}

#[test]
fn a_line_that_the_arbiter_writes_names_the_client() {
    let settings = "timeout = 0\n[apps.sleep]\ncomponent = '{wasi-sleep}'\n";
    let mut server = logged("json", settings).start();
    server.expect_errors();
    let worker = server.worker();
    let mut client = server.connect();
    client.send("GET /?ms=86400000 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 2001:db8::7\r\n\r\n");
    // Another that comes later has its line, so the first has begun.
    ask(&mut server.connect(), &["Forwarded: for=203.0.113.9"]);
    until("the second has its line", || text(&server).ends_with('\n'));
    signal_process(worker, Signal::SIGKILL);
    let lines = lines(&server, 2);
    for (line, reason, expect) in [
        (&lines[0], Value::Null, "203.0.113.9"),
        (&lines[1], "crashed".into(), "2001:db8::7"),
    ] {
        let object: Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["reason"], reason, "{line}");
        assert_eq!(object["remote"], "127.0.0.1", "{line}");
        assert_eq!(object["client"], expect, "{line}");
    }
}
