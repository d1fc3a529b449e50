//! Tests of what `rgunicorn ctl` orders: what is done, and what is answered.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::control::{controlled, ctl, done, refused, show, socket_of, worker};
use crate::harness::{Process, Start, until};

#[test]
fn a_reload_is_answered_when_the_new_generation_serves() {
    let settings = |number: u32| {
        format!(
            "workers = 2\ncontrol-socket = 'ctl.sock'\n[apps.environment]\n\
             component = '{{wasi-environment}}'\nenv = {{ NUMBER = '{number}' }}\n"
        )
    };
    let server = Start::config(&settings(1)).start();
    server.reconfigure(&settings(2));
    let text = done(&server, &["reload"]);
    assert_eq!(text, "generation 2 serves\n");
    let report = show(&server, "workers");
    let serves = |worker: &&Value| worker["generation"] == 2 && worker["state"] == "ready";
    assert_eq!(
        report["workers"]
            .as_array()
            .unwrap()
            .iter()
            .filter(serves)
            .count(),
        2
    );
    until("the new settings are in force", || {
        server.get("/").text() == "NUMBER=2\n"
    });
}

#[test]
fn a_reload_that_fails_is_exit_code_1_and_says_why() {
    let good = "control-socket = 'ctl.sock'\n[apps.hello]\ncomponent = '{hello}'\n";
    let mut server = Start::config(good).start();
    server.expect_errors();
    let worker = server.worker();
    for (settings, reason) in [
        (
            "workers = 'many'\n[apps.hello]\ncomponent = '{hello}'\n",
            "workers",
        ),
        (
            "[apps.gone]\ncomponent = '/nowhere/gone.wasm'\n",
            "/nowhere/gone.wasm",
        ),
        (
            "[apps.trap]\ncomponent = '{app-boot-trap}'\n",
            "cannot make an instance",
        ),
    ] {
        server.reconfigure(&format!("control-socket = 'ctl.sock'\n{settings}"));
        refused(&server, &["reload"], reason);
        let ended = ctl(&server, &["--json", "reload"]);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(answer["status"], "refused");
        assert!(
            answer["message"].as_str().unwrap().contains(reason),
            "{answer}"
        );
    }
    assert_eq!(server.worker(), worker);
    assert_eq!(show(&server, "stats")["stats"]["reloads_failed"], 6);
    server.reconfigure(good);
    done(&server, &["reload"]);
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_second_reload_during_a_reload_is_refused() {
    let server =
        Start::config("control-socket = 'ctl.sock'\n[apps.hello]\ncomponent = '{hello}'\n");
    let mut server = server.start();
    server.reconfigure(
        "control-socket = 'ctl.sock'\ncache-dir = 'none'\n[apps.slow]\ncomponent = '{python}'\n",
    );
    server.signal(Signal::SIGHUP);
    server.wait_log(&["role=loader gen=2", " started"]);
    assert_eq!(show(&server, "stats")["arbiter"]["phase"], "reloading");
    refused(&server, &["reload"], "a reload is under way");
    // A stop is obeyed at once, whoever gives it.
    done(&server, &["shutdown"]);
    server.stopped();
}

#[test]
fn workers_are_added_and_removed() {
    let server = controlled(Start::app("hello"));
    let first = server.worker();
    done(&server, &["worker", "add"]);
    server.workers(2);
    done(&server, &["worker", "add", "2"]);
    server.workers(4);
    done(&server, &["worker", "remove", "3"]);
    assert_eq!(server.workers(1), [first]);
    refused(&server, &["worker", "remove"], "one worker is the least");
    refused(&server, &["worker", "add", "5000"], "1024");
    refused(&server, &["worker", "add", "4294967295"], "1024");
    assert_eq!(server.workers(1), [first]);
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_worker_that_is_told_to_go_finishes_and_is_replaced() {
    let server = controlled(Start::app("echo"));
    let old = server.worker();
    let mut client = server.connect();
    client.begin_echo();
    done(&server, &["worker", "kill", &old.to_string()]);
    until("another worker is ready", || {
        let report = show(&server, "workers");
        let ready = |worker: &Value| worker["state"] == "ready" && worker["pid"] != old;
        report["workers"].as_array().unwrap().iter().any(ready)
    });
    client.finish_echo();
    until("it has left", || Process::find(old).is_none());
    refused(
        &server,
        &["worker", "kill", &old.to_string()],
        "no worker has that process number",
    );
    let arbiter = server.pid().to_string();
    refused(
        &server,
        &["worker", "kill", &arbiter],
        "no worker has that process number",
    );
    refused(
        &server,
        &["worker", "kill", "1"],
        "no worker has that process number",
    );
}

#[test]
fn logs_are_opened_again() {
    let mut server = controlled(Start::app("hello").args(["--error-logfile", "server.log"]));
    let path = server.folder().join("server.log");
    let moved = server.folder().join("server.log.1");
    until("the start is logged", || {
        fs::read_to_string(&path).unwrap().contains(" ready ")
    });
    fs::rename(&path, &moved).unwrap();
    done(&server, &["reopen"]);
    assert!(path.exists());
    done(&server, &["worker", "add"]);
    let logged = |path: &Path| fs::read_to_string(path).unwrap();
    until("the new file has the news", || {
        logged(&path).contains("workers=2")
    });
    assert!(!logged(&moved).contains("workers=2"));
    server.stop();
}

#[test]
fn a_log_that_cannot_be_opened_again_is_told() {
    let start = Start::app("hello");
    let logs = start.folder().join("logs");
    fs::create_dir(&logs).unwrap();
    let mut server = controlled(start.args(["--error-logfile", "logs/server.log"]));
    server.expect_errors();
    fs::rename(&logs, server.folder().join("away")).unwrap();
    refused(&server, &["reopen"], "cannot open");
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_shutdown_finishes_what_is_in_flight() {
    let mut server = controlled(Start::app("echo"));
    let mut client = server.connect();
    client.begin_echo();
    done(&server, &["shutdown"]);
    server.wait_log(&["stopping gracefully"]);
    // It can be watched until its end.
    assert_eq!(show(&server, "stats")["arbiter"]["phase"], "stopping");
    refused(&server, &["reload"], "stopping");
    client.finish_echo();
    server.stopped();
}

#[test]
fn a_quick_shutdown_waits_for_nothing() {
    let start = Start::app("wasi-sleep").args(["--timeout", "0", "--graceful-timeout", "3600"]);
    let mut server = controlled(start);
    let mut client = server.connect();
    client.send("GET /?ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is in flight", || {
        worker(&server)["in_flight"] == 1
    });
    done(&server, &["shutdown", "quick"]);
    assert!(client.is_closed());
    server.stopped();
}

#[test]
fn a_quick_shutdown_can_follow_a_graceful_one() {
    let mut server = controlled(Start::app("echo").args(["--graceful-timeout", "3600"]));
    let mut client = server.connect();
    client.begin_echo();
    done(&server, &["shutdown"]);
    done(&server, &["shutdown", "quick"]);
    server.stopped();
}

#[test]
fn an_upgrade_is_answered_when_the_new_program_serves_and_the_socket_goes_with_it() {
    let mut server = controlled(Start::app("hello"));
    let text = done(&server, &["upgrade"]);
    assert!(text.contains("the new program serves"), "{text}");
    let new = server.successors()[0];
    // Only who has asked the old server at the moment in which it leaves gets no answer.
    until("the new server answers", || {
        let ended = ctl(&server, &["show", "stats", "--json"]);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
        let arbiter = &report["arbiter"];
        arbiter["pid"] == new && arbiter.get("predecessor_pid").is_none()
    });
    server.hand_over(new);
    assert_eq!(show(&server, "stats")["arbiter"]["pid"], new);
    let mode = fs::metadata(socket_of(&server))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    done(&server, &["reload"]);
    done(&server, &["shutdown"]);
    server.stopped();
    assert!(!socket_of(&server).exists());
}

#[test]
fn an_upgrade_that_fails_is_exit_code_1_and_says_why() {
    let good = "control-socket = 'ctl.sock'\n[apps.hello]\ncomponent = '{hello}'\n";
    let mut server = Start::config(good).start();
    server.expect_errors();
    let worker = server.worker();
    for (settings, reason) in [
        ("workers = 'many'\n", "many"),
        (
            "[apps.trap]\ncomponent = '{app-boot-trap}'\n",
            "cannot make an instance",
        ),
    ] {
        server.reconfigure(&format!("control-socket = 'ctl.sock'\n{settings}"));
        refused(&server, &["upgrade"], reason);
        assert_eq!(server.worker(), worker);
        server.get("/").is(200, "hello\n");
    }
    server.reconfigure(good);
}

#[test]
fn every_order_is_answered_in_json_too() {
    let mut server = controlled(Start::app("hello").args(["-w", "2"]));
    for args in [
        &["reload"][..],
        &["reopen"],
        &["worker", "add"],
        &["worker", "remove"],
        &["shutdown"],
    ] {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let text = done(&server, &args);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["status"], "ok", "{args:?}: {text}");
        assert!(
            !answer["message"].as_str().unwrap().is_empty(),
            "{args:?}: {text}"
        );
        assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
    }
    server.stopped();
}
