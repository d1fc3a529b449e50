//! Tests of where the lines of the access log go, and of what happens when they can go there no more.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::access_log::{ONE, lines, logged, text};
use crate::control::done;
use crate::harness::{Load, Start, until};

#[test]
fn no_line_is_lost_when_the_file_is_rotated_under_load() {
    let settings = format!("workers = 2\ncontrol-socket = 'ctl.sock'\n{ONE}");
    let server = logged("%(r)s %(s)s", &settings).start();
    let workers = server.workers(2);
    let path = server.folder().join("access.log");
    let load = Load::on(server.address(), "/", 4);
    for rotation in 0..6 {
        load.more(100);
        fs::rename(&path, path.with_extension(rotation.to_string())).unwrap();
        if rotation % 2 == 0 {
            server.signal(Signal::SIGUSR1);
        } else {
            let told = done(&server, &["reopen"]);
            assert!(told.contains("the access log is open again"), "{told}");
        }
        until("the new file is there", || path.exists());
        // The old one is written to until a worker has heard of the new one.
        load.more(100);
        until("the new file is written to", || !text(&server).is_empty());
    }
    let answered = load.none_was_lost();
    assert_eq!(server.workers(2), workers);
    let all = || {
        let files = (0..6).map(|rotation| path.with_extension(rotation.to_string()));
        let texts = files
            .chain([path.clone()])
            .map(|path| fs::read_to_string(path).unwrap());
        texts.collect::<String>()
    };
    until("all lines are there", || all().lines().count() >= answered);
    assert_eq!(all().lines().count(), answered);
    assert!(all().lines().all(|line| line == "GET / HTTP/1.1 200"));
}

#[test]
fn a_reload_changes_format_and_file() {
    let server = logged("before %(s)s", ONE).start();
    server.get("/").is(200, "hello\n");
    server.reconfigure(&format!(
        "access-logfile = 'other.log'\naccess-logformat = 'after %(s)s'\n{ONE}"
    ));
    server.signal(Signal::SIGHUP);
    server.wait_log(&["generation 2 serves"]);
    server.wait_log(&["role=worker", "gen=1", " left: "]);
    server.get("/").is(200, "hello\n");
    let other = server.folder().join("other.log");
    until("the line is there", || {
        fs::read_to_string(&other).is_ok_and(|text| text == "after 200\n")
    });
    assert_eq!(lines(&server, 1), ["before 200"]);
}

#[test]
fn a_reload_to_a_file_that_cannot_be_opened_changes_nothing() {
    let mut server = logged("%(s)s", ONE).start();
    server.expect_errors();
    server.reconfigure(&format!("access-logfile = 'none/access.log'\n{ONE}"));
    server.signal(Signal::SIGHUP);
    server.wait_log(&[
        "generation 2 failed",
        "access-logfile: cannot open",
        "No such file",
    ]);
    server.get("/").is(200, "hello\n");
    assert_eq!(lines(&server, 1), ["200"]);
}

#[test]
fn a_start_whose_file_cannot_be_opened_fails() {
    let ended = Start::app("hello")
        .args(["--access-logfile", "none/access.log"])
        .run();
    assert_eq!(ended.code, Some(5), "{ended:?}");
    assert!(
        ended.line().contains("access-logfile: cannot open"),
        "{ended:?}"
    );
}

#[test]
fn a_full_disk_hurts_nobody_and_is_told() {
    let server = Start::app("hello")
        .args(["--access-logfile", "/dev/full"])
        .start();
    let mut client = server.connect();
    for _ in 0..50 {
        client.get("/").is(200, "hello\n");
    }
    server.wait_log(&["WARN", "access log: lost lines=1: No space left on device"]);
    let told = server.log().matches("access log: lost").count();
    assert!(told <= 2, "not line by line: {told}");
}

#[test]
fn a_pipe_that_nobody_reads_holds_nobody() {
    let start = Start::app("hello");
    let path = start.folder().join("pipe");
    mkfifo(&path, Mode::S_IRWXU).unwrap();
    let agent = "x".repeat(1000);
    let start = start.args(["--access-logfile", "pipe", "--access-logformat", "%(a)s"]);
    let server = start.start();
    let mut client = server.connect();
    for _ in 0..100 {
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: {agent}\r\n\r\n"
        ));
        client.response().is(200, "hello\n");
    }
    server.wait_log(&[
        "WARN",
        "access log: lost lines=1: Resource temporarily unavailable",
    ]);
    let mut pipe = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let mut first = [0; 1001];
    pipe.read_exact(&mut first).unwrap();
    assert_eq!(first, *format!("{agent}\n").as_bytes());
}

#[test]
fn standard_output_has_the_lines() {
    let mut server = Start::app("hello")
        .args([
            "--access-logfile",
            "-",
            "--access-logformat",
            "%(m)s %(s)s %(app)s",
        ])
        .start();
    server.get("/").is(200, "hello\n");
    server.signal(Signal::SIGUSR1);
    server.get("/").is(200, "hello\n");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.output(), "GET 200 hello\nGET 200 hello\n");
    server.stopped();
}

#[test]
fn syslog_gets_the_lines() {
    let start = Start::app("hello");
    let folder = start.folder();
    let bind = |path: &Path| {
        let socket = UnixDatagram::bind(path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        socket
    };
    let path = folder.join("log");
    let syslog = bind(&path);
    let server = start
        .args(["--log-syslog", "--log-syslog-to", "unix://log#dgram"])
        .args([
            "--log-syslog-prefix",
            "shop",
            "--log-syslog-facility",
            "local3",
        ])
        .args(["--access-logformat", "%(r)s %(s)s"])
        .start();
    let worker = server.worker();
    let receive = |syslog: &UnixDatagram| {
        let mut message = [0; 5000];
        let length = syslog.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    server.get("/").is(200, "hello\n");
    let expect = format!("<158>shop[{worker}]: GET / HTTP/1.1 200");
    assert_eq!(receive(&syslog), expect);
    // A daemon that is gone hurts nobody, and one that comes back is found.
    drop(syslog);
    server.get("/").is(200, "hello\n");
    server.wait_log(&["WARN", "access log: lost lines=1: Connection refused"]);
    fs::remove_file(&path).unwrap();
    let syslog = bind(&path);
    server.get("/").is(200, "hello\n");
    assert_eq!(receive(&syslog), expect);
}
