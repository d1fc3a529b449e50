//! Tests of formats: each atom with its value, what is refused, and lines that somebody means no
//! good with.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;
use crate::access::{LINE_BYTES_MAX, Reason, Worker};

/// A record in which everything is known.
fn record<'a>(
    request_fields: &'a [Option<HeaderValue>],
    response_fields: &'a [Option<HeaderValue>],
) -> Record<'a> {
    Record {
        began: began(),
        took: Duration::from_micros(2_034_567),
        remote: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))),
        client: Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9))),
        request: Request::Head {
            method: "GET",
            target: "/a/b?x=1&y=2",
            protocol: "HTTP/1.1",
        },
        request_fields,
        response_fields,
        status: 200,
        body_bytes: 1234,
        tls: Some("TLSv1.3"),
        worker: Worker {
            pid: 4711,
            slot: 3,
            generation: 2,
        },
        app: Some("blog"),
        reason: Some(Reason::Trap),
        queue: Some(Duration::from_micros(11)),
        instantiate: Some(Duration::from_micros(22)),
        cpu: Some(Duration::from_micros(33)),
        peak_memory: Some(1 << 20),
        reuse: Some(1),
    }
}

/// A record of a request of which nothing is known.
fn unknown() -> Record<'static> {
    Record {
        took: Duration::ZERO,
        remote: None,
        client: None,
        request: Request::Unknown,
        status: 0,
        body_bytes: 0,
        tls: None,
        app: None,
        reason: None,
        queue: None,
        instantiate: None,
        cpu: None,
        peak_memory: None,
        reuse: None,
        ..record(&[], &[])
    }
}

fn began() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_795_643_484_123)
}

fn line(format: &Format, record: &Record<'_>) -> String {
    let mut line = b"what was there".to_vec();
    format.write(record, &mut line);
    String::from_utf8(line).unwrap()
}

/// The fields of a request or response that has these.
fn fields(names: &[HeaderName], present: &[(&str, &[u8])]) -> Vec<Option<HeaderValue>> {
    let find = |name: &HeaderName| {
        let found = present.iter().find(|(known, _)| *known == name.as_str())?;
        HeaderValue::from_bytes(found.1).ok()
    };
    names.iter().map(find).collect()
}

#[test]
fn each_atom_has_its_value() {
    for (atom, expect, of_unknown) in [
        ("h", "192.0.2.7", "-"),
        ("client", "203.0.113.9", "-"),
        ("l", "-", "-"),
        ("u", "alice", "-"),
        (
            "t",
            "[25/Nov/2026:21:51:24 +0000]",
            "[25/Nov/2026:21:51:24 +0000]",
        ),
        ("r", "GET /a/b?x=1&y=2 HTTP/1.1", "-"),
        ("m", "GET", "-"),
        ("U", "/a/b", "-"),
        ("q", "x=1&y=2", ""),
        ("H", "HTTP/1.1", "-"),
        ("s", "200", "000"),
        ("B", "1234", "0"),
        ("b", "1234", "-"),
        ("f", "http://a/", "-"),
        ("a", "curl/8", "-"),
        ("T", "2", "0"),
        ("M", "2034", "0"),
        ("D", "2034567", "0"),
        ("L", "2.034567", "0.000000"),
        ("p", "<4711>", "<4711>"),
        ("{X-One}i", "1", "-"),
        ("{x-empty}i", "-", "-"),
        ("{X-Two}o", "2", "-"),
        ("app", "blog", "-"),
        ("slot", "3", "3"),
        ("generation", "2", "2"),
        ("queue_us", "11", "-"),
        ("instantiate_us", "22", "-"),
        ("cpu_us", "33", "-"),
        ("peak_memory", "1048576", "-"),
        ("reuse", "1", "-"),
        ("reason", "trap", "-"),
        ("tls", "TLSv1.3", "-"),
    ] {
        let format = Format::parse(&format!("100%% <%({atom})s>")).unwrap();
        let request = fields(
            format.request_fields(),
            &[
                ("authorization", b"basic YWxpY2U6c2VjcmV0"),
                ("referer", b"http://a/"),
                ("user-agent", b"curl/8"),
                ("x-one", b"1"),
                ("x-empty", b""),
            ],
        );
        let response = fields(format.response_fields(), &[("x-two", b"2")]);
        let known = record(&request, &response);
        assert_eq!(
            line(&format, &known),
            format!("100% <{expect}>\n"),
            "{atom}"
        );
        let expect = format!("100% <{of_unknown}>\n");
        assert_eq!(line(&format, &unknown()), expect, "{atom}");
    }
}

