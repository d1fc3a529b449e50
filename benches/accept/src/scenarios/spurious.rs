//! Defines `spurious`: whether anybody is woken for nothing, over a million connections.

use anyhow::Result;

use crate::bench::{Bench, Gate, Report};
use crate::client::Failures;
use crate::counters::Counters;
use crate::load::{AT_ONCE, Load};
use crate::process::Usage;
use crate::rounds::Series;
use crate::server::{Accept, App, Kind, Server, Setup};
use crate::statistics::ratio;
use crate::table::Table;

const SETUP: Setup = Setup {
    app: App::Hello,
    kind: Kind::Async,
    workers: 8,
    accept: Accept::Auto,
    defer: false,
    crowd: false,
};
/// Those that promise it.
const STRATEGIES: [Accept; 3] = [Accept::Auto, Accept::Signalled, Accept::Delegated];
/// For each of them.
const CONNECTIONS: f64 = 1e6;
const CONNECTIONS_QUICK: f64 = 2e4;

/// From hardly any load to all that the machine can do, for workers are not woken alike under all: a rate and its
/// share of the connections. The last one is beside the million: a closed loop, in which the processes
/// take the CPUs from each other at any point.
const RATES: [(f64, f64); 4] = [(500.0, 0.02), (2000.0, 0.18), (4000.0, 0.8), (AT_ONCE, 0.2)];
/// Connections that are open at any time when the next one comes as soon as one has ended.
const CLOSED_LOOP: usize = 64;

/// One server.
struct Found {
    /// In the order of the rates.
    parts: Vec<Part>,
    overflows: u64,
}

/// One rate, or the sum of several.
#[derive(Default)]
struct Part {
    connections: u64,
    failures: Failures,
    counters: Counters,
    voluntary: u64,
    seconds: f64,
}

pub(crate) fn run(bench: &Bench) -> Result<Report> {
    let all = if bench.options.quick {
        CONNECTIONS_QUICK
    } else {
        CONNECTIONS
    };
    let share = all / bench.options.rounds as f64;
    let found = bench.compare(SETUP, &STRATEGIES, |server, round| {
        measure(server, share, round)
    })?;
    let mut table = Table::new(&[
        "accept",
        "connections/s",
        "connections",
        "accepted",
        "wake-ups/accept",
        "pulled/accept",
        "handed on/accept",
        "worker switches/connection",
        "spurious",
        "failed",
    ]);
    let (mut gates, mut overflows) = (Vec::new(), 0);
    for (accept, series) in found.iter() {
        let all = tabulate(accept, series, &mut table);
        overflows += series.total(|it| it.overflows);
        let (spurious, accepted) = (all.counters.spurious, all.counters.accepted);
        let name = accept.name();
        gates.push(Gate {
            wants: format!("spurious wake-ups with {name}, open loop: 0"),
            found: format!(
                "{spurious} in {accepted} accepts of {} connections",
                all.connections
            ),
            passed: spurious == 0 && accepted == all.connections,
        });
        gates.push(Gate {
            wants: format!("requests that fail with {name} in spurious: none"),
            found: all.failures.to_string(),
            passed: all.failures.all() == 0,
        });
    }
    Ok(Report {
        table,
        notes: vec![
            format!("`{SETUP}` and so on"),
            format!("the listeners' queues were full {overflows} times"),
        ],
        gates,
    })
}

/// Adds the rows of one strategy, and answers with the sum of all but the last.
fn tabulate(accept: Accept, series: &Series<Found>, table: &mut Table) -> Part {
    let mut all = Part::default();
    for (at, (rate, _)) in RATES.into_iter().enumerate() {
        let mut sum = Part::default();
        series.iter().for_each(|it| sum.add(&it.parts[at]));
        let name = if rate == AT_ONCE {
            let rate = sum.connections as f64 / sum.seconds;
            format!("{rate:.0}, {CLOSED_LOOP} open at any time")
        } else {
            rate.to_string()
        };
        if rate != AT_ONCE {
            all.add(&sum);
        } else {
            table.row(all.row(accept, "all of these".to_owned()));
        }
        table.row(sum.row(accept, name));
    }
    all
}

fn measure(server: Server, share: f64, round: u64) -> Result<Found> {
    let parts = RATES.into_iter().map(|(rate, part)| {
        let count = (part * share).round() as u64;
        measure_rate(&server, rate, count, round)
    });
    let parts = parts.collect::<Result<Vec<_>>>()?;
    let shown = server.show()?;
    server.end()?;
    Ok(Found {
        parts,
        overflows: shown.overflows,
    })
}

fn measure_rate(server: &Server, rate: f64, count: u64, seed: u64) -> Result<Part> {
    let mut load = Load::new(server.address, "/", rate, count);
    load.seed = seed;
    if rate == AT_ONCE {
        load.open_max = CLOSED_LOOP;
    }
    let before = server.show()?;
    let usage = Usage::of_all(before.pids())?;
    let tally = load.run()?;
    let usage = Usage::of_all(before.pids())? - usage;
    let after = server.show()?;
    Ok(Part {
        connections: count,
        failures: tally.failures,
        counters: after.total - before.total,
        voluntary: usage.voluntary,
        seconds: tally.took.as_secs_f64(),
    })
}

impl Part {
    fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.failures = self.failures + other.failures;
        self.counters = self.counters + other.counters;
        self.voluntary += other.voluntary;
        self.seconds += other.seconds;
    }

    fn row(&self, accept: Accept, name: String) -> [String; 10] {
        let counters = &self.counters;
        let each = |count: u64| format!("{:.3}", ratio(count as f64, counters.accepted as f64));
        let switches = ratio(self.voluntary as f64, self.connections as f64);
        [
            accept.name().to_owned(),
            name,
            self.connections.to_string(),
            counters.accepted.to_string(),
            each(counters.wakeups),
            each(counters.pulled),
            each(counters.handed_on),
            format!("{switches:.3}"),
            counters.spurious.to_string(),
            self.failures.to_string(),
        ]
    }
}
