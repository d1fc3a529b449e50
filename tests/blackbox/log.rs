//! Tests of where the log goes, and of what happens when it can go there no more.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::harness::{Address, Client, Process, Start, guest, until};
use crate::process::signal_process;

#[test]
fn usr1_opens_the_log_file_again_for_the_arbiter_and_the_workers() {
    let start = Start::app("wasi-print").args(["-w", "2", "--error-logfile", "server.log"]);
    let mut server = start.start();
    let (path, rotated) = (
        server.folder().join("server.log"),
        server.folder().join("server.log.1"),
    );
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let workers = server.workers(2);
    server.get("/").is(200, "printed\n");
    let line_of = |pid: i32| format!(" pid={pid}");
    fs::rename(&path, &rotated).unwrap();
    server.signal(Signal::SIGUSR1);
    until("both workers write to the new file", || {
        server.get("/").is(200, "printed\n");
        let log = read(&path);
        workers.iter().all(|pid| {
            let of_worker = line_of(*pid);
            log.lines()
                .any(|line| line.contains(&of_worker) && line.contains("standard output, line 0"))
        })
    });
    let before = read(&rotated);
    server.signal(Signal::SIGTTIN);
    until("the arbiter writes to the new file", || {
        read(&path).contains("role=arbiter workers=3")
    });
    server.get("/").is(200, "printed\n");
    server.workers(3);
    server.stop();
    assert!(read(&path).contains("role=arbiter stopped"));
    assert_eq!(read(&rotated), before);
}

#[test]
fn usr1_leaves_the_log_as_it_was_when_the_file_cannot_be_opened() {
    let start = Start::app("hello").args(["--error-logfile", "logs/server.log"]);
    let logs = start.folder().join("logs");
    fs::create_dir(&logs).unwrap();
    let server = start.start();
    let away = server.folder().join("away");
    fs::rename(&logs, &away).unwrap();
    server.signal(Signal::SIGUSR1);
    until("the reason is in the old file", || {
        let log = fs::read_to_string(away.join("server.log")).unwrap();
        log.contains("ERROR role=arbiter cannot open") && log.contains("No such file")
    });
    server.get("/").is(200, "hello\n");
}

#[test]
fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_rgunicorn"));
    let arguments = ["serve", &guest("hello"), "-b", "127.0.0.1:0", "-w", "1"];
    let mut child = command
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let prefix = "Serving HTTP on ";
    let url = lines.find_map(|line| line.unwrap().strip_prefix(prefix).map(str::to_owned));
    drop(lines);
    let address = Address::of_url(&url.expect("it serves"));
    signal_process(pid, Signal::SIGTTIN);
    let workers = || Process::all().iter().filter(|it| it.parent == pid).count();
    until("there is one worker more", || workers() == 2);
    Client::connect(&address).get("/").is(200, "hello\n");
    signal_process(pid, Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
