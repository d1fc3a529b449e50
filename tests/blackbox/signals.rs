//! Tests of what signals and deaths do: to the arbiter, to workers, and to the clients of both.

use nix::sys::signal::Signal;

use crate::control::{controlled, worker};
use crate::harness::{Client, Load, Server, Start, until};
use crate::process::signal_process;

/// A client that has begun to get a response of lines, and how many will come.
fn streaming(server: &Server, lines: usize, interval_ms: usize) -> Client {
    let mut client = server.connect();
    client.send(format!(
        "GET /?n={lines}&interval_ms={interval_ms} HTTP/1.1\r\nHost: a\r\n\r\n"
    ));
    assert_eq!(client.head().status, 200);
    assert_eq!(client.chunk().unwrap().unwrap(), b"chunk 0\n");
    client
}

/// Reads the rest of such a response.
fn rest(client: &mut Client) -> String {
    let mut text = String::new();
    while let Some(chunk) = client.chunk().expect("the response is whole") {
        text.push_str(&String::from_utf8(chunk).unwrap());
    }
    text
}

#[test]
fn a_graceful_stop_finishes_what_is_in_flight() {
    let mut server = Start::app("wasi-stream").start();
    let mut client = streaming(&server, 4, 300);
    server.signal(Signal::SIGTERM);
    assert_eq!(rest(&mut client), "chunk 1\nchunk 2\nchunk 3\n");
    assert!(client.is_closed());
    server.stopped();
}

#[test]
fn a_graceful_stop_serves_requests_that_had_only_been_sent() {
    let mut server = Start::app("wasi-sleep").start();
    let mut clients: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("GET /?ms=200 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    server.signal(Signal::SIGTERM);
    for client in &mut clients {
        client.response().is(200, "slept 200 ms\n");
    }
    server.stopped();
}

#[test]
fn a_graceful_stop_drains_the_backlog() {
    let mut server = Start::app("wasi-stream")
        .args(["--worker-connections", "1"])
        .start();
    let mut first = streaming(&server, 4, 300);
    // The only place is taken: these wait in the kernel.
    let mut waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send("GET /?n=2&interval_ms=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(rest(&mut first), "chunk 1\nchunk 2\nchunk 3\n");
    for client in &mut waiting {
        let response = client.response();
        response.is(200, "chunk 0\nchunk 1\n");
    }
    server.stopped();
}

#[test]
fn a_graceful_stop_closes_idle_connections_politely() {
    let mut server = Start::app("hello").start();
    let mut idle: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut idle {
        client.get("/").is(200, "hello\n");
    }
    server.signal(Signal::SIGTERM);
    for client in &mut idle {
        assert!(client.is_closed());
    }
    server.stopped();
}

#[test]
fn a_request_that_comes_while_the_worker_drains_is_the_last_of_its_connection() {
    let mut server = Start::app("wasi-stream").start();
    let mut other = streaming(&server, 8, 300);
    let mut client = server.connect();
    // The beginning of a head keeps the connection from being idle.
    client.send("GET /?n=1 HTTP/1.1\r\n");
    server.get("/?n=1").is(200, "chunk 0\n");
    server.signal(Signal::SIGTERM);
    server.wait_log(&["stopping gracefully"]);
    let address = server.address().clone();
    until("the listener is closed", || {
        Client::try_connect(&address).is_err()
    });
    client.send("Host: a\r\n\r\n");
    let response = client.response();
    response.is(200, "chunk 0\n");
    assert_eq!(response.field("connection"), Some("close"));
    assert!(client.is_closed());
    assert!(rest(&mut other).ends_with("chunk 7\n"));
    server.stopped();
}

#[test]
fn the_graceful_timeout_ends_a_stop_that_would_take_too_long() {
    let start = Start::app("wasi-sleep").args(["--timeout", "0", "--graceful-timeout", "1"]);
    let mut server = start.start();
    let mut client = server.connect();
    client.send("GET /?ms=86400000 HTTP/1.1\r\nHost: a\r\n\r\n");
    // Another request shows that the first was accepted.
    server.get("/?ms=1").is(200, "slept 1 ms\n");
    server.signal(Signal::SIGTERM);
    assert!(client.is_closed());
    let line = server.wait_log(&["WARN role=worker slot=0", "did not finish in time"]);
    let what = "app=wasi-sleep request=\"GET /?ms=86400000\" age_ms=";
    assert!(line.contains(what), "{line}");
    assert!(line.ends_with(" in_flight=1"), "{line}");
    server.stopped();
}

#[test]
fn a_stop_under_steady_connections_comes_to_its_end() {
    let start = Start::app("hello").args(["-w", "2", "--graceful-timeout", "3600"]);
    let mut server = start.start();
    let load = Load::on(server.address(), "/", 8);
    load.more(100);
    server.signal(Signal::SIGTERM);
    server.stopped();
    load.end();
}

#[test]
fn who_comes_before_a_stop_and_asks_after_it_has_begun_is_answered() {
    let mut server = Start::app("echo")
        .args(["--worker-connections", "1"])
        .start();
    let mut holds_the_only_place = server.connect();
    holds_the_only_place.begin_echo();
    // It waits in the kernel, and has sent nothing.
    let mut waiting = server.connect();
    server.signal(Signal::SIGTERM);
    server.wait_log(&["stopping gracefully"]);
    holds_the_only_place.finish_echo();
    waiting.post("/", "late").is(200, "late");
    assert!(waiting.is_closed());
    server.stopped();
}

#[test]
fn who_connects_and_says_nothing_holds_up_no_stop() {
    let connects_only = |start: Start| {
        let settings = ["--head-timeout", "3600", "--graceful-timeout", "3600"];
        let mut server = controlled(start.args(settings));
        let mut silent = server.connect();
        until("it is accepted", || worker(&server)["connections"] == 1);
        server.signal(Signal::SIGTERM);
        assert!(silent.is_closed());
        server.stopped();
    };
    connects_only(Start::app("hello"));
    connects_only(Start::app("hello").certificates(&["server"]));
    for setting in ["--http2-cleartext=prior-knowledge", "--proxy-protocol=v1"] {
        connects_only(Start::app("hello").args([setting]));
    }
}

#[test]
fn a_quick_stop_waits_for_nothing() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        let start =
            Start::app("wasi-stream").args(["--timeout", "0", "--graceful-timeout", "3600"]);
        let mut server = start.start();
        let mut client = streaming(&server, 2, 86_400_000);
        server.signal(signal);
        assert!(client.is_closed());
        server.stopped();
    }
}

