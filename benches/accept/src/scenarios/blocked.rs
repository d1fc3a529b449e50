//! Defines `blocked`: whether a request waits for a busy worker while another one is idle.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::bench::{Bench, Gate, Report};
use crate::client::Failures;
use crate::load::{AT_ONCE, Load};
use crate::server::{Accept, App, Kind, Server, Setup};
use crate::table::Table;

const SETUP: Setup = Setup {
    app: App::Sleep,
    kind: Kind::Sync,
    workers: 2,
    accept: Accept::Auto,
    defer: false,
    crowd: false,
};
/// Time that the long request takes, in milliseconds.
const LONG_MS: u64 = 2000;
/// Time in which it must have its answer.
const LONG_WITHIN: Duration = Duration::from_secs(10);
const FAST: u64 = 8;
/// What eight requests of a millisecond may take on one worker, on a machine that does other things too: far less
/// than what is left of the long request.
const AT_ONCE_MS: f64 = 100.0;

struct Found {
    /// When the last of the fast requests had its answer.
    ms: f64,
    /// How many workers answered them.
    workers: usize,
    failures: Failures,
}

pub(crate) fn run(bench: &Bench) -> Result<Report> {
    let found = bench.compare(SETUP, &Accept::ALL, measure)?;
    let mut table = Table::new(&[
        "accept",
        "all eight within ms",
        "worst round",
        "answered by so many workers, in each round",
        "failed",
    ]);
    for (accept, series) in found.iter() {
        let workers: Vec<String> = series.iter().map(|it| it.workers.to_string()).collect();
        table.row([
            accept.name().to_owned(),
            format!("{:.1}", series.median(|it| it.ms)),
            format!("{:.1}", series.greatest(|it| it.ms)),
            workers.join(", "),
            series.total(|it| it.failures).to_string(),
        ]);
    }
    let auto = found.of(Accept::Auto)?;
    let worst = auto.greatest(|it| it.ms);
    Ok(Report {
        table,
        notes: vec![format!(
            "`{SETUP}` and so on; one request of {LONG_MS} ms, then {FAST} of 1 ms, all at once"
        )],
        gates: vec![Gate {
            wants: format!(
                "all eight answered by the other worker at once, with auto: within {AT_ONCE_MS} ms"
            ),
            found: format!("within {worst:.1} ms in the worst round"),
            passed: worst <= AT_ONCE_MS
                && auto
                    .iter()
                    .all(|it| it.workers == 1 && it.failures.all() == 0),
        }],
    })
}

fn measure(server: Server, round: u64) -> Result<Found> {
    let mut long = TcpStream::connect(server.address).context("cannot connect")?;
    long.set_read_timeout(Some(LONG_WITHIN))?;
    let request =
        format!("GET /?ms={LONG_MS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    long.write_all(request.as_bytes())?;
    let before = server.wait_until(|shown| shown.total.accepted == 1)?;
    let mut load = Load::new(server.address, "/?ms=1", AT_ONCE, FAST);
    load.seed = round;
    let tally = load.run()?;
    let mut response = Vec::new();
    let read = long.read_to_end(&mut response);
    read.context("the long request has no answer")?;
    ensure!(
        response.starts_with(b"HTTP/1.1 200 "),
        "the long request was answered wrongly"
    );
    // The server waits until the client closes its side too.
    drop(long);
    let accepted = server.show()?.accepted_since(&before);
    server.end()?;
    Ok(Found {
        ms: tally.ms(0, 1.0),
        workers: accepted.iter().filter(|count| **count > 0).count(),
        failures: tally.failures,
    })
}
