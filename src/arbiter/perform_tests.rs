//! Defines the tests of the driver with real processes: an arbiter in a fork of the test.
//!
//! The fork has one thread, as an arbiter must; its children are the roles of each test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::*;
use crate::arbiter::builder::{Arbiter, Builder};
use crate::arbiter::role::{Child, Role};
use crate::protocol::message::ToChild;
use crate::scoreboard::Entry;
use crate::sys::process::{self, ExitReason};
use crate::sys::socket::{BindTo, Listener};
use crate::sys::{fork_lock, memory_file};

#[path = "perform_tests/usher.rs"]
mod usher;

const LIMIT: Duration = Duration::from_secs(20);

/// Runs the arbiter that `build` describes until it and all of its children have ended.
fn ending(build: impl FnOnce() -> Builder) -> ExitReason {
    let _forking = fork_lock::forking();
    // Every process from here on holds it, so that its end is the end of them all.
    let (end, held) = Channel::pair().unwrap();
    let arbiter = process::fork(|| {
        let _held = held;
        build()
            .build()
            .map_or(99, |arbiter| i32::from(arbiter.run().number()))
    });
    let arbiter = arbiter.unwrap();
    let ended = poll::wait(&mut [Watched::readable(end.as_fd())], Some(LIMIT)).unwrap();
    if ended == 0 {
        process::kill(arbiter, Signal::Kill).unwrap();
    }
    loop {
        if let Some((pid, reason)) = process::reap() {
            assert_eq!(pid, arbiter);
            assert_eq!(ended, 1, "somebody did not end in time");
            return reason;
        }
    }
}

fn check(expect: i32, build: impl FnOnce() -> Builder) {
    assert_eq!(ending(build), ExitReason::Exited(expect));
}

fn say(child: &Child, message: &FromChild, files: &[&OwnedFd]) {
    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    // Without an arbiter there is nobody to tell. No panic: whoever prints one takes a lock that
    // another test's thread may have held when this process was forked.
    let _ = child.channel.send_blocking(&message.encode(), &files);
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
            Recv::Frame { len, .. } => match ToChild::decode(&buffer[..len]).unwrap() {
                ToChild::Drain | ToChild::Retire => return 0,
                ToChild::Serve
                | ToChild::ReopenLog
                | ToChild::ReopenAccessLog
                | ToChild::Accept { .. }
                | ToChild::Revoke => {}
            },
        }
    }
}

/// What a child does, apart from the good ones.
type Main = fn(Child) -> i32;

/// A plan of good children, apart from the workers.
fn with_worker(main: impl Fn(Child) -> i32 + 'static) -> Plan {
    Plan::new(Role::new("worker", main))
        .workers(2)
        .loader(Role::new("loader", good_loader), 2)
}

fn with_loader(main: impl Fn(Child) -> i32 + 'static) -> Plan {
    with_worker(good_worker).loader(Role::new("loader", main), 2)
}

/// An arbiter that is told to stop when the first worker is ready.
fn stopping(signal: Signal, plan: Plan) -> Builder {
    Arbiter::builder()
        .plan(plan)
        .on_ready(move || process::kill(process::own_pid(), signal).unwrap())
}

fn good(signal: Signal) -> Builder {
    stopping(signal, with_worker(good_worker))
}

/// The first worker does `first`, and the one after it has the arbiter stopped.
fn with_next(folder: &Path, first: impl Fn(&Child) -> i32 + 'static) -> Plan {
    let (arbiter, path) = (process::own_pid(), folder.join("tried"));
    let main = move |child: Child| {
        if File::create_new(&path).is_ok() {
            return first(&child);
        }
        process::kill(arbiter, Signal::Term).unwrap();
        good_worker(child)
    };
    with_worker(main).workers(1)
}

fn failed(code: u8) -> FromChild {
    FromChild::Failed {
        code,
        reason: "no such file".to_owned(),
    }
}

fn any_file() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