#[test]
fn a_quick_stop_can_follow_a_graceful_one() {
    let start = Start::app("wasi-stream").args(["--timeout", "0", "--graceful-timeout", "3600"]);
    let mut server = start.start();
    let mut client = streaming(&server, 2, 86_400_000);
    server.signal(Signal::SIGTERM);
    server.wait_log(&["stopping gracefully"]);
    server.signal(Signal::SIGINT);
    assert!(client.is_closed());
    server.stopped();
}

#[test]
fn a_second_order_to_stop_is_more_urgent_than_the_first() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let start =
            Start::app("wasi-stream").args(["--timeout", "0", "--graceful-timeout", "3600"]);
        let mut server = start.start();
        let mut client = streaming(&server, 2, 86_400_000);
        server.signal(Signal::SIGTERM);
        server.wait_log(&["role=arbiter stopping gracefully"]);
        server.signal(signal);
        assert!(client.is_closed());
        server.stopped();
        assert!(server.log().contains("role=arbiter stopping quickly"));
    }
}

#[test]
fn a_second_order_to_stop_quickly_kills_what_does_not_end() {
    let mut server = Start::app("hello").start();
    let stuck = server.worker();
    signal_process(stuck, Signal::SIGSTOP);
    server.signal(Signal::SIGINT);
    server.wait_log(&["role=arbiter stopping quickly"]);
    server.signal(Signal::SIGINT);
    server.wait_log(&["role=arbiter stopping now"]);
    server.stopped();
    // Its time was not waited for.
    assert!(!server.log().contains("did not finish in time"));
    server.wait_log(&[&format!("pid={stuck} "), "SIGKILL"]);
}

