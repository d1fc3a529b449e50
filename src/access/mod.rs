//! Defines the access log: one line for every request, in gunicorn's atoms or in JSON, and where
//! the lines go.
//!
//! Invariant: what a client wrote cannot end a line, and no line is longer than
//! [`LINE_BYTES_MAX`]; and whoever writes a line waits for nobody: what a sink does not take is
//! counted and dropped.

mod atom;
mod format;
mod json;
mod line;
mod log;
mod loss;
mod record;
mod syslog;
mod time;

pub use atom::FormatError;
pub use format::{Format, Measures};
pub use line::LINE_BYTES_MAX;
pub use log::{Log, Target};
pub use record::{Reason, Record, Request, Worker};
pub use syslog::{Syslog, SyslogAddress};