#[test]
fn a_stop_is_a_success() {
    for signal in [Signal::Term, Signal::Int, Signal::Quit] {
        check(0, || good(signal));
    }
}

#[test]
fn signals_without_a_meaning_do_not_kill() {
    check(0, || {
        good(Signal::Term).on_ready(|| {
            let own = process::own_pid();
            for signal in [
                Signal::Hup,
                Signal::Usr1,
                Signal::Usr2,
                Signal::Winch,
                Signal::Term,
            ] {
                process::kill(own, signal).unwrap();
            }
        })
    });
}

#[test]
fn a_loader_that_fails_decides_the_exit_code() {
    let mains: [(i32, Main); 5] = [
        (4, |_| 0),
        (5, |_| 5),
        (4, |_| std::panic::resume_unwind(Box::new(()))),
        (6, |child| {
            say(&child, &failed(6), &[]);
            1
        }),
        (4, |child| {
            say(&child, &FromChild::Ready, &[]);
            good_loader(child)
        }),
    ];
    for (code, main) in mains {
        check(code, || stopping(Signal::Term, with_loader(main)));
    }
}

#[test]
fn an_artefact_that_is_not_sealed_or_not_one_file_is_refused() {
    let mains: [Main; 4] = [
        |child| {
            say(&child, &FromChild::Artefact { app: 0 }, &[]);
            good_loader(child)
        },
        |child| {
            say(&child, &FromChild::Artefact { app: 0 }, &[&any_file()]);
            good_loader(child)
        },
        |child| {
            let sealed = memory_file::sealed("artefact", b"code").unwrap();
            say(&child, &FromChild::Artefact { app: 0 }, &[&sealed, &sealed]);
            good_loader(child)
        },
        |child| {
            child.channel.send_blocking(b"no message", &[]).unwrap();
            good_loader(child)
        },
    ];
    for main in mains {
        check(4, || stopping(Signal::Term, with_loader(main)));
    }
}

#[test]
fn a_worker_that_fails_first_decides_the_exit_code() {
    let mains: [(i32, Main); 5] = [
        (3, |_| 3),
        (4, |_| 4),
        (3, |_| std::panic::resume_unwind(Box::new(()))),
        (4, |child| {
            say(&child, &failed(4), &[]);
            4
        }),
        (3, |_| poll::wait(&mut [], None).map_or(1, |_| 0)),
    ];
    for (code, main) in mains {
        check(code, || {
            let plan = with_worker(main).boot_timeout(Duration::from_millis(200));
            stopping(Signal::Term, plan)
        });
    }
}

#[test]
fn a_loader_that_hangs_is_killed() {
    let hang = |_| poll::wait(&mut [], None).map_or(1, |_| 0);
    check(4, || {
        let plan = with_loader(hang).load_timeout(Some(Duration::from_millis(100)));
        stopping(Signal::Term, plan)
    });
}

#[test]
fn a_worker_that_crashes_is_replaced() {
    let crashes: [fn(&Child) -> i32; 3] = [
        |_| 7,
        |_| process::kill(process::own_pid(), Signal::Kill).map_or(1, |()| 0),
        |child| {
            child.channel.send_blocking(b"no message", &[]).unwrap();
            poll::wait(&mut [], None).map_or(1, |_| 0)
        },
    ];
    for crash in crashes {
        let folder = tempfile::tempdir().unwrap();
        check(0, || {
            let plan = with_next(folder.path(), move |child| {
                say(child, &FromChild::Ready, &[]);
                crash(child)
            });
            Arbiter::builder().plan(plan)
        });
    }
}

#[test]
fn a_worker_that_misses_its_heartbeat_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    check(0, || {
        let plan = with_next(folder.path(), |child| {
            let slot = child.scoreboard.slot(child.row);
            let entry = Entry {
                app: "blog",
                method: "GET",
                target: "/",
                protocol: "HTTP/1.1",
                tls: None,
                remote: None,
                client: None,
                started_ms: monotonic_ms(),
            };
            slot.enter(0, &entry);
            slot.show(Some(0));
            slot.set_alive_until(monotonic_ms());
            say(child, &FromChild::Ready, &[]);
            poll::wait(&mut [], None).map_or(1, |_| 0)
        });
        Arbiter::builder().plan(plan.heartbeat_timeout(Some(Duration::from_secs(2))))
    });
}

