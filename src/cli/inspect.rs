//! Defines `rgunicorn inspect`: what a component says of itself, without compiling it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::ArgMatches;

use super::Failed;
use crate::arbiter::exit::ExitCode;
use crate::host::Described;
use crate::loader::read_component;

/// Imports that do nothing until something is granted, and how that is done.
const GRANTS: [(&str, &str); 3] = [
    (
        "wasi:cli/environment@",
        "--env KEY=VALUE for each variable that it reads",
    ),
    (
        "wasi:filesystem/preopens@",
        "--dir HOST::GUEST[:ro] for each directory that it uses",
    ),
    (
        "wasi:http/outgoing-handler@",
        "--outbound URL-PATTERN for each server that it calls",
    ),
];

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failed> {
    let path = matches
        .get_one::<PathBuf>("app")
        .map_or_else(PathBuf::new, PathBuf::clone);
    let described = read_component(&path).map_err(|error| Failed::new(ExitCode::AppLoad, error))?;
    io::stdout()
        .write_all(show(&described).as_bytes())
        .map(|()| ExitCode::Ok)
        .map_err(|error| Failed::new(ExitCode::Failure, format!("cannot print: {error}")))
}

fn show(described: &Described) -> String {
    let mut text = match described.world() {
        Ok(world) => format!("world:   {}\n", world.export()),
        Err(error) => format!("world:   none that is served: {error}\n"),
    };
    for (title, names) in [
        ("exports:", &described.exports),
        ("imports:", &described.imports),
    ] {
        let names = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join("\n         ")
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{title} {names}");
    }
    let imported = |prefix: &str| {
        described
            .imports
            .iter()
            .any(|name| name.starts_with(prefix))
    };
    let needs: Vec<&str> = GRANTS
        .iter()
        .filter(|(prefix, _)| imported(prefix))
        .map(|(_, how)| *how)
        .collect();
    let needs = if needs.is_empty() {
        "nothing".to_owned()
    } else {
        needs.join("\n         ")
    };
    let _ = writeln!(text, "needs:   {needs}");
    text
}
