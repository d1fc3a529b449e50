//! Defines the settings of compiling and of the log.
//!
//! Invariant: a reload can change every one that is not marked `at_start`.

use super::{DAY, MIB, SECOND, TIB};
use crate::config::kind::Kind;
use crate::config::setting::{Group, Scope, Setting, setting};

/// Groups Compiling and Logging.
pub(super) static SETTINGS: &[Setting] = &[
    setting(
        Group::Compiling,
        "cache-dir",
        "auto",
        Scope::Server(Kind::Cache {
            at: |config| &mut config.cache_dir,
        }),
        "Folder of compiled components, so that the next start compiles nothing. `auto` is \
         $XDG_CACHE_HOME/rgunicorn, else ~/.cache/rgunicorn; with another `user` it is that user's \
         ~/.cache/rgunicorn. `none` keeps none. Only the server's user may be able to write to it.",
    ),
    setting(
        Group::Compiling,
        "compile-timeout",
        "300",
        Scope::Server(Kind::Duration {
            at: |config| &mut config.compile_timeout,
            range: SECOND..=DAY,
        }),
        "CPU time that compiling one component may take. It counts the time of all threads \
         together.",
    ),
    setting(
        Group::Compiling,
        "compile-memory",
        "4GiB",
        Scope::Server(Kind::Size {
            at: |config| &mut config.compile_memory,
            range: 128 * MIB..=TIB,
        }),
        "Memory that compiling one component may take.",
    ),
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
];
