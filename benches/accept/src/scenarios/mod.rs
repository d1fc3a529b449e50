//! Defines the scenarios: each starts servers, puts a load on them, and says in a table what came of it.

use anyhow::Result;

use crate::bench::{Bench, Report};

mod balance;
mod blocked;
mod crowd;
mod frozen;
mod idle;
mod kills;
mod skew;
mod spurious;
mod switches;

pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What is measured, in a sentence.
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Bench) -> Result<Report>,
}

pub(crate) const SCENARIOS: [Scenario; 9] = [
    Scenario {
        name: "spurious",
        what: "a new connection for each request, at several rates",
        run: spurious::run,
    },
    Scenario {
        name: "switches",
        what: "how often processes give up the CPU for a connection, by number of workers",
        run: switches::run,
    },
    Scenario {
        name: "idle",
        what: "how often processes wake when nothing comes",
        run: idle::run,
    },
    Scenario {
        name: "balance",
        what: "how evenly kept connections are spread, before and after a quarter of the workers is killed",
        run: balance::run,
    },
    Scenario {
        name: "skew",
        what: "what fast requests wait behind a few slow ones",
        run: skew::run,
    },
    Scenario {
        name: "blocked",
        what: "eight fast requests while one of two workers has a long one",
        run: blocked::run,
    },
    Scenario {
        name: "kills",
        what: "requests that are lost when busy workers are killed",
        run: kills::run,
    },
    Scenario {
        name: "frozen",
        what: "requests that wait for a worker that stands still",
        run: frozen::run,
    },
    Scenario {
        name: "crowd",
        what: "what thousands of clients cost who do next to nothing",
        run: crowd::run,
    },
];
