//! Tests of a server in the background.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, getsid};

use crate::harness::{Address, Client, Process, Server, Start, until, until_some};
use crate::process::{pid_in, signal_process};

// The background.

/// A server in the background. What of it is left at the end of the test is killed.
struct Daemon {
    /// The command that started it, which has ended.
    command: Server,
    pid: i32,
}

impl Daemon {
    fn start(start: Start) -> Self {
        let mut command = start.args(["--daemon", "--pid", "server.pid"]).spawn();
        let path = command.folder().join("server.pid");
        assert_eq!(command.wait_exit().code(), Some(0));
        let pid = pid_in(&path).expect("it has a pid file");
        Self { command, pid }
    }

    fn group(&self) -> Option<i32> {
        Process::find(self.pid).map(|process| process.group)
    }

    fn address(&self) -> Address {
        Address::of_url(&self.command.ready_lines(1)[0])
    }

    fn get(&self) -> String {
        let response = Client::connect(&self.address()).get("/");
        response.text().to_owned()
    }

    fn workers(&self, count: usize) -> Vec<i32> {
        until_some("the number of workers", || {
            let now = Process::children(self.pid);
            (now.len() == count).then_some(now)
        })
    }

    /// Checks that it ends by itself, cleanly, and that nothing of it is left.
    fn stopped(self) {
        let group = self.group();
        let status = waitpid(Pid::from_raw(self.pid), None).expect("it was adopted");
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        until("nothing of it is left", || {
            !Process::all()
                .iter()
                .any(|process| Some(process.group) == group)
        });
        assert!(!self.command.folder().join("server.pid").exists());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(group) = self.group() {
            // It may just have ended.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

#[test]
fn the_command_that_starts_a_daemon_ends_when_it_serves() {
    let daemon = Daemon::start(Start::app("hello"));
    let urls = daemon.command.ready_lines(1);
    assert!(
        urls.len() == 1 && urls[0].starts_with("http://127.0.0.1:"),
        "{urls:?}"
    );
    assert_eq!(daemon.get(), "hello\n");
    signal_process(daemon.pid, Signal::SIGTERM);
    daemon.stopped();
}

#[test]
fn a_daemon_has_a_session_of_its_own_that_it_does_not_lead() {
    let daemon = Daemon::start(Start::app("hello"));
    let session = |pid| getsid(Some(Pid::from_raw(pid))).unwrap().as_raw();
    let own = session(daemon.pid);
    assert_ne!(own, daemon.pid);
    assert_ne!(own, getsid(None).unwrap().as_raw());
    assert_eq!(session(daemon.workers(1)[0]), own);
    signal_process(daemon.pid, Signal::SIGTERM);
    daemon.stopped();
}

#[test]
fn no_process_of_a_daemon_holds_the_streams_of_the_command_that_started_it() {
    let daemon = Daemon::start(Start::app("hello").args(["-w", "2"]));
    let mut processes = daemon.workers(2);
    processes.push(daemon.pid);
    until("all standard streams lead nowhere", || {
        let streams = processes.iter().flat_map(|pid| {
            (0..3).map(move |stream| fs::read_link(format!("/proc/{pid}/fd/{stream}")).unwrap())
        });
        streams
            .into_iter()
            .all(|target| target == Path::new("/dev/null"))
    });
    // Whoever waits for the end of what the command says is not kept waiting.
    let Daemon { ref command, .. } = daemon;
    command.wait_log_end();
    assert_eq!(daemon.get(), "hello\n");
    signal_process(daemon.pid, Signal::SIGTERM);
    daemon.stopped();
}

#[test]
fn a_daemon_with_a_log_file_logs_there() {
    let daemon = Daemon::start(Start::app("hello").args(["--error-logfile", "server.log"]));
    let path = daemon.command.folder().join("server.log");
    let logged = || fs::read_to_string(&path).unwrap();
    until("the start is logged", || {
        logged().contains(" ready boot_ms=")
    });
    assert!(!daemon.command.log().contains("role=worker"));
    signal_process(daemon.workers(1)[0], Signal::SIGKILL);
    until("the end of a worker is logged", || {
        logged().contains("signal SIGKILL")
    });
    daemon.workers(1);
    signal_process(daemon.pid, Signal::SIGTERM);
    daemon.stopped();
    assert!(fs::read_to_string(&path).is_err() || logged().contains("role=arbiter stopped"));
}

/// Starts a daemon whose start fails, and checks that whoever started it learns why.
fn start_fails(start: Start, code: i32, reason: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.pid");
    let ended = start
        .args(["--daemon", "--pid", path.to_str().unwrap()])
        .run();
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(ended.stderr.contains(reason), "{ended:?}");
    assert!(!ended.stderr.contains("Serving HTTP"), "{ended:?}");
    assert!(!path.exists(), "it still runs");
}

#[test]
fn a_daemon_that_cannot_bind_is_exit_code_6() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let reason = format!("rgunicorn: cannot bind http://{address}/: address in use\n");
    start_fails(Start::app("hello").args(["--bind", &address]), 6, &reason);
}

#[test]
fn a_daemon_whose_app_does_not_load_is_exit_code_4() {
    start_fails(Start::app("app-boot-trap"), 4, "cannot make an instance");
}

#[test]
fn a_daemon_whose_worker_does_not_boot_is_exit_code_3() {
    let start = Start::app("app-boot-spin").args(["--boot-timeout", "1"]);
    start_fails(start, 3, "was not ready in time");
}

#[test]
fn a_daemon_with_a_wrong_setting_is_exit_code_5() {
    start_fails(Start::config("workers = 'some'\n"), 5, "rgunicorn.toml:1:");
}

#[test]
fn a_daemon_that_is_killed_while_it_starts_is_exit_code_1() {
    let start = Start::app("app-boot-spin").args(["--boot-timeout", "3600"]);
    let mut command = start.args(["--cpu-timeout", "24h", "--daemon"]).spawn();
    let line = command.wait_log(&["role=worker", " started"]);
    let worker = line.split(" pid=").nth(1).unwrap().split(' ').next();
    let worker = worker.unwrap().parse().unwrap();
    let arbiter = Process::find(worker).unwrap().parent;
    signal_process(arbiter, Signal::SIGKILL);
    // The worker may not have found out yet.
    assert_eq!(command.wait_exit().code(), Some(1));
    let _ = kill(Pid::from_raw(worker), Signal::SIGKILL);
}

#[test]
fn winch_retires_the_workers_of_a_daemon_and_hup_brings_them_back() {
    let daemon = Daemon::start(Start::app("hello").args(["-w", "2"]));
    let before = daemon.workers(2);
    signal_process(daemon.pid, Signal::SIGWINCH);
    daemon.workers(0);
    // Whoever connects meanwhile is not turned away.
    let mut client = Client::connect(&daemon.address());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    signal_process(daemon.pid, Signal::SIGHUP);
    client.response().is(200, "hello\n");
    let after = daemon.workers(2);
    assert!(before.iter().all(|worker| !after.contains(worker)));
    drop(client);
    signal_process(daemon.pid, Signal::SIGTERM);
    daemon.stopped();
}
