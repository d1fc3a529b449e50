//! Tests of accepting while workers are killed, frozen, replaced and out of descriptors: nothing is lost but
//! what a dead worker was serving, nobody spins, nobody starves.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::accept::{ALL, BY_TURNS, accepting, each, once, sum};
use crate::control::{controlled, done, show};
use crate::harness::{Client, Load, Process, Server, Start, until, until_some};
use crate::process::signal_process;

fn frozen(pid: i32) -> Frozen {
    signal_process(pid, Signal::SIGSTOP);
    Frozen(pid)
}

/// A process that is stopped until this is dropped.
struct Frozen(i32);

impl Drop for Frozen {
    fn drop(&mut self) {
        signal_process(self.0, Signal::SIGCONT);
    }
}

#[test]
fn a_frozen_worker_costs_no_connection_and_accepts_again_when_it_lives() {
    for accept in BY_TURNS {
        let server = accepting("hello", accept, &["-w", "3", "--log-level", "trace"]);
        let pids = server.workers(3);
        once(&server, "/").response().is(200, "hello\n");
        for pid in &pids {
            let frozen = frozen(*pid);
            for _ in 0..6 {
                once(&server, "/").response().is(200, "hello\n");
            }
            drop(frozen);
        }
        let passed_over = sum(&server, "revocations");
        assert!((1..=3).contains(&passed_over), "{accept}: {passed_over}");
        server.wait_log(&["did not accept a connection: passing it over"]);
        server.wait_log(&["is told REVOKE"]);
        server.wait_log(&["says ALIVE:"]);
        server.wait_log(&["lives: it accepts again"]);
        let before = each(&server, "accepted");
        let more = || {
            once(&server, "/").response().is(200, "hello\n");
            let now = each(&server, "accepted");
            now.iter().zip(&before).all(|(now, before)| now > before)
        };
        until("all accept again", more);
        assert_eq!(server.workers(3), pids, "{accept}");
    }
}

#[test]
fn workers_that_are_killed_take_nothing_with_them_but_what_they_serve() {
    for accept in BY_TURNS {
        let server = accepting("hello", accept, &["-w", "4"]);
        for _ in 0..12 {
            // Idle ones, of which one is to accept the next connection.
            let pids = server.workers(4);
            signal_process(pids[0], Signal::SIGKILL);
            let mut clients: Vec<Client> = (0..6).map(|_| once(&server, "/")).collect();
            for client in &mut clients {
                client.response().is(200, "hello\n");
            }
            done(&server, &["reload"]);
        }
    }
}

/// What a worker that drains has no room for is left in the kernel, to be taken by others too.
#[test]
fn workers_that_drain_take_no_more_of_the_backlog_than_they_have_room_for() {
    for accept in ["auto", "kernel"] {
        let one = ["--requests-in-flight", "1", "--request-queue", "0"];
        let args = [&["-w", "2", "-k", "sync"], &one[..]].concat();
        let mut server = accepting("wasi-sleep", accept, &args);
        server.expect_errors();
        let mut lost = once(&server, "/?ms=86400000");
        let victim = until_some("one serves", || serves(&server).first().copied());
        let mut slow = once(&server, "/?ms=2000");
        until("both serve", || serves(&server).len() == 2);
        let mut waiting: Vec<Client> = (0..12).map(|_| once(&server, "/?ms=1")).collect();
        until("they wait", || {
            show(&server, "listeners")["listeners"][0]["queue"] == 12
        });
        server.signal(Signal::SIGTERM);
        until("it drains", || {
            Process::title(victim).ends_with(" draining")
        });
        signal_process(victim, Signal::SIGKILL);
        assert!(lost.try_response().is_err());
        slow.response().is(200, "slept 2000 ms\n");
        for client in &mut waiting {
            client.response().is(200, "slept 1 ms\n");
        }
        server.stopped();
    }
}

