//! Defines `skew`: a few requests are slow, and the question is what the fast ones wait for.

use anyhow::Result;

use crate::bench::{Bench, Gate, Report};
use crate::client::Failures;
use crate::load::{AT_ONCE, Load};
use crate::machine::Ticks;
use crate::rounds::Rounds;
use crate::server::{Accept, App, Kind, Server, Setup};
use crate::table::Table;

const SETUP: Setup = Setup {
    app: App::Sleep,
    kind: Kind::Sync,
    workers: 8,
    accept: Accept::Auto,
    defer: false,
    crowd: false,
};
const FAST_MS: f64 = 1.0;
const SLOW_MS: f64 = 50.0;
const SLOW_SHARE: f64 = 0.05;
/// Rates, in parts of what the workers can do.
const LOADS: [f64; 3] = [0.3, 0.6, 0.8];
/// Number of the load that the gates are about.
const GATE: usize = 1;
const TO_KERNEL_MAX: f64 = 1.1;
const REUSEPORT_MIN: f64 = 3.0;

/// Requests by which it is measured what the workers can do.
const CAPACITY_REQUESTS: u64 = 10_000;
const CAPACITY_REQUESTS_QUICK: u64 = 3000;
/// Connections that are open at any time then: each worker has one, and as many wait.
const CLOSED_LOOP: usize = 2 * SETUP.workers;

/// What fast requests took under one load, in milliseconds.
struct Found {
    p50: f64,
    p90: f64,
    p99: f64,
    late: f64,
    /// Percent of the machine.
    busy: f64,
    failures: Failures,
}

/// By strategy, and in each round by load.
type AllFound = Rounds<Accept, Vec<Found>>;

pub(crate) fn run(bench: &Bench) -> Result<Report> {
    let seconds = bench.seconds(8.0, 2.0);
    let capacity = capacity(bench)?;
    let found = bench.compare(SETUP, &Accept::ALL, |server, round| {
        let rates = LOADS.iter().map(|part| part * capacity);
        let found = rates.map(|rate| measure(&server, rate, seconds, round));
        let found = found.collect::<Result<Vec<_>>>()?;
        server.end()?;
        Ok(found)
    })?;
    let mean_ms = FAST_MS + SLOW_SHARE * (SLOW_MS - FAST_MS);
    Ok(Report {
        table: tabulate(&found)?,
        notes: vec![
            format!(
                "`{SETUP}` and so on; {:.0} % of the requests sleep for {SLOW_MS} ms, the others \
                 for {FAST_MS} ms",
                SLOW_SHARE * 100.0
            ),
            format!(
                "100 % are {capacity:.0} requests/s, measured with kernel and {CLOSED_LOOP} \
                 connections open at any time; if a request cost nothing but its sleep, it would \
                 be {:.0}",
                1e3 * SETUP.workers as f64 / mean_ms
            ),
        ],
        gates: gates(&found)?,
    })
}

fn tabulate(found: &AllFound) -> Result<Table> {
    let mut table = Table::new(&[
        "load",
        "accept",
        "fast p50 ms",
        "fast p90 ms",
        "fast p99 ms",
        "p99 to kernel's",
        "begun late, p99 ms",
        "CPU busy",
        "failed",
    ]);
    for (load, part) in LOADS.iter().enumerate() {
        let kernel = found.of(Accept::Kernel)?;
        for (accept, series) in found.iter() {
            table.row([
                format!("{:.0} %", part * 100.0),
                accept.name().to_owned(),
                format!("{:.2}", series.median(|it| it[load].p50)),
                format!("{:.2}", series.median(|it| it[load].p90)),
                format!("{:.2}", series.median(|it| it[load].p99)),
                format!("{:.2}", series.ratio_to(kernel, |it| it[load].p99)),
                format!("{:.2}", series.median(|it| it[load].late)),
                format!("{:.0} %", series.median(|it| it[load].busy)),
                series.total(|it| it[load].failures).to_string(),
            ]);
        }
    }
    Ok(table)
}

fn gates(found: &AllFound) -> Result<Vec<Gate>> {
    let ratio = |accept, other| -> Result<f64> {
        Ok(found
            .of(accept)?
            .ratio_to(found.of(other)?, |it| it[GATE].p99))
    };
    let to_kernel = ratio(Accept::Auto, Accept::Kernel)?;
    let of_reuseport = ratio(Accept::Reuseport, Accept::Auto)?;
    let of_auto = found.of(Accept::Auto)?.iter();
    let failures = of_auto.flatten().map(|it| it.failures).sum();
    let what = format!("p99 of fast requests at {:.0} %", LOADS[GATE] * 100.0);
    Ok(vec![
        Gate {
            wants: format!("{what}, auto to kernel: at most {TO_KERNEL_MAX}"),
            found: format!("{to_kernel:.2}"),
            passed: to_kernel <= TO_KERNEL_MAX,
        },
        Gate {
            wants: format!("{what}, reuseport to auto: at least {REUSEPORT_MIN}"),
            found: format!("{of_reuseport:.2}"),
            passed: of_reuseport >= REUSEPORT_MIN,
        },
        Gate::nothing_failed("skew", failures),
    ])
}

fn load(server: &Server, rate: f64, count: u64) -> Load {
    let mut load = Load::new(server.address, "/", rate, count);
    let path = |ms: f64| format!("/?ms={ms}");
    load.paths = vec![
        (1.0 - SLOW_SHARE, path(FAST_MS)),
        (SLOW_SHARE, path(SLOW_MS)),
    ];
    load
}

/// Requests in a second that the workers answer when there is always another one.
fn capacity(bench: &Bench) -> Result<f64> {
    let count = if bench.options.quick {
        CAPACITY_REQUESTS_QUICK
    } else {
        CAPACITY_REQUESTS
    };
    let server = bench.start(&Setup {
        accept: Accept::Kernel,
        ..SETUP
    })?;
    let mut load = load(&server, AT_ONCE, count);
    load.open_max = CLOSED_LOOP;
    let tally = load.run()?;
    server.end()?;
    Ok(tally.answered as f64 / tally.took.as_secs_f64())
}

fn measure(server: &Server, rate: f64, seconds: f64, seed: u64) -> Result<Found> {
    let mut load = load(server, rate, (rate * seconds) as u64);
    load.seed = seed;
    let before = Ticks::now()?;
    let tally = load.run()?;
    Ok(Found {
        p50: tally.ms(0, 0.5),
        p90: tally.ms(0, 0.9),
        p99: tally.ms(0, 0.99),
        late: tally.late_ms(0.99),
        busy: Ticks::now()?.busy_since(before),
        failures: tally.failures,
    })
}
