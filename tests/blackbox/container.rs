//! Tests of a server that is the first process of a container.

use std::path::Path;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;

use crate::harness::{Process, Server, Start, until, until_some};
use crate::process::signal_process;

// The first process of a container.

/// A server that is number 1 in a pid namespace. The command that makes the namespace runs as well,
/// outside, and ends as the server does.
struct Container {
    command: Server,
    arbiter: i32,
}

impl Container {
    /// Starts it beside the processes that `script` starts in the namespace.
    fn start(script: &str) -> Self {
        let root = if geteuid().is_root() {
            ""
        } else {
            "--map-root-user"
        };
        let setup = format!(
            "exec unshare {root} --pid --fork --mount-proc \
             sh -c '{script}; exec \"$0\" \"$@\"' \"$0\" \"$@\""
        );
        let command = Start::app("hello").args(["-w", "2"]).setup(&setup).start();
        let arbiter = Process::children(command.pid())[0];
        Self { command, arbiter }
    }

    fn children(&self, what: &str) -> Vec<i32> {
        let mut children = Process::children(self.arbiter);
        children.retain(|child| Process::title(*child).starts_with(what));
        children
    }

    fn workers(&self) -> Vec<i32> {
        until_some("two workers", || {
            let workers = self.children("rgunicorn: worker ");
            (workers.len() == 2).then_some(workers)
        })
    }

    fn stop(mut self) {
        signal_process(self.arbiter, Signal::SIGTERM);
        self.command.stopped();
    }
}

/// A process whose parent ends at once, and which has a child.
const ORPHANS: &str = "(sh -c \"sleep 86400 & wait\" </dev/null >/dev/null 2>&1 &)";

#[test]
fn the_first_process_of_a_container_serves_and_stops_cleanly() {
    let container = Container::start(":");
    assert_eq!(container.workers().len(), 2);
    let inside = Process::numbers(container.arbiter, "NSpid:");
    assert_eq!(inside.last(), Some(&1), "{inside:?}");
    container.command.get("/").is(200, "hello\n");
    container.stop();
}

#[test]
fn the_first_process_of_a_container_replaces_workers_and_reloads() {
    let container = Container::start(":");
    let before = container.workers();
    signal_process(before[0], Signal::SIGKILL);
    until("the worker is replaced", || {
        let now = container.children("rgunicorn: worker ");
        now.len() == 2 && !now.contains(&before[0])
    });
    signal_process(container.arbiter, Signal::SIGHUP);
    container.command.wait_log(&["generation 2 serves"]);
    container.command.get("/").is(200, "hello\n");
    container.stop();
}

#[test]
fn the_first_process_of_a_container_reaps_orphans() {
    let container = Container::start(ORPHANS);
    let [shell] = container.children("sh ")[..] else {
        panic!("the shell is an orphan");
    };
    let sleep = until_some("it has a child", || Process::children(shell).pop());
    for orphan in [shell, sleep] {
        signal_process(orphan, Signal::SIGKILL);
        // One that nobody reaps would still be there.
        let path = format!("/proc/{orphan}");
        until("the orphan is reaped", || !Path::new(&path).exists());
    }
    container.command.get("/").is(200, "hello\n");
    assert_eq!(container.workers().len(), 2);
    container.stop();
}

#[test]
fn the_first_process_of_a_container_passes_no_signal_on_to_orphans() {
    let container = Container::start(ORPHANS);
    let [shell] = container.children("sh ")[..] else {
        panic!("the shell is an orphan");
    };
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGWINCH] {
        signal_process(container.arbiter, signal);
    }
    container.command.wait_log(&["generation 2 serves"]);
    assert!(Process::find(shell).is_some());
    container.stop();
}

#[test]
fn the_first_process_of_a_container_refuses_an_upgrade_and_says_why() {
    let mut container = Container::start(":");
    container.command.expect_errors();
    let before = container.workers();
    signal_process(container.arbiter, Signal::SIGUSR2);
    let reason = "the first process of a container cannot be replaced";
    container.command.wait_log(&["ERROR", reason]);
    assert_eq!(container.workers(), before);
    container.command.get("/").is(200, "hello\n");
    container.stop();
}
