//! The server under constant load while everything that an operator may do is done to it, again and
//! again: no request is lost but those that were in the hands of a worker that was killed, and in
//! the end the server uses what it used in the beginning.
//!
//!     cargo test --release --test soak                    a minute, as in CI
//!     make soak                                           200 reloads, 20 upgrades; tells what it did
//!
//! `SOAK=long` is the length, `SOAK_SEED` repeats the random choices of a run, and `SOAK_ONLY`
//! leaves out what is not named: `kills`, `storms`, `retirements`, `arbiters` (reloads and upgrades).
//! A reload forgets how often a slot was killed; kills without it wait for the back-off. `SOAK_LOG`
//! is a file for the server's whole log.

#[path = "../blackbox/harness/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "the black-box tests use all of it, this one a part"
)]
mod harness;

mod client;
mod fleet;
mod ledger;
mod load;
mod operations;
mod processes;
mod random;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fleet::{Fleet, Usage};
use harness::until;
use ledger::Ledger;
use load::Load;
use operations::{Counts, Operator, retirements};
use random::Random;

/// How much the arbiter's memory may grow. What a reload allocates it frees, but the allocator keeps
/// pages that hold something else too: about 100 KiB after a hundred reloads, and hardly more after a
/// thousand. Half a page lost in each reload of the long run would be more than this.
const GROWTH_KIB_MAX: u64 = 256;

/// What is done before anything is counted, so that what is made once has been made.
const WARM_UP: Counts = Counts {
    reloads: 2,
    upgrades: 0,
    kills: 2,
    storms: 1,
    hogs: 0,
};

/// What is done to one arbiter, so that what it loses adds up.
const ONE_ARBITER: [Counts; 2] = [
    Counts {
        reloads: 13,
        upgrades: 0,
        kills: 8,
        storms: 3,
        hogs: 1,
    },
    Counts {
        reloads: 150,
        upgrades: 0,
        kills: 100,
        storms: 40,
        hogs: 6,
    },
];

/// What is done to arbiters that follow each other.
const MANY_ARBITERS: [Counts; 2] = [
    Counts {
        reloads: 5,
        upgrades: 4,
        kills: 4,
        storms: 1,
        hogs: 1,
    },
    Counts {
        reloads: 48,
        upgrades: 20,
        kills: 50,
        storms: 10,
        hogs: 4,
    },
];

/// What the server is to be tried with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Features {
    pub(crate) kills: bool,
    pub(crate) storms: bool,
    pub(crate) retirements: bool,
    pub(crate) arbiters: bool,
}

impl Features {
    fn from_environment() -> Self {
        let only = std::env::var("SOAK_ONLY").unwrap_or_default();
        let named = |name: &str| only.is_empty() || only.split(',').any(|word| word == name);
        Self {
            kills: named("kills"),
            storms: named("storms"),
            retirements: named("retirements"),
            arbiters: named("arbiters"),
        }
    }
}

fn seed() -> u64 {
    match std::env::var("SOAK_SEED") {
        Ok(text) => text.parse().expect("SOAK_SEED is a number"),
        Err(_) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            u64::from(now.expect("it is after 1970").subsec_nanos())
        }
    }
}

/// Prints the accounts when the run is over, however it ends.
struct Telling(Arc<Ledger>, u64);

impl Drop for Telling {
    fn drop(&mut self) {
        let Self(ledger, seed) = self;
        eprint!("{}", ledger.summary());
        eprintln!("  seed: SOAK_SEED={seed}");
        let losses = ledger.losses();
        if !losses.is_empty() {
            eprintln!("  lost:\n{losses}");
        }
    }
}

/// Does all of it under load, and returns what the server uses when it is at rest again.
fn round(operator: &mut Operator, counts: &Counts, features: &Features) -> (Usage, u64) {
    let schedule = counts.schedule(features, &mut operator.random);
    let ledger = Arc::clone(&operator.ledger);
    let load = Load::start(operator.fleet.address(), &ledger, &mut operator.random);
    for operation in schedule {
        operator.perform(operation);
        let answered = ledger.answers();
        until("the load goes on", || ledger.answers() > answered + 20);
    }
    ledger.during("the end of a round".to_owned());
    load.finish();
    operator.fleet.settle();
    let losses = ledger.losses();
    assert!(losses.is_empty(), "requests were lost:\n{losses}");
    let usage = operator.fleet.usage();
    assert_eq!(usage.zombies, [], "nobody reaped them");
    let memory_kib = operator.fleet.arbiter_memory_kib();
    (usage, memory_kib)
}

#[test]
fn nothing_is_lost_and_nothing_leaks() {
    let features = Features::from_environment();
    let length = usize::from(std::env::var("SOAK").is_ok_and(|length| length == "long"));
    let seed = seed();
    let ledger = Arc::new(Ledger::new());
    let _telling = Telling(Arc::clone(&ledger), seed);
    let mut operator = Operator {
        fleet: Fleet::start(&features),
        ledger,
        random: Random::new(seed),
    };
    let (before, before_kib) = round(&mut operator, &WARM_UP, &features);
    for counts in [&ONE_ARBITER[length], &MANY_ARBITERS[length]] {
        let (after, after_kib) = round(&mut operator, counts, &features);
        eprintln!("arbiter: {before_kib} KiB before, {after_kib} KiB after; {after:?}");
        assert_eq!(after, before, "descriptors");
        assert!(
            after_kib <= before_kib + GROWTH_KIB_MAX,
            "the arbiter's memory grew from {before_kib} KiB to {after_kib} KiB"
        );
    }
    let log = operator.fleet.stop();
    let retired = retirements(&log);
    eprintln!(
        "retired: {} for their requests, {} for their memory",
        retired.requests, retired.memory
    );
}
