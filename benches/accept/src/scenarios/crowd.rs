//! Defines `crowd`: what thousands of clients who do nothing, or next to nothing, cost a worker and those who do
//! something.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::bench::{Bench, Gate, Report};
use crate::client::{Client, Failures};
use crate::load::{Load, Tally};
use crate::process::{memory, open_more_files};
use crate::rounds::Rounds;
use crate::server::{Accept, App, Kind, Server, Setup};
use crate::statistics::ratio;
use crate::table::Table;

const SETUP: Setup = Setup {
    app: App::Hello,
    kind: Kind::Async,
    workers: 1,
    accept: Accept::Auto,
    defer: false,
    crowd: true,
};
/// Clients who had an answer and stay.
const IDLE: u64 = 5000;
/// Clients who send one byte of a request in a second.
const SLOW: u64 = 1000;
/// They do not do it at the same moment, but so many in turn.
const TURNS: u64 = 100;
const TURN: Duration = Duration::from_millis(10);
/// Seconds for which the slow ones send before anything is measured beside them.
const SETTLE: f64 = 2.0;
/// The rate at which the crowd comes.
const COMING: f64 = 2000.0;
/// The rate of those who do something.
const PER_SECOND: f64 = 200.0;
const KIB_MAX: f64 = 20.0;
/// What the others may wait in addition, in parts.
const LATER: f64 = 1.25;

/// Whom the others are measured beside.
const BESIDE: [&str; 3] = ["nobody", "5000 idle", "5000 idle and 1000 slow"];

/// One run: beside nobody, beside the idle ones, beside all.
struct Found {
    p50: [f64; 3],
    p99: [f64; 3],
    /// Memory for each client of the crowd that came last, in KiB.
    kib: [f64; 3],
    failures: Failures,
}

pub(crate) fn run(bench: &Bench) -> Result<Report> {
    open_more_files()?;
    let name = |()| "one worker".to_owned();
    let found = Rounds::take(bench.options.rounds, &[()], name, |round, ()| {
        measure(bench, round)
    })?;
    let series = found.of(())?;
    let mut table = Table::new(&["beside", "p50 ms", "p99 ms", "KiB for each", "failed"]);
    for (at, beside) in BESIDE.iter().enumerate() {
        table.row([
            (*beside).to_owned(),
            format!("{:.3}", series.median(|it| it.p50[at])),
            format!("{:.3}", series.median(|it| it.p99[at])),
            format!("{:.1}", series.median(|it| it.kib[at])),
            series.total(|it| it.failures).to_string(),
        ]);
    }
    let kib = [1, 2].map(|at| series.median(|it| it.kib[at]));
    let later = series.median(|it| ratio(it.p50[2], it.p50[0]));
    Ok(Report {
        table,
        notes: vec![format!(
            "`{SETUP}`; {PER_SECOND} other connections/s, each with one request; memory is the proportional set size"
        )],
        gates: vec![
            Gate {
                wants: format!("memory for an idle and for a slow client: below {KIB_MAX} KiB"),
                found: format!("{:.1} and {:.1} KiB", kib[0], kib[1]),
                passed: kib.iter().all(|kib| *kib < KIB_MAX),
            },
            Gate {
                wants: "what others wait beside them, p50: as it was (a quarter more is allowed)"
                    .to_owned(),
                found: format!("{later:.2} of what it was"),
                passed: later <= LATER,
            },
            Gate::nothing_failed("crowd", series.total(|it| it.failures)),
        ],
    })
}

fn measure(bench: &Bench, round: u64) -> Result<Found> {
    let server = bench.start(&SETUP)?;
    let worker = *server.show()?.pids().first().context("no worker")?;
    let seconds = bench.seconds(5.0, 2.0);
    let alone = load(&server, seconds, round).run()?;
    let before = memory(worker)?;
    let mut coming = Load::new(server.address, "/", COMING, IDLE);
    (coming.keep, coming.open_max) = (true, IDLE as usize);
    let idle = coming.run()?;
    let with_idle = memory(worker)?;
    let beside_idle = load(&server, seconds, round).run()?;
    let mut slow = Slow::come(&server)?;
    let mut memory_of_all = None;
    let beside_all = load(&server, seconds + SETTLE, round).run_beside(&mut |now| {
        if slow.turns == TURNS {
            memory_of_all = Some(memory(worker)?);
        }
        slow.send();
        Ok(Some(now + TURN))
    })?;
    let with_all = memory_of_all.context("too short a time")?;
    let tallies = [&alone, &beside_idle, &beside_all];
    let each = |at: fn(&Tally) -> f64| tallies.map(at);
    let found = Found {
        p50: each(|tally| tally.ms(0, 0.5)),
        p99: each(|tally| tally.ms(0, 0.99)),
        kib: [
            0.0,
            ratio(with_idle.saturating_sub(before) as f64, IDLE as f64),
            ratio(with_all.saturating_sub(with_idle) as f64, SLOW as f64),
        ],
        failures: tallies.iter().map(|tally| tally.failures).sum(),
    };
    drop(idle);
    drop(slow);
    server.end()?;
    Ok(found)
}

fn load(server: &Server, seconds: f64, round: u64) -> Load {
    let mut load = Load::new(
        server.address,
        "/",
        PER_SECOND,
        (PER_SECOND * seconds) as u64,
    );
    load.seed = round;
    load
}

/// Clients whose requests come a byte at a time and never to an end.
struct Slow {
    clients: Vec<Client>,
    request: Vec<u8>,
    turns: u64,
}

impl Slow {
    fn come(server: &Server) -> Result<Self> {
        let client = |number| {
            let opened = Client::open(server.address, number)?;
            opened.ok().context("a slow client is refused")
        };
        Ok(Self {
            clients: (0..SLOW).map(client).collect::<Result<_>>()?,
            request: format!("GET /{} ", "a".repeat(4000)).into_bytes(),
            turns: 0,
        })
    }

    /// Those whose turn it is send one byte more.
    fn send(&mut self) {
        let sent = (self.turns / TURNS + 1) as usize;
        let request = &self.request[..sent.min(self.request.len())];
        let turn = self.turns % TURNS;
        let clients = self.clients.iter_mut().enumerate();
        for (_, client) in clients.filter(|(at, _)| *at as u64 % TURNS == turn) {
            client.advance(request, &mut [0; 64]);
        }
        self.turns += 1;
    }
}
