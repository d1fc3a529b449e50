//! Tests of the server as a service of systemd: what it says to the service manager, and the sockets
//! that it gets from there. The test is the service manager.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{PATIENCE, Process, Server, Start, guest};
use crate::process::signal_process;

/// Who hears what servers say of themselves.
struct Manager {
    socket: UnixDatagram,
    name: String,
    _folder: Option<TempDir>,
}

impl Manager {
    fn at_a_path() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::new(socket, path.to_str().unwrap().to_owned(), Some(folder))
    }

    fn at_an_abstract_name() -> Self {
        let name = format!("rgunicorn-blackbox-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::new(
            UnixDatagram::bind_addr(&address).unwrap(),
            format!("@{name}"),
            None,
        )
    }

    fn new(socket: UnixDatagram, name: String, folder: Option<TempDir>) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            socket,
            name,
            _folder: folder,
        }
    }

    /// A server that reports to this manager.
    fn hears(&self, start: Start) -> Start {
        start.env("NOTIFY_SOCKET", &self.name)
    }

    /// The next message.
    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self
            .socket
            .recv(&mut buffer)
            .expect("the server says something");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// All messages until one holds this line.
    fn until(&self, line: &str) -> Vec<String> {
        let mut messages = Vec::new();
        loop {
            let message = self.next();
            let last = message.lines().any(|found| found == line);
            messages.push(message);
            if last {
                return messages;
            }
        }
    }

    /// All messages that have come.
    fn rest(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut messages = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            messages.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        self.socket.set_nonblocking(false).unwrap();
        messages
    }
}

fn says(messages: &[String], line: &str) -> bool {
    let mut lines = messages.iter().flat_map(|message| message.lines());
    lines.any(|found| found == line)
}

#[test]
fn the_server_is_ready_when_a_worker_is() {
    let manager = Manager::at_a_path();
    // A start that takes its time: it compiles an interpreter.
    let start = Start::app("python").args(["--cache-dir", "none"]);
    let mut server = manager.hears(start).spawn();
    server.wait_log(&["compiling "]);
    let loader = server.worker();
    signal_process(loader, Signal::SIGSTOP);
    assert!(manager.next().starts_with("STATUS=starting: "));
    let before = manager.rest();
    assert!(!says(&before, "READY=1"), "{before:?}");
    signal_process(loader, Signal::SIGCONT);
    server.signal(Signal::SIGTERM);
    server.stopped();
    let rest = manager.rest();
    assert!(!says(&rest, "READY=1"), "it never was: {rest:?}");

    let server = manager.hears(Start::app("hello")).start();
    manager.until("READY=1");
    server.wait_log(&["role=worker", " ready "]);
}

#[test]
fn a_server_whose_start_fails_is_never_ready() {
    let manager = Manager::at_a_path();
    let ended = manager.hears(Start::app("app-boot-trap")).run();
    assert_eq!(ended.code, Some(4), "{ended:?}");
    let messages = manager.rest();
    assert!(!messages.is_empty());
    assert!(!says(&messages, "READY=1"), "{messages:?}");
}

