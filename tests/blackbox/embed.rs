//! Tests of the server inside another program: `examples/embed`, run as it is.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Address, Client, guest};

/// The embedding program. Cargo puts examples beside the program that the tests are for.
struct Embed {
    child: Child,
    lines: BufReader<ChildStdout>,
    seen: Vec<String>,
}

impl Embed {
    fn start(args: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_rgunicorn")).with_file_name("examples/embed");
        let mut child = Command::new(program)
            .args([guest("hello").as_str(), "--bind", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example is built: cargo build --release --examples");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe"));
        let seen = Vec::new();
        Self { child, lines, seen }
    }

    /// Reads until a line holds all of `parts`, and returns it.
    fn line(&mut self, parts: &[&str]) -> String {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("lines are text");
            assert!(read > 0, "no line with {parts:?}: {:#?}", self.seen);
            self.seen.push(line.clone());
            if parts.iter().all(|part| line.contains(part)) {
                return line.trim_end().to_owned();
            }
        }
    }

    fn address(&mut self, what: &str) -> Address {
        let line = self.line(&[what]);
        Address::of_url(line.strip_prefix(what).expect("it begins so"))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process number fits");
        kill(Pid::from_raw(pid), signal).expect("it can be signalled");
    }

    fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        self.line(&["Stopped(Ok)"]);
        let status = self.child.wait().expect("it is our child");
        assert_eq!(status.code(), Some(0));
    }
}

impl Drop for Embed {
    fn drop(&mut self) {
        // After a stop there is nothing left to kill.
        let _ = self.child.kill();
    }
}

fn status_page(address: &Address) -> String {
    let mut client = Client::connect(address);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), 200);
    String::from_utf8(response.body).expect("the page is text")
}

#[test]
fn a_program_with_a_role_of_its_own_serves_both() {
    let mut embed = Embed::start(&["--workers", "2"]);
    let page = embed.address("status page on ");
    let apps = embed.address("apps on ");
    assert_eq!(status_page(&page), "requests answered: 0\n");
    Client::connect(&apps).get("/").is(200, "hello\n");
    Client::connect(&apps).get("/").is(200, "hello\n");
    assert_eq!(status_page(&page), "requests answered: 2\n");
    embed.stop();
}

#[test]
fn an_embedder_learns_of_its_childrens_lives() {
    let mut embed = Embed::start(&["--workers", "1"]);
    embed.line(&["up: role=loader"]);
    embed.line(&["up: role=worker slot=0 gen=1"]);
    let ready = embed.line(&["ready: role=worker slot=0 gen=1 pid="]);
    let (_, pid) = ready.rsplit_once('=').expect("it ends with the number");
    let pid = Pid::from_raw(pid.parse().expect("it is a number"));
    kill(pid, Signal::SIGKILL).expect("it can be killed");
    embed.line(&["gone: role=worker slot=0", "signal SIGKILL"]);
    embed.line(&["ready: role=worker slot=0"]);
    embed.signal(Signal::SIGHUP);
    embed.line(&["ready: role=worker slot=0 gen=2"]);
    embed.line(&["generation 2 serves"]);
    embed.stop();
}
