//! Tests of who accepts: each way to accept and each kind of worker.

use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::control::{controlled, ctl, done, show};
use crate::harness::{Address, Client, Load, Server, Start, until};
use crate::process::signal_process;

/// Those in which the workers, or the arbiter, see to it that each connection wakes one worker.
pub(crate) const BY_TURNS: [&str; 3] = ["auto", "signalled", "delegated"];
pub(crate) const ALL: [&str; 5] = ["auto", "signalled", "delegated", "kernel", "reuseport"];

/// A server whose workers are all ready: one that boots accepts nothing.
pub(crate) fn accepting(app: &str, accept: &str, args: &[&str]) -> Server {
    let start = Start::app(app).args(["--accept", accept]);
    let server = controlled(start.args(args.iter().copied()));
    until("all workers are ready", || {
        let report = show(&server, "workers");
        let mut workers = report["workers"].as_array().unwrap().iter();
        workers.all(|worker| worker["state"] == "ready")
    });
    server
}

pub(crate) fn sum(server: &Server, field: &str) -> u64 {
    show(server, "stats")["stats"][field].as_u64().unwrap()
}

/// A number of each worker that serves, by slot.
pub(crate) fn each(server: &Server, field: &str) -> Vec<u64> {
    let report = show(server, "workers");
    let workers = report["workers"].as_array().unwrap().iter();
    let ready = workers.filter(|worker| worker["state"] == "ready");
    ready
        .map(|worker| worker[field].as_u64().unwrap())
        .collect()
}

/// One request on a connection of its own.
pub(crate) fn once(server: &Server, target: &str) -> Client {
    let mut client = server.connect();
    client.send(format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    ));
    client
}

// Who is woken.

#[test]
fn every_connection_wakes_one_worker_and_nobody_in_vain() {
    for accept in BY_TURNS {
        let server = accepting("hello", accept, &["-w", "6"]);
        server.workers(6);
        for _ in 0..60 {
            once(&server, "/").response().is(200, "hello\n");
        }
        assert_eq!(sum(&server, "accepted"), 60, "{accept}");
        assert_eq!(sum(&server, "spurious"), 0, "{accept}");
        let (woken, pulled) = (sum(&server, "wakeups"), sum(&server, "pulled"));
        assert_eq!(woken + pulled, 60, "{accept}");
        assert!(sum(&server, "handed_on") > 0, "{accept}");
        // Each is as good as the next.
        let accepted = each(&server, "accepted");
        assert!(accepted.iter().all(|it| *it > 0), "{accept}: {accepted:?}");
    }
}

#[test]
fn a_silent_connection_can_be_left_to_the_kernel() {
    let server = accepting("hello", "auto", &["-w", "1", "--defer-accept"]);
    // It is kept for about a second, in which a slow machine may not come this far.
    until("a silent client is passed over", || {
        let before = sum(&server, "accepted");
        let mut silent = server.connect();
        once(&server, "/").response().is(200, "hello\n");
        let is_passed_over = sum(&server, "accepted") == before + 1;
        silent.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        silent.response().is(200, "hello\n");
        is_passed_over
    });
}

#[test]
fn connections_are_held_by_all_alike_after_workers_were_killed_too() {
    for accept in BY_TURNS {
        let server = accepting("hello", accept, &["-w", "4", "--head-timeout", "60"]);
        let pids = server.workers(4);
        let held = || each(&server, "connections");
        // One after the other: of those that come at once, whoever is awake takes more.
        let mut clients: Vec<Client> = Vec::new();
        let mut connect_up_to = |all: u64| {
            for count in held().iter().sum::<u64>()..all {
                clients.push(server.connect());
                until("it is accepted", || held().iter().sum::<u64>() > count);
            }
            let held = held();
            assert!(held.iter().all(|it| *it == all / 4), "{accept}: {held:?}");
        };
        connect_up_to(40);
        signal_process(pids[1], Signal::SIGKILL);
        until("another worker is there", || {
            let now = server.workers_now();
            now.len() == 4 && !now.contains(&pids[1]) && held().len() == 4
        });
        connect_up_to(40);
    }
}

#[test]
fn several_listeners_are_all_served() {
    for accept in ALL {
        let server = controlled(
            Start::app("hello")
                .args(["--bind", "127.0.0.1:0", "--bind", "unix:s.sock"])
                .args(["--bind", "[::1]:0", "--accept", accept, "-w", "3"]),
        );
        let report = show(&server, "listeners");
        let listeners = report["listeners"].as_array().unwrap().clone();
        let urls = listeners.iter().map(|it| it["address"].as_str().unwrap());
        let mut urls: Vec<String> = urls.map(str::to_owned).collect();
        urls.dedup();
        assert_eq!(urls.len(), 3, "{accept}: {report}");
        for _ in 0..9 {
            for url in &urls {
                let mut client = Client::connect(&Address::of_url(url));
                client.get("/").is(200, "hello\n");
            }
        }
        assert_eq!(sum(&server, "accepted"), 27, "{accept}");
    }
}

