//! Defines where the log goes: to standard error, one event a line, one line a write, so that the
//! lines of several processes do not mix.

use std::io;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::LogLevel;

/// The log of this process and of the children that it will fork.
pub(super) struct Log(reload::Handle<LevelFilter, Registry>);

impl Log {
    /// Starts it.
    pub(super) fn start(level: LogLevel) -> Self {
        let (filter, handle) = reload::Layer::new(filter(level));
        let lines = fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(false)
            .with_target(false);
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
        Self(handle)
    }

    /// Changes how much is logged, here and in the children that are forked from now on.
    pub(super) fn set_level(&self, level: LogLevel) {
        // It fails only when there is no log any more.
        let _ = self.0.modify(|current| *current = filter(level));
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
