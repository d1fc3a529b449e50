//! Tests of the control socket and of what `rgunicorn ctl` shows.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Ended, Server, Start, guest, until, until_some};
use crate::process::signal_process;

/// A server with a control socket.
pub(crate) fn controlled(start: Start) -> Server {
    start.args(["--control-socket", "ctl.sock"]).start()
}

pub(crate) fn socket_of(server: &Server) -> PathBuf {
    server.folder().join("ctl.sock")
}

/// Runs the control command on a server.
pub(crate) fn ctl(server: &Server, args: &[&str]) -> Ended {
    let path = socket_of(server);
    let start = Start::new("ctl").args(["--socket", path.to_str().unwrap()]);
    start.args(args.iter().copied()).run()
}

/// Runs the control command, which must succeed, and returns what it prints.
#[track_caller]
pub(crate) fn done(server: &Server, args: &[&str]) -> String {
    let ended = ctl(server, args);
    assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
    assert_eq!(ended.stderr, "", "{args:?}");
    ended.stdout
}

/// Runs the control command, which must fail with exit code 1 and one line.
#[track_caller]
pub(crate) fn refused(server: &Server, args: &[&str], reason: &str) {
    let ended = ctl(server, args);
    assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
    assert_eq!(ended.stdout, "", "{args:?}");
    assert!(ended.line().contains(reason), "{args:?}: {ended:?}");
}

/// What is shown, as a program reads it.
#[track_caller]
pub(crate) fn show(server: &Server, what: &str) -> Value {
    let text = done(server, &["show", what, "--json"]);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The only worker, as a program reads it.
#[track_caller]
pub(crate) fn worker(server: &Server) -> Value {
    let report = show(server, "workers");
    let [worker] = &report["workers"].as_array().expect("it is a list")[..] else {
        panic!("not one worker: {report}");
    };
    worker.clone()
}

// The socket.

#[test]
fn only_the_servers_user_can_connect_and_the_socket_is_removed_at_the_end() {
    // Whatever the umask allows others.
    let mut server = controlled(Start::app("hello").args(["--umask", "000"]));
    let path = socket_of(&server);
    let found = fs::metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    server.stop();
    assert!(!path.exists());
}

#[test]
fn without_the_setting_there_is_no_control_socket() {
    let server = Start::app("hello").start();
    let mut entries = fs::read_dir(server.folder()).unwrap();
    assert!(entries.next().is_none());
}

#[test]
fn a_control_socket_that_a_dead_server_has_left_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ctl.sock");
    let path = path.to_str().unwrap();
    let start = || Start::app("hello").args(["--control-socket", path]).start();
    let mut killed = start();
    signal_process(killed.pid(), Signal::SIGKILL);
    killed.wait_exit();
    killed.no_process_is_left();
    assert!(Path::new(path).exists());
    let server = start();
    let ended = Start::new("ctl")
        .args(["--socket", path, "show", "stats", "--json"])
        .run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["arbiter"]["pid"], server.pid());
}

#[test]
fn a_control_socket_of_a_living_server_is_an_error() {
    let server = controlled(Start::app("hello"));
    let path = socket_of(&server);
    let path = path.to_str().unwrap();
    let ended = Start::app("hello").args(["--control-socket", path]).run();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.line().contains(path), "{ended:?}");
    assert!(ended.line().contains("address in use"), "{ended:?}");
    assert_eq!(show(&server, "stats")["arbiter"]["pid"], server.pid());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let start = Start::app("hello");
    let path = start.write("ctl.sock", "precious");
    let ended = start.args(["--control-socket", &path]).run();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.line().contains("not a socket"), "{ended:?}");
}

#[test]
fn the_socket_can_be_named_in_the_environment() {
    let server = controlled(Start::app("hello"));
    let path = socket_of(&server);
    let start = Start::new("ctl").env("RGUNICORN_CONTROL_SOCKET", path.to_str().unwrap());
    let ended = start.args(["show", "listeners"]).run();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("http://127.0.0.1:"), "{ended:?}");
}

#[test]
fn a_command_without_a_socket_is_exit_code_2() {
    let ended = Start::new("ctl").args(["show"]).run();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.line().contains("--socket"), "{ended:?}");
}

#[test]
fn a_command_to_nobody_is_exit_code_1() {
    let ended = Start::new("ctl")
        .args(["--socket", "none.sock", "show"])
        .run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.line().contains("none.sock"), "{ended:?}");
}

#[test]
fn a_command_that_does_not_exist_is_exit_code_2() {
    let server = controlled(Start::app("hello"));
    for args in [
        &["explode"][..],
        &["show", "secrets"],
        &["worker", "kill"],
        &["worker", "add", "0"],
    ] {
        let ended = ctl(&server, args);
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
    }
    server.worker();
}

// What it shows.

