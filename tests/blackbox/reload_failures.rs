//! Tests of reloads that fail: the old generation goes on untouched, and one line says why.

use std::fs;
use std::net::TcpListener;

use nix::sys::signal::Signal;

use crate::harness::{Process, Server, Start, until, until_some};
use crate::process::signal_process;
use crate::reload::{HELLO, answers, generation, reload};

/// Checks that a reload with these settings fails, that one line of the arbiter says why, and that
/// the workers that were there go on.
#[track_caller]
fn fails(settings: &str, reason: &[&str]) -> Server {
    let mut server = Start::config(&generation(1, "workers = 2")).start();
    server.expect_errors();
    fails_on(&server, settings, reason);
    server
}

fn fails_on(server: &Server, settings: &str, reason: &[&str]) {
    let before = server.workers(2);
    let mut client = server.connect();
    client.begin_echo();
    server.reconfigure(settings);
    server.signal(Signal::SIGHUP);
    let failed = "role=arbiter generation 2 failed, the one before goes on: ";
    let line = server.wait_log(&[failed]);
    for part in reason {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
    answers(server, 1);
    client.finish_echo();
    assert_eq!(server.workers(2), before);
    let log = server.log();
    let errors = log
        .lines()
        .filter(|line| line.contains(" ERROR role=arbiter "));
    assert_eq!(errors.collect::<Vec<_>>(), [line]);
}

#[test]
fn a_reload_of_a_file_that_is_no_toml_fails() {
    fails("[apps.hello\n", &["rgunicorn.toml:1"]);
}

#[test]
fn a_reload_of_a_file_that_is_gone_fails() {
    let mut server = Start::config(&generation(1, "workers = 2")).start();
    server.expect_errors();
    let before = server.workers(2);
    fs::remove_file(server.folder().join("rgunicorn.toml")).unwrap();
    server.signal(Signal::SIGHUP);
    server.wait_log(&["ERROR role=arbiter generation 2 failed", "rgunicorn.toml"]);
    assert_eq!(server.workers(2), before);
}

#[test]
fn a_reload_with_an_unknown_key_fails() {
    fails(
        &format!("wrokers = 2\n{HELLO}"),
        &["rgunicorn.toml:1:1", "wrokers", "workers"],
    );
}

#[test]
fn a_reload_tells_all_mistakes_in_one_line() {
    fails(
        &format!("timeout = 'soon'\nkeep-alive = 'long'\n{HELLO}"),
        &["timeout", "keep-alive"],
    );
}

#[test]
fn a_reload_with_a_component_that_is_not_there_fails() {
    fails(
        "[apps.gone]\ncomponent = '/nowhere/gone.wasm'\n",
        &["/nowhere/gone.wasm", "No such file"],
    );
}

#[test]
fn a_reload_with_a_component_that_imports_what_nobody_has_fails() {
    fails(
        "[apps.kv]\ncomponent = '{app-unknown-import}'\n",
        &["app-unknown-import.wasm", "acme:kv/store"],
    );
}

#[test]
fn a_reload_with_a_component_that_is_no_wasm_fails() {
    fails(
        "[apps.text]\ncomponent = '{load-text}'\n",
        &["load-text.wasm", "not a WebAssembly component"],
    );
}

#[test]
fn a_reload_with_a_component_that_cannot_be_compiled_fails() {
    fails(
        "[apps.half]\ncomponent = '{load-half}'\n",
        &["load-half.wasm", "not a WebAssembly component"],
    );
}

#[test]
fn a_reload_whose_compiler_needs_too_long_fails() {
    fails(
        "cache-dir = 'none'\ncompile-timeout = 1\n[apps.slow]\ncomponent = '{python}'\n",
        // More CPU time than compile-timeout, or, on a busy machine, more time by the clock.
        &["the loader "],
    );
}

#[test]
fn a_reload_whose_workers_trap_in_boot_fails() {
    fails(
        "workers = 2\n[apps.trap]\ncomponent = '{app-boot-trap}'\n",
        &["apps.trap", "cannot make an instance", "unreachable"],
    );
}

#[test]
fn a_reload_whose_workers_hang_in_boot_fails() {
    fails(
        "workers = 2\nboot-timeout = 1\n[apps.spin]\ncomponent = '{app-boot-spin}'\n",
        &["worker", "was not ready in time"],
    );
}

#[test]
fn a_reload_with_a_port_in_use_fails() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    fails(
        &format!("bind = ['127.0.0.1:0', '{address}']\n{HELLO}"),
        &[&address.to_string(), "in use"],
    );
}

