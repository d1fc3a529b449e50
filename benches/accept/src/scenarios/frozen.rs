//! Defines `frozen`: who waits for a worker that stands still. Each worker is stopped in turn, and goes on.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::bench::{Bench, Gate, Report};
use crate::load::{Load, Tally};
use crate::process::{connections, signal, stop};
use crate::server::{Accept, App, Kind, Server, Setup};
use crate::table::Table;

const SETUP: Setup = Setup {
    app: App::Hello,
    kind: Kind::Async,
    workers: 4,
    accept: Accept::Auto,
    defer: false,
    crowd: false,
};
const PER_SECOND: f64 = 500.0;
/// What has no answer after so long is stuck.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Time between two workers that stand still, and before the first.
const REST: Duration = Duration::from_millis(500);
/// The default; what every worker waits for; and the one that leaves nobody a choice.
const STRATEGIES: [Accept; 3] = [Accept::Auto, Accept::Kernel, Accept::Reuseport];

/// One server.
struct Found {
    frozen: u64,
    /// Connections that workers had in their hands when they were stopped.
    held: u64,
    tally: Tally,
    revocations: u64,
}

pub(crate) fn run(bench: &Bench) -> Result<Report> {
    // Longer than the limit, so that what waits for a frozen worker is found.
    let freeze = Duration::from_secs_f64(bench.seconds(2.0, 1.5)).max(ANSWER_WITHIN + REST);
    let found = bench.compare(SETUP, &STRATEGIES, |server, round| {
        measure(server, freeze, round)
    })?;
    let mut table = Table::new(&[
        "accept",
        "answered",
        "workers frozen",
        "held by them",
        "stuck",
        "failed otherwise",
        "longest answer ms",
        "revocations",
    ]);
    for (accept, series) in found.iter() {
        table.row([
            accept.name().to_owned(),
            series.total(|it| it.tally.answered).to_string(),
            series.total(|it| it.frozen).to_string(),
            series.total(|it| it.held).to_string(),
            series.total(|it| it.tally.failures.stuck).to_string(),
            series.total(Found::failed_otherwise).to_string(),
            format!("{:.0}", series.greatest(|it| it.tally.ms(0, 1.0))),
            series.total(|it| it.revocations).to_string(),
        ]);
    }
    let auto = found.of(Accept::Auto)?;
    let (stuck, held) = (
        auto.total(|it| it.tally.failures.stuck),
        auto.total(|it| it.held),
    );
    let otherwise = auto.total(Found::failed_otherwise);
    Ok(Report {
        table,
        notes: vec![
            format!("`{SETUP}` and so on; {PER_SECOND} requests/s; sums of all rounds"),
            format!(
                "each of the {} workers stands still for {} ms in turn; a request without an \
                 answer after {} ms is stuck",
                SETUP.workers,
                freeze.as_millis(),
                ANSWER_WITHIN.as_millis()
            ),
        ],
        gates: vec![Gate {
            wants: "requests that are stuck with auto while a worker stands still: none but those \
                    that it held"
                .to_owned(),
            found: format!("{stuck} stuck, {held} held, {otherwise} failed otherwise"),
            passed: stuck <= held && otherwise == 0,
        }],
    })
}

impl Found {
    fn failed_otherwise(&self) -> u64 {
        self.tally.failures.all() - self.tally.failures.stuck
    }
}

fn measure(server: Server, freeze: Duration, round: u64) -> Result<Found> {
    let before = server.show()?;
    let mut freezer = Freezer::new(&server, before.pids(), freeze);
    let count = (PER_SECOND * freezer.takes().as_secs_f64()) as u64;
    let mut load = Load::new(server.address, "/", PER_SECOND, count);
    (load.seed, load.answer_within) = (round, ANSWER_WITHIN);
    let tally = load.run_beside(&mut |now| freezer.turn(now))?;
    freezer.thaw()?;
    let (frozen, held) = (freezer.count, freezer.held);
    let after = server.show()?;
    server.end()?;
    Ok(Found {
        frozen,
        held,
        tally,
        revocations: after.total.revocations - before.total.revocations,
    })
}

/// Stops one worker after the other.
struct Freezer<'a> {
    server: &'a Server,
    freeze: Duration,
    /// Those whose turn is still to come.
    pids: Vec<i32>,
    frozen: Option<i32>,
    is_begun: bool,
    count: u64,
    held: u64,
}

impl<'a> Freezer<'a> {
    fn new(server: &'a Server, pids: Vec<i32>, freeze: Duration) -> Self {
        Self {
            server,
            freeze,
            pids,
            frozen: None,
            is_begun: false,
            count: 0,
            held: 0,
        }
    }

    /// The time from the beginning to some time after the end.
    fn takes(&self) -> Duration {
        (REST + self.freeze) * self.pids.len() as u32 + REST
    }

    /// Stops the next worker, or lets the one that stands still go on; answers when to do the other.
    fn turn(&mut self, now: Instant) -> Result<Option<Instant>> {
        let was_begun = std::mem::replace(&mut self.is_begun, true);
        if !was_begun || self.thaw()? {
            return Ok(Some(now + REST));
        }
        let Some(pid) = self.pids.pop() else {
            return Ok(None);
        };
        stop(pid)?;
        self.frozen = Some(pid);
        self.count += 1;
        self.held += connections(pid, self.server.address.port())?;
        Ok(Some(now + self.freeze))
    }

    fn thaw(&mut self) -> Result<bool> {
        let Some(pid) = self.frozen.take() else {
            return Ok(false);
        };
        signal(pid, Signal::SIGCONT)?;
        Ok(true)
    }
}
