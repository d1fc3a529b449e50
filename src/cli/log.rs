//! Defines where the log goes: to standard error, one event a line, one line a write, so that the
//! lines of several processes do not mix.

use std::io;

use tracing::level_filters::LevelFilter;

use crate::config::LogLevel;

/// Starts the log of this process and the children that it will fork.
pub(super) fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
}