#[test]
fn workers_are_shown_with_their_numbers() {
    let server = controlled(Start::app("hello"));
    let mut client = server.connect();
    for _ in 0..3 {
        client.get("/").is(200, "hello\n");
    }
    // What follows the last byte of a response may take a moment.
    let found = until_some("the requests are over", || {
        let found = worker(&server);
        (found["in_flight"] == 0).then_some(found)
    });
    assert_eq!(found["role"], "worker");
    assert_eq!(found["slot"], 0);
    assert_eq!(found["pid"], server.worker());
    assert_eq!(found["generation"], 1);
    assert_eq!(found["state"], "ready");
    assert_eq!(found["requests"], 3);
    assert_eq!(found["accepted"], 1);
    assert_eq!(found["connections"], 1);
    assert!(found["age_ms"].is_u64());
    assert!(found["memory_bytes"].as_u64().unwrap() > 1 << 20, "{found}");
    assert!(found.get("serving").is_none(), "{found}");
    assert!(found.get("last_exit").is_none(), "{found}");
    drop(client);
    until("the connection is gone", || {
        worker(&server)["connections"] == 0
    });
}

#[test]
fn every_worker_is_shown_in_its_slot() {
    let server = controlled(Start::app("hello").args(["-w", "3"]));
    let pids = server.workers(3);
    let report = show(&server, "workers");
    let workers = report["workers"].as_array().unwrap();
    let slots: Vec<u64> = workers
        .iter()
        .map(|it| it["slot"].as_u64().unwrap())
        .collect();
    assert_eq!(slots, [0, 1, 2]);
    let mut found: Vec<i64> = workers
        .iter()
        .map(|it| it["pid"].as_i64().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, pids.into_iter().map(i64::from).collect::<Vec<_>>());
}

#[test]
fn a_worker_shows_what_it_is_serving_now() {
    let server = controlled(Start::app("wasi-sleep").args(["--timeout", "0"]));
    let mut client = server.connect();
    client.send("GET /reports?ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    let found = until_some("the request is in flight", || {
        let found = worker(&server);
        (found["in_flight"] == 1).then_some(found)
    });
    assert_eq!(found["serving"]["app"], "wasi-sleep");
    assert_eq!(found["serving"]["request"], "GET /reports?ms=86400000");
    let age = |found: &Value| found["serving"]["age_ms"].as_u64().expect("it is served");
    let first = age(&found);
    until("it gets older", || age(&worker(&server)) > first);
    // Another that is over by then does not hide it.
    server.get("/?ms=1").is(200, "slept 1 ms\n");
    until("one request is left", || worker(&server)["in_flight"] == 1);
    let request = &worker(&server)["serving"]["request"];
    assert_eq!(request, "GET /reports?ms=86400000");
    let table = done(&server, &["show", "workers"]);
    assert!(
        table.contains("wasi-sleep GET /reports?ms=86400000 for "),
        "{table}"
    );
    drop(client);
    until("nothing is served any more", || {
        let found = worker(&server);
        found["in_flight"] == 0 && found.get("serving").is_none()
    });
}

#[test]
fn a_response_that_is_streamed_is_being_served() {
    let server = controlled(Start::app("echo"));
    let mut client = server.connect();
    client.begin_echo();
    let found = worker(&server);
    assert_eq!(found["in_flight"], 1);
    assert_eq!(found["serving"]["request"], "POST /");
    client.finish_echo();
    until("it is over", || worker(&server)["in_flight"] == 0);
}

#[test]
fn what_a_client_writes_reaches_no_terminal() {
    let server = controlled(Start::app("wasi-sleep").args(["--timeout", "0"]));
    let mut client = server.connect();
    client.send("GET /%1b[2J\\x?ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is in flight", || {
        worker(&server)["in_flight"] == 1
    });
    let table = done(&server, &["show", "all"]);
    let bad = table.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(bad, None, "{table:?}");
}

#[test]
fn a_slot_shows_how_its_last_worker_ended() {
    let server = controlled(Start::app("hello"));
    let killed = server.worker();
    signal_process(killed, Signal::SIGKILL);
    let found = until_some("another worker is ready", || {
        let found = worker(&server);
        (found["pid"] != killed && found["state"] == "ready").then_some(found)
    });
    assert_eq!(found["last_exit"]["pid"], killed);
    assert_eq!(found["last_exit"]["reason"], "died: signal SIGKILL");
    assert!(found["last_exit"]["ago_ms"].is_u64());
    let table = done(&server, &["show", "workers"]);
    let exit = format!(" ago, pid {killed}: died: signal SIGKILL");
    assert!(table.contains(&exit), "{table}");
    assert_eq!(show(&server, "stats")["stats"]["restarts"], 1);
}

