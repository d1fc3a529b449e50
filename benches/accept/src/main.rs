//! Defines the program that measures, from outside, how the workers of rgunicorn are woken for connections, and what
//! that means for those who wait for an answer. See README.md beside it.

use std::io::{self, Write as _};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::bench::{Bench, Gate};
use crate::machine::Watch;
use crate::options::Options;
use crate::places::Places;
use crate::scenarios::Scenario;
use crate::table::Table;

mod bench;
mod client;
mod counters;
mod load;
mod machine;
mod options;
mod pause;
mod places;
mod process;
mod random;
mod rounds;
mod scenarios;
mod server;
mod statistics;
mod table;

/// How this program is run, from the root of the repository.
const COMMAND: &str =
    "cargo run --release --manifest-path benches/accept/Cargo.toml --target-dir target/benches --";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "accept: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let bench = Bench {
        options,
        places: Places::find()?,
    };
    say(&heading(&bench)?)?;
    let (mut gates, mut failed) = (Vec::new(), Vec::new());
    for scenario in &bench.options.scenarios {
        match measure(&bench, scenario) {
            Ok(found) => gates.extend(found),
            // The others can be measured still.
            Err(error) => {
                say(&format!("not measured: {error:#}\n"))?;
                failed.push(scenario.name);
            }
        }
    }
    say(&of_gates(&gates))?;
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn measure(bench: &Bench, scenario: &Scenario) -> Result<Vec<Gate>> {
    say(&format!("## {}: {}\n", scenario.name, scenario.what))?;
    let watch = Watch::start()?;
    let report = (scenario.run)(bench)?;
    say(&report.table.to_string())?;
    let machine = watch.tell()?;
    let lines = report.notes.iter().chain([&machine]);
    let lines: Vec<String> = lines.map(|line| format!("* {line}\n")).collect();
    say(&lines.concat())?;
    Ok(report.gates)
}

fn heading(bench: &Bench) -> Result<String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let version = Command::new(&bench.places.program)
        .arg("--version")
        .output();
    let version = version.context("cannot run the server")?.stdout;
    let rounds = bench.options.rounds;
    let quick = if bench.options.quick {
        "; quick, so that the figures say little"
    } else {
        ""
    };
    Ok(format!(
        "# Accepting\n\n    {COMMAND} {}\n\n{}, Linux {}, {}; rounds: {rounds}{quick}\n",
        words.join(" "),
        String::from_utf8_lossy(&version).trim_end(),
        machine::kernel()?,
        machine::cpus()?,
    ))
}

fn of_gates(gates: &[Gate]) -> String {
    let mut table = Table::new(&["gate", "found", ""]);
    for gate in gates {
        let word = if gate.passed { "pass" } else { "FAIL" };
        table.row([gate.wants.clone(), gate.found.clone(), word.to_owned()]);
    }
    format!("## Gates\n\n{table}")
}

fn say(text: &str) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("cannot write to standard output")
}
