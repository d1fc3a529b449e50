//! Defines the settings of compiling.
//!
//! Invariant: a reload can change every one that is not marked `at_start`.

use super::{DAY, MIB, SECOND, TIB};
use crate::config::kind::Kind;
use crate::config::setting::{Group, Scope, Setting, setting};

/// Group Compiling.
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
];
