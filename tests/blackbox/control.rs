//! Tests of the control socket and of `rgunicorn ctl`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Ended, Server, Start, guest, until};
use crate::process::signal_process;

/// A server with a control socket.
struct Controlled {
    server: Server,
    socket: PathBuf,
}

fn controlled(start: Start) -> Controlled {
    let socket = start.folder().join("control.sock");
    let path = socket.to_str().expect("the path is text").to_owned();
    let server = start.args(["--control-socket".to_owned(), path]).start();
    Controlled { server, socket }
}

impl Controlled {
    fn ctl(&self, args: &[&str]) -> Ended {
        let socket = self.socket.to_str().expect("the path is text");
        let start = Start::new("ctl").args(["--socket", socket]);
        start.args(args.iter().copied()).run()
    }

    /// What an order that is carried out answers.
    fn done(&self, args: &[&str]) -> String {
        let ended = self.ctl(args);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended.stdout
    }

    /// Why an order is refused.
    fn refused(&self, args: &[&str]) -> String {
        let ended = self.ctl(args);
        assert_eq!(ended.code, Some(1), "{ended:?}");
        ended.line().to_owned()
    }

    fn json(&self, what: &str) -> Value {
        let text = self.done(&["--json", "show", what]);
        serde_json::from_str(&text).expect("it is JSON")
    }

    fn workers(&self) -> Vec<Value> {
        let report = self.json("workers");
        report["workers"].as_array().expect("it is a list").clone()
    }
}