/// Several wait on one listener all the time; that keeps nobody from the other one.
#[test]
fn a_flood_on_one_listener_does_not_starve_the_others() {
    for accept in BY_TURNS {
        let both = ["--bind", "127.0.0.1:0", "--bind", "127.0.0.1:0"];
        let start = Start::app("wasi-sleep").args(both);
        let server = controlled(start.args(["-w", "2", "-k", "sync", "--accept", accept]));
        let urls = server.ready_lines(2);
        for (flooded, other) in [(0, 1), (1, 0)] {
            let flood = Load::on(&Address::of_url(&urls[flooded]), "/?ms=2", 16);
            flood.more(100);
            for _ in 0..10 {
                let mut client = Client::connect(&Address::of_url(&urls[other]));
                let begun = flood.answered();
                client.get("/?ms=1").is(200, "slept 1 ms\n");
                let meanwhile = flood.answered() - begun;
                assert!(meanwhile < 500, "{accept}: {meanwhile} were preferred");
            }
            flood.none_was_lost();
        }
    }
}

// Kinds of workers.

#[test]
fn a_sync_worker_that_is_busy_accepts_nothing() {
    for accept in ["auto", "signalled", "delegated", "kernel"] {
        let server = accepting("wasi-sleep", accept, &["-w", "2", "-k", "sync"]);
        server.workers(2);
        let mut slow = once(&server, "/?ms=2000");
        until("it is served", || sum(&server, "in_flight") == 1);
        let begun = Instant::now();
        let mut fast: Vec<Client> = (0..8).map(|_| once(&server, "/?ms=1")).collect();
        for client in &mut fast {
            client.response().is(200, "slept 1 ms\n");
        }
        // The slow one is still at it, so nobody waited for it.
        assert_eq!(
            sum(&server, "in_flight"),
            1,
            "{accept} {:?}",
            begun.elapsed()
        );
        let mut requests = each(&server, "requests");
        requests.sort_unstable();
        assert_eq!(requests, [1, 8], "{accept}");
        slow.response().is(200, "slept 2000 ms\n");
    }
}

