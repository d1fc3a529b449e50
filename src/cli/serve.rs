//! Defines `rgunicorn serve`.

use std::io::{self, Write};

use clap::ArgMatches;

use super::{Failed, check, load, log};
use crate::arbiter::exit::ExitCode;
use crate::compose;
use crate::config::{CHECK_CONFIG, PRINT_CONFIG};

pub(super) fn run(matches: &ArgMatches) -> Result<ExitCode, Failed> {
    let config = load(matches)?;
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
    // Scripts wait for this line: it is a contract, not a log line.
    let ready = |url: &str| {
        let _ = writeln!(io::stderr(), "Serving HTTP on {url}");
    };
    compose::serve(config, ready).map_err(|error| Failed::new(error.exit_code(), error))
}