/// The workers that have a request in flight.
fn serves(server: &Server) -> Vec<i32> {
    let report = show(server, "workers");
    let workers = report["workers"].as_array().unwrap().iter();
    let serves = workers.filter(|worker| worker["in_flight"] == 1);
    serves
        .filter_map(|worker| i32::try_from(worker["pid"].as_i64()?).ok())
        .collect()
}

#[test]
fn nobody_needs_the_arbiter_to_accept() {
    for accept in ["auto", "delegated"] {
        let mut server = accepting("hello", accept, &["-w", "1"]);
        // More than bells are made for beforehand, so that not everybody can wake everybody.
        done(&server, &["worker", "add", "30"]);
        until("all are ready", || each(&server, "accepted").len() == 31);
        let frozen = frozen(server.pid());
        for _ in 0..30 {
            once(&server, "/").response().is(200, "hello\n");
        }
        drop(frozen);
        // Whoever waits when the arbiter dies is served by the workers that leave.
        server.kill();
        server.no_process_is_left();
    }
}

#[test]
fn what_waits_while_the_arbiter_is_frozen_is_accepted_afterwards() {
    let server = accepting("hello", "signalled", &["-w", "2"]);
    let frozen = frozen(server.pid());
    let mut client = once(&server, "/");
    assert!(client.is_silent(Duration::from_millis(200)));
    drop(frozen);
    client.response().is(200, "hello\n");
}

#[test]
fn reloads_and_upgrades_lose_no_connection_however_they_are_accepted() {
    for accept in ALL {
        let mut server = accepting("hello", accept, &["-w", "2"]);
        let load = Load::on(server.address(), "/", 4);
        load.more(50);
        done(&server, &["reload"]);
        load.more(50);
        let new = server.upgrade();
        load.more(50);
        server.hand_over(new);
        load.more(50);
        load.none_was_lost();
        server.stop();
    }
}

/// Those that cannot be accepted wait, and nobody spins for them.
#[test]
fn a_worker_without_descriptors_waits_a_while() {
    for accept in BY_TURNS {
        // As many as a start takes, and some.
        let start = Start::app("hello").args(["--accept", accept, "-w", "2"]);
        let mut server = controlled(start.setup("ulimit -n 60").args(["--head-timeout", "60"]));
        server.expect_errors();
        let pids = server.workers(2);
        let mut clients: Vec<Client> = (0..160).map(|_| server.connect()).collect();
        server.wait_log(&["cannot accept connections, they wait in the backlog"]);
        let used = || -> u64 { pids.iter().map(|pid| Process::cpu_ticks(*pid)).sum() };
        let before = used();
        assert!(server.connect().is_silent(Duration::from_secs(1)));
        let ticks = used() - before;
        assert!(ticks < 20, "{accept}: {ticks} ticks of 10 ms in a second");
        clients.clear();
        until("there is room again", || {
            let mut client = once(&server, "/");
            client.try_response().is_ok()
        });
    }
}

#[test]
fn a_backlog_that_overflows_is_counted_and_drained() {
    let server = accepting(
        "echo",
        "auto",
        &["-w", "1", "--worker-connections", "1", "--backlog", "4"],
    );
    let mut first = server.connect();
    first.begin_echo();
    until("it is full", || sum(&server, "connections") == 1);
    let waiting: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    let queue = || show(&server, "listeners")["listeners"][0].clone();
    assert_eq!(
        (&queue()["queue"], &queue()["queue_max"]),
        (&5.into(), &4.into())
    );
    assert_eq!(queue()["overflows"], 0);
    let address = server.address().clone();
    let late = std::thread::spawn(move || {
        let mut late = Client::connect(&address);
        late.get("/").status()
    });
    until("one finds no place", || {
        queue()["overflows"].as_u64() > Some(0)
    });
    first.finish_echo();
    drop((first, waiting));
    assert_eq!(late.join().unwrap(), 200);
}
