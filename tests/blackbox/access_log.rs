//! Tests of the access log: what a line tells, that there is one for every request however it ended,
//! and that nobody forges one.

use std::fs;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::harness::{Client, Server, Start, pattern, until, until_some};
use crate::process::signal_process;

/// A server whose access log is a file, in this format.
pub(crate) fn logged(format: &str, settings: &str) -> Start {
    let start = Start::config(&format!("access-logfile = 'access.log'\n{settings}"));
    // In the settings' text, braces stand for guests.
    start.env("RGUNICORN_ACCESS_LOGFORMAT", format)
}

pub(crate) fn text(server: &Server) -> String {
    fs::read_to_string(server.folder().join("access.log")).unwrap()
}

/// The lines, when there are so many; and there must not be more.
pub(crate) fn lines(server: &Server, count: usize) -> Vec<String> {
    let lines = until_some("the lines are there", || {
        let text = text(server);
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    });
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

fn objects(server: &Server, count: usize) -> Vec<Value> {
    let lines = lines(server, count);
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The settings of one app.
pub(crate) const ONE: &str = "[apps.one]\ncomponent = '{hello}'\n";

#[test]
fn each_atom_tells_of_a_known_request() {
    let format = r#"%(h)s|%(l)s|%(u)s|%(r)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(B)s|%(b)s|%(f)s|%(a)s|%({X-One}i)s|%({content-type}o)s|%({none}o)s|%(p)s|%(app)s|%(slot)s|%(generation)s|%(reuse)s|%(reason)s|%(tls)s"#;
    let times =
        "%(t)s %(T)s %(M)s %(D)s %(L)s %(queue_us)s %(instantiate_us)s %(cpu_us)s %(peak_memory)s";
    let server = logged(&format!("{format} {times}"), ONE).start();
    let mut client = server.connect();
    client.send(
        "GET /?name=you HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWxpY2U6c2VjcmV0\r\n\
         Referer: http://b/\r\nUser-Agent: test\r\nX-One: 1\r\n\r\n",
    );
    client.response().is(200, "hello, you\n");
    let line = lines(&server, 1).remove(0);
    let (what, times) = line.split_once(" [").unwrap();
    let expect = format!(
        "127.0.0.1|-|alice|GET /?name=you HTTP/1.1|GET|/|name=you|HTTP/1.1|200|11|11|http://b/|\
         test|1|text/plain; charset=utf-8|-|<{}>|one|0|1|1|-|-",
        server.worker()
    );
    assert_eq!(what, expect);
    let (date, numbers) = times.split_once(" +0000] ").unwrap();
    assert_eq!(date.len(), "25/Nov/2026:21:51:24".len());
    let numbers: Vec<f64> = numbers.split(' ').map(|it| it.parse().unwrap()).collect();
    let [_, _, micros, seconds, queue, instantiate, cpu, memory] = numbers[..] else {
        panic!("{line}")
    };
    assert!((micros / 1e6 - seconds).abs() < 1e-9, "{line}");
    assert!(
        queue < micros && instantiate > 0.0 && instantiate < micros,
        "{line}"
    );
    assert!(cpu >= 1.0 && cpu <= micros, "{line}");
    assert!(memory >= 65536.0 && memory % 65536.0 == 0.0, "{line}");
}

#[test]
fn a_guest_that_works_and_grows_is_measured() {
    let apps = "[apps.work]\ncomponent = '{app-work}'\nroutes = ['/work']\n\
                [apps.grow]\ncomponent = '{app-grow}'\nroutes = ['/grow']\n\
                [apps.sleep]\ncomponent = '{wasi-sleep}'\nroutes = ['/sleep']\n\
                requests-in-flight = 1\n";
    let server = logged("json", apps).start();
    server.get("/work?iterations=20000000");
    server.get("/grow?mib=8");
    let mut first = server.connect();
    first.send("GET /sleep?ms=200 HTTP/1.1\r\nHost: a\r\n\r\n");
    server.get("/sleep?ms=1").is(200, "slept 1 ms\n");
    first.response().is(200, "slept 200 ms\n");
    let objects = objects(&server, 4);
    let [work, grow, one, two] = &objects[..] else {
        panic!("{objects:?}")
    };
    let number = |of: &Value, key: &str| of[key].as_u64().unwrap_or_else(|| panic!("{key}: {of}"));
    assert!(number(work, "cpu_us") > 5_000, "{work}");
    assert!(
        number(work, "cpu_us") <= number(work, "duration_us"),
        "{work}"
    );
    assert!(number(grow, "peak_memory") >= 8 << 20, "{grow}");
    assert!(number(work, "peak_memory") < 8 << 20, "{work}");
    // One of the two has waited for the other, whoever came first.
    let waited = number(one, "queue_us").max(number(two, "queue_us"));
    assert!(waited >= 500, "{one} {two}");
    for slept in [one, two] {
        assert!(
            number(slept, "cpu_us") < number(slept, "duration_us"),
            "{slept}"
        );
    }
}

/// The lines of a server, one after the other.
struct Lines<'a> {
    server: &'a Server,
    count: usize,
}

impl Lines<'_> {
    #[track_caller]
    fn next_is(&mut self, expect: &str) {
        self.count += 1;
        assert_eq!(lines(self.server, self.count)[self.count - 1], expect);
    }
}

