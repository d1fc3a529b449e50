//! Defines the server under load as its processes: an arbiter that may be followed by another, and
//! its workers.
//!
//! Invariant: this process is the reaper of whatever the server leaves behind, so that the end of
//! every arbiter is seen, and nothing that is left over disappears unseen.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Features;
use crate::harness::{Address, Process, Server, Start, until, until_some};
use crate::ledger::Ledger;
use crate::processes;

pub(crate) const WORKERS: usize = 3;
/// Worker memory at which one is replaced: several times what this load needs.
pub(crate) const WORKER_MEMORY: u64 = 96 << 20;
/// What one hog makes a worker keep. The limit for a buffered body is 8 MiB.
pub(crate) const HOG_BYTES: usize = 7 << 20;

/// Looks, 5 ms apart, at which something must be the same to be called steady.
const STEADY_LOOKS: usize = 60;
/// The same for the number of workers that there should be.
const STILL_LOOKS: usize = 10;

const APPS: &str = "
    workers = 3
    timeout = 60
    [apps.hello]
    component = '{hello}'
    [apps.stream]
    component = '{wasi-stream}'
    routes = ['/stream']
    [apps.echo]
    component = '{app-echo}'
    routes = ['/echo']
";

/// What the server uses when nothing happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Usage {
    /// What the arbiter has open.
    pub(crate) arbiter: BTreeMap<String, usize>,
    /// How much each worker has open.
    pub(crate) workers: Vec<usize>,
    pub(crate) zombies: Vec<i32>,
}

/// The server.
pub(crate) struct Fleet {
    server: Server,
    /// The first arbiter, whose number is also that of the process group.
    first: i32,
    arbiter: i32,
    pidfile: PathBuf,
    control: PathBuf,
}