#[test]
fn a_manager_with_an_abstract_name_is_told_too() {
    let manager = Manager::at_an_abstract_name();
    let server = manager.hears(Start::app("hello")).start();
    manager.until("READY=1");
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_manager_that_is_gone_does_no_harm() {
    let manager = Manager::at_a_path();
    let start = manager.hears(Start::app("hello"));
    drop(manager);
    start.start().get("/").is(200, "hello\n");
}

#[test]
fn the_status_tells_the_phase_the_generation_and_the_workers() {
    let manager = Manager::at_a_path();
    let server = manager.hears(Start::app("hello").args(["-w", "2"])).start();
    manager.until("STATUS=running: generation 1, 2 workers");
    server.signal(Signal::SIGTTIN);
    manager.until("STATUS=running: generation 1, 3 workers");
    server.signal(Signal::SIGHUP);
    manager.until("STATUS=running: generation 2, 2 workers");
}

/// Checks that a reload is told as such with the time at which it began, and that its end is told.
fn a_reload_is_told(manager: &Manager, server: &Server) {
    manager.rest();
    server.signal(Signal::SIGHUP);
    let begin = manager.until("RELOADING=1").pop().unwrap();
    let time = begin
        .lines()
        .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    let time: u64 = time.expect("systemd wants the time").parse().unwrap();
    assert!(time > 0);
    manager.until("READY=1");
}

#[test]
fn a_reload_is_told_with_its_time_and_its_end() {
    let manager = Manager::at_a_path();
    let server = manager.hears(Start::app("hello")).start();
    manager.until("READY=1");
    a_reload_is_told(&manager, &server);
    server.wait_log(&["generation 2 serves"]);
}

#[test]
fn the_end_of_a_reload_that_fails_is_told_too() {
    let manager = Manager::at_a_path();
    let start = Start::config("[apps.hello]\ncomponent = '{hello}'\n");
    let mut server = manager.hears(start).start();
    server.expect_errors();
    manager.until("READY=1");
    server.reconfigure("workers = 'many'\n");
    a_reload_is_told(&manager, &server);
    server.wait_log(&["generation 2 failed"]);
}

#[test]
fn a_stop_is_told() {
    let manager = Manager::at_a_path();
    let mut server = manager.hears(Start::app("echo")).start();
    manager.until("READY=1");
    let mut client = server.connect();
    client.begin_echo();
    server.signal(Signal::SIGTERM);
    // When it begins, not when it is over.
    manager.until("STOPPING=1");
    client.finish_echo();
    server.stopped();
}

#[test]
fn an_upgrade_tells_the_new_main_process_and_never_that_the_service_stops() {
    let manager = Manager::at_a_path();
    let mut server = manager.hears(Start::app("hello")).start();
    manager.until("READY=1");
    let new = server.upgrade();
    server.upgraded(new);
    server.hand_over(new);
    let mut messages = manager.until(&format!("MAINPID={new}"));
    // Whoever speaks from now on is the new one.
    server.wait_log(&["the server that started this one has left"]);
    server.signal(Signal::SIGHUP);
    messages.extend(manager.until("RELOADING=1"));
    assert!(!says(&messages, "STOPPING=1"), "{messages:?}");
    manager.until("READY=1");
    server.signal(Signal::SIGTERM);
    manager.until("STOPPING=1");
    server.stopped();
}

#[test]
fn an_upgrade_that_fails_leaves_the_main_process() {
    let manager = Manager::at_a_path();
    let start = Start::config("[apps.hello]\ncomponent = '{hello}'\n");
    let mut server = manager.hears(start).start();
    server.expect_errors();
    manager.until("READY=1");
    server.reconfigure("[apps.trap]\ncomponent = '{app-boot-trap}'\n");
    server.upgrade();
    server.wait_log(&["role=successor", "this server goes on"]);
    server.reconfigure("[apps.hello]\ncomponent = '{hello}'\n");
    server.signal(Signal::SIGHUP);
    let messages = manager.until("RELOADING=1");
    let other = |line: &str| {
        line.strip_prefix("MAINPID=")
            .is_some_and(|pid| pid != server.pid().to_string())
    };
    let mut lines = messages.iter().flat_map(|message| message.lines());
    assert!(!lines.any(other), "{messages:?}");
    manager.until("READY=1");
}

#[test]
fn a_watchdog_hears_that_the_server_lives() {
    let manager = Manager::at_a_path();
    let start = Start::app("hello").env("WATCHDOG_USEC", "1000000");
    let server = manager.hears(start).start();
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    // A server that stands still does not.
    server.signal(Signal::SIGSTOP);
    manager.rest();
    let silence = Some(Duration::from_secs(2));
    manager.socket.set_read_timeout(silence).unwrap();
    assert!(manager.socket.recv(&mut [0; 64]).is_err());
    manager.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    server.signal(Signal::SIGCONT);
    manager.until("WATCHDOG=1");
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_not_fed() {
    let manager = Manager::at_a_path();
    let start = Start::app("hello")
        .env("WATCHDOG_USEC", "100000")
        .env("WATCHDOG_PID", "1");
    let mut server = manager.hears(start).start();
    manager.until("READY=1");
    server.get("/").is(200, "hello\n");
    server.stop();
    assert!(!says(&manager.rest(), "WATCHDOG=1"));
}

/// A listening socket, and a shell's way to hand it to the server as systemd does.
fn activated(start: Start, count: usize, names: &str) -> (Start, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let setup =
        format!("exec 3<&0 4<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS={count} {names}");
    (start.stdin(OwnedFd::from(listener)).setup(&setup), url)
}

#[test]
fn a_socket_of_the_manager_takes_the_place_of_the_address() {
    let (start, url) = activated(Start::app("hello"), 1, "LISTEN_FDNAMES=web");
    let server = start.args(["--bind", "127.0.0.1:0"]).start();
    assert_eq!(server.ready_lines(1), [url]);
    server.get("/").is(200, "hello\n");
}

#[test]
fn sockets_of_the_manager_may_be_several_without_names() {
    let (start, url) = activated(Start::app("hello"), 2, "");
    let server = start.start();
    assert_eq!(server.ready_lines(2), [url.clone(), url]);
    server.get("/").is(200, "hello\n");
}

#[test]
fn whoever_connects_before_the_server_is_ready_is_answered() {
    let (start, url) = activated(Start::app("hello"), 1, "");
    let address = crate::harness::Address::of_url(&url);
    let mut client = crate::harness::Client::connect(&address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _server = start.start();
    client.response().is(200, "hello\n");
}

#[test]
fn a_socket_of_the_manager_is_kept_by_a_reload() {
    let settings = "workers = 2\n[apps.hello]\ncomponent = '{hello}'\n";
    let (start, url) = activated(Start::config(settings), 1, "LISTEN_FDNAMES=web");
    let server = start.start();
    assert_eq!(server.ready_lines(1), [url]);
    let before = server.workers(2);
    server.signal(Signal::SIGHUP);
    server.wait_log(&["generation 2 serves"]);
    crate::harness::until("the old workers have left", || {
        before.iter().all(|worker| Process::find(*worker).is_none())
    });
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_socket_of_the_manager_is_kept_by_an_upgrade() {
    let (start, url) = activated(Start::app("hello"), 1, "LISTEN_FDNAMES=web");
    let mut server = start.start();
    let new = server.upgrade();
    server.upgraded(new);
    server.hand_over(new);
    // The new one is served on the same socket, and on nothing else.
    let lines = server.ready_lines(1);
    assert!(lines.iter().all(|line| *line == url), "{lines:?}");
    server.get("/").is(200, "hello\n");
}

#[test]
fn sockets_that_are_meant_for_another_process_are_left_alone() {
    let (start, url) = activated(
        Start::new("serve").args([guest("hello")]),
        1,
        "LISTEN_PID=1",
    );
    let server = start.start();
    let lines = server.ready_lines(1);
    assert_ne!(lines, [url]);
    server.get("/").is(200, "hello\n");
}

#[test]
fn what_the_manager_says_to_the_server_does_not_reach_other_programs() {
    let manager = Manager::at_a_path();
    let (start, _) = activated(Start::app("wasi-environment"), 1, "LISTEN_FDNAMES=web");
    let server = manager.hears(start).start();
    server.get("/").is(200, "");
}
