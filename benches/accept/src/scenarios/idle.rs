//! Defines `idle`: what a server does when nothing is to be done. Servers that do nothing do not disturb each other,
//! so those of a round wait side by side.

use std::time::Duration;

use anyhow::Result;

use crate::bench::{Bench, Gate, Report};
use crate::pause::pause;
use crate::process::{Usage, children};
use crate::rounds::Rounds;
use crate::server::{Accept, App, Kind, Server, Setup};
use crate::table::Table;

const SETUP: Setup = Setup {
    app: App::Hello,
    kind: Kind::Async,
    workers: 8,
    accept: Accept::Auto,
    defer: false,
    crowd: false,
};
/// Time in which what belongs to the start comes to an end.
const SETTLE: Duration = Duration::from_secs(2);
/// Switches in a second, of all processes of a server together, that are as good as none.
const PER_SECOND_MAX: f64 = 1.0;

/// Context switches in a second, of one server.
struct Found {
    workers: f64,
    arbiter: f64,
}

impl Found {
    fn all(&self) -> f64 {
        self.workers + self.arbiter
    }
}

pub(crate) fn run(bench: &Bench) -> Result<Report> {
    let seconds = bench.seconds(20.0, 5.0);
    let name = |()| "all side by side".to_owned();
    let found = Rounds::take(bench.options.rounds, &[()], name, |_, ()| {
        measure(bench, seconds)
    })?;
    let series = found.of(())?;
    let mut table = Table::new(&[
        "accept",
        "worker switches/s",
        "arbiter switches/s",
        "all/s",
        "worst round",
    ]);
    for (at, accept) in Accept::ALL.iter().enumerate() {
        table.row([
            accept.name().to_owned(),
            format!("{:.2}", series.median(|it| it[at].workers)),
            format!("{:.2}", series.median(|it| it[at].arbiter)),
            format!("{:.2}", series.median(|it| it[at].all())),
            format!("{:.2}", series.greatest(|it| it[at].all())),
        ]);
    }
    // Auto is the first of all.
    let worst = series.greatest(|it| it[0].all());
    Ok(Report {
        table,
        notes: vec![format!(
            "`{SETUP}` and so on; {seconds} s without a connection, voluntary and other switches"
        )],
        gates: vec![Gate {
            wants: format!(
                "context switches of all processes, idle, with auto: \
                 fewer than {PER_SECOND_MAX} a second"
            ),
            found: format!("{worst:.2} in the worst round"),
            passed: worst < PER_SECOND_MAX,
        }],
    })
}

fn measure(bench: &Bench, seconds: f64) -> Result<Vec<Found>> {
    let servers = Accept::ALL.map(|accept| bench.start(&Setup { accept, ..SETUP }));
    let servers = servers.into_iter().collect::<Result<Vec<_>>>()?;
    pause(SETTLE)?;
    let before = servers.iter().map(usage).collect::<Result<Vec<_>>>()?;
    pause(Duration::from_secs_f64(seconds))?;
    let after = servers.iter().map(usage).collect::<Result<Vec<_>>>()?;
    servers.into_iter().try_for_each(Server::end)?;
    let each = |before: Usage, after: Usage| (after - before).switches() as f64 / seconds;
    let found = before.into_iter().zip(after).map(|(before, after)| Found {
        workers: each(before.0, after.0),
        arbiter: each(before.1, after.1),
    });
    Ok(found.collect())
}

/// Of the workers, and of the arbiter. To ask the server who they are would wake it.
fn usage(server: &Server) -> Result<(Usage, Usage)> {
    let workers = Usage::of_all(children(server.pid)?)?;
    Ok((workers, Usage::of(server.pid)?))
}
