//! Defines the settings: one table, from which come the arguments of the command line, the settings
//! file, the environment, help and docs/configuration.md.
//!
//! Settings pass two stages. *Raw*: as written, each value with its place. *Resolved*: [`Config`],
//! whose types cannot hold a wrong value. Invariant: only [`load`] makes a `Config`, so whoever has
//! one need not check it; and the sources' precedence is default, environment, file,
//! `RGUNICORN_CMD_ARGS`, command line.

mod address;
mod choice;
mod command;
mod environment;
mod error;
mod file;
mod form;
mod grammar;
mod grant;
mod host;
mod kind;
mod number;
mod outbound;
mod print;
mod proxies;
mod raw;
mod reference;
mod reload;
mod resolve;
mod resolved;
mod route;
mod setting;
mod suggest;
mod syslog;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod tls;
mod words;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use clap::ArgMatches;

pub use address::BindAddress;
pub use choice::Choice;
pub use command::{CHECK_CONFIG, CONFIG, PRINT_CONFIG, command_args, verb_args};
pub use error::{Error, Errors, Origin, Problem};
pub use grant::Dir;
pub use host::{HostPattern, normal_host};
pub use outbound::{OutboundPattern, Scheme};
pub use print::AppDescription;
pub use proxies::{Proxies, ProxyProtocol};
pub use reference::reference_markdown;
pub use resolved::{
    AcceptMode, App, AppLimits, Config, LogLevel, MemoryMeasure, UpgradeMode, WorkerClass,
};
pub use route::Route;
pub use syslog::{Facility, SyslogTo};
pub use tls::{CertReqs, Http2, Http2Cleartext, HttpProtocols, Tls, TlsVersion};

use environment::Environment;
use kind::Machine;
use raw::Raw;

/// Reads the configuration from all its sources: arguments that [`command_args`] parsed, the
/// variables of the environment, and the settings file that one of them names or that is in `cwd`,
/// the absolute path of the current folder.
///
/// It opens no file but that one: whether components and directories exist is found out by those
/// who use them.
///
/// # Errors
///
/// Everything that is wrong in any of the sources.
pub fn load(
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    cwd: &Path,
) -> Result<Config, Errors> {
    let environment = Environment::new(environment);
    let machine = Machine {
        cpus: cpus(),
        cache: environment.cache(),
    };
    let (raw, mut errors) = read(matches, &environment, cwd);
    // A source that could not be read may be the one that names the app.
    let unread = !errors.is_empty();
    let (config, faults) = resolve::resolve(&raw, &machine);
    errors.extend(
        faults
            .into_iter()
            .filter(|error| !unread || error.problem != Problem::NoApp),
    );
    Errors::collect(errors).map_or(Ok(config), Err)
}

impl Config {
    /// Reads the configuration from `args`, which come without the program's name, and from the other
    /// sources, as `rgunicorn serve` does. For a program that embeds the server.
    ///
    /// # Errors
    ///
    /// Everything that is wrong in any of the sources.
    pub fn from_args<T>(args: impl IntoIterator<Item = T>) -> Result<Self, Errors>
    where
        T: Into<OsString> + Clone,
    {
        let cwd = std::env::current_dir().unwrap_or_else(|_| Path::new("/").to_owned());
        match command::parse_words(args, Origin::CommandLine) {
            Ok(matches) => load(&matches, std::env::vars_os(), &cwd),
            Err(error) => Err(Errors::from(error)),
        }
    }
}

/// Reads every source, lowest precedence first.
fn read(matches: &ArgMatches, environment: &Environment, cwd: &Path) -> (Raw, Vec<Error>) {
    let base: Arc<Path> = Arc::from(cwd);
    let (entries, mut errors) = environment.entries(&base);
    let mut text = |name| {
        environment.text(name).unwrap_or_else(|error| {
            errors.push(error);
            None
        })
    };
    let (extra, named) = (text(environment::COMMAND_ARGS), text(environment::CONFIG));
    let extra = extra
        .map(command::parse_text)
        .transpose()
        .unwrap_or_else(|error| {
            errors.push(error);
            None
        });
    let path = command::config_file(matches)
        .or_else(|| extra.as_ref().and_then(command::config_file))
        .or(named);
    let (mut raw, faults) = file::load(path, cwd);
    errors.extend(faults);
    raw.entries.splice(0..0, entries);
    if let Some(extra) = &extra {
        raw.entries
            .extend(command::entries(extra, &Origin::CommandArgs, &base));
    }
    raw.entries
        .extend(command::entries(matches, &Origin::CommandLine, &base));
    (raw, errors)
}

/// The number of CPUs that this process may use: affinity and cgroups are respected.
fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX))
}
