//! Defines the settings of the logs: the server's own, and the access log.
//!
//! Invariant: the server's log is where it was at the start, and a reload changes the access log.

use crate::access::Format;
use crate::config::choice::At;
use crate::config::grammar::In;
use crate::config::kind::Kind;
use crate::config::resolved::Config;
use crate::config::setting::{Group, Scope, Setting, setting};
use crate::config::syslog::SyslogTo;
use crate::config::text::{target, target_text};

/// Group Logging.
pub(super) static SETTINGS: &[Setting] = &[
    setting(
        Group::Logging,
        "log-level",
        "info",
        Scope::Server(Kind::Level {
            at: |config| &mut config.log_level,
        }),
        "How much is logged. gunicorn's `warning` and `critical` mean `warn` and `error`.",
    ),
    Setting {
        aliases: &["log-file"],
        at_start: true,
        ..setting(
            Group::Logging,
            "error-logfile",
            "-",
            Scope::Server(Kind::PathOr {
                at: |config| &mut config.error_logfile,
                none: "-",
                placeholder: "FILE",
            }),
            "File that the log is added to. `-` is standard error. The signal USR1 opens the file \
             again, so that it can be rotated.",
        )
    },
    setting(
        Group::Logging,
        "access-logfile",
        "none",
        Scope::Server(Kind::Text {
            at: &In {
                at: |config: &mut Config| &mut config.access_logfile,
                parse: target,
                show: target_text,
            },
            placeholder: "FILE",
            values: "a path, `-` or `none`",
        }),
        "File that gets a line for every request. `-` is standard output, `none` no file. The \
         signal USR1 opens the file again, so that it can be rotated.",
    ),
    setting(
        Group::Logging,
        "access-logformat",
        r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#,
        Scope::Server(Kind::Text {
            at: &In {
                at: |config: &mut Config| &mut config.access_logformat,
                parse: |text, _| Ok(Format::parse(text)?),
                show: Format::to_string,
            },
            placeholder: "FORMAT",
            values: "a text with atoms, or `json`",
        }),
        "What a line of the access log looks like. It is a text with atoms, those of gunicorn and \
         some of this server's own, or the word `json`. docs/access-log.md lists them.",
    ),
    setting(
        Group::Logging,
        "log-syslog",
        "false",
        Scope::Server(Kind::Flag {
            at: |config| &mut config.log_syslog,
        }),
        "Send the access log to syslog, whether or not there is an `access-logfile`. The server's \
         own log stays where it is.",
    ),
    setting(
        Group::Logging,
        "log-syslog-to",
        "unix:///dev/log",
        Scope::Server(Kind::Text {
            at: &In {
                at: |config: &mut Config| &mut config.log_syslog_to,
                parse: SyslogTo::parse,
                show: SyslogTo::to_string,
            },
            placeholder: "SYSLOG-ADDR",
            values: "`unix://PATH` or `udp://HOST:PORT`",
        }),
        "Where syslog listens for datagrams. `unix://PATH` is a Unix socket and `udp://HOST:PORT` a \
         server, whose port is 514 if none is named. gunicorn has udp://localhost:514, and also \
         streams, which would make a request wait for its line.",
    ),
    setting(
        Group::Logging,
        "log-syslog-prefix",
        "rgunicorn",
        Scope::Server(Kind::Title {
            at: |config| &mut config.log_syslog_prefix,
        }),
        "Name of the program in the messages that syslog gets.",
    ),
    setting(
        Group::Logging,
        "log-syslog-facility",
        "user",
        Scope::Server(Kind::Choice {
            at: &At(|config: &mut Config| &mut config.log_syslog_facility),
            placeholder: "FACILITY",
        }),
        "Facility of the messages that syslog gets.",
    ),
];
