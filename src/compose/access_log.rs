//! Defines how the settings of the access log become one that is open.

use super::listeners::first_address;
use super::{StartError, setting};
use crate::access::{Log, Syslog, SyslogAddress, Target};
use crate::config::{Config, SyslogTo};

/// The access log, if there is to be one.
///
/// # Errors
/// When its file cannot be opened, or the host of syslog is not known.
pub(super) fn access_log(config: &Config) -> Result<Option<Log>, StartError> {
    let syslog = config.log_syslog.then(|| syslog(config)).transpose()?;
    if config.access_logfile.is_none() && syslog.is_none() {
        return Ok(None);
    }
    let what = || match &config.access_logfile {
        Some(Target::File(path)) => format!("cannot open {}", path.display()),
        Some(Target::Stdout) | None => "cannot write to standard output".to_owned(),
    };
    let format = config.access_logformat.clone();
    let log = Log::open(format, config.access_logfile.clone(), syslog);
    log.map(Some).map_err(setting("access-logfile", what))
}

fn syslog(config: &Config) -> Result<Syslog, StartError> {
    let address = match &config.log_syslog_to {
        SyslogTo::Unix(path) => SyslogAddress::Unix(path.clone()),
        SyslogTo::Udp { host, port } => SyslogAddress::Udp(first_address(host, *port)?),
    };
    let (facility, tag) = (
        config.log_syslog_facility.number(),
        &config.log_syslog_prefix,
    );
    Syslog::new(&address, facility, tag)
        .map_err(setting("log-syslog", || "cannot make a socket".to_owned()))
}