/// Apps by the names of their guests, and short times.
fn with_endings(apps: &[(&str, &str)], settings: &str) -> Server {
    let mut text = format!("timeout = 5\ncpu-timeout = '300ms'\n{settings}\n");
    for (app, guest) in apps {
        text += &format!("[apps.{app}]\ncomponent = '{{{guest}}}'\nroutes = ['/{app}']\n");
    }
    logged(r#"%(s)s %(B)s %(app)s %(reason)s "%(r)s""#, &text).start()
}

fn raw(server: &Server, bytes: &str) -> Client {
    let mut client = server.connect();
    client.send(bytes);
    client
}

#[test]
fn however_a_guest_ends_there_is_a_line() {
    let apps = [
        ("hello", "hello"),
        ("trap", "app-trap"),
        ("after", "wasi-trap-after"),
        ("length", "wasi-length"),
        ("spin", "app-spin"),
        ("grow", "app-grow"),
        ("none", "wasi-no-response"),
        ("status", "app-status"),
        ("sleep", "wasi-sleep"),
    ];
    let server = with_endings(&apps, "");
    let mut lines = Lines {
        server: &server,
        count: 0,
    };
    assert_eq!(server.get("/hello").status(), 404);
    lines.next_is(r#"404 22 hello - "GET /hello HTTP/1.1""#);
    server.get("/other").is_own(404);
    lines.next_is(r#"404 0 - no-app "GET /other HTTP/1.1""#);
    // Whether the head is out before the trap is the kernel's to say.
    match raw(&server, "GET /after HTTP/1.1\r\nHost: a\r\n\r\n").try_response() {
        Ok(response) => {
            response.is_own(500);
            lines.next_is(r#"500 0 after trap "GET /after HTTP/1.1""#);
        }
        Err(_) => lines.next_is(r#"200 17 after trap "GET /after HTTP/1.1""#),
    }
    let target = "/length?declare=100000&write=60000";
    let short = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(raw(&server, &short).try_response().is_err());
    let expect = format!(r#"200 60000 length no-response "GET {target} HTTP/1.1""#);
    lines.next_is(&expect);
    for (target, status, app, reason) in [
        ("/trap", 500, "trap", "trap"),
        ("/spin", 504, "spin", "cpu-timeout"),
        ("/grow", 500, "grow", "memory"),
        ("/none?how=drop", 500, "none", "no-response"),
        ("/status?status=99", 500, "status", "bad-response"),
        ("/sleep?ms=60000", 504, "sleep", "timeout"),
    ] {
        server.get(target).is_own(status);
        let expect = format!(r#"{status} 0 {app} {reason} "GET {target} HTTP/1.1""#);
        lines.next_is(&expect);
    }
}

#[test]
fn whatever_a_client_does_there_is_a_line() {
    let settings = "head-timeout = 1\nlimit-request-line = 100\nrequest-body-limit = 100";
    let apps = [("sink", "wasi-sink"), ("sleep", "wasi-sleep")];
    let server = with_endings(&apps, settings);
    let mut lines = Lines {
        server: &server,
        count: 0,
    };
    let long_path = "x".repeat(200);
    let refused = [
        (
            "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n".to_owned(),
            413,
            "sink",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            400,
            "",
        ),
        (format!("GET /{long_path} HTTP/1.1\r\n"), 414, ""),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
                "x".repeat(9000)
            ),
            431,
            "",
        ),
        ("GET /slow HTTP/1.1\r\nHost:".to_owned(), 408, ""),
        (
            "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf".to_owned(),
            408,
            "sink",
        ),
    ];
    for (bytes, status, app) in refused {
        raw(&server, &bytes).response().is_own(status);
        let reason = match (status, app) {
            (413, _) => "- body-too-large",
            (408, "") => "- head-timeout",
            (408, _) => "sink body-timeout",
            _ => "- malformed",
        };
        let line = bytes.lines().next().unwrap();
        let expect = format!(r#"{status} 0 {reason} "{line}""#);
        lines.next_is(&expect);
    }
    drop(raw(
        &server,
        "POST /sink HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
    ));
    lines.next_is(r#"000 0 sink client-gone "POST /sink HTTP/1.1""#);
    drop(raw(
        &server,
        "GET /sleep?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n",
    ));
    lines.next_is(r#"000 0 sleep client-gone "GET /sleep?ms=60000 HTTP/1.1""#);
    // Nothing was asked for.
    drop(raw(&server, "GET / HT"));
    drop(raw(&server, ""));
    let head = "HEAD /sleep?ms=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(&server, head).head().status, 200);
    lines.next_is(r#"200 0 sleep - "HEAD /sleep?ms=1 HTTP/1.1""#);
}

#[test]
fn whoever_is_turned_away_has_a_line() {
    let settings = "timeout = 0\n[apps.sleep]\ncomponent = '{wasi-sleep}'\n\
                    requests-in-flight = 1\nrequest-queue = 0\n";
    let server = logged("%(s)s %(app)s %(reason)s %(q)s", settings).start();
    let mut first = raw(&server, "GET /?ms=500 HTTP/1.1\r\nHost: a\r\n\r\n");
    until("another is turned away", || {
        server.get("/?ms=0").status() == 503
    });
    first.response().is(200, "slept 500 ms\n");
    until("the first has its line", || {
        text(&server).contains("200 sleep - ms=500\n")
    });
    let text = text(&server);
    let full = text
        .lines()
        .filter(|line| *line == "503 sleep queue-full ms=0");
    assert_eq!(full.count(), 1, "{text}");
}

#[test]
fn requests_of_one_connection_have_a_line_each() {
    let server = logged("%(U)s %(s)s", ONE).start();
    let mut client = server.connect();
    client.get("/kept").status();
    let pipelined = ["/1", "/2", "/3"];
    client.send(
        pipelined
            .map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .concat(),
    );
    for _ in pipelined {
        assert_eq!(client.response().status(), 404);
    }
    assert_eq!(
        lines(&server, 4),
        ["/kept 404", "/1 404", "/2 404", "/3 404"]
    );
}

#[test]
fn nobody_forges_a_line() {
    let server = logged(r#"%(h)s "%(r)s" %(s)s "%(a)s" "%({x}i)s""#, ONE).start();
    let raw = |bytes: &[u8]| {
        let mut client = server.connect();
        client.send(bytes);
        client.response()
    };
    raw(b"GET /a\"%22\\ HTTP/1.1\r\nHost: a\r\n\r\n");
    raw(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x\" 200 \"y\\\xff\xe2\x80\xa8\tz\r\nX:\r\n\r\n");
    raw(b"GET /\n127.0.0.1 \"GET / HTTP/1.1\" 200\r\n\r\n").is_own(400);
    raw(b"\x00\x1b[2J\r\n\r\n").is_own(400);
    let lines = lines(&server, 4);
    assert!(
        lines[0].starts_with(r#"127.0.0.1 "GET /a\"%22\\ HTTP/1.1" 40"#),
        "{lines:#?}"
    );
    let expect = r#"127.0.0.1 "GET / HTTP/1.1" 200 "x\" 200 \"y\\\xff\xe2\x80\xa8\x09z" "-""#;
    assert_eq!(lines[1], expect);
    assert_eq!(lines[2], r#"127.0.0.1 "GET /" 400 "-" "-""#);
    assert_eq!(lines[3], r#"127.0.0.1 "\x00\x1b[2J" 400 "-" "-""#);
}

#[test]
fn long_values_are_cut() {
    let server = logged(
        "json",
        "limit-request-line = 65536\n[apps.one]\ncomponent = '{hello}'\n",
    );
    let server = server.start();
    let target = format!("/{}", "x".repeat(20_000));
    assert_eq!(server.get(&target).status(), 404);
    let object = objects(&server, 1).remove(0);
    let path = object["path"].as_str().unwrap();
    assert!(
        path.starts_with("/xxx") && path.ends_with("xxx..."),
        "{path}"
    );
    assert!(text(&server).len() <= 4096);
}

/// A server with a guest that a FIFO without a writer holds for ever.
fn with_fifo(settings: &str) -> Server {
    let start = logged(
        r#"%(s)s %(app)s %(reason)s "%(r)s" %(h)s %(p)s %(D)s"#,
        &format!(
            "timeout = 0\n{settings}\n\
             [apps.files]\ncomponent = '{{wasi-files}}'\nroutes = ['/files']\ndirs = ['data::/data']\n\
             [apps.sleep]\ncomponent = '{{wasi-sleep}}'\n"
        ),
    );
    fs::create_dir(start.folder().join("data")).unwrap();
    mkfifo(&start.folder().join("data/pipe"), Mode::S_IRWXU).unwrap();
    let mut server = start.start();
    server.expect_errors();
    server
}

/// Sends requests that do not end, and waits until the worker has them all.
fn hang(server: &Server, count: usize) -> Vec<Client> {
    let asked = |index| {
        let mut client = server.connect();
        client.send(format!(
            "GET /?ms=8640000{index} HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        client
    };
    let clients = (0..count).map(asked).collect();
    // One that comes later is answered and told of, so they have all begun.
    server.get("/?ms=1").is(200, "slept 1 ms\n");
    lines(server, 1);
    clients
}

#[test]
fn the_arbiter_writes_the_lines_of_a_worker_that_it_kills() {
    let server = with_fifo("heartbeat-timeout = 1");
    let worker = server.worker();
    let mut hanging = hang(&server, 3);
    let mut client = server.connect();
    client.send("GET /files?path=/data/pipe HTTP/1.1\r\nHost: a\r\n\r\n");
    hanging.push(client);
    let mut lines = lines(&server, 5);
    assert!(
        lines
            .remove(0)
            .starts_with(r#"200 sleep - "GET /?ms=1 HTTP/1.1" 127.0.0.1"#)
    );
    lines.sort();
    let targets = ["/?ms=86400000", "/?ms=86400001", "/?ms=86400002"];
    let sleeps = targets.map(|target| ("sleep", target));
    let expect = [("files", "/files?path=/data/pipe")]
        .into_iter()
        .chain(sleeps);
    for (line, (app, target)) in lines.iter().zip(expect) {
        let start = format!(r#"000 {app} killed "GET {target} HTTP/1.1" 127.0.0.1 <{worker}> "#);
        let micros = line
            .strip_prefix(&start)
            .unwrap_or_else(|| panic!("{line}"));
        assert!(micros.parse::<u64>().unwrap() >= 1_000_000, "{line}");
    }
    for mut client in hanging {
        assert!(client.is_closed());
    }
}

#[test]
fn the_arbiter_writes_the_lines_of_a_worker_that_dies() {
    let server = with_fifo("");
    let worker = server.worker();
    let _hanging = hang(&server, 2);
    signal_process(worker, Signal::SIGKILL);
    for line in &lines(&server, 3)[1..] {
        assert!(
            line.starts_with(r#"000 sleep crashed "GET /?ms=8640000"#),
            "{line}"
        );
    }
    // The next worker has none of it.
    server.get("/?ms=1").is(200, "slept 1 ms\n");
    lines(&server, 4);
}

#[test]
fn a_quick_stop_has_lines_too() {
    let mut server = with_fifo("");
    let _hanging = hang(&server, 2);
    server.signal(Signal::SIGINT);
    server.stopped();
    let lines = lines(&server, 3);
    for line in &lines[1..] {
        assert!(
            line.starts_with(r#"000 sleep aborted "GET /?ms=8640000"#),
            "{line}"
        );
    }
}

#[test]
fn a_wrong_format_is_refused_with_its_place() {
    let check = |text: &str, expect: &str| {
        let ended = Start::config(&format!("access-logformat = '''{text}'''\n{ONE}")).run();
        assert_eq!(ended.code, Some(5), "{ended:?}");
        let place = "rgunicorn.toml:1:20: access-logformat: ";
        assert!(
            ended.line().contains(&format!("{place}{expect}")),
            "{ended:?}"
        );
    };
    check("%(h)s %(who)s", "character 7: no atom is called `who`");
    check(
        "%({REQUEST_URI}e)s",
        "character 1: `{REQUEST_URI}e` would be a WSGI variable",
    );
}

#[test]
fn large_bodies_are_counted() {
    let apps = "[apps.large]\ncomponent = '{wasi-large}'\nroutes = ['/large']\n\
                [apps.whole]\ncomponent = '{app-large}'\nroutes = ['/whole']\n\
                [apps.echo]\ncomponent = '{echo}'\n";
    let server = logged("%(s)s %(B)s", apps).start();
    assert_eq!(server.get("/large?bytes=3000000").body.len(), 3_000_000);
    let body = pattern(200_000);
    assert_eq!(server.connect().post("/", &body).body, body);
    // The one is made in many pieces, the other is there as a whole.
    for (at, target, whole) in [
        (2, "/large?bytes=20000000000", 20_000_000_000),
        (3, "/whole?bytes=30000000", 30_000_000),
    ] {
        let mut gone = raw(
            &server,
            &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"),
        );
        let _ = gone.head();
        let taken = gone.bytes(1_000_000).unwrap().len() as u64;
        drop(gone);
        let line = lines(&server, at + 1).remove(at);
        let sent: u64 = line.strip_prefix("200 ").unwrap().parse().unwrap();
        assert!(taken / 2 < sent && sent < whole, "{line}");
    }
    assert_eq!(lines(&server, 4)[..2], ["200 3000000", "200 200000"]);
}