#[test]
fn wrong_formats_are_refused_with_their_place() {
    let long = "x".repeat(FORMAT_BYTES_MAX + 1);
    let text = "a format is 1 to 1024 bytes without control characters, or `json`";
    for (format, expect) in [
        ("", text),
        ("a\nb", text),
        (&long, text),
        ("é %(x)s", "character 3: no atom is called `x`"),
        ("%(h)s %(hh)s", "character 7: no atom is called `hh`"),
        ("%(H )s", "character 1: no atom is called `H `"),
        ("%()s", "character 1: no atom is called ``"),
        ("%({a b}i)s", "character 1: no atom is called `{a b}i`"),
        ("%({}i)s", "character 1: no atom is called `{}i`"),
        ("%({a}x)s", "character 1: no atom is called `{a}x`"),
        (
            "%({wsgi.url_scheme}e)s",
            "character 1: `{wsgi.url_scheme}e` would be a WSGI variable, which this server does \
             not have: %({FIELD}i)s is a field of the request",
        ),
        (
            "a %(h)d",
            "character 3: an atom is written %(NAME)s, and a percent sign %%",
        ),
        (
            "50%",
            "character 3: an atom is written %(NAME)s, and a percent sign %%",
        ),
        (
            "%(h",
            "character 1: an atom is written %(NAME)s, and a percent sign %%",
        ),
    ] {
        let error = Format::parse(format).unwrap_err();
        assert_eq!(error.to_string(), expect);
    }
    let error = Format::parse(&format!("%({})s", "é\u{202e}".repeat(100))).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}

#[test]
fn only_what_is_shown_is_asked_for() {
    let measures = |text: &str| {
        let Measures {
            queue,
            instance,
            cpu,
        } = Format::parse(text).unwrap().measures();
        (queue, instance, cpu)
    };
    assert_eq!(measures("%(h)s %(app)s"), (false, false, false));
    assert_eq!(measures("%(queue_us)s"), (true, false, false));
    assert_eq!(measures("%(instantiate_us)s"), (false, true, false));
    assert_eq!(measures("%(peak_memory)s"), (false, true, false));
    assert_eq!(measures("%(reuse)s"), (false, true, false));
    assert_eq!(measures("%(cpu_us)s"), (false, false, true));
    assert_eq!(measures("json"), (true, true, true));
    let format = Format::parse("%({host}i)s %({Host}i)s %(a)s %({a}o)s %({A}o)s").unwrap();
    assert_eq!(format.request_fields(), ["host", "user-agent"]);
    assert_eq!(format.response_fields(), ["a"]);
}