#[test]
fn terminating_the_whole_group_as_a_service_manager_does_finishes_what_is_in_flight() {
    let mut server = Start::app("echo").args(["-w", "2"]).start();
    server.workers(2);
    let mut client = server.connect();
    client.begin_echo();
    server.signal_all(Signal::SIGTERM);
    server.wait_log(&["stopping gracefully"]);
    client.finish_echo();
    server.stopped();
}

#[test]
fn interrupting_the_whole_group_as_a_terminal_does_stops_cleanly() {
    let mut server = Start::app("hello").args(["-w", "2"]).start();
    server.workers(2);
    server.get("/").is(200, "hello\n");
    server.signal_all(Signal::SIGINT);
    server.stopped();
}

#[test]
fn a_killed_worker_is_replaced_and_the_next_request_answered() {
    let server = Start::app("hello").start();
    for _ in 0..3 {
        let before = server.worker();
        server.get("/").is(200, "hello\n");
        signal_process(before, Signal::SIGKILL);
        server.get("/").is(200, "hello\n");
        let after = server.worker();
        assert_ne!(before, after);
        server.wait_log(&["role=worker", &format!("pid={before} "), "signal SIGKILL"]);
    }
}

#[test]
fn a_worker_that_is_killed_takes_no_other_with_it() {
    let server = Start::app("wasi-stream").args(["-w", "2"]).start();
    let workers = server.workers(2);
    // Each has some: what one is kept from accepting, the other takes.
    let mut clients = Vec::new();
    for stopped in &workers {
        signal_process(*stopped, Signal::SIGSTOP);
        clients.extend((0..4).map(|_| streaming(&server, 4, 300)));
        signal_process(*stopped, Signal::SIGCONT);
    }
    signal_process(workers[0], Signal::SIGKILL);
    let whole = clients.iter_mut().filter_map(|client| {
        let mut chunks = 1;
        while client.chunk().ok()?.is_some() {
            chunks += 1;
        }
        assert_eq!(chunks, 4);
        Some(())
    });
    assert!(
        whole.count() > 0,
        "all responses broke off, or one worker had them all"
    );
    until("the worker is replaced", || {
        let now = server.workers_now();
        now.len() == 2 && now.contains(&workers[1]) && !now.contains(&workers[0])
    });
    server.get("/?n=1").is(200, "chunk 0\n");
}

#[test]
fn ttin_and_ttou_change_the_number_of_workers() {
    let server = Start::app("hello").start();
    let first = server.worker();
    server.signal(Signal::SIGTTIN);
    server.workers(2);
    server.signal(Signal::SIGTTIN);
    server.workers(3);
    server.signal(Signal::SIGTTOU);
    server.workers(2);
    server.signal(Signal::SIGTTOU);
    assert!(
        server.workers(1).contains(&first),
        "the last ones leave first"
    );
    server.signal(Signal::SIGTTOU);
    server.get("/").is(200, "hello\n");
    assert_eq!(server.worker(), first, "one worker is always left");
}

#[test]
fn signals_for_the_arbiter_do_nothing_to_workers() {
    let server = Start::app("hello").args(["-w", "2"]).start();
    let before = server.workers(2);
    server.get("/").is(200, "hello\n");
    for signal in [
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGWINCH,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGPIPE,
    ] {
        for pid in &before {
            signal_process(*pid, signal);
        }
        server.get("/").is(200, "hello\n");
    }
    assert_eq!(server.workers(2), before);
}

#[test]
fn signals_that_are_for_nobody_or_come_at_the_wrong_time_do_nothing_to_the_arbiter() {
    let server = Start::app("hello").start();
    let before = server.worker();
    for signal in [Signal::SIGUSR1, Signal::SIGWINCH, Signal::SIGPIPE] {
        server.signal(signal);
    }
    server.wait_log(&["WARN role=arbiter SIGWINCH ignored", "no daemon"]);
    server.get("/").is(200, "hello\n");
    assert_eq!(server.worker(), before);
}

