//! Defines the settings of HTTP, of compiling and of the log.
//!
//! Invariant: a reload can change every one that is not marked `at_start`.

use std::time::Duration;

use super::{DAY, MIB, SECOND, TIB};
use crate::config::kind::Kind;
use crate::config::setting::{Group, Scope, Setting, setting};

/// Groups Http, Compiling and Logging.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        hidden_aliases: &["keepalive"],
        ..setting(
            Group::Http,
            "keep-alive",
            "75",
            Scope::Server(Kind::Duration {
                at: |config| &mut config.keep_alive,
                range: Duration::ZERO..=DAY,
            }),
            "Time that a connection may be idle between two requests. 0 closes it after each \
             response. gunicorn has 2 seconds. Load balancers keep an idle connection for 60; one \
             that the server closes first can take a request with it, which the client sees as a \
             502.",
        )
    },
    setting(
        Group::Http,
        "head-timeout",
        "10",
        Scope::Server(Kind::Duration {
            at: |config| &mut config.head_timeout,
            range: Duration::from_millis(100)..=DAY,
        }),
        "Time that a client has to send a whole request head, from its first byte. After it the \
         client gets 408 and the connection is closed. A client cannot hold a place by sending \
         slowly.",
    ),
    setting(
        Group::Http,
        "limit-request-line",
        "4094",
        Scope::Server(Kind::Count {
            at: |config| &mut config.limit_request_line,
            range: 64..=65_536,
        }),
        "Longest request line in bytes. A longer one is answered with 414.",
    ),
    setting(
        Group::Http,
        "limit-request-fields",
        "100",
        Scope::Server(Kind::Count {
            at: |config| &mut config.limit_request_fields,
            range: 1..=4096,
        }),
        "Most header fields of a request. More are answered with 431.",
    ),
    Setting {
        hidden_aliases: &["limit-request-field_size"],
        ..setting(
            Group::Http,
            "limit-request-field-size",
            "8190",
            Scope::Server(Kind::Count {
                at: |config| &mut config.limit_request_field_size,
                range: 64..=65_536,
            }),
            "Longest header field of a request in bytes, its name and its value. A longer one is \
             answered with 431.",
        )
    },
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
