//! Tests of the arbiter's patience: with workers that stand still, workers that do not get ready,
//! workers that keep dying, and time in which nothing could run.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::harness::{Client, Load, Process, Server, Start, until, until_some};
use crate::process::signal_process;

/// Lets time pass in which the test does nothing.
fn pass(time: Duration) {
    let started = Instant::now();
    until("time passes", || started.elapsed() > time);
}

/// A server with a guest that reads files, one of which is a FIFO that nobody writes: to open it
/// holds the event loop for ever.
fn with_fifo(settings: &str) -> Server {
    let settings = format!(
        "{settings}\ntimeout = 0\ncpu-timeout = '24h'\n\
         [apps.files]\ncomponent = '{{wasi-files}}'\nroutes = ['/files']\ndirs = ['data::/data']\n\
         [apps.hello]\ncomponent = '{{hello}}'\n"
    );
    let start = Start::config(&settings);
    fs::create_dir(start.folder().join("data")).unwrap();
    mkfifo(&start.folder().join("data/pipe"), Mode::S_IRWXU).unwrap();
    let mut server = start.start();
    server.expect_errors();
    server
}

fn ask_for_the_fifo(server: &Server) -> Client {
    let mut client = server.connect();
    client.send("GET /files?path=/data/pipe HTTP/1.1\r\nHost: a\r\n\r\n");
    client
}

fn is_replaced(server: &Server, worker: i32) {
    until("the worker is replaced", || {
        let now = server.workers_now();
        now.len() == 1 && now[0] != worker
    });
}