#[test]
fn only_the_owner_can_connect_and_the_socket_is_removed_at_the_end() {
    let mut it = controlled(Start::app("hello").setup("umask 000"));
    let mode = fs::metadata(&it.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    it.done(&["show"]);
    it.server.stop();
    assert!(!it.socket.exists());
}

#[test]
fn workers_are_shown_with_what_they_do() {
    let it = controlled(Start::app("wasi-sleep").args(["-w", "2"]));
    let mut pids: Vec<i64> = it.server.workers(2).into_iter().map(i64::from).collect();
    it.server.get("/?ms=1").is(200, "slept 1 ms\n");
    let mut client = it.server.connect();
    client.send("GET /?ms=86400 HTTP/1.1\r\nHost: a\r\n\r\n");
    let sum = |field: &str| -> u64 {
        let workers = it.workers();
        workers
            .iter()
            .map(|worker| worker[field].as_u64().unwrap())
            .sum()
    };
    until("the request is being served", || sum("in_flight") == 1);
    assert_eq!((sum("requests"), sum("connections")), (2, 1));
    assert_eq!(sum("accepted"), 2);
    let workers = it.workers();
    let mut shown: Vec<i64> = workers
        .iter()
        .map(|it| it["pid"].as_i64().unwrap())
        .collect();
    shown.sort_unstable();
    pids.sort_unstable();
    assert_eq!(shown, pids);
    for (slot, worker) in workers.iter().enumerate() {
        assert_eq!(worker["slot"].as_u64(), Some(slot as u64));
        assert_eq!(worker["generation"].as_u64(), Some(1));
        assert_eq!(worker["state"].as_str(), Some("ready"));
        assert_eq!(worker["role"].as_str(), Some("worker"));
        assert!(worker["memory_bytes"].as_u64().unwrap() > 100_000);
    }
    let busy = workers
        .iter()
        .find(|worker| worker["in_flight"] == 1)
        .unwrap();
    assert_eq!(busy["serving"]["app"].as_str(), Some("wasi-sleep"));
    assert_eq!(busy["serving"]["request"].as_str(), Some("GET /?ms=86400"));
    let table = it.done(&["show", "workers"]);
    let row = table.lines().find(|line| line.contains("wasi-sleep"));
    assert!(
        row.is_some_and(|row| row.contains("GET /?ms=86400")),
        "{table}"
    );
    it.done(&["shutdown", "quick"]);
}

#[test]
fn the_last_exit_of_a_slot_is_shown_with_its_reason() {
    let it = controlled(Start::app("hello"));
    let killed = it.server.worker();
    signal_process(killed, Signal::SIGKILL);
    until("its end is shown", || {
        let workers = it.workers();
        let exit = workers.first().map(|worker| worker["last_exit"].clone());
        exit.is_some_and(|exit| {
            exit["pid"].as_i64() == Some(i64::from(killed))
                && exit["reason"].as_str().unwrap().contains("SIGKILL")
        })
    });
    assert_eq!(it.json("stats")["stats"]["restarts"].as_u64(), Some(1));
}

#[test]
fn apps_listeners_settings_and_counters_are_shown() {
    let it = controlled(Start::config(
        "[apps.blog]\ncomponent = '{hello}'\nroutes = ['/']\nmemory-limit = '32MiB'\n",
    ));
    it.server.get("/").is(200, "hello\n");
    let all = it.json("all");
    let app = &all["apps"][0];
    assert_eq!(app["name"].as_str(), Some("blog"));
    assert_eq!(app["component"].as_str(), Some(guest("hello").as_str()));
    assert_eq!(app["routes"][0].as_str(), Some("/"));
    assert_eq!(app["limits"]["memory-limit"].as_str(), Some("32MiB"));
    let url = all["listeners"][0]["address"].as_str().unwrap().to_owned();
    assert_eq!(it.server.ready_lines(1), [url]);
    assert_eq!(all["stats"]["requests"].as_u64(), Some(1));
    assert_eq!(all["arbiter"]["phase"].as_str(), Some("running"));
    assert_eq!(
        all["arbiter"]["pid"].as_i64(),
        Some(i64::from(it.server.pid()))
    );
    assert!(
        it.done(&["show", "config"])
            .contains("memory-limit = \"32MiB\"")
    );
    for what in ["all", "workers", "apps", "listeners", "stats"] {
        assert!(it.done(&["show", what]).lines().count() > 1, "{what}");
    }
}

#[test]
fn workers_can_be_added_removed_and_replaced() {
    let it = controlled(Start::app("hello"));
    it.done(&["worker", "add", "2"]);
    it.server.workers(3);
    it.done(&["worker", "remove"]);
    let two = it.server.workers(2);
    assert!(
        it.refused(&["worker", "remove", "2"])
            .contains("one worker is the least")
    );
    assert!(it.refused(&["worker", "add", "1023"]).contains("1024"));
    it.done(&["worker", "kill", &two[0].to_string()]);
    until("it is replaced", || {
        let now = it.server.workers_now();
        now.len() == 2 && !now.contains(&two[0]) && now.contains(&two[1])
    });
    let nobody = it.refused(&["worker", "kill", &it.server.pid().to_string()]);
    assert!(
        nobody.contains("no worker has that process number"),
        "{nobody}"
    );
}

#[test]
fn a_reload_is_waited_for_and_its_failure_told() {
    let start = Start::config("[apps.a]\ncomponent = '{hello}'\n");
    let mut it = controlled(start);
    let before = it.server.worker();
    assert!(it.done(&["reload"]).contains("generation 2 serves"));
    assert_eq!(it.workers()[0]["generation"].as_u64(), Some(2));
    let after = it.server.worker();
    assert_ne!(before, after);
    it.server.expect_errors();
    it.server
        .reconfigure("[apps.a]\ncomponent = 'missing.wasm'\n");
    let reason = it.refused(&["reload"]);
    assert!(reason.contains("missing.wasm"), "{reason}");
    assert_eq!(it.server.worker(), after);
    let stats = &it.json("stats")["stats"];
    assert_eq!(
        (stats["reloads"].as_u64(), stats["reloads_failed"].as_u64()),
        (Some(1), Some(1))
    );
}

#[test]
fn an_upgrade_is_waited_for_and_its_failure_told() {
    let mut it = controlled(Start::config("[apps.a]\ncomponent = '{hello}'\n"));
    it.server.expect_errors();
    it.server
        .reconfigure("workers = 'many'\n[apps.a]\ncomponent = '{hello}'\n");
    let reason = it.refused(&["upgrade"]);
    assert!(reason.contains("many"), "{reason}");
    it.server.get("/").is(200, "hello\n");
    it.server.reconfigure("[apps.a]\ncomponent = '{hello}'\n");
    assert!(it.done(&["upgrade"]).contains("the new program serves"));
    // There is a control socket at any moment of it.
    let pid = |report: &Value| report["arbiter"]["pid"].as_i64();
    let old = Some(i64::from(it.server.pid()));
    let mut new = pid(&it.json("stats"));
    until("the new server answers", || {
        new = pid(&it.json("stats"));
        new != old
    });
    it.server.follow(i32::try_from(new.unwrap()).unwrap());
    it.server.get("/").is(200, "hello\n");
}

#[test]
fn a_shutdown_is_graceful_or_quick() {
    for how in [
        &["shutdown"][..],
        &["shutdown", "graceful"],
        &["shutdown", "quick"],
    ] {
        let mut it = controlled(Start::app("hello"));
        it.done(how);
        it.server.stopped();
    }
}

#[test]
fn opening_the_log_again_tells_how_it_went() {
    let start = Start::app("hello");
    let log = start.folder().join("logs").join("server.log");
    fs::create_dir(log.parent().unwrap()).unwrap();
    let path = log.to_str().unwrap().to_owned();
    let mut it = controlled(start.args(["--error-logfile".to_owned(), path]));
    it.server.expect_errors();
    fs::rename(&log, log.with_extension("1")).unwrap();
    it.done(&["reopen"]);
    assert!(log.exists());
    fs::rename(log.parent().unwrap(), it.server.folder().join("away")).unwrap();
    assert!(it.refused(&["reopen"]).contains("cannot open"));
}

#[test]
fn json_answers_to_orders_have_a_status() {
    let it = controlled(Start::app("hello"));
    let answer: Value = serde_json::from_str(&it.done(&["--json", "reload"])).unwrap();
    assert_eq!(answer["status"].as_str(), Some("ok"));
    let ended = it.ctl(&["--json", "worker", "remove"]);
    assert_eq!(ended.code, Some(1));
    let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(answer["status"].as_str(), Some("refused"));
}

#[test]
fn hostile_clients_delay_neither_requests_nor_another_client() {
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket,
    };
    use std::os::fd::AsRawFd;

    let it = controlled(Start::app("hello"));
    let raw = |flags| {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let address = UnixAddr::new(&it.socket).unwrap();
        connect(fd.as_raw_fd(), &address).map(|()| fd)
    };
    // Some never speak, some talk nonsense, and one asks for everything and reads nothing.
    let silent: Vec<_> = (0..40).map(|_| raw(SockFlag::SOCK_NONBLOCK)).collect();
    let show_all = [1, 64, 1, 0, 0];
    let greedy: Vec<_> = (0..8).map(|_| raw(SockFlag::empty())).collect();
    for client in greedy.iter().flatten() {
        // It may have been turned away already.
        let _ = send(client.as_raw_fd(), &show_all, MsgFlags::MSG_NOSIGNAL);
    }
    for _ in 0..200 {
        if let Ok(client) = raw(SockFlag::empty()) {
            let _ = send(client.as_raw_fd(), b"garbage", MsgFlags::MSG_NOSIGNAL);
        }
    }
    it.server.get("/").is(200, "hello\n");
    signal_process(it.server.worker(), Signal::SIGKILL);
    it.server.get("/").is(200, "hello\n");
    until("a client gets its turn", || {
        it.ctl(&["show"]).code == Some(0)
    });
    drop((silent, greedy));
}

#[test]
fn a_socket_of_a_dead_server_is_replaced_and_that_of_a_living_one_is_not() {
    let start = Start::app("hello");
    let socket = start.folder().join("control.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let it = controlled(start);
    it.done(&["show"]);
    let path = it.socket.to_str().unwrap();
    let ended = Start::app("hello").args(["--control-socket", path]).run();
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.line().contains("address in use"), "{ended:?}");
    it.done(&["show"]);
}

#[test]
fn nobody_to_talk_to_is_one_line_and_exit_code_1_or_2() {
    let ended = Start::new("ctl").args(["show"]).run();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("--socket"), "{ended:?}");
    let ended = Start::new("ctl")
        .args(["--socket", "missing.sock", "show"])
        .run();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let line = ended.line();
    assert!(
        line.contains("missing.sock") && line.contains("--control-socket"),
        "{line}"
    );
}