/// The sockets that are bound have one queue each, and who waits there must not be lost.
#[test]
fn a_reload_to_or_from_a_queue_for_each_worker_fails() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let accept = |number, accept| {
        let settings = format!("workers = 2\nbind = ['{address}']\naccept = '{accept}'");
        generation(number, &settings)
    };
    for (before, after) in [("auto", "reuseport"), ("reuseport", "auto")] {
        let mut server = Start::config(&accept(1, before)).start();
        server.expect_errors();
        let reason = [&*address.to_string(), "reuseport by a new start alone"];
        fails_on(&server, &accept(2, after), &reason);
    }
}

#[test]
fn a_reload_that_fails_leaves_no_socket_behind() {
    let bind = "bind = ['127.0.0.1:0', 'unix:new.socket']\n";
    let server = fails(
        &format!("{bind}[apps.gone]\ncomponent = '/nowhere/gone.wasm'\n"),
        &["/nowhere/gone.wasm"],
    );
    assert!(!server.folder().join("new.socket").exists());
}

#[test]
fn a_reload_that_fails_leaves_the_log_as_it_was() {
    let server = fails(
        "log-level = 'debug'\n[apps.gone]\ncomponent = '/nowhere/gone.wasm'\n",
        &["/nowhere/gone.wasm"],
    );
    server.signal(Signal::SIGTTIN);
    server.wait_log(&["role=arbiter workers=3"]);
    assert!(!server.log().contains("received SIGTTIN"));
}

#[test]
fn a_reload_works_when_what_was_wrong_is_mended() {
    let server = fails("workers = 'many'\n", &["workers"]);
    reload(&server, 3, &generation(3, "workers = 2"));
    answers(&server, 3);
}

/// A generation of which not all are ready may fail yet: nobody is answered by it.
#[test]
fn a_generation_answers_nobody_before_it_serves() {
    let mut server = Start::config(&generation(1, "workers = 2")).start();
    server.expect_errors();
    let (number, frozen) = (2..)
        .find_map(|number| half_ready(&server, number))
        .unwrap();
    let candidate = format!("NUMBER={number}\n");
    for _ in 0..12 {
        let response = server.get("/generation");
        assert_eq!(response.status(), 200);
        assert_ne!(response.text(), candidate);
    }
    signal_process(frozen, Signal::SIGCONT);
    answers(&server, number);
}

/// Reloads; if a worker of that generation can be stopped while it boots, waits until the other one
/// is ready.
fn half_ready(server: &Server, number: u32) -> Option<(u32, i32)> {
    server.reconfigure(&generation(number, "workers = 2"));
    server.signal(Signal::SIGHUP);
    let titled = |title: &str| {
        let mut workers = server.workers_now().into_iter();
        workers.find(|pid| Process::title(*pid).ends_with(title))
    };
    let states = ["booting", "ready"].map(|state| format!("worker 1 gen {number} {state}"));
    let slow = until_some("it is there", || {
        states.iter().find_map(|title| titled(title))
    });
    signal_process(slow, Signal::SIGSTOP);
    if !Process::title(slow).ends_with(" booting") {
        signal_process(slow, Signal::SIGCONT);
        answers(server, number);
        return None;
    }
    let ready = format!("worker 0 gen {number} ready");
    until("the other is ready", || titled(&ready).is_some());
    Some((number, slow))
}