#[test]
fn a_worker_stuck_in_a_host_call_is_aborted_and_the_log_says_what_it_served() {
    let server = with_fifo("heartbeat-timeout = 1");
    let stuck = server.worker();
    let mut client = ask_for_the_fifo(&server);
    let line = server.wait_log(&["ERROR role=worker slot=0 gen=1", "missed its heartbeat"]);
    assert!(line.contains(&format!(" pid={stuck} ")), "{line}");
    let serving = " app=files request=\"GET /files?path=/data/pipe\" age_ms=";
    assert!(line.contains(serving), "{line}");
    assert!(line.ends_with(" in_flight=1"), "{line}");
    let age = line.split(" age_ms=").nth(1).unwrap();
    let age: u64 = age.split(' ').next().unwrap().parse().unwrap();
    assert!(age >= 1000, "{line}");
    server.wait_log(&[&format!("pid={stuck} ended: signal SIGABRT")]);
    assert!(client.is_closed());
    is_replaced(&server, stuck);
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_stopped_worker_that_has_a_request_is_killed() {
    let start = Start::app("wasi-sleep").args(["--heartbeat-timeout", "1", "--timeout", "0"]);
    let mut server = start.start();
    server.expect_errors();
    let stopped = server.worker();
    let mut client = server.connect();
    client.send("GET /?ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    // Another request shows that the first has begun.
    server.get("/?ms=1").is(200, "slept 1 ms\n");
    signal_process(stopped, Signal::SIGSTOP);
    let silent = format!("pid={stopped} missed its heartbeat");
    server.wait_log(&["ERROR", &silent, "request=\"GET /?ms=86400000\""]);
    // A stopped process takes no signal but this one.
    server.wait_log(&[&format!("pid={stopped} ended: signal SIGKILL")]);
    assert!(client.is_closed());
    is_replaced(&server, stopped);
    server.get("/?ms=1").is(200, "slept 1 ms\n");
}

#[test]
fn a_start_whose_worker_hangs_in_boot_is_exit_code_3() {
    let ended = Start::app("app-boot-spin")
        .args(["--boot-timeout", "1"])
        .run();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(
        ended.stderr.contains("role=worker slot=0 gen=1"),
        "{ended:?}"
    );
    assert!(ended.stderr.contains("was not ready in time"), "{ended:?}");
    assert!(!ended.stderr.contains("Serving HTTP"), "{ended:?}");
}

/// A server whose workers get ready only while a folder is there that its guest is granted.
fn with_folder() -> Server {
    let start = Start::app("wasi-files");
    fs::create_dir(start.folder().join("data")).unwrap();
    let mut server = start.args(["-w", "2", "--dir", "data::/data"]).start();
    server.expect_errors();
    server.wait_logs(&["role=worker", " ready "], 2);
    server
}

#[test]
fn a_worker_that_cannot_boot_does_not_end_a_server_that_serves() {
    let server = with_folder();
    let before = server.workers(2);
    fs::remove_dir(server.folder().join("data")).unwrap();
    signal_process(before[1], Signal::SIGKILL);
    server.wait_logs(&["ERROR role=worker", " failed: ", "data: No such file"], 3);
    assert_eq!(server.workers_now().first(), Some(&before[0]));
    // Whoever was there at the start goes on.
    assert!(Process::find(before[0]).is_some());
    fs::create_dir(server.folder().join("data")).unwrap();
    server.wait_logs(&["role=worker", " ready "], 3);
    assert_eq!(server.workers(2)[0], before[0]);
    server.get("/").is(200, "/data\n");
}

#[test]
fn a_worker_that_keeps_failing_is_started_again_less_and_less_often() {
    let server = with_folder();
    let before = server.workers(2);
    fs::remove_dir(server.folder().join("data")).unwrap();
    signal_process(before[1], Signal::SIGKILL);
    let lines = server.wait_logs(&["WARN role=worker", "keeps failing: "], 4);
    fs::create_dir(server.folder().join("data")).unwrap();
    let delays: Vec<u64> = lines[..4]
        .iter()
        .map(|line| line.split(" delay_ms=").nth(1).unwrap().parse().unwrap())
        .collect();
    assert_eq!(delays, [100, 200, 400, 800]);
    server.workers(2);
}

#[test]
fn a_worker_that_is_killed_again_and_again_is_not_replaced_at_full_speed() {
    let server = Start::app("hello").start();
    let mut killed = Vec::new();
    for _ in 0..4 {
        let worker = until_some("another worker", || {
            let found = server.workers_now().into_iter().next()?;
            (!killed.contains(&found)).then_some(found)
        });
        server.wait_log(&[&format!("pid={worker} ready")]);
        signal_process(worker, Signal::SIGKILL);
        killed.push(worker);
    }
    for (at, delay) in [(1, 100), (2, 200), (3, 400)] {
        let pid = format!(" pid={} ", killed[at]);
        let delay = format!("its successor waits delay_ms={delay}");
        server.wait_log(&["WARN role=worker slot=0", &pid, &delay]);
    }
    server.get("/").is(200, "hello\n");
}

/// Stops processes for longer than the heartbeat timeout while requests are in flight, and checks
/// that nobody is murdered for it.
fn nobody_is_killed_after(stop: impl Fn(&Server, Signal)) {
    let start = Start::app("wasi-sleep").args(["-w", "2", "--heartbeat-timeout", "1"]);
    let server = start.args(["--worker-connections", "1000"]).start();
    let before = server.workers(2);
    let load = Load::on(server.address(), "/?ms=3", 8);
    let mut long: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut long {
        client.send("GET /?ms=6000 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    load.more(100);
    stop(&server, Signal::SIGSTOP);
    pass(Duration::from_secs(3));
    stop(&server, Signal::SIGCONT);
    for client in &mut long {
        client.response().is(200, "slept 6000 ms\n");
    }
    load.more(100);
    load.none_was_lost();
    assert_eq!(server.workers(2), before);
    assert!(!server.log().contains("missed its heartbeat"));
}

#[test]
fn nobody_is_killed_when_the_arbiter_was_stopped_for_a_while() {
    nobody_is_killed_after(|server, signal| server.signal(signal));
}

#[test]
fn nobody_is_killed_when_all_processes_were_stopped_for_a_while() {
    nobody_is_killed_after(|server, signal| server.signal_all(signal));
}

#[test]
fn a_worker_that_stands_still_is_found_after_the_arbiter_was_stopped_for_a_while() {
    let server = with_fifo("heartbeat-timeout = 1");
    let stuck = server.worker();
    server.signal(Signal::SIGSTOP);
    let mut client = ask_for_the_fifo(&server);
    pass(Duration::from_secs(3));
    server.signal(Signal::SIGCONT);
    server.wait_log(&[&format!("pid={stuck} missed its heartbeat"), " app=files "]);
    assert!(client.is_closed());
    is_replaced(&server, stuck);
}

#[test]
fn a_boot_timeout_does_not_count_time_in_which_nothing_could_run() {
    let start = Start::app("app-boot-spin").args(["--boot-timeout", "4"]);
    let mut server = start.spawn();
    server.expect_errors();
    server.wait_log(&["role=worker", " started"]);
    server.signal_all(Signal::SIGSTOP);
    pass(Duration::from_secs(6));
    server.signal_all(Signal::SIGCONT);
    pass(Duration::from_secs(2));
    assert!(!server.log().contains("was not ready in time"), "too early");
    assert_eq!(server.wait_exit().code(), Some(3));
    server.no_process_is_left();
}

#[test]
fn an_idle_server_wakes_up_less_than_once_a_second() {
    const SECONDS: u64 = 12;
    let server = Start::app("hello").args(["-w", "4"]).start();
    let mut processes = server.workers(4);
    server.wait_logs(&["role=worker", " ready "], 4);
    processes.push(server.pid());
    // Connections that could be used again are no reason to wake up either.
    let mut idle: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for client in &mut idle {
        client.get("/").is(200, "hello\n");
    }
    let wake_ups = || -> u64 {
        let pids = processes.iter();
        pids.map(|pid| Process::voluntary_switches(*pid)).sum()
    };
    let mut before = wake_ups();
    // What the requests have led to is over when nothing happens for a moment.
    until("the server is idle", || {
        pass(Duration::from_millis(500));
        let now = wake_ups();
        std::mem::replace(&mut before, now) == now
    });
    pass(Duration::from_secs(SECONDS));
    let count = wake_ups() - before;
    assert!(count < SECONDS, "{count} wake-ups in {SECONDS} s");
    for client in &mut idle {
        client.get("/").is(200, "hello\n");
    }
}
