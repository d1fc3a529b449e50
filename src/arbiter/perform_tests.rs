//! Defines the tests of the driver with real processes: an arbiter in a fork of the test.
//!
//! The fork has one thread, as an arbiter must; its children are the roles of each test.

use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::*;
use crate::arbiter::builder::{Arbiter, Builder};
use crate::sys::process::ExitReason;
use crate::sys::socket::BindTo;
use crate::sys::{fork_lock, memory_file};

const LIMIT: Duration = Duration::from_secs(20);

/// Runs the arbiter that `build` describes until it ends, and returns its exit code.
fn outcome(build: impl FnOnce() -> Builder) -> u8 {
    let _forking = fork_lock::forking();
    // It ends when the arbiter and all of its children have.
    let (end, held) = Channel::pair().unwrap();
    let arbiter = process::fork(|| {
        let _held = held;
        build().build().map_or(99, |arbiter| i32::from(arbiter.run().number()))
    });
    let arbiter = arbiter.unwrap();
    let ended = poll::wait(&mut [Watched::readable(end.as_fd())], Some(LIMIT)).unwrap();
    if ended == 0 {
        process::kill(arbiter, Signal::Kill).unwrap();
    }
    loop {
        if let Some((pid, reason)) = process::reap() {
            assert_eq!(pid, arbiter);
            match reason {
                ExitReason::Exited(status) => return status as u8,
                ExitReason::Signaled(_) => panic!("the arbiter did not end in time"),
            }
        }
    }
}

fn say(child: &Child, message: &FromChild, files: &[&OwnedFd]) {
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    child.channel.send_blocking(&message.encode(), &files).unwrap();
}

fn good_loader(child: Child) -> i32 {
    for app in 0..2 {
        let artefact = memory_file::sealed("artefact", format!("code {app}").as_bytes()).unwrap();
        say(&child, &FromChild::Artefact { app }, &[&artefact]);
    }
    say(&child, &FromChild::Loaded, &[]);
    0
}

fn good_worker(child: Child) -> i32 {
    let signals = SignalQueue::new(&[Signal::Quit]).unwrap();
    say(&child, &FromChild::Ready, &[]);
    serve(&child, &signals)
}

/// Waits for an order: the status is 0 for a drain, 10 for a quit, 11 if the arbiter is dead.
fn serve(child: &Child, signals: &SignalQueue) -> i32 {
    loop {
        let fds = [signals.as_fd(), child.channel.as_fd()];
        poll::wait(&mut fds.map(Watched::readable), None).unwrap();
        if signals.next().unwrap() == Some(Signal::Quit) {
            return 10;
        }
        let mut buffer = [0; FRAME_BYTES_MAX];
        match child.channel.recv(&mut buffer).unwrap() {
            Recv::Empty => {}
            Recv::Eof => return 11,
            Recv::Frame { len, .. } => {
                assert_eq!(ToChild::decode(&buffer[..len]), Ok(ToChild::Drain));
                return 0;
            }
        }
    }
}

/// An arbiter of good children that is told to stop when the first is ready.
fn good(stop: Signal) -> Builder {
    let arbiter = process::own_pid;
    Arbiter::builder()
        .workers(2)
        .apps(2)
        .loader(Role::new("loader", good_loader))
        .worker(Role::new("worker", good_worker))
        .on_ready(move || process::kill(arbiter(), stop).unwrap())
}

fn with_worker(main: impl Fn(Child) -> i32 + 'static) -> Builder {
    good(Signal::Term).worker(Role::new("worker", main))
}

fn with_loader(main: impl Fn(Child) -> i32 + 'static) -> Builder {
    good(Signal::Term).loader(Role::new("loader", main))
}

#[test]
fn a_stop_is_a_success() {
    for signal in [Signal::Term, Signal::Int, Signal::Quit] {
        assert_eq!(outcome(|| good(signal)), 0, "{signal:?}");
    }
}

#[test]
fn signals_without_a_meaning_do_not_kill() {
    let build = || {
        good(Signal::Term).on_ready(|| {
            let own = process::own_pid();
            for signal in [Signal::Hup, Signal::Usr1, Signal::Usr2, Signal::Winch, Signal::Term] {
                process::kill(own, signal).unwrap();
            }
        })
    };
    assert_eq!(outcome(build), 0);
}

#[test]
fn the_artefacts_and_the_listeners_reach_the_workers_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let build = || {
        let listener = Listener::bind(&BindTo::Unix(path.clone()), 8).unwrap();
        let path = path.clone();
        let worker = with_worker(move |child| {
            let read = |file: &OwnedFd| std::fs::read(memory_file::path_of(file.as_fd())).unwrap();
            let handed: Vec<_> = child.handed.iter().map(read).collect();
            assert_eq!(handed, [b"code 0", b"code 1"]);
            let _client = UnixStream::connect(&path).unwrap();
            assert!(child.listeners[0].accept().unwrap().is_some());
            // The third worker is forked while the arbiter has channels to the first two.
            let channels = channels_open();
            assert_eq!(channels, 1, "it holds the channel of another");
            good_worker(child)
        });
        worker.workers(3).listeners(vec![listener])
    };
    let mut before = 0;
    let code = outcome(|| {
        before = channels_open();
        build().on_ready(|| process::kill(process::own_pid(), Signal::Int).unwrap())
    });
    assert_eq!(code, 0);
    assert!(!path.exists(), "the socket is unlinked");
}
