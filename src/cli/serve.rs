//! Defines `rgunicorn serve`.

use std::io::{self, Write};

use clap::ArgMatches;

use super::{Failed, check, load, log, working_folder};
use crate::arbiter::exit::ExitCode;
use crate::compose::{self, Start};
use crate::config::{self, CHECK_CONFIG, Config, PRINT_CONFIG};

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failed> {
    // A reload reads the configuration from where the server was started.
    let cwd = working_folder()?;
    let config = load(matches, &cwd).inspect_err(|failed| {
        // Whoever has ordered an upgrade wants to know why there is none.
        compose::refuse_upgrade(failed.code, &failed.text);
    })?;
    if matches.get_flag(PRINT_CONFIG) {
        return io::stdout()
            .write_all(config.print().as_bytes())
            .map(|()| ExitCode::Ok)
            .map_err(|error| Failed::new(ExitCode::Failure, format!("cannot print: {error}")));
    }
    log::start(config.log_level);
    if matches.get_flag(CHECK_CONFIG) {
        return check::check(&config);
    }
    let matches = matches.clone();
    let read_again = Box::new(move || -> Result<Config, String> {
        config::load(&matches, std::env::vars_os(), &cwd)
            .map_err(|errors| errors.to_string().replace('\n', "; "))
    });
    let start = Start {
        config,
        read_again,
        set_log_level: log::set_level,
    };
    compose::serve(start).map_err(|error| Failed::new(error.exit_code(), error))
}
