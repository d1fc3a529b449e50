//! Defines `kills`: what is lost when busy workers are killed, one after the other.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::bench::{Bench, Gate, Report};
use crate::load::{Load, Tally};
use crate::process::{connections, ready_workers, signal, stop};
use crate::random::Random;
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
const PATH: &str = "/?ms=5";
const PER_SECOND: f64 = 800.0;
const KILL_EVERY: Duration = Duration::from_millis(20);
/// The server waits longer each time before it fills the same slot again, so nobody is killed while fewer than these
/// are ready: they can still do all the work.
const READY_MIN: usize = 6;

/// One server.
#[derive(Default)]
struct Found {
    kills: u64,
    /// Moments at which too few were ready for another to be killed.
    spared: u64,
    /// Connections that those killed had in their hands.
    serving: u64,
    tally: Tally,
}

pub(crate) fn run(bench: &Bench) -> Result<Report> {
    let seconds = bench.seconds(4.0, 2.0);
    let found = bench.compare(SETUP, &Accept::ALL, |server, round| {
        measure(server, seconds, round)
    })?;
    let mut table = Table::new(&[
        "accept",
        "answered",
        "kills",
        "spared",
        "killed while serving",
        "failed",
        "longest answer ms",
    ]);
    for (accept, series) in found.iter() {
        table.row([
            accept.name().to_owned(),
            series.total(|it| it.tally.answered).to_string(),
            series.total(|it| it.kills).to_string(),
            series.total(|it| it.spared).to_string(),
            series.total(|it| it.serving).to_string(),
            series.total(|it| it.tally.failures).to_string(),
            format!("{:.0}", series.greatest(|it| it.tally.ms(0, 1.0))),
        ]);
    }
    let auto = found.of(Accept::Auto)?;
    let (failures, serving) = (
        auto.total(|it| it.tally.failures),
        auto.total(|it| it.serving),
    );
    Ok(Report {
        table,
        notes: vec![
            format!("`{SETUP}` and so on; {PER_SECOND} requests/s of `{PATH}`; sums of all rounds"),
            format!(
                "every {} ms one of the ready workers is killed, unless fewer than {READY_MIN} of \
                 {} are ready (spared), since the server leaves a slot empty for longer each time",
                KILL_EVERY.as_millis(),
                SETUP.workers
            ),
            "who is to be killed is stopped for as long as it takes to count its connections"
                .to_owned(),
        ],
        gates: vec![Gate {
            wants: "requests that fail with auto: no more than workers killed while serving, \
                    and none stuck"
                .to_owned(),
            found: format!("{failures}; {serving} killed while serving"),
            passed: failures.all() <= serving && failures.stuck == 0,
        }],
    })
}

fn measure(server: Server, seconds: f64, round: u64) -> Result<Found> {
    let count = (PER_SECOND * seconds) as u64;
    let mut load = Load::new(server.address, PATH, PER_SECOND, count);
    load.seed = round;
    let mut random = Random::new(round);
    let mut found = Found::default();
    let last = Instant::now() + Duration::from_secs_f64(seconds);
    let tally = load.run_beside(&mut |now| {
        found.kill_one(&server, &mut random)?;
        Ok((now < last).then(|| now + KILL_EVERY))
    })?;
    found.tally = tally;
    server.wait_until(|shown| shown.ready().count() == SETUP.workers)?;
    server.end()?;
    Ok(found)
}

impl Found {
    fn kill_one(&mut self, server: &Server, random: &mut Random) -> Result<()> {
        let ready = ready_workers(server.pid)?;
        if ready.len() < READY_MIN {
            self.spared += 1;
            return Ok(());
        }
        let pid = ready[random.below(ready.len())];
        stop(pid)?;
        self.serving += connections(pid, server.address.port())?;
        self.kills += 1;
        signal(pid, Signal::SIGKILL)
    }
}
