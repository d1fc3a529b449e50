//! Defines `rgunicorn serve`.

use std::io::{self, Write};

use clap::ArgMatches;

use super::log::Log;
use super::{Failed, check, load, working_folder};
use crate::arbiter::exit::ExitCode;
use crate::compose::{self, Start};
use crate::config::{self, CHECK_CONFIG, Config, PRINT_CONFIG};

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failed> {
    // A reload reads the configuration from where the server was started.
    let cwd = working_folder()?;
    let config = load(matches, &cwd)?;
    if matches.get_flag(PRINT_CONFIG) {
        return io::stdout()
            .write_all(config.print().as_bytes())
            .map(|()| ExitCode::Ok)
            .map_err(|error| Failed::new(ExitCode::Failure, format!("cannot print: {error}")));
    }
    let log = Log::start(config.log_level);
    if matches.get_flag(CHECK_CONFIG) {
        return check::check(&config);
    }
    let matches = matches.clone();
    let read_again = Box::new(move || -> Result<Config, String> {
        let config = config::load(&matches, std::env::vars_os(), &cwd)
            .map_err(|errors| errors.to_string().replace('\n', "; "))?;
        log.set_level(config.log_level);
        Ok(config)
    });
    compose::serve(Start { config, read_again })
        .map_err(|error| Failed::new(error.exit_code(), error))
}
