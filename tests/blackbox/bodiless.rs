//! Tests of responses that have no body, whatever their app writes: to HEAD, and with a status that
//! has none (RFC 9110 section 6.4.1).

use crate::access_log::{lines, logged};
use crate::h2::cleartext;
use crate::harness::h2::request;
use crate::harness::{Client, H2, Head, Start, in_loop};

fn head_of(client: &mut Client, target: &str) -> Head {
    client.send(format!("HEAD {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client.head()
}

#[test]
fn head_needs_no_body_to_tell_its_length() {
    let server = cleartext(Start::app("wasi-length"));
    let mut client = server.connect();
    for target in ["/?declare=10&write=0", "/?declare=10&write=5"] {
        let head = head_of(&mut client, target);
        assert_eq!(
            (head.status, head.field("content-length")),
            (200, Some("10"))
        );
        in_loop(async {
            let client = H2::connect(&server).await;
            let head = client.ask(request("HEAD", target)).await.unwrap();
            assert_eq!((head.status(), head.body.len()), (200, 0));
            assert_eq!(head.field("content-length"), Some("10"));
        });
    }
    client.get("/?declare=3&write=3").is(200, "abc");
    assert!(!server.log().contains(" WARN "));
}

#[test]
fn head_does_not_wait_for_a_body() {
    let server = cleartext(Start::app("wasi-stream").args(["--timeout", "0"]));
    const ENDLESS: &str = "/?n=1000000000&interval_ms=1";
    let mut client = server.connect();
    assert_eq!(head_of(&mut client, ENDLESS).status, 200);
    client.get("/?n=1").is(200, "chunk 0\n");
    in_loop(async {
        let client = H2::connect(&server).await;
        let head = client.ask(request("HEAD", ENDLESS)).await.unwrap();
        assert_eq!((head.status(), head.body.len()), (200, 0));
    });
    // And the guests are told.
    server.wait_logs(&["the client has gone"], 2);
}

#[test]
fn a_guest_is_not_blamed_for_a_body_that_nobody_takes() {
    let server = cleartext(Start::app("wasi-trap-after").args(["--log-level", "debug"]));
    assert_eq!(head_of(&mut server.connect(), "/").status, 200);
    in_loop(async {
        let client = H2::connect(&server).await;
        let head = client.ask(request("HEAD", "/")).await.unwrap();
        assert_eq!(head.status(), 200);
    });
    server.wait_logs(&[" DEBUG ", "its body was not wanted: trap"], 2);
    assert!(!server.log().contains(" WARN "));
    // What has nothing to do with it is told still.
    let server = Start::app("wasi-spin")
        .args(["--cpu-timeout", "0.1"])
        .start();
    assert_eq!(head_of(&mut server.connect(), "/?after").status, 200);
    server.wait_log(&[
        " WARN ",
        "after the response: cpu limit",
        "app=\"wasi-spin\"",
    ]);
}

#[test]
fn no_byte_of_a_body_is_counted_that_was_not_sent() {
    let apps = "http2-cleartext = 'prior-knowledge'\n\
                [apps.one]\ncomponent = '{app-status}'\n\
                [apps.two]\ncomponent = '{wasi-status}'\nroutes = ['/wasi']\n";
    let server = logged("%(s)s %(B)s", apps).start();
    let mut client = server.connect();
    let mut expect = Vec::new();
    for path in ["/", "/wasi"] {
        for status in [204, 205, 304] {
            let target = format!("{path}?status={status}");
            assert_eq!(client.get(&target).status(), status);
            in_loop(async {
                let client = H2::connect(&server).await;
                assert_eq!(client.get(&target).await.status(), status);
            });
            expect.extend([format!("{status} 0"), format!("{status} 0")]);
        }
        assert_eq!(
            head_of(&mut client, &format!("{path}?status=200")).status,
            200
        );
        expect.push("200 0".to_owned());
    }
    assert_eq!(lines(&server, expect.len()), expect);
}
