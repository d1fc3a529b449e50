//! Defines where the log goes: to standard error, one event a line, one line a write, so that the
//! lines of several processes do not mix.

use std::io;
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::LogLevel;

/// How much this process logs; a child that is forked has a copy.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// Starts the log of this process and of the children that it will fork.
pub(super) fn start(level: LogLevel) {
    let (filter, handle) = reload::Layer::new(filter(level));
    let lines = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        // It would be told on standard error, which is where the log could not be written.
        .log_internal_errors(false);
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .init();
    // It is started once in a process.
    let _ = LEVEL.set(handle);
}

/// Changes how much this process logs, and the children that it will fork.
pub(super) fn set_level(level: LogLevel) {
    if let Some(handle) = LEVEL.get() {
        // It fails only when there is no log any more.
        let _ = handle.modify(|current| *current = filter(level));
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    }
}
