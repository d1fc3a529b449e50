//! Tests of workers that are replaced though nothing is wrong with them: for what they have served,
//! for their age, for their memory.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Client, Load, Server, Start, until};

/// Checks in the log that there was a ready worker all the time, from the first one on.
fn one_was_always_ready(log: &str) {
    let mut serving = 0;
    for line in log.lines().filter(|line| line.contains(" role=worker ")) {
        if line.contains(" ready ") {
            serving += 1;
        } else if line.contains(" left: ") {
            serving -= 1;
            assert!(serving > 0, "nobody serves after: {line}");
        }
    }
}

/// Checks that workers are replaced under load, for `why`, and that no request is lost.
fn replaces(server: &Server, why: &str) {
    let first = server.wait_log(&["role=worker slot=0", " ready "]);
    let load = Load::on(server.address(), "/", 2);
    server.wait_logs(&["INFO role=worker", "slot=0", why], 3);
    server.wait_logs(&["role=worker", " left: exit status 0"], 3);
    load.more(20);
    load.none_was_lost();
    let pid = first
        .split(" pid=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let pid = pid.and_then(|pid| pid.parse().ok()).expect("a number");
    assert!(!server.workers_now().contains(&pid));
    one_was_always_ready(&server.log());
}

#[test]
fn a_worker_is_replaced_after_max_requests() {
    let server = Start::app("hello").args(["--max-requests", "5"]).start();
    replaces(&server, "has served max-requests");
}

#[test]
fn a_worker_is_not_replaced_before_max_requests() {
    let server = Start::app("hello").args(["--max-requests", "5"]).start();
    let first = server.worker();
    let mut client = server.connect();
    for _ in 0..4 {
        client.get("/").is(200, "hello\n");
    }
    // Whatever the worker has said is heard before the next one is ready.
    server.signal(Signal::SIGTTIN);
    server.wait_logs(&["role=worker", " ready "], 2);
    assert!(!server.log().contains("max-requests"));
    assert!(server.workers_now().contains(&first));
    client.get("/").is(200, "hello\n");
    server.wait_log(&[&format!("pid={first} has served max-requests")]);
}

#[test]
fn jitter_makes_workers_last_longer() {
    // As good as never, and without jitter it would be after the first.
    let start = Start::app("hello").args(["--max-requests", "1"]);
    let server = start.args(["--max-requests-jitter", "1000000000"]).start();
    let first = server.worker();
    for _ in 0..10 {
        server.get("/").is(200, "hello\n");
    }
    server.signal(Signal::SIGTTIN);
    server.wait_logs(&["role=worker", " ready "], 2);
    assert!(!server.log().contains("max-requests"));
    assert!(server.workers_now().contains(&first));
}

#[test]
fn a_worker_that_is_replaced_finishes_what_is_in_flight() {
    let server = Start::app("echo").args(["--max-requests", "1"]).start();
    let first = server.worker();
    let mut client = server.connect();
    client.begin_echo();
    server.wait_log(&[&format!("pid={first} has served max-requests")]);
    server.wait_logs(&["role=worker slot=0", " ready "], 2);
    assert!(server.workers_now().contains(&first));
    server.connect().post("/", "other").is(200, "other");
    client.finish_echo();
    assert!(client.is_closed());
    server.wait_log(&[&format!("pid={first} left: ")]);
}

#[test]
fn a_worker_that_is_replaced_closes_idle_connections_politely() {
    let server = Start::app("hello").args(["--max-requests", "3"]).start();
    let mut idle: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut idle {
        client.get("/").is(200, "hello\n");
    }
    for client in &mut idle {
        assert!(client.is_closed());
    }
    server.get("/").is(200, "hello\n");
}

#[test]
fn workers_that_wear_out_together_are_replaced_one_after_the_other() {
    let server = Start::app("hello")
        .args(["-w", "4", "--max-worker-lifetime", "1"])
        .start();
    server.wait_logs(&["has reached max-worker-lifetime"], 8);
    let log = server.log();
    // Between two of these lines another worker has become ready.
    let mut ready = 0;
    let mut replaced = 0;
    for line in log.lines().filter(|line| line.contains(" role=worker ")) {
        if line.contains(" ready ") {
            ready += 1;
        } else if line.contains("has reached max-worker-lifetime") {
            replaced += 1;
            assert!(ready >= 4 + replaced - 1, "{line}\n{log}");
        }
    }
}

#[test]
fn a_worker_is_replaced_at_its_age() {
    let server = Start::app("hello")
        .args(["--max-worker-lifetime", "1"])
        .start();
    replaces(&server, "has reached max-worker-lifetime");
}

#[test]
fn a_worker_is_replaced_for_its_memory() {
    for measure in ["rss", "pss"] {
        let server = Start::app("hello")
            .args([
                "--max-worker-memory",
                "64KiB",
                "--worker-memory-measure",
                measure,
            ])
            .args([
                "--worker-memory-samples",
                "1",
                "--worker-memory-interval",
                "1",
            ])
            .start();
        let load = Load::on(server.address(), "/", 2);
        let line = server.wait_logs(&["INFO role=worker", "is above max-worker-memory"], 2);
        let (_, bytes) = line[1]
            .split_once("memory_bytes=")
            .expect("it says how much");
        assert!(bytes.parse::<u64>().expect("a number") > 64 * 1024);
        server.wait_logs(&["role=worker", " left: exit status 0"], 2);
        load.none_was_lost();
        one_was_always_ready(&server.log());
    }
}

#[test]
fn a_worker_is_not_replaced_for_its_memory_before_enough_samples() {
    // Its age shows that it has been weighed, and found too heavy, less often than that.
    let server = Start::app("hello")
        .args(["--max-worker-memory", "64KiB", "--max-worker-lifetime", "3"])
        .args([
            "--worker-memory-samples",
            "100",
            "--worker-memory-interval",
            "1",
        ])
        .start();
    let line = server.wait_log(&["INFO role=worker", "replacing it"]);
    assert!(line.contains("has reached max-worker-lifetime"), "{line}");
}

#[test]
fn what_workers_share_counts_once_in_pss_and_for_each_in_rss() {
    let probe = Start::app("hello").args(["-w", "2"]).start();
    probe.get("/").is(200, "hello\n");
    let between = probe.workers(2).into_iter().map(|pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let kib = |key| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(key));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or(0_u64)
        };
        (kib("Pss:") + kib("Rss:")) / 2
    });
    let limit = format!("{}KiB", between.max().expect("there are workers"));
    let measured_by = |measure| {
        Start::app("hello")
            .args(["-w", "2", "--max-worker-memory", &limit])
            .args(["--worker-memory-measure", measure])
            .args([
                "--worker-memory-samples",
                "1",
                "--worker-memory-interval",
                "1",
            ])
            .start()
    };
    let pss = measured_by("pss");
    let before = pss.workers(2);
    // It looks at the same moments, and began later.
    let rss = measured_by("rss");
    rss.wait_logs(&["is above max-worker-memory"], 2);
    assert!(!pss.log().contains("max-worker-memory"));
    assert_eq!(pss.workers(2), before);
}

#[test]
fn an_operator_can_still_stop_a_server_whose_workers_are_being_replaced() {
    let mut server = Start::app("hello")
        .args(["-w", "2", "--max-requests", "1"])
        .start();
    let load = Load::on(server.address(), "/", 2);
    load.more(50);
    server.stop();
    until("the clients have noticed", || {
        Client::try_connect(server.address()).is_err()
    });
    load.end();
}