#[test]
fn a_worker_that_drains_is_shown_beside_its_successor() {
    let server = controlled(Start::app("echo"));
    let old = server.worker();
    let mut client = server.connect();
    client.begin_echo();
    done(&server, &["reload"]);
    let workers = until_some("the old worker drains", || {
        let report = show(&server, "workers");
        let workers = report["workers"].as_array().unwrap().clone();
        let drains = |worker: &Value| worker["state"] == "draining";
        workers.iter().any(drains).then_some(workers)
    });
    assert_eq!(workers.len(), 2);
    let (drains, serves) = (&workers[0], &workers[1]);
    assert_eq!(
        (&drains["pid"], &drains["generation"]),
        (&Value::from(old), &Value::from(1))
    );
    assert_eq!(
        (&serves["state"], &serves["generation"]),
        (&Value::from("ready"), &Value::from(2))
    );
    client.finish_echo();
    until("the old worker has left", || {
        let report = show(&server, "workers");
        let workers = report["workers"].as_array().unwrap();
        workers.len() == 1 && workers[0]["generation"] == 2
    });
}

#[test]
fn apps_are_shown_with_their_limits() {
    let start = Start::config(
        "timeout = 7\n[apps.shop]\ncomponent = '{hello}'\nroutes = ['/shop', 'a.example/']\n\
         [apps.blog]\ncomponent = '{echo}'\nroutes = ['/blog']\ntimeout = '2m'\n",
    );
    let server = controlled(start);
    let report = show(&server, "apps");
    let apps = report["apps"].as_array().unwrap();
    let app = |name: &str| {
        apps.iter()
            .find(|app| app["name"] == name)
            .expect("it is there")
    };
    assert_eq!(apps.len(), 2);
    assert_eq!(app("shop")["component"], guest("hello"));
    assert_eq!(app("shop")["routes"].as_array().unwrap().len(), 2);
    assert_ne!(
        app("shop")["limits"]["timeout"],
        app("blog")["limits"]["timeout"]
    );
    let text = done(&server, &["show", "apps"]);
    assert!(
        text.contains("shop") && text.contains("memory-limit"),
        "{text}"
    );
}

#[test]
fn listeners_are_shown_with_the_real_port() {
    let server = controlled(Start::app("hello").args(["-b", "127.0.0.1:0", "-b", "unix:web.sock"]));
    let urls = server.ready_lines(2);
    let report = show(&server, "listeners");
    let listeners = report["listeners"].as_array().unwrap();
    let addresses: Vec<&str> = listeners
        .iter()
        .map(|it| it["address"].as_str().unwrap())
        .collect();
    assert_eq!(addresses, urls);
    assert_eq!(listeners[0]["key"], "127.0.0.1:0");
    let text = done(&server, &["show", "listeners"]);
    assert!(urls.iter().all(|url| text.contains(url.as_str())), "{text}");
}

#[test]
fn the_settings_are_shown_as_they_are_printed() {
    let settings = "graceful-timeout = 17\n[apps.hello]\ncomponent = '{hello}'\n";
    let server = controlled(Start::config(settings));
    let text = done(&server, &["show", "config"]);
    let line = text
        .lines()
        .find(|line| line.starts_with("graceful-timeout = "));
    assert!(line.is_some_and(|line| line.contains("17")), "{text}");
    assert_eq!(show(&server, "config")["config"].as_str().unwrap(), text);
}

#[test]
fn counters_outlive_the_workers() {
    let server = controlled(Start::app("hello"));
    for _ in 0..3 {
        server.get("/").is(200, "hello\n");
    }
    done(&server, &["reload"]);
    let old = |found: Value| found["workers"].as_array().unwrap().len() > 1;
    until("the old worker has left", || !old(show(&server, "workers")));
    server.get("/").is(200, "hello\n");
    let report = show(&server, "stats");
    let (stats, arbiter) = (&report["stats"], &report["arbiter"]);
    assert_eq!(stats["requests"], 4);
    assert_eq!(stats["accepted"], 4);
    assert_eq!(stats["reloads"], 1);
    assert_eq!(stats["restarts"], 0);
    assert_eq!(stats["workers_ready"], 1);
    assert_eq!(stats["generation"], 2);
    assert_eq!(arbiter["phase"], "running");
    assert_eq!(arbiter["pid"], server.pid());
    assert_eq!(arbiter["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn everything_but_the_settings_is_shown_at_once() {
    let server = controlled(Start::app("hello"));
    for report in [show(&server, "all"), {
        let text = done(&server, &["--json", "show"]);
        serde_json::from_str(&text).unwrap()
    }] {
        for part in ["arbiter", "stats", "workers", "apps", "listeners"] {
            assert!(report.get(part).is_some(), "{part}: {report}");
        }
        // It may have secrets in it.
        assert!(report.get("config").is_none(), "{report}");
    }
    let text = done(&server, &["show"]);
    for part in ["arbiter\n", "stats\n", "workers\n", "apps\n", "listeners\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
