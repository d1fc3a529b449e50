//! Defines the command line: one file for each verb. It prints one line for what went wrong and
//! answers with the exit code.

mod check;
mod ctl;
mod inspect;
mod log;
mod serve;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::arbiter::exit::ExitCode;
use crate::config::{self, Config};

/// What a verb ends with when it does not succeed: the text for standard error, and the code.
struct Failed {
    code: ExitCode,
    text: String,
}

impl Failed {
    fn new(code: ExitCode, error: impl std::fmt::Display) -> Self {
        Self {
            code,
            text: format!("rgunicorn: {error}"),
        }
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version come this way too, and go to standard output.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::Usage
            } else {
                ExitCode::Ok
            };
        }
    };
    let result = match matches.subcommand() {
        Some(("serve", matches)) => serve::run(matches),
        Some(("check", matches)) => check::run(matches),
        Some(("inspect", matches)) => inspect::run(matches),
        Some(("ctl", matches)) => ctl::run(matches),
        Some(_) | None => Err(Failed::new(
            ExitCode::Usage,
            "unknown verb; see rgunicorn --help",
        )),
    };
    result.unwrap_or_else(|failed| {
        let _ = writeln!(io::stderr(), "{}", failed.text);
        failed.code
    })
}

/// The whole command line.
#[must_use]
pub fn command() -> Command {
    Command::new("rgunicorn")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Serves WebAssembly components over HTTP, with an arbiter and prefork workers")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            Command::new("serve")
                .about("Serve an app, or the apps of a settings file")
                .args(config::command_args())
                .args(config::verb_args()),
        )
        .subcommand(
            Command::new("check")
                .about("Validate, compile and link the apps, and say each thing that is wrong")
                .args(config::command_args()),
        )
        .subcommand(
            Command::new("inspect")
                .about("Show the world that a component exports, what it imports and what it would need granted")
                .arg(Arg::new("app").value_name("APP").required(true).value_parser(value_parser!(PathBuf))),
        )
        .subcommand(ctl::command())
}

/// The folder in which the command was given.
fn working_folder() -> Result<PathBuf, Failed> {
    std::env::current_dir().map_err(|error| {
        let what = format!("cannot find the working directory: {error}");
        Failed::new(ExitCode::Failure, what)
    })
}

/// Reads the configuration from all its sources.
fn load(matches: &ArgMatches, cwd: &Path) -> Result<Config, Failed> {
    config::load(matches, std::env::vars_os(), cwd).map_err(|errors| {
        let code = if errors.are_usage() {
            ExitCode::Usage
        } else {
            ExitCode::Config
        };
        let lines: Vec<String> = errors
            .to_string()
            .lines()
            .map(|line| format!("rgunicorn: config: {line}"))
            .collect();
        Failed {
            code,
            text: lines.join("\n"),
        }
    })
}
