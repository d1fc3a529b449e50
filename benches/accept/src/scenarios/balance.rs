//! Defines `balance`: whether each worker holds as many connections as the others.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::bench::{Bench, Gate, Report};
use crate::client::{Client, Failures};
use crate::counters::Shown;
use crate::load::Load;
use crate::pause::pause;
use crate::process::{connections, signal};
use crate::server::{Accept, App, Kind, Server, Setup};
use crate::statistics::variation;
use crate::table::Table;

const SETUP: Setup = Setup {
    app: App::Hello,
    kind: Kind::Async,
    workers: 8,
    accept: Accept::Auto,
    defer: false,
    crowd: false,
};
const KILLED: usize = SETUP.workers / 4;
const CONNECTIONS: u64 = 800;
const PER_SECOND: f64 = 1000.0;
/// Of 100 connections one more or less.
const VARIATION_MAX: f64 = 0.01;

/// The connections that each worker of one server held, before some were killed and after: opened
/// and held, and with a request first, which keeps its worker busy when the next one comes.
struct Found {
    silent: Held,
    asked: Held,
}

struct Held {
    before: Vec<u64>,
    broken: u64,
    after: Vec<u64>,
    failures: Failures,
}

pub(crate) fn run(bench: &Bench) -> Result<Report> {
    let found = bench.compare(SETUP, &Accept::ALL, measure)?;
    let mut table = Table::new(&[
        "accept",
        "CV of held",
        "worst round",
        "broken by the kills",
        "CV after reconnecting",
        "worst round",
        "with a request first",
        "after reconnecting",
        "failed",
    ]);
    for (accept, series) in found.iter() {
        table.row([
            accept.name().to_owned(),
            format!("{:.3}", series.median(|it| variation(&it.silent.before))),
            format!("{:.3}", series.greatest(|it| variation(&it.silent.before))),
            format!("{:.0}", series.median(|it| it.silent.broken as f64)),
            format!("{:.3}", series.median(|it| variation(&it.silent.after))),
            format!("{:.3}", series.greatest(|it| variation(&it.silent.after))),
            format!("{:.3}", series.median(|it| variation(&it.asked.before))),
            format!("{:.3}", series.median(|it| variation(&it.asked.after))),
            series.total(|it| it.asked.failures).to_string(),
        ]);
    }
    let auto = found.of(Accept::Auto)?;
    let gate = |when: &str, worst: f64| Gate {
        wants: format!("CV of held connections with auto, {when}: at most {VARIATION_MAX}"),
        found: format!("{worst:.4} in the worst round"),
        passed: worst <= VARIATION_MAX,
    };
    let mut notes = vec![format!(
        "`{SETUP}` and so on; {CONNECTIONS} connections, {PER_SECOND} a second, held, and then as many that each do a \
         request first; {KILLED} workers killed each time"
    )];
    notes.extend(auto.iter().last().map(|it| {
        let Held { before, after, .. } = &it.silent;
        format!("held by each worker with auto, in the last round: {before:?}, then {after:?}")
    }));
    Ok(Report {
        table,
        notes,
        gates: vec![
            gate("at first", auto.greatest(|it| variation(&it.silent.before))),
            gate(
                "after a quarter of the workers was killed",
                auto.greatest(|it| variation(&it.silent.after)),
            ),
            Gate::nothing_failed("balance", auto.total(|it| it.asked.failures)),
        ],
    })
}

fn measure(server: Server, round: u64) -> Result<Found> {
    let open = |count: u64| Ok((open_silently(&server, count)?, Failures::default()));
    let silent = hold(&server, round, open, is_closed)?;
    let open = |count: u64| {
        let mut load = Load::new(server.address, "/", PER_SECOND, count);
        (load.keep, load.seed) = (true, round);
        let tally = load.run()?;
        Ok((tally.kept, tally.failures))
    };
    let asked = hold(&server, round, open, Client::is_closed)?;
    server.end()?;
    Ok(Found { silent, asked })
}

/// Opens connections and holds them, kills some workers, and opens as many as were broken.
fn hold<C>(
    server: &Server,
    round: u64,
    open: impl Fn(u64) -> Result<(Vec<C>, Failures)>,
    is_closed: impl Fn(&C) -> bool,
) -> Result<Held> {
    let (mut clients, failures) = open(CONNECTIONS)?;
    let before = held(server, clients.len())?;
    kill_some(server, round as usize)?;
    let all = clients.len();
    clients.retain(|client| !is_closed(client));
    let broken = (all - clients.len()) as u64;
    let (more, failures_after) = open(broken)?;
    clients.extend(more);
    let after = held(server, clients.len())?;
    drop(clients);
    held(server, 0)?;
    Ok(Held {
        before,
        broken,
        after,
        failures: failures + failures_after,
    })
}

/// Connections on which nothing is said.
fn open_silently(server: &Server, count: u64) -> Result<Vec<TcpStream>> {
    let began = Instant::now();
    (0..count)
        .map(|number| {
            let due = began + Duration::from_secs_f64(number as f64 / PER_SECOND);
            pause(due.saturating_duration_since(Instant::now()))?;
            let stream = TcpStream::connect(server.address)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })
        .collect()
}

fn is_closed(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Kills some workers, others in each round, and waits until their slots are filled again.
fn kill_some(server: &Server, round: usize) -> Result<()> {
    let mut pids = server.show()?.pids();
    pids.rotate_left(round % SETUP.workers);
    pids.truncate(KILLED);
    for pid in &pids {
        signal(*pid, Signal::SIGKILL)?;
    }
    server.wait_until(|shown| {
        let new = shown.pids();
        shown.ready().count() == SETUP.workers && pids.iter().all(|pid| !new.contains(pid))
    })?;
    Ok(())
}

/// How many of `count` connections each worker holds, as it says; the kernel must agree.
fn held(server: &Server, count: usize) -> Result<Vec<u64>> {
    let held = |shown: &Shown| -> Vec<u64> {
        shown
            .workers
            .iter()
            .map(|worker| worker.connections)
            .collect()
    };
    let shown = server.wait_until(|shown| held(shown).iter().sum::<u64>() == count as u64)?;
    let counted = shown
        .pids()
        .into_iter()
        .map(|pid| connections(pid, server.address.port()));
    let counted: Vec<u64> = counted.collect::<Result<_>>()?;
    let held = held(&shown);
    if counted != held {
        bail!("the workers say that they hold {held:?}, the kernel {counted:?}");
    }
    Ok(held)
}
