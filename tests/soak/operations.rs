//! Defines what is done to the server under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::Features;
use crate::fleet::{Fleet, HOG_BYTES, WORKER_MEMORY, WORKERS};
use crate::harness::{pattern, until};
use crate::ledger::Ledger;
use crate::load::Hog;
use crate::random::Random;

/// How many hogs there must be for one worker to get more of them than it may keep.
const HOGS: usize = WORKERS * (WORKER_MEMORY as usize / HOG_BYTES + 1);

/// How long hogs are held: longer than it takes to be noticed, shorter than a worker may take to
/// finish.
const HELD: Duration = Duration::from_secs(5);

/// Something to do to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Reload,
    Upgrade,
    Kill,
    Storm,
    Hogs,
    Show,
}

/// How often each is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) reloads: usize,
    pub(crate) upgrades: usize,
    pub(crate) kills: usize,
    pub(crate) storms: usize,
    pub(crate) hogs: usize,
}

impl Counts {
    /// The operations in random order, as far as they are wanted.
    pub(crate) fn schedule(&self, features: &Features, random: &mut Random) -> Vec<Operation> {
        let of = |operation, count, wanted: bool| {
            std::iter::repeat_n(operation, if wanted { count } else { 0 })
        };
        let mut schedule: Vec<Operation> = of(Operation::Kill, self.kills, features.kills)
            .chain(of(Operation::Storm, self.storms, features.storms))
            .chain(of(Operation::Reload, self.reloads, features.arbiters))
            .chain(of(Operation::Upgrade, self.upgrades, features.arbiters))
            .chain(of(Operation::Show, self.reloads, features.arbiters))
            .chain(of(Operation::Hogs, self.hogs, features.retirements))
            .collect();
        random.shuffle(&mut schedule);
        schedule
    }
}

/// Who does it.
pub(crate) struct Operator {
    pub(crate) fleet: Fleet,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) random: Random,
}

impl Operator {
    pub(crate) fn perform(&mut self, operation: Operation) {
        match operation {
            Operation::Reload => self.reload(),
            Operation::Upgrade => self.upgrade(),
            Operation::Kill => self.kill(),
            Operation::Storm => self.storm(),
            Operation::Hogs => self.hogs(),
            Operation::Show => self.show(),
        }
    }

    /// Says what is done now, in the name of which losses are told.
    fn begin(&self, what: &str) {
        self.ledger.during(what.to_owned());
    }

    /// A reload by signal or by control; at times a worker of before is killed meanwhile, and at
    /// times what comes next does not wait until those of before have finished.
    fn reload(&mut self) {
        let before = self.fleet.children();
        if self.random.one_in(2) {
            let with_kill = self.random.one_in(3);
            self.begin(match with_kill {
                true => "a reload by signal and a kill",
                false => "a reload by signal",
            });
            self.fleet.signal(Signal::SIGHUP);
            if with_kill {
                self.kill_one_of(&before);
            }
            self.fleet.settle_without(&before);
        } else {
            self.begin("a reload by control");
            self.fleet.ctl(&["reload"]);
            if !self.random.one_in(3) {
                self.fleet.settle_without(&before);
            }
        }
        self.ledger.done("reloads", 1);
    }

    fn upgrade(&mut self) {
        self.fleet.settle();
        let before = self.fleet.children();
        if self.random.one_in(2) {
            let with_kill = self.random.one_in(3);
            self.begin(match with_kill {
                true => "an upgrade by signal and a kill",
                false => "an upgrade by signal",
            });
            self.fleet.signal(Signal::SIGUSR2);
            if with_kill {
                self.kill_one_of(&before);
            }
        } else {
            self.begin("an upgrade by control");
            self.fleet.ctl(&["upgrade"]);
        }
        self.fleet.succeed();
        self.fleet.settle_without(&before);
        self.ledger.done("upgrades", 1);
    }

    /// Kills one worker, or all of them at once.
    fn kill(&mut self) {
        self.fleet.settle();
        let workers = self.fleet.children();
        if self.random.one_in(3) {
            self.begin("a kill of all workers");
            let killed = self.fleet.kill(&workers, true, &self.ledger);
            self.ledger.done("kills", killed);
            self.fleet.settle_without(&workers);
        } else {
            self.begin("a kill");
            self.kill_one_of(&workers);
            // What comes next may find the worker's successor booting.
            if self.random.one_in(2) {
                self.fleet.settle();
            }
        }
    }

    fn kill_one_of(&mut self, workers: &[i32]) {
        let chosen = workers[self.random.below(workers.len())];
        let killed = self.fleet.kill(&[chosen], false, &self.ledger);
        self.ledger.done("kills", killed);
    }

    /// Many changes of the number of workers, faster than they can be followed.
    fn storm(&mut self) {
        self.begin("a storm");
        let signals = 5 + self.random.below(30);
        for _ in 0..signals {
            let signal = match self.random.one_in(2) {
                true => Signal::SIGTTIN,
                false => Signal::SIGTTOU,
            };
            self.fleet.signal(signal);
            // Now and then one is answered by requests before the next follows.
            if self.random.one_in(3) {
                let before = self.ledger.answers();
                until("requests are answered", || {
                    self.ledger.answers() > before + 10
                });
            }
        }
        self.fleet.steer();
        self.fleet.settle();
        self.ledger.done("storm signals", signals);
    }

    /// Fills the workers' memory until one is replaced for it, and only then lets it finish.
    ///
    /// A worker that is replaced for its requests takes its hogs with it, which then prove nothing:
    /// after a while they are let go, and others begin.
    fn hogs(&mut self) {
        self.fleet.settle();
        self.begin("memory retirement");
        let before = retirements(&self.fleet.log()).memory;
        let (address, body) = (self.fleet.address(), pattern(HOG_BYTES));
        let begin = || -> Vec<Hog> {
            let hogs = (0..HOGS).map(|_| Hog::begin(address, &self.ledger, &body));
            hogs.collect()
        };
        let (mut hogs, mut begun) = (begin(), Instant::now());
        until("a worker is replaced for its memory", || {
            if begun.elapsed() > HELD {
                hogs.drain(..).for_each(|hog| hog.end(&body));
                (hogs, begun) = (begin(), Instant::now());
            }
            retirements(&self.fleet.log()).memory > before
        });
        hogs.into_iter().for_each(|hog| hog.end(&body));
        self.fleet.settle();
    }

    /// Another client of the control socket.
    fn show(&mut self) {
        self.begin("a look");
        let what = ["all", "workers", "stats", "listeners"][self.random.below(4)];
        let text = self.fleet.ctl(&["--json", "show", what]);
        assert!(text.starts_with(['{', '[']), "not JSON: {text}");
        self.ledger.done("looks", 1);
    }
}

/// Workers that were replaced though nothing was wrong with them, as the log tells.
pub(crate) struct Retirements {
    pub(crate) requests: usize,
    pub(crate) memory: usize,
}

pub(crate) fn retirements(log: &str) -> Retirements {
    let count = |word: &str| {
        let tells = |line: &&str| line.contains("role=worker") && line.contains(word);
        log.lines().filter(tells).count()
    };
    Retirements {
        requests: count("has served max-requests"),
        memory: count("is above max-worker-memory"),
    }
}
