//! Defines the lines that the arbiter logs.
//!
//! Invariant: one event is one line that begins with the child it is about, always in the same
//! form, and no text of a child breaks the line.

use std::fmt;

use tracing::{error, info, warn};

use super::action::{Notice, Urgency};
use super::children::{ChildId, Place};
use super::exit::ExitCode;
use crate::scoreboard::{Scoreboard, printable};
use crate::sys::clock::monotonic_ms;
use crate::sys::process::Pid;

/// A child as the log names it: `role=worker slot=3 gen=1 pid=123`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub(super) role: &'static str,
    pub(super) id: ChildId,
    pub(super) pid: Option<Pid>,
}

impl fmt::Display for Who {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "role={}", self.role)?;
        if let Place::Slot(slot) = self.id.place {
            write!(formatter, " slot={slot}")?;
        }
        write!(formatter, " gen={}", self.id.generation)?;
        match self.pid {
            Some(pid) => write!(formatter, " pid={pid}"),
            None => formatter.write_str(" pid=none"),
        }
    }
}

/// What a worker was serving, or nothing: ` app=blog request="GET /" age_ms=1200 in_flight=3`.
struct Serving<'a>(&'a Scoreboard, ChildId);

impl fmt::Display for Serving<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place::Slot(slot) = self.1.place else {
            return Ok(());
        };
        let slot = self.0.slot(slot);
        if let Some(serving) = slot.serving() {
            let age_ms = monotonic_ms().saturating_sub(serving.started_ms);
            let (app, request) = (serving.app, serving.request);
            write!(
                formatter,
                " app={app} request=\"{request}\" age_ms={age_ms}"
            )?;
        }
        write!(formatter, " in_flight={}", slot.in_flight())
    }
}

/// Writes the line of `notice`; `who` names its child.
pub(super) fn write(notice: &Notice, who: impl Fn(ChildId) -> Who, board: &Scoreboard) {
    match notice {
        Notice::Ready(id, boot_ms) => info!("{} ready boot_ms={boot_ms}", who(*id)),
        Notice::Loaded(id, artefacts) => info!("{} loaded artefacts={artefacts}", who(*id)),
        Notice::Left(id, reason) => info!("{} left: {reason}", who(*id)),
        Notice::Ended(id, reason) => info!("{} ended: {reason}", who(*id)),
        Notice::Died(id, reason) => {
            warn!(
                "{} died unexpectedly: {reason}{}",
                who(*id),
                Serving(board, *id)
            );
        }
        Notice::Failed(id, reason) => error!("{} failed: {}", who(*id), one_line(reason)),
        Notice::TooSlow(id) => error!("{} was not ready in time: killing it", who(*id)),
        Notice::Silent(id) => {
            error!(
                "{} missed its heartbeat: aborting it{}",
                who(*id),
                Serving(board, *id)
            );
        }
        Notice::Unfinished(id) => {
            let serving = Serving(board, *id);
            warn!("{} did not finish in time: killing it{serving}", who(*id));
        }
        Notice::Lingers(id) => warn!("{} should have ended by now: killing it", who(*id)),
        Notice::Illegal(id) => error!("{} sent an illegal message: killing it", who(*id)),
        Notice::BackOff(id, delay_ms) => {
            warn!(
                "{} keeps failing: its successor waits delay_ms={delay_ms}",
                who(*id)
            );
        }
        Notice::Workers(count) => info!("role=arbiter workers={count}"),
        Notice::Stopping(Urgency::Graceful) => info!("role=arbiter stopping gracefully"),
        Notice::Stopping(Urgency::Quick) => info!("role=arbiter stopping quickly"),
        Notice::Stopping(Urgency::Now) => info!("role=arbiter stopping now"),
        Notice::Stopped(ExitCode::Ok) => info!("role=arbiter stopped"),
        Notice::Stopped(code) => error!("role=arbiter stopped: {}", meaning(*code)),
    }
}

fn meaning(code: ExitCode) -> &'static str {
    match code {
        ExitCode::Ok => "it was asked to",
        ExitCode::Failure => "the arbiter failed",
        ExitCode::Usage => "the command line is wrong",
        ExitCode::WorkerBoot => "a worker failed to boot",
        ExitCode::AppLoad => "an app failed to load",
        ExitCode::Config => "the configuration is wrong",
        ExitCode::Bind => "an address cannot be bound",
    }
}

/// The text in one line, for lines that a child wrote.
fn one_line(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| printable(line.trim()))
        .filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_named_in_one_form() {
        let id = ChildId {
            place: Place::Slot(3),
            generation: 2,
            serial: 9,
        };
        let pid = Some(crate::sys::process::own_pid());
        let own = crate::sys::process::own_pid();
        let worker = Who {
            role: "worker",
            id,
            pid,
        };
        assert_eq!(
            worker.to_string(),
            format!("role=worker slot=3 gen=2 pid={own}")
        );
        let id = ChildId {
            place: Place::Loader,
            ..id
        };
        let loader = Who {
            role: "loader",
            id,
            pid: None,
        };
        assert_eq!(loader.to_string(), "role=loader gen=2 pid=none");
    }

    #[test]
    fn a_line_says_what_was_served() {
        let board = Scoreboard::new(1).unwrap();
        let id = ChildId {
            place: Place::Slot(0),
            generation: 1,
            serial: 1,
        };
        assert_eq!(Serving(&board, id).to_string(), " in_flight=0");
        board
            .slot(0)
            .begin_serving("blog", "GET", "/a\nb", monotonic_ms());
        board.slot(0).set_in_flight(2);
        let line = Serving(&board, id).to_string();
        assert!(
            line.starts_with(" app=blog request=\"GET /a\\nb\" age_ms="),
            "{line}"
        );
        assert!(line.ends_with(" in_flight=2"), "{line}");
        let loader = ChildId {
            place: Place::Loader,
            ..id
        };
        assert_eq!(Serving(&board, loader).to_string(), "");
    }

    #[test]
    fn a_reason_becomes_one_line() {
        assert_eq!(one_line("no such file"), "no such file");
        assert_eq!(
            one_line("first\n\n  caused by:\r\n\tsecond\x1b"),
            "first; caused by:; second\\u{1b}"
        );
        assert_eq!(one_line(""), "");
    }
}