#[test]
fn a_worker_that_does_not_drain_is_killed() {
    check(0, || {
        let stubborn = |child| {
            say(&child, &FromChild::Ready, &[]);
            poll::wait(&mut [], None).map_or(1, |_| 0)
        };
        let plan = with_worker(stubborn).graceful_timeout(Duration::from_millis(100));
        stopping(Signal::Term, plan)
    });
}

#[test]
fn workers_that_lose_their_arbiter_learn_it() {
    assert_eq!(ending(|| good(Signal::Kill)), ExitReason::Signaled(9));
}

/// What `/proc` calls the descriptors that are open in this process.
fn open_files() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

/// How many descriptors of this kind are open that were not open `before`.
fn opened(before: &[String], kind: &str) -> usize {
    let files = open_files();
    files
        .iter()
        .filter(|file| file.starts_with(kind) && !before.contains(file))
        .count()
}

#[test]
fn a_child_gets_what_it_needs_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    check(0, || {
        let before = open_files();
        let for_worker = path.clone();
        let in_loader = before.clone();
        let listener = Listener::bind(&BindTo::Unix(path.clone()), 8).unwrap();
        let worker = move |child: Child| {
            // Its channel and the listener.
            assert_eq!(opened(&before, "socket:"), 2);
            assert_eq!(opened(&before, "anon_inode:"), 0);
            assert_eq!(opened(&before, "/memfd:"), 2);
            assert_eq!(opened(&before, "/tmp"), 0);
            let read = |file: &OwnedFd| std::fs::read(memory_file::path_of(file.as_fd())).unwrap();
            let handed: Vec<_> = child.handed.iter().map(read).collect();
            assert_eq!(handed, [b"code 0", b"code 1"]);
            let _client = UnixStream::connect(&for_worker).unwrap();
            assert!(child.listeners[0].accept().unwrap().is_some());
            good_worker(child)
        };
        let loader = move |child: Child| {
            assert_eq!(opened(&in_loader, "socket:"), 1);
            assert_eq!(opened(&in_loader, "anon_inode:[signalfd]"), 0);
            assert!(child.listeners.is_empty() && child.handed.is_empty());
            good_loader(child)
        };
        let control = folder.path().join("control.sock");
        let control = ChannelListener::bind(&control, CONTROL_MODE).unwrap();
        let pid_file = PidFile::create(&folder.path().join("pid")).unwrap();
        let plan = with_worker(worker)
            .workers(1)
            .loader(Role::new("loader", loader), 2)
            .listener("app", listener)
            .watched_files(vec![path.clone()]);
        stopping(Signal::Term, plan)
            .control(Some(control), None)
            .pid_file(Some(pid_file), None)
    });
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(
        left.is_empty(),
        "sockets and the pid file are removed: {left:?}"
    );
}

/// An arbiter whose next plans come from `plans`, last first, and that is stopped when `until` says
/// so about a notice.
fn reloading(
    first: Plan,
    plans: Vec<Result<Plan, String>>,
    until: impl Fn(&Notice) -> bool + 'static,
) -> Builder {
    let plans = std::cell::RefCell::new(plans);
    let signal = |signal| process::kill(process::own_pid(), signal).unwrap();
    Arbiter::builder()
        .plan(first)
        .plan_again(move |_| plans.borrow_mut().pop().unwrap())
        .on_ready(move || signal(Signal::Hup))
        .on_notice(move |notice, _| {
            if until(notice) {
                signal(Signal::Term);
            }
        })
}

