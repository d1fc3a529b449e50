//! Defines `switches`: whether a connection costs more the more workers there are.

use anyhow::Result;

use crate::bench::{Bench, Gate, Report};
use crate::client::Failures;
use crate::load::Load;
use crate::process::Usage;
use crate::rounds::Rounds;
use crate::server::{Accept, App, Kind, Setup};
use crate::statistics::{ratio, variation};
use crate::table::Table;

const SETUP: Setup = Setup {
    app: App::Hello,
    kind: Kind::Async,
    workers: 1,
    accept: Accept::Auto,
    defer: false,
    crowd: false,
};
const WORKERS: [usize; 3] = [1, 8, 32];
/// Few workers, and many that are not to cost more.
const COMPARED: [(usize, usize); 3] = [(1, 8), (1, 32), (8, 32)];
/// Few enough that a worker sleeps between two of them: one that is alone would else often be awake when the next one
/// comes, and need fewer.
const PER_SECOND: f64 = 50.0;
/// What more workers may cost in addition.
const MORE: f64 = 0.05;

/// What is compared: how they accept, whether the kernel keeps a connection back until its request is there, and how
/// many they are.
type Subject = (Accept, bool, usize);

const COLUMNS: [&str; 13] = [
    "accept",
    "deferred",
    "workers",
    "worker switches/connection",
    "arbiter switches/connection",
    "wake-ups/connection",
    "spurious/connection",
    "worker CPU us/connection",
    "CV of accepted",
    "p50 ms",
    "p99 ms",
    "begun late, p99 ms",
    "failed",
];

/// One run.
struct Found {
    /// Voluntary context switches for each connection.
    workers: f64,
    arbiter: f64,
    wakeups: f64,
    spurious: f64,
    /// CPU time of the workers for each connection.
    cpu_us: f64,
    variation: f64,
    p50: f64,
    p99: f64,
    late: f64,
    failures: Failures,
}

pub(crate) fn run(bench: &Bench) -> Result<Report> {
    let deferred = [Accept::Auto, Accept::Kernel].map(|accept| (accept, true));
    let ways = Accept::ALL.map(|accept| (accept, false)).into_iter();
    let setups = |(accept, defer)| WORKERS.map(|workers| (accept, defer, workers));
    let subjects: Vec<Subject> = ways.chain(deferred).flat_map(setups).collect();
    let name = |(accept, defer, workers): Subject| {
        let deferred = if defer { ", deferred" } else { "" };
        format!("{}{deferred}, {workers} workers", accept.name())
    };
    let found = Rounds::take(
        bench.options.rounds,
        &subjects,
        name,
        |round, (accept, defer, workers)| {
            let setup = Setup {
                workers,
                accept,
                defer,
                ..SETUP
            };
            measure(bench, &setup, round)
        },
    )?;
    let mut table = Table::new(&COLUMNS);
    for ((accept, defer, workers), series) in found.iter() {
        table.row([
            accept.name().to_owned(),
            defer.to_string(),
            workers.to_string(),
            format!("{:.3}", series.median(|it| it.workers)),
            format!("{:.3}", series.median(|it| it.arbiter)),
            format!("{:.3}", series.median(|it| it.wakeups)),
            format!("{:.4}", series.median(|it| it.spurious)),
            format!("{:.0}", series.median(|it| it.cpu_us)),
            format!("{:.3}", series.median(|it| it.variation)),
            format!("{:.3}", series.median(|it| it.p50)),
            format!("{:.3}", series.median(|it| it.p99)),
            format!("{:.3}", series.median(|it| it.late)),
            series.total(|it| it.failures).to_string(),
        ]);
    }
    Ok(Report {
        table,
        notes: vec![format!(
            "`{SETUP}` and so on; {PER_SECOND} connections/s, each with one request"
        )],
        gates: gates(&found)?,
    })
}

fn gates(found: &Rounds<Subject, Found>) -> Result<Vec<Gate>> {
    let switches = |workers| -> Result<f64> {
        let series = found.of((Accept::Auto, true, workers))?;
        Ok(series.median(|it| it.workers))
    };
    let gate = |(few, many)| -> Result<Gate> {
        let (of_few, of_many) = (switches(few)?, switches(many)?);
        Ok(Gate {
            wants: format!(
                "voluntary switches/connection with auto, deferred, {many} workers: \
                 no more than with {few} (5 % are allowed)"
            ),
            found: format!("{of_many:.3}, with {few}: {of_few:.3}"),
            passed: of_many <= of_few * (1.0 + MORE),
        })
    };
    let mut gates = COMPARED.into_iter().map(gate).collect::<Result<Vec<_>>>()?;
    let of_auto = found
        .iter()
        .filter(|((accept, ..), _)| *accept == Accept::Auto);
    let failures = of_auto
        .map(|(_, series)| series.total(|it| it.failures))
        .sum();
    gates.push(Gate::nothing_failed("switches", failures));
    Ok(gates)
}

fn measure(bench: &Bench, setup: &Setup, round: u64) -> Result<Found> {
    let server = bench.start(setup)?;
    let count = (PER_SECOND * bench.seconds(3.0, 1.0)) as u64;
    let mut load = Load::new(server.address, "/", PER_SECOND, count);
    load.seed = round;
    let before = server.show()?;
    let workers = Usage::of_all(before.pids())?;
    let arbiter = Usage::of(server.pid)?;
    let tally = load.run()?;
    let workers = Usage::of_all(before.pids())? - workers;
    let arbiter = Usage::of(server.pid)? - arbiter;
    let after = server.show()?;
    server.end()?;
    let counters = after.total - before.total;
    let each = |number: u64| ratio(number as f64, count as f64);
    Ok(Found {
        workers: each(workers.voluntary),
        arbiter: each(arbiter.voluntary),
        wakeups: each(counters.wakeups),
        spurious: each(counters.spurious),
        cpu_us: each(workers.cpu_ns) / 1e3,
        variation: variation(&after.accepted_since(&before)),
        p50: tally.ms(0, 0.5),
        p99: tally.ms(0, 0.99),
        late: tally.late_ms(0.99),
        failures: tally.failures,
    })
}
