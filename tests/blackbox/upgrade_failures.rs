//! Tests of upgrades that fail: the old program goes on as if there had been none, and says why.

use nix::sys::signal::Signal;

use crate::harness::{Process, Server, until};
use crate::upgrade::{auto, is_gone, pid_file, settings, switch_to_script, told};

/// Checks that the server is as if there had been no upgrade, and that a next one would work.
fn goes_on(server: &mut Server, workers: &[i32]) {
    server.expect_errors();
    assert_eq!(server.workers(workers.len()), workers);
    assert_eq!(told(server.address()), "NAME=old");
    assert_eq!(pid_file(server, "server.pid"), Some(server.pid()));
    until("the new pid file is gone", || {
        pid_file(server, "server.pid.2").is_none()
    });
    assert_eq!(server.workers(workers.len()), workers);
}

#[test]
fn settings_that_are_broken_leave_the_old_program_as_it_was() {
    let mut server = auto("workers = 2").start();
    let workers = server.workers(2);
    server.reconfigure("wrokers = 2\n");
    let new = server.upgrade();
    let line = server.wait_log(&["ERROR role=successor", "this server goes on"]);
    assert!(line.contains(&format!("pid={new} ")), "{line}");
    assert!(line.contains("rgunicorn.toml:1:1: wrokers"), "{line}");
    goes_on(&mut server, &workers);
}

#[test]
fn a_component_that_is_broken_leaves_the_old_program_as_it_was() {
    let mut server = auto("workers = 2").start();
    let workers = server.workers(2);
    server.reconfigure("pidfile = 'server.pid'\n[apps.kv]\ncomponent = '{app-unknown-import}'\n");
    let new = server.upgrade();
    let line = server.wait_log(&["ERROR role=successor", "this server goes on"]);
    assert!(line.contains(&format!("pid={new} ")), "{line}");
    assert!(line.contains("app-unknown-import"), "{line}");
    goes_on(&mut server, &workers);
}

#[test]
fn workers_that_trap_in_boot_leave_the_old_program_as_it_was() {
    let mut server = auto("workers = 2").start();
    let workers = server.workers(2);
    server.reconfigure("pidfile = 'server.pid'\n[apps.trap]\ncomponent = '{app-boot-trap}'\n");
    server.upgrade();
    let line = server.wait_log(&["ERROR role=successor", "this server goes on"]);
    assert!(line.contains("cannot make an instance"), "{line}");
    goes_on(&mut server, &workers);
}

#[test]
fn an_address_in_use_leaves_the_old_program_as_it_was() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut server = auto("").start();
    let workers = server.workers(1);
    server.reconfigure(&settings(
        "new",
        &format!("bind = ['127.0.0.1:0', '{address}']"),
    ));
    server.upgrade();
    let line = server.wait_log(&["ERROR role=successor", "this server goes on"]);
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
    goes_on(&mut server, &workers);
}

#[test]
fn a_program_that_does_something_else_leaves_the_old_one_as_it_was() {
    let mut server = auto("").start();
    let workers = server.workers(1);
    server.switch_program("/bin/false");
    server.upgrade();
    let line = server.wait_log(&["ERROR role=successor", "this server goes on"]);
    assert!(line.contains("the new program died"), "{line}");
    goes_on(&mut server, &workers);
}

#[test]
fn a_file_that_is_no_program_leaves_the_old_one_as_it_was() {
    let mut server = auto("").start();
    let workers = server.workers(1);
    let text = server.folder().join("rgunicorn.toml");
    server.switch_program(text);
    server.signal(Signal::SIGUSR2);
    let line = server.wait_log(&["ERROR role=successor", "cannot be started"]);
    assert!(line.to_lowercase().contains("permission denied"), "{line}");
    goes_on(&mut server, &workers);
}

#[test]
fn a_name_that_leads_nowhere_leaves_the_old_program_as_it_was() {
    let mut server = auto("").start();
    let workers = server.workers(1);
    server.switch_program("/nowhere/rgunicorn");
    server.signal(Signal::SIGUSR2);
    let line = server.wait_log(&["ERROR role=successor", "cannot be started"]);
    assert!(line.contains("No such file"), "{line}");
    goes_on(&mut server, &workers);
}

#[test]
fn an_upgrade_works_after_one_that_failed() {
    let mut server = auto("").start();
    server.expect_errors();
    server.switch_program("/bin/false");
    server.upgrade();
    server.wait_log(&["this server goes on"]);
    server.switch_program(env!("CARGO_BIN_EXE_rgunicorn"));
    let new = server.upgrade();
    server.hand_over(new);
    assert_eq!(told(server.address()), "NAME=old");
}

#[test]
fn a_program_that_does_not_get_ready_in_time_is_ended() {
    let mut server = auto("upgrade-timeout = 1").start();
    let workers = server.workers(1);
    switch_to_script(&server, "#!/bin/sh\nexec sleep 86400\n");
    let new = server.upgrade();
    server.wait_log(&[&format!(
        "role=successor gen=1 pid={new} was not ready in time"
    )]);
    server.wait_log(&["ERROR role=successor", "this server goes on"]);
    is_gone(new);
    goes_on(&mut server, &workers);
}

#[test]
fn a_program_that_compiles_for_too_long_is_ended_with_its_children() {
    let mut server = auto("upgrade-timeout = 1").start();
    let workers = server.workers(1);
    server.reconfigure(
        "pidfile = 'server.pid'\ncache-dir = 'none'\n[apps.slow]\ncomponent = '{python}'\n",
    );
    let new = server.upgrade();
    server.wait_log(&[
        "ERROR role=successor",
        "this server goes on",
        "was not ready in time",
    ]);
    is_gone(new);
    // The new pid file is left by a process that had no time to remove it.
    server.expect_errors();
    assert_eq!(server.workers(1), workers);
    assert_eq!(told(server.address()), "NAME=old");
    let ours = [server.pid(), workers[0]];
    until("the loader is gone too", || {
        let mut all = Process::all().into_iter();
        all.all(|process| process.group != server.pid() || ours.contains(&process.pid))
    });
}