#[test]
fn a_reload_brings_up_the_next_plan_and_ends_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (
        folder.path().join("old.sock"),
        folder.path().join("new.sock"),
    );
    let open = |path: &Path| Listener::bind(&BindTo::Unix(path.to_owned()), 8).unwrap();
    check(0, || {
        let (gone, kept) = (old.clone(), new.clone());
        let first = with_worker(good_worker).listener("old", open(&old));
        let next = with_worker(move |child: Child| {
            assert_eq!(child.generation, 2);
            good_worker(child)
        });
        let next = next.workers(3).listener("new", open(&new));
        let left = std::cell::Cell::new(0);
        reloading(first, vec![Ok(next)], move |notice| match notice {
            Notice::Generation(2) => {
                assert!(
                    !gone.exists() && kept.exists(),
                    "only the old socket is removed"
                );
                false
            }
            Notice::Left(id, _) if id.generation == 1 && id.place.role().is_some() => {
                left.set(left.get() + 1);
                left.get() == 2
            }
            _ => false,
        })
    });
    assert!(!new.exists(), "the new socket is removed at the end");
}

#[test]
fn a_reload_that_fails_leaves_everything_as_it_was() {
    type Broken = fn() -> Result<Plan, String>;
    let broken: [Broken; 5] = [
        || Err("no such file".to_owned()),
        || Ok(with_worker(good_worker).workers(0)),
        || Ok(with_loader(|_| 4)),
        || Ok(with_worker(|_| 3)),
        || {
            let hang = |_| poll::wait(&mut [], None).map_or(1, |_| 0);
            Ok(with_worker(hang).boot_timeout(Duration::from_millis(100)))
        },
    ];
    for broken in broken {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        check(0, || {
            let listener = Listener::bind(&BindTo::Unix(path.clone()), 8).unwrap();
            let kept = listener.try_clone().unwrap();
            let next = broken().map(|plan| plan.listener("app", kept));
            let first = with_worker(good_worker).listener("app", listener);
            let path = path.clone();
            reloading(first, vec![next], move |notice| match notice {
                Notice::ReloadFailed(2, _) => {
                    assert!(path.exists(), "the socket that both have is kept");
                    true
                }
                Notice::Left(..) | Notice::Died(..) | Notice::Ended(..) => {
                    // Of the first generation only the loader may go before the stop.
                    let id = notice.child().unwrap();
                    assert!(id.generation == 2 || id.place == Place::Loader || !path.exists());
                    false
                }
                _ => false,
            })
        });
    }
}

#[test]
fn other_roles_are_started_watched_and_replaced_like_workers() {
    let folder = tempfile::tempdir().unwrap();
    check(0, || {
        let (arbiter, path) = (process::own_pid(), folder.path().join("tried"));
        let (mut serves, told) = UnixStream::pair().unwrap();
        let clock = move |child: Child| {
            assert_eq!(child.handed.len(), 2, "it gets what workers get");
            say(&child, &FromChild::Ready, &[]);
            if File::create_new(&path).is_ok() {
                // Before the server serves, it would be a start that failed.
                (&told).read_exact(&mut [0]).unwrap();
                return 9;
            }
            process::kill(arbiter, Signal::Term).unwrap();
            serve(&child, &SignalQueue::new(&[Signal::Quit]).unwrap())
        };
        let plan = with_worker(good_worker).role(Role::new("clock", clock), 1, Vec::new());
        let on_ready = move || serves.write_all(b".").unwrap();
        Arbiter::builder().plan(plan).on_ready(on_ready)
    });
}

#[test]
fn without_a_way_to_plan_again_a_reload_changes_nothing() {
    check(0, || {
        let signal = |signal| process::kill(process::own_pid(), signal).unwrap();
        Arbiter::builder()
            .plan(with_worker(good_worker))
            .on_ready(move || signal(Signal::Hup))
            .on_notice(move |notice, _| {
                if matches!(notice, Notice::ReloadFailed(..)) {
                    signal(Signal::Term);
                }
            })
    });
}
