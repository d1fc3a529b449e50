//! Tests of the reload: what it changes, whom it disturbs, and what is left as it was when it fails.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Address, Client, Load, Server, Start, guest, until};

pub(crate) const HELLO: &str = "[apps.hello]\ncomponent = '{hello}'\n";

/// A server that tells of which generation it is, under `/generation`, and has an app whose requests
/// last as long as a client likes.
pub(crate) fn generation(number: u32, settings: &str) -> String {
    format!(
        "{settings}\n\
         [apps.generation]\ncomponent = '{{wasi-environment}}'\nroutes = ['/generation']\n\
         env = {{ NUMBER = '{number}' }}\n\
         [apps.echo]\ncomponent = '{{echo}}'\n"
    )
}

/// Waits until this generation answers: an old worker may still take who comes when the new one
/// has begun to serve.
pub(crate) fn answers(server: &Server, number: u32) {
    let expect = format!("NUMBER={number}\n");
    until_answer(server, "/generation", 200, |text| text == expect);
}

fn until_answer(server: &Server, target: &str, status: u16, is_it: impl Fn(&str) -> bool) {
    until("the answer is the new one", || {
        let response = server.get(target);
        response.status() == status && is_it(response.text())
    });
}

/// Changes the settings and waits until they are in force.
pub(crate) fn reload(server: &Server, number: u32, settings: &str) {
    server.reconfigure(settings);
    server.signal(Signal::SIGHUP);
    server.wait_log(&[&format!("role=arbiter generation {number} serves")]);
}

fn worker_is_gone(pid: i32) {
    until("the old worker has left", || {
        crate::harness::Process::find(pid).is_none()
    });
}

#[test]
fn a_reload_changes_the_number_of_workers() {
    let server = Start::config(&format!("workers = 1\n{HELLO}")).start();
    let first = server.worker();
    reload(&server, 2, &format!("workers = 3\n{HELLO}"));
    until("three new workers", || {
        let now = server.workers_now();
        now.len() == 3 && !now.contains(&first)
    });
    server.get("/").is(200, "hello\n");
    reload(&server, 3, &format!("workers = 2\n{HELLO}"));
    server.workers(2);
}

#[test]
fn a_reload_forgets_ttin() {
    let server = Start::config(&format!("workers = 1\n{HELLO}")).start();
    server.signal(Signal::SIGTTIN);
    let before = server.workers(2);
    reload(&server, 2, &format!("workers = 1\n{HELLO}"));
    assert!(!before.contains(&server.worker()));
}

#[test]
fn a_reload_changes_what_an_app_is_told() {
    let server = Start::config(&generation(1, "")).start();
    answers(&server, 1);
    reload(&server, 2, &generation(2, ""));
    answers(&server, 2);
}

#[test]
fn a_reload_adds_an_app_and_takes_one_away() {
    let server = Start::config("[apps.hello]\ncomponent = '{hello}'\nroutes = ['/']\n").start();
    server.get("/").is(200, "hello\n");
    reload(
        &server,
        2,
        "[apps.other]\ncomponent = '{hello-wasi}'\nroutes = ['/other']\n",
    );
    until_answer(&server, "/other", 200, |text| text == "hello\n");
    until_answer(&server, "/", 404, |text| text.starts_with("404 "));
}

#[test]
fn a_reload_changes_a_limit() {
    let server = Start::config(HELLO).start();
    let long = format!("/?name={}", "a".repeat(200));
    assert_eq!(server.get(&long).status(), 200);
    reload(&server, 2, &format!("limit-request-line = 100\n{HELLO}"));
    until_answer(&server, &long, 414, |text| text.starts_with("414 "));
}

#[test]
fn a_reload_serves_a_component_that_was_built_anew() {
    let start = Start::new("serve");
    let path = start.folder().join("app.wasm");
    fs::copy(guest("hello"), &path).unwrap();
    let server = start.args(["app.wasm"]).start();
    server.get("/").is(200, "hello\n");
    let fresh = server.folder().join("fresh.wasm");
    fs::copy(guest("wasi-sleep"), &fresh).unwrap();
    fs::rename(fresh, path).unwrap();
    server.get("/?ms=1").is(200, "hello\n");
    server.signal(Signal::SIGHUP);
    server.wait_log(&["role=arbiter generation 2 serves"]);
    until_answer(&server, "/?ms=1", 200, |text| text == "slept 1 ms\n");
}

