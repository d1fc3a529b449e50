//! Defines `rgunicorn check`: everything that a start would find wrong, all of it at once, and nothing
//! is served.

use std::io::{self, Write};

use clap::ArgMatches;

use super::{Failed, load, log, working_folder};
use crate::arbiter::exit::ExitCode;
use crate::compose;
use crate::config::Config;
use crate::host::Compiler;
use crate::loader::read_component;

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failed> {
    let config = load(matches, &working_folder()?)?;
    log::start(config.log_level);
    check(&config)
}

/// Reads the certificates, compiles and links every app, and looks at its directories.
pub(super) fn check(config: &Config) -> Result<ExitCode, Failed> {
    let compiler = Compiler::new().map_err(|error| Failed::new(ExitCode::Failure, error))?;
    let mut wrong = Vec::new();
    let mut code = ExitCode::AppLoad;
    // In the order of a start, whose exit code is that of the first.
    if let Err(error) = compose::check(config) {
        code = error.exit_code();
        wrong.push(format!("rgunicorn: {error}"));
    }
    for app in &config.apps {
        let compiled = read_component(&app.component)
            .map_err(|error| error.to_string())
            .and_then(|described| {
                let compiled = compiler.compile(&described.bytes);
                compiled.map_err(|error| format!("{}: {error}", app.component.display()))
            });
        if let Err(error) = compiled {
            wrong.push(format!("rgunicorn: apps.{}: {error}", app.name));
        }
        for dir in app.dirs.iter().filter(|dir| !dir.host.is_dir()) {
            wrong.push(format!(
                "rgunicorn: apps.{}: dirs: {} is not a directory",
                app.name,
                dir.host.display()
            ));
        }
    }
    if !wrong.is_empty() {
        return Err(Failed {
            code,
            text: wrong.join("\n"),
        });
    }
    let apps: Vec<&str> = config.apps.iter().map(|app| app.name.as_str()).collect();
    // Whoever reads the output may have gone; the exit code still tells.
    let _ = writeln!(io::stdout(), "ok: {}", apps.join(", "));
    Ok(ExitCode::Ok)
}
