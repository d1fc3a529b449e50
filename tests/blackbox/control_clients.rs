//! Tests of clients of the control socket that mean no good, or do no good: nobody is delayed by them.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, send, socket,
};

use crate::control::{controlled, ctl, done, show, socket_of};
use crate::harness::{Load, Server, Start, until, until_some};

/// Frames, byte by byte: version, kind, length, payload.
const RELOAD: [u8; 4] = [1, 68, 0, 0];
const SHOW_ALL: [u8; 5] = [1, 64, 1, 0, 0];

/// A client that says nothing; `None` when so many others wait to be let in that the kernel refuses.
fn try_connect(path: &Path) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let client = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    match connect(client.as_raw_fd(), &UnixAddr::new(path).unwrap()) {
        Ok(()) => Some(client),
        Err(Errno::EAGAIN | Errno::ECONNREFUSED) => None,
        Err(error) => panic!("cannot connect: {error}"),
    }
}

fn say(client: &OwnedFd, bytes: &[u8]) -> nix::Result<usize> {
    send(client.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL)
}

/// A client that says this. While too many others are there it is turned away.
fn speak(path: &Path, bytes: &[u8]) -> OwnedFd {
    until_some("the server lets clients in", || {
        let client = try_connect(path)?;
        say(&client, bytes).is_ok().then_some(client)
    })
}

/// Checks that requests and another control client are answered, whoever else is connected.
fn goes_on(server: &Server) {
    let load = Load::on(server.address(), "/", 2);
    load.more(50);
    for _ in 0..3 {
        // It may have to try again, and then it is told so.
        until("a well-behaved client is answered", || {
            let ended = ctl(server, &["show", "workers"]);
            let may_try_again = ended.stderr.contains("try again");
            assert!(ended.code == Some(0) || may_try_again, "{ended:?}");
            ended.code == Some(0)
        });
        load.more(50);
    }
    load.none_was_lost();
}

#[test]
fn whoever_orders_a_reload_and_goes_away_does_no_harm() {
    let server = controlled(Start::app("hello"));
    let client = speak(&socket_of(&server), &RELOAD);
    drop(client);
    server.wait_log(&["generation 2 serves"]);
    server.get("/").is(200, "hello\n");
    assert_eq!(show(&server, "stats")["stats"]["reloads"], 1);
}

#[test]
fn clients_that_never_speak_keep_nobody_away() {
    let server = controlled(Start::app("hello"));
    let path = socket_of(&server);
    let silent: Vec<OwnedFd> = (0..40).filter_map(|_| try_connect(&path)).collect();
    assert!(silent.len() > 16);
    goes_on(&server);
}

/// Does something again and again, beside the test.
struct Nuisance {
    over: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Nuisance {
    fn new(mut act: impl FnMut() + Send + 'static) -> Self {
        let over = Arc::<AtomicBool>::default();
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !told.load(Ordering::SeqCst) {
                act();
                count += 1;
            }
            count
        });
        Self { over, thread }
    }

    /// Ends it, and says how often it was done.
    fn end(self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        self.thread.join().expect("it only makes system calls")
    }
}

#[test]
fn a_flood_of_garbage_delays_nobody() {
    let server = controlled(Start::app("hello"));
    let path = socket_of(&server);
    let garbage: Vec<u8> = (0..=255).cycle().take(3000).collect();
    let nuisance = Nuisance::new(move || {
        let Some(client) = try_connect(&path) else {
            return;
        };
        for length in [0, 1, 4, 5, 300, 3000] {
            if say(&client, &garbage[..length]).is_err() {
                break;
            }
        }
    });
    goes_on(&server);
    assert!(nuisance.end() > 100);
    goes_on(&server);
}

#[test]
fn a_flood_of_orders_delays_nobody() {
    let server = controlled(Start::app("hello"));
    let path = socket_of(&server);
    let nuisance = Nuisance::new(move || {
        if let Some(client) = try_connect(&path) {
            for _ in 0..10 {
                let _ = say(&client, &SHOW_ALL);
            }
        }
    });
    goes_on(&server);
    assert!(nuisance.end() > 100);
}

#[test]
fn frames_that_are_no_orders_end_the_connection_and_nothing_else() {
    let server = controlled(Start::app("hello"));
    let worker = server.worker();
    for bytes in [
        &[][..],
        &[1],
        &[2, 64, 1, 0, 0],
        &[1, 64, 0, 0],
        &[1, 64, 1, 0, 9],
        &[1, 68, 1, 0, 0],
        &[1, 71, 1, 0, 2],
        &[1, 1, 0, 0],
        &[1, 129, 0, 0],
        &[0xff; 4096],
        &[0; 10_000],
    ] {
        let client = speak(&socket_of(&server), bytes);
        until("the connection is closed", || {
            say(&client, &SHOW_ALL).is_err()
        });
    }
    assert_eq!(server.worker(), worker);
    assert_eq!(show(&server, "stats")["stats"]["reloads"], 0);
}

#[test]
fn a_client_that_never_reads_delays_nobody() {
    // A report that does not fit into the queue of a socket.
    let mut settings = "control-socket = 'ctl.sock'\nworkers = 1\n".to_owned();
    let long = "long/".repeat(100);
    for number in 0..400 {
        settings.push_str(&format!(
            "[apps.app-{number}]\ncomponent = '{{hello}}'\nroutes = ['/{long}{number}']\n"
        ));
    }
    settings.push_str("[apps.root]\ncomponent = '{hello}'\n");
    let server = Start::config(&settings).start();
    let length = done(&server, &["--json", "show"]).len();
    assert!(length > 1 << 18, "only {length} bytes");
    let path = socket_of(&server);
    let _silent: Vec<OwnedFd> = (0..4).map(|_| speak(&path, &SHOW_ALL)).collect();
    goes_on(&server);
    // Whoever reads gets all of it all the same.
    assert_eq!(show(&server, "apps")["apps"].as_array().unwrap().len(), 401);
}

#[test]
fn a_stop_waits_for_no_control_client() {
    let mut server = controlled(Start::app("hello"));
    let path = socket_of(&server);
    let _silent: Vec<OwnedFd> = (0..20).filter_map(|_| try_connect(&path)).collect();
    let _unread = speak(&path, &SHOW_ALL);
    server.signal(Signal::SIGTERM);
    server.stopped();
    assert!(!path.exists());
}