#[test]
fn a_reload_changes_how_much_is_logged() {
    let server = Start::config(HELLO).start();
    server.signal(Signal::SIGTTIN);
    server.wait_log(&["role=arbiter workers=2"]);
    reload(&server, 2, &format!("log-level = 'debug'\n{HELLO}"));
    assert!(!server.log().contains("received SIGTTIN"));
    server.signal(Signal::SIGTTIN);
    server.wait_log(&["DEBUG", "role=arbiter received SIGTTIN"]);
}

#[test]
fn a_reload_that_changes_what_only_a_start_can_says_so() {
    let server = Start::config(HELLO).start();
    reload(&server, 2, &format!("pidfile = 'server.pid'\n{HELLO}"));
    server.wait_log(&["WARN", "pidfile", "next start"]);
    assert!(!server.folder().join("server.pid").exists());
}

#[test]
fn a_reload_listens_to_an_address_that_was_added() {
    let server = Start::config(&format!("bind = ['127.0.0.1:0']\n{HELLO}")).start();
    let added = server.folder().join("added.socket");
    let bind = "bind = ['127.0.0.1:0', 'unix:added.socket']";
    reload(&server, 2, &format!("{bind}\n{HELLO}"));
    Client::connect(&Address::Unix(added))
        .get("/")
        .is(200, "hello\n");
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_reload_answers_all_who_wait_at_an_address_that_was_removed() {
    let bind = "worker-connections = 1\nbind = ['127.0.0.1:0', '127.0.0.1:0']";
    let server = Start::config(&generation(1, bind)).start();
    let removed = Address::of_url(&server.ready_lines(2)[1]);
    let mut holds_the_only_place = Client::connect(&removed);
    holds_the_only_place.begin_echo();
    let mut waiting: Vec<Client> = (0..5).map(|_| Client::connect(&removed)).collect();
    for client in &mut waiting {
        client.send("GET /generation HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let bind = "worker-connections = 1\nbind = ['127.0.0.1:0']";
    reload(&server, 2, &generation(2, bind));
    holds_the_only_place.finish_echo();
    for client in &mut waiting {
        client.response().is(200, "NUMBER=1\n");
    }
    until("the address is refused", || {
        Client::try_connect(&removed).is_err()
    });
    answers(&server, 2);
}

#[test]
fn a_reload_removes_the_socket_of_an_address_that_was_removed() {
    let both = format!("bind = ['127.0.0.1:0', 'unix:removed.socket']\n{HELLO}");
    let server = Start::config(&both).start();
    let removed = server.folder().join("removed.socket");
    let address = Address::Unix(removed.clone());
    Client::connect(&address).get("/").is(200, "hello\n");
    reload(&server, 2, &format!("bind = ['127.0.0.1:0']\n{HELLO}"));
    assert!(!removed.exists());
    server.get("/").is(200, "hello\n");
}

#[test]
fn nobody_is_turned_away_during_reloads() {
    let server = Start::config(&generation(1, "workers = 2")).start();
    let load = Load::on(server.address(), "/generation", 4);
    for number in 2..=6 {
        load.more(50);
        reload(&server, number, &generation(number, "workers = 2"));
    }
    load.more(50);
    load.none_was_lost();
    answers(&server, 6);
}

#[test]
fn who_waits_in_the_backlog_when_a_reload_begins_is_answered() {
    let server = Start::config(&generation(1, "worker-connections = 1")).start();
    let mut holds_the_only_place = server.connect();
    holds_the_only_place.begin_echo();
    let mut waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for client in &mut waiting {
        let close = "Connection: close\r\n";
        client.send(format!(
            "GET /generation HTTP/1.1\r\nHost: a\r\n{close}\r\n"
        ));
    }
    reload(&server, 2, &generation(2, "worker-connections = 1"));
    for client in &mut waiting {
        client.response().is(200, "NUMBER=2\n");
    }
    holds_the_only_place.finish_echo();
}

#[test]
fn a_response_that_the_old_generation_has_begun_is_finished() {
    let server = Start::config(&generation(1, "")).start();
    let old = server.worker();
    let mut client = server.connect();
    client.begin_echo();
    reload(&server, 2, &generation(2, ""));
    answers(&server, 2);
    client.finish_echo();
    assert!(client.is_closed());
    worker_is_gone(old);
}

#[test]
fn a_reload_closes_idle_connections_politely() {
    let server = Start::config(HELLO).start();
    let mut idle: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut idle {
        client.get("/").is(200, "hello\n");
    }
    reload(&server, 2, HELLO);
    for client in &mut idle {
        assert!(client.is_closed());
    }
}

#[test]
fn the_graceful_timeout_ends_a_request_of_the_old_generation_that_takes_too_long() {
    let server = Start::config(&generation(1, "graceful-timeout = 1\ntimeout = 0")).start();
    let old = server.worker();
    let mut client = server.connect();
    client.begin_echo();
    reload(
        &server,
        2,
        &generation(2, "graceful-timeout = 1\ntimeout = 0"),
    );
    server.wait_log(&[
        &format!("pid={old} did not finish in time"),
        "app=echo request=\"POST /\"",
        "in_flight=1",
    ]);
    assert!(client.is_closed());
    answers(&server, 2);
}

/// How many workers of generation 2 were ready when it took over, of four.
fn quorum(settings: &str) -> usize {
    let settings = format!("workers = 4\n{settings}\n{HELLO}");
    let server = Start::config(&settings).start();
    server.wait_logs(&["role=worker", "gen=1", " ready "], 4);
    reload(&server, 2, &settings);
    server.wait_logs(&["role=worker", "gen=2", " ready "], 4);
    server.wait_logs(&["role=worker", "gen=1", " left: "], 4);
    let log = server.log();
    // No old worker leaves while it would be missed.
    let mut serving = 0;
    let mut least = usize::MAX;
    for line in log.lines().filter(|line| line.contains(" role=worker ")) {
        if line.contains(" ready ") {
            serving += 1;
        } else if line.contains(" left: ") {
            serving -= 1;
        }
        if line.contains(" left: ") {
            least = least.min(serving);
        }
    }
    let (before, _) = log.split_once("generation 2 serves").unwrap();
    let ready = |line: &&str| line.contains(" gen=2 ") && line.contains(" ready ");
    let quorum = before.lines().filter(ready).count();
    assert!(least >= quorum, "only {least} workers served: {log}");
    quorum
}

#[test]
fn the_whole_new_generation_is_ready_before_the_old_one_leaves() {
    assert_eq!(quorum(""), 4);
}

#[test]
fn max_unavailable_workers_may_be_missing_when_a_reload_takes_over() {
    assert_eq!(quorum("max-unavailable = 1"), 3);
}

#[test]
fn the_last_of_several_reloads_leads_to_the_newest_settings() {
    let server = Start::config(&generation(1, "workers = 2")).start();
    for number in 2..=9 {
        server.reconfigure(&generation(number, "workers = 2"));
        server.signal(Signal::SIGHUP);
    }
    until("the newest settings are in force", || {
        let response = server.get("/generation");
        assert_eq!(response.status(), 200);
        response.text() == "NUMBER=9\n"
    });
    server.workers(2);
}

/// A server whose reload, which has begun, compiles an interpreter.
fn compiling() -> Server {
    let server = Start::config(&generation(1, "")).start();
    server.reconfigure("cache-dir = 'none'\n[apps.slow]\ncomponent = '{python}'\n");
    server.signal(Signal::SIGHUP);
    server.wait_log(&["role=loader gen=2", " started"]);
    server
}

#[test]
fn a_stop_during_a_reload_is_obeyed_at_once() {
    let mut server = compiling();
    server.signal(Signal::SIGTERM);
    server.stopped();
    assert!(
        !server.log().contains("loaded artefacts=1"),
        "it was waited for"
    );
}

#[test]
fn a_stop_during_a_reload_finishes_what_is_in_flight() {
    let mut server = compiling();
    let mut client = server.connect();
    client.begin_echo();
    server.signal(Signal::SIGTERM);
    server.wait_log(&["stopping gracefully"]);
    client.finish_echo();
    server.stopped();
}

#[test]
fn a_worker_that_dies_during_a_reload_is_replaced() {
    let mut server = compiling();
    let old = server.wait_log(&["role=worker", "gen=1", " ready "]);
    let old = old
        .split(" pid=")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    kill(Pid::from_raw(old.parse().unwrap()), Signal::SIGKILL).unwrap();
    server.wait_logs(&["role=worker", "gen=1", " ready "], 2);
    answers(&server, 1);
    assert!(
        !server.log().contains("loaded artefacts=1"),
        "it came too late"
    );
    server.stop();
}