#[test]
fn hup_to_all_processes_is_one_reload() {
    let server = Start::app("hello").args(["-w", "2"]).start();
    let before = server.workers(2);
    let load = Load::on(server.address(), "/", 2);
    load.more(20);
    server.signal_all(Signal::SIGHUP);
    server.wait_log(&["role=arbiter generation 2 serves"]);
    until("the old workers have left", || {
        let now = server.workers_now();
        now.len() == 2 && !now.iter().any(|pid| before.contains(pid))
    });
    load.more(20);
    load.none_was_lost();
    assert!(!server.log().contains("generation 3"));
}

#[test]
fn usr2_to_all_processes_is_one_upgrade() {
    let mut server = Start::app("hello").args(["-w", "2"]).start();
    server.workers(2);
    let load = Load::on(server.address(), "/", 2);
    load.more(20);
    server.signal_all(Signal::SIGUSR2);
    let successor = server.wait_log(&["role=successor", " serves"]);
    let pid = successor
        .split(" pid=")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let new = pid.and_then(|pid| pid.parse().ok()).expect("a number");
    server.hand_over(new);
    load.more(20);
    load.none_was_lost();
    assert_eq!(server.successors(), [new]);
}

#[test]
fn a_worker_that_gives_no_sign_of_life_is_killed_and_replaced() {
    let start = Start::config(
        "heartbeat-timeout = 1\ncpu-timeout = '24h'\ntimeout = 0\n\
         [apps.spin]\ncomponent = '{app-spin}'\nroutes = ['/spin']\n\
         [apps.hello]\ncomponent = '{hello}'\n",
    );
    let mut server = start.start();
    server.expect_errors();
    let stuck = server.worker();
    let mut client = server.connect();
    client.send("GET /spin HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the guest spins", || {
        server.log().contains("heartbeat") || cpu_ms(stuck) > 200
    });
    // From here on it is as if the worker's own code hung.
    signal_process(stuck, Signal::SIGSTOP);
    server.wait_log(&["missed its heartbeat", "app=spin request=\"GET /spin\""]);
    assert!(client.is_closed());
    until("the worker is replaced", || {
        let now = server.workers_now();
        now.len() == 1 && now[0] != stuck
    });
    server.get("/").is(200, "hello\n");
}

/// CPU time that a process has used.
fn cpu_ms(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|ns| ns.parse::<u64>().ok())
        .unwrap_or(0)
        / 1_000_000
}

#[test]
fn a_worker_that_is_busy_or_idle_for_long_is_not_taken_for_dead() {
    let start = Start::config(
        "heartbeat-timeout = 1\ncpu-timeout = 4\ntimeout = 60\n\
         [apps.spin]\ncomponent = '{app-spin}'\nroutes = ['/spin']\n\
         [apps.sleep]\ncomponent = '{wasi-sleep}'\n",
    );
    let server = start.start();
    let worker = server.worker();
    server.get("/?ms=3000").is(200, "slept 3000 ms\n");
    server.get("/spin").is_own(504);
    assert_eq!(server.worker(), worker);
}

#[test]
fn workers_without_an_arbiter_finish_and_end() {
    let mut server = Start::app("wasi-stream").args(["-w", "2"]).start();
    server.workers(2);
    let mut client = streaming(&server, 4, 300);
    signal_process(server.pid(), Signal::SIGKILL);
    assert_eq!(rest(&mut client), "chunk 1\nchunk 2\nchunk 3\n");
    assert_eq!(server.wait_exit().code(), None);
    server.no_process_is_left();
}

#[test]
fn a_request_that_came_with_the_order_to_stop_is_answered() {
    let mut server = Start::app("hello").start();
    let worker = server.worker();
    let mut client = server.connect();
    client.get("/").is(200, "hello\n");
    // The worker finds the order and the request when it goes on.
    signal_process(worker, Signal::SIGSTOP);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    server.signal(Signal::SIGTERM);
    server.wait_log(&["stopping gracefully"]);
    signal_process(worker, Signal::SIGCONT);
    client.response().is(200, "hello\n");
    assert!(client.is_closed());
    server.stopped();
}