#[test]
fn nobody_forges_a_line() {
    let format = Format::parse(r#"%(h)s "%(r)s" %(s)s "%(a)s" %(app)s"#).unwrap();
    let agent = HeaderValue::from_bytes(b"x\" 200 \"\xe2\x80\xa8\ty\\").unwrap();
    let agents = [Some(agent)];
    let mut record = record(&agents, &[]);
    record.request = Request::Line(b"GET /\r\n192.0.2.8 \"GET / HTTP/1.1\" 200\n");
    record.status = 400;
    let expect = r#"192.0.2.7 "GET /\x0d\x0a192.0.2.8 \"GET / HTTP/1.1\" 200\x0a" 400 "x\" 200 \"\xe2\x80\xa8\x09y\\" blog"#;
    assert_eq!(line(&format, &record), format!("{expect}\n"));
}

#[test]
fn lines_are_bounded() {
    let format = Format::parse(&"%(r)s %({a}i)s ".repeat(60)).unwrap();
    let value = HeaderValue::from_bytes(&[0xff; 9000]).unwrap();
    let value = [Some(value)];
    let mut record = record(&value, &[]);
    let target = "/".repeat(9000);
    record.request = Request::Head {
        method: "GET",
        target: &target,
        protocol: "HTTP/1.1",
    };
    let text = line(&format, &record);
    assert_eq!(text.len(), LINE_BYTES_MAX);
    assert_eq!(text.lines().count(), 1);
    assert!(text.ends_with('\n'));
}

fn json(record: &Record<'_>) -> serde_json::Map<String, serde_json::Value> {
    let text = line(&Format::parse("json").unwrap(), record);
    assert!(text.len() <= LINE_BYTES_MAX, "{}", text.len());
    assert!(text.is_ascii() && text.ends_with("}\n") && text.lines().count() == 1);
    serde_json::from_str(&text).unwrap()
}

#[test]
fn json_has_every_key_with_its_type() {
    let format = Format::parse("json").unwrap();
    let request = fields(
        format.request_fields(),
        &[
            ("host", b"example.org"),
            ("referer", b"http://a/"),
            ("user-agent", "cürl\"".as_bytes()),
            ("authorization", b"Basic YWxpY2U6c2VjcmV0"),
        ],
    );
    let known = json(&record(&request, &[]));
    let expect = serde_json::json!({
        "time": "2026-11-25T21:51:24.123Z", "remote": "192.0.2.7",
        "client": "203.0.113.9", "user": "alice",
        "method": "GET", "path": "/a/b", "query": "x=1&y=2", "protocol": "HTTP/1.1",
        "request_line": null, "tls": "TLSv1.3", "host": "example.org", "referer": "http://a/",
        "user_agent": "cürl\"", "status": 200, "body_bytes": 1234, "duration_us": 2_034_567,
        "app": "blog", "pid": 4711, "slot": 3, "generation": 2, "queue_us": 11,
        "instantiate_us": 22, "cpu_us": 33, "peak_memory": 1_048_576, "reuse": 1, "reason": "trap",
    });
    assert_eq!(serde_json::Value::Object(known.clone()), expect);
    let nothing = json(&unknown());
    assert!(nothing.keys().eq(known.keys()));
    assert!(nothing["status"] == 0 && nothing["method"].is_null() && nothing["app"].is_null());
}

#[test]
fn json_of_somebody_who_means_no_good_is_json_still() {
    // What is written longest: six bytes for each.
    let worst = HeaderValue::from_bytes(&[0xff; 9000]).unwrap();
    let mut user = b"Basic ".to_vec();
    user.extend(b"////".repeat(2000));
    user.extend(b"Og==");
    let user = HeaderValue::from_bytes(&user).unwrap();
    let fields = [worst.clone(), worst.clone(), worst, user].map(Some);
    let mut record = record(&fields, &[]);
    record.remote = Some(
        "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"
            .parse()
            .unwrap(),
    );
    record.client = record.remote;
    let (method, target) = ("M".repeat(9000), format!("{0}?{0}", "\"".repeat(4000)));
    record.request = Request::Head {
        method: &method,
        target: &target,
        protocol: "HTTP/1.1",
    };
    record.app = Some("a-name-that-is-as-long-as-can-be");
    (record.took, record.peak_memory) = (Duration::from_micros(u64::MAX), Some(u64::MAX));
    record.queue = Some(record.took);
    (record.instantiate, record.cpu) = (record.queue, record.queue);
    let object = json(&record);
    assert!(object["method"].as_str().unwrap().ends_with("MMM..."));
    record.request = Request::Line(&[0xff; 9000]);
    json(&record);
}

#[test]
fn the_user_is_that_of_basic_authentication() {
    for (authorization, expect) in [
        ("Basic YWxpY2U6c2VjcmV0", Some("alice")),
        ("bAsIc  YWxpY2U6c2U6Y3JldA== ", Some("alice")),
        ("Basic YWxpY2U6", Some("alice")),
        ("Basic OnNlY3JldA==", Some("")),
        ("Basic YWxpY2U=", None),
        ("Basic ", None),
        ("Basic YWx!", None),
        ("Bearer YWxpY2U6c2VjcmV0", None),
        ("Basi", None),
        ("", None),
    ] {
        let user = user(authorization.as_bytes());
        assert_eq!(
            user.as_deref(),
            expect.map(str::as_bytes),
            "{authorization}"
        );
    }
}