impl Fleet {
    pub(crate) fn start(features: &Features) -> Self {
        set_child_subreaper(true).expect("the kernel knows subreapers");
        let mut settings = String::new();
        if features.retirements {
            settings.push_str(&format!("max-worker-memory = {WORKER_MEMORY}\n"));
            settings.push_str("worker-memory-samples = 2\nworker-memory-interval = 1\n");
            // The hogs are to fill it, and not to make way for each other.
            settings.push_str("body-memory = '1GiB'\n");
            settings.push_str("max-requests = 700\nmax-requests-jitter = 500\n");
        }
        let mut start = Start::config(&format!("{settings}{APPS}"));
        let folder = start.folder();
        let (pidfile, control) = (folder.join("pid"), folder.join("control"));
        if features.arbiters {
            let path = |path: &PathBuf| path.to_str().expect("the path is text").to_owned();
            start = start.args(["--pid".to_owned(), path(&pidfile)]);
            start = start.args(["--control-socket".to_owned(), path(&control)]);
        }
        let server = start.env("RGUNICORN_WORKERS", "").start();
        let first = server.pid();
        Self {
            server,
            first,
            arbiter: first,
            pidfile,
            control,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self.server.address() {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// The arbiter's children that run: workers, and for moments a loader or another arbiter.
    pub(crate) fn children(&self) -> Vec<i32> {
        let all = Process::all().into_iter();
        let children = all.filter(|process| process.parent == self.arbiter);
        children.map(|process| process.pid).collect()
    }

    /// Waits until there are as many workers as there should be, and none of `before`.
    pub(crate) fn settle_without(&self, before: &[i32]) {
        until("all workers are there, and none of those before", || {
            let now = self.children();
            now.len() == WORKERS && !now.iter().any(|pid| before.contains(pid))
        });
    }

    pub(crate) fn settle(&self) {
        self.settle_without(&[]);
    }

    /// Brings the number of workers that there should be back to what it was at the start, when the
    /// signals that were sent have all had their effect.
    pub(crate) fn steer(&self) {
        const CHANGE: &str = "role=arbiter workers=";
        let (mut last, mut looks) = (0, 0);
        until("the number of workers is what it was", || {
            let log = self.server.log();
            let changes = log.matches(CHANGE).count();
            let is_still = changes == last && !processes::is_signalled(self.arbiter);
            looks = if is_still { looks + 1 } else { 0 };
            last = changes;
            if looks < STILL_LOOKS {
                return false;
            }
            looks = 0;
            let count = |line: &str| line.split_once(CHANGE)?.1.parse().ok();
            let wanted = log.lines().rev().find_map(count).unwrap_or(WORKERS);
            match wanted.cmp(&WORKERS) {
                Ordering::Less => self.signal(Signal::SIGTTIN),
                Ordering::Greater => self.signal(Signal::SIGTTOU),
                Ordering::Equal => return true,
            }
            false
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.arbiter), signal).expect("the arbiter can be signalled");
    }

    /// Kills processes, all at the same moment, and enters the connections that they held.
    ///
    /// They are stopped before, so that nothing changes between the look and the end. With
    /// `nobody_accepts` they are all that there are: then it waits until connections wait for those
    /// that follow, and they must not be lost.
    pub(crate) fn kill(&self, pids: &[i32], nobody_accepts: bool, ledger: &Arc<Ledger>) -> usize {
        let port = self.address().port();
        let stopped: Vec<i32> = pids.iter().copied().filter(|pid| stop(*pid)).collect();
        if nobody_accepts {
            until("connections wait to be accepted", || {
                processes::backlog(port) > 1
            });
        }
        ledger.will_kill(processes::client_ports(port, &stopped));
        for pid in &stopped {
            // It is stopped, so it is still there.
            kill(Pid::from_raw(*pid), Signal::SIGKILL).expect("a stopped process can be killed");
        }
        for pid in &stopped {
            until("the killed worker has gone", || {
                Process::find(*pid).is_none()
            });
        }
        stopped.len()
    }

    /// Runs `rgunicorn ctl`, which must succeed, and returns what it prints.
    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        let (succeeded, output) = self.try_ctl(args);
        assert!(succeeded, "rgunicorn ctl {args:?}: {output}");
        output
    }

    fn try_ctl(&self, args: &[&str]) -> (bool, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rgunicorn"));
        command.arg("ctl").arg("--socket").arg(&self.control);
        command.args(args).stdin(Stdio::null());
        let output = command.output().expect("the program can be started");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }

    /// Waits until another arbiter has taken the place of this one, whose end must be a clean one.
    pub(crate) fn succeed(&mut self) {
        let before = self.arbiter;
        self.wait_end(before);
        self.arbiter = until_some("the pidfile names another arbiter", || {
            let text = fs::read_to_string(&self.pidfile).ok()?;
            let pid = text.trim().parse().ok()?;
            (pid != before && Process::find(pid).is_some()).then_some(pid)
        });
        until("the new arbiter is our child", || {
            Process::find(self.arbiter)
                .is_some_and(|it| it.parent == std::process::id().cast_signed())
        });
        until("the new arbiter answers", || {
            self.try_ctl(&["show", "stats"]).0
        });
    }

    /// Waits for the end of an arbiter, which must be with code 0.
    fn wait_end(&mut self, pid: i32) {
        if pid == self.first {
            let status = self.server.wait_exit();
            assert_eq!(status.code(), Some(0), "the first arbiter: {status}");
            return;
        }
        let id = Pid::from_raw(pid);
        let status = until_some("an arbiter ends", || {
            match waitpid(id, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => None,
                other => Some(other),
            }
        });
        assert_eq!(status, Ok(WaitStatus::Exited(id, 0)), "an arbiter's end");
    }

    /// What the server uses, when nothing changes it any more.
    pub(crate) fn usage(&self) -> Usage {
        let mut last = None;
        let mut looks = 0;
        until_some("the server comes to rest", || {
            let mut children = self.children();
            children.sort_unstable();
            let usage = Usage {
                arbiter: processes::descriptors(self.arbiter),
                workers: children
                    .iter()
                    .map(|pid| processes::descriptors(*pid).values().sum())
                    .collect(),
                zombies: processes::zombies(self.first),
            };
            let seen = Some((children, usage));
            looks = if seen == last { looks + 1 } else { 0 };
            last = seen;
            let is_steady = looks >= STEADY_LOOKS;
            last.clone().filter(|_| is_steady).map(|(_, usage)| usage)
        })
    }

    pub(crate) fn arbiter_memory_kib(&self) -> u64 {
        processes::anonymous_kib(self.arbiter)
    }

    /// The log of all arbiters and workers so far.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    /// Stops the server, whose end must be a clean one: code 0, no process left, no error logged.
    pub(crate) fn stop(mut self) -> String {
        self.signal(Signal::SIGTERM);
        let arbiter = self.arbiter;
        self.wait_end(arbiter);
        self.server.stopped();
        until("no zombie is left", || {
            processes::zombies(self.first).is_empty()
        });
        self.server.log()
    }
}

/// Of a run that failed, the harness shows the ends of the log; what matters is in the middle.
impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(path) = std::env::var_os("SOAK_LOG") {
            // There may be a panic already, and a second one would hide it.
            let _ = fs::write(path, self.log());
        }
    }
}

/// Stops a process; false if it has ended before.
fn stop(pid: i32) -> bool {
    if kill(Pid::from_raw(pid), Signal::SIGSTOP).is_err() {
        return false;
    }
    let mut is_stopped = Some(false);
    until("the process has stopped", || {
        is_stopped = processes::is_stopped(pid);
        is_stopped != Some(false)
    });
    is_stopped == Some(true)
}