#[test]
fn a_sync_worker_closes_each_connection_after_its_response() {
    let server = accepting("hello", "auto", &["-k", "sync"]);
    let mut client = server.connect();
    let response = client.get("/");
    response.is(200, "hello\n");
    assert_eq!(response.field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn a_full_worker_leaves_connections_in_the_backlog_and_all_can_be_full() {
    for accept in BY_TURNS {
        let server = accepting("echo", accept, &["-w", "2", "--worker-connections", "1"]);
        let mut first: Vec<Client> = (0..2).map(|_| server.connect()).collect();
        for client in &mut first {
            client.begin_echo();
        }
        until("both are full", || sum(&server, "connections") == 2);
        let mut waiting = server.connect();
        waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        until("one waits", || {
            show(&server, "listeners")["listeners"][0]["queue"] == 1
        });
        assert_eq!(sum(&server, "accepted"), 2, "{accept}");
        let mut leaves = first.pop().unwrap();
        leaves.finish_echo();
        drop(leaves);
        waiting.response().is(200, "");
        assert!(sum(&server, "parked_ms") > 0, "{accept}");
    }
}

#[test]
fn the_queue_of_a_unix_socket_is_told_too() {
    let one = ["--bind", "unix:s.sock", "--worker-connections", "1"];
    let server = accepting("echo", "auto", &one);
    let mut first = server.connect();
    first.begin_echo();
    until("it is full", || sum(&server, "connections") == 1);
    let waiting = [(); 2].map(|()| server.connect());
    let listener = show(&server, "listeners")["listeners"][0].clone();
    assert_eq!(listener["queue"], 2);
    assert!(listener["queue_max"].as_u64() > Some(0));
    assert_eq!(listener.get("overflows"), None);
    first.finish_echo();
    drop((first, waiting));
}

#[test]
fn requests_in_flight_bound_what_a_worker_accepts() {
    for accept in ["auto", "signalled", "kernel"] {
        let server = accepting("wasi-sleep", accept, &["-w", "1", "--worker-requests", "2"]);
        let mut slow: Vec<Client> = (0..2).map(|_| once(&server, "/?ms=86400000")).collect();
        until("two are in flight", || sum(&server, "in_flight") == 2);
        let mut waiting = once(&server, "/?ms=1");
        until("one waits", || {
            show(&server, "listeners")["listeners"][0]["queue"] == 1
        });
        slow.pop();
        waiting.response().is(200, "slept 1 ms\n");
        assert_eq!(sum(&server, "accepted"), 3, "{accept}");
    }
}

/// A guest that computes leaves its worker no time to accept, so others do.
#[test]
fn a_worker_whose_guest_computes_is_passed_over_while_others_are_idle() {
    for accept in BY_TURNS {
        let server = accepting("app-spin", accept, &["-w", "2", "--cpu-timeout", "2"]);
        server.workers(2);
        let mut spins = server.connect();
        spins.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        until("it computes", || sum(&server, "in_flight") == 1);
        // They are not served, or they would compute too.
        let silent: Vec<Client> = (0..5).map(|_| server.connect()).collect();
        until("all are accepted", || sum(&server, "accepted") == 6);
        let mut connections = each(&server, "connections");
        connections.sort_unstable();
        assert_eq!(connections, [1, 5], "{accept}");
        drop(silent);
        assert_eq!(spins.response().status(), 504);
    }
}

// Messages and settings.

#[test]
fn messages_are_told_on_demand() {
    let server = accepting("hello", "signalled", &["-w", "2", "--log-level", "trace"]);
    once(&server, "/").response().is(200, "hello\n");
    server.wait_log(&["TRACE role=worker slot=0 gen=1 pid=", " says READY"]);
    server.wait_log(&["TRACE role=worker slot=", " is told ACCEPT:0"]);
    // A worker that had no room tells when it has.
    let full = accepting(
        "echo",
        "signalled",
        &[
            "-w",
            "1",
            "--worker-connections",
            "1",
            "--log-level",
            "trace",
        ],
    );
    let mut first = full.connect();
    first.begin_echo();
    until("it is full", || sum(&full, "connections") == 1);
    let mut second = once(&full, "/");
    until("one waits", || {
        show(&full, "listeners")["listeners"][0]["queue"] == 1
    });
    first.finish_echo();
    drop(first);
    second.response().is(200, "");
    full.wait_log(&["TRACE role=worker slot=0 gen=1 pid=", " says ACCEPT"]);
    // Where the workers agree among themselves, nothing needs to be said.
    let silent = accepting("hello", "auto", &["-w", "2", "--log-level", "trace"]);
    for _ in 0..20 {
        once(&silent, "/").response().is(200, "hello\n");
    }
    assert!(!silent.log().contains("ACCEPT"));
}

#[test]
fn with_a_queue_for_each_worker_their_number_is_fixed_and_a_respawn_drops_no_queue() {
    let server = accepting("wasi-sleep", "reuseport", &["-w", "2", "-k", "sync"]);
    let ended = ctl(&server, &["worker", "add"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(
        ended.line().contains("reload with another number"),
        "{ended:?}"
    );
    let report = show(&server, "listeners");
    assert_eq!(report["listeners"].as_array().map(Vec::len), Some(2));
    // Both hold still, so that connections wait in one queue and in the other.
    let pids = server.workers(2);
    pids.iter()
        .for_each(|pid| signal_process(*pid, Signal::SIGSTOP));
    let mut waiting: Vec<Client> = (0..12).map(|_| once(&server, "/?ms=1")).collect();
    pids.iter()
        .for_each(|pid| signal_process(*pid, Signal::SIGKILL));
    for client in &mut waiting {
        client.response().is(200, "slept 1 ms\n");
    }
}

#[test]
fn seventy_workers_wake_no_more_than_one_either() {
    let server = accepting("hello", "auto", &["-w", "70"]);
    server.workers(70);
    for _ in 0..140 {
        once(&server, "/").response().is(200, "hello\n");
    }
    assert_eq!(sum(&server, "spurious"), 0);
    let accepted = each(&server, "accepted");
    assert_eq!(accepted.len(), 70);
    assert!(accepted.iter().all(|it| *it > 0), "{accepted:?}");
    let config = done(&server, &["show", "config"]);
    assert!(config.contains("accept = \"auto\""), "{config}");
}

#[test]
fn workers_that_are_added_accept_too() {
    for accept in ["auto", "signalled"] {
        let server = accepting("hello", accept, &["-w", "1"]);
        done(&server, &["worker", "add", "7"]);
        server.workers(8);
        until("all are ready", || each(&server, "accepted").len() == 8);
        let all = || {
            once(&server, "/").response().is(200, "hello\n");
            each(&server, "accepted").iter().all(|it| *it > 0)
        };
        until("all have accepted", all);
        let report: Value = show(&server, "stats");
        let stats = &report["stats"];
        assert!(stats["spurious"].as_u64() < Some(4), "{accept}: {stats}");
    }
}
