//! Defines the lines that the arbiter logs.
//!
//! Invariant: one event is one line that begins with the child it is about, always in the same
//! form, and no text of a child breaks the line.

use std::fmt;

use tracing::{error, info, warn};

use super::action::{Notice, Urgency};
use super::children::{ChildId, Place, Wear};
use super::exit::ExitCode;
use crate::scoreboard::{Slot, printable};
use crate::sys::clock::monotonic_ms;
use crate::sys::process::Pid;

/// A child as the log names it: `role=worker slot=3 gen=1 pid=123`.
#[derive(Debug, Clone, Copy)]
pub struct Who {
    /// The name of its role.
    pub role: &'static str,
    /// Its name among the children.
    pub id: ChildId,
    /// Its process number, once it has one.
    pub pid: Option<Pid>,
}

impl fmt::Display for Who {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "role={}", self.role)?;
        if let Place::Slot { slot, .. } = self.id.place {
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
struct Serving<'a>(Option<&'a Slot>);

impl fmt::Display for Serving<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(slot) = self.0 else {
            return Ok(());
        };
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

impl Notice {
    /// The child that it is about.
    pub fn child(&self) -> Option<ChildId> {
        match self {
            Self::Started(id)
            | Self::Ready(id, _)
            | Self::Loaded(id, _)
            | Self::Left(id, _)
            | Self::Died(id, _)
            | Self::Ended(id, _)
            | Self::Failed(id, _)
            | Self::NotStarted(id, _)
            | Self::TooSlow(id)
            | Self::Silent(id)
            | Self::Unfinished(id)
            | Self::Lingers(id)
            | Self::Illegal(id)
            | Self::Lives(id)
            | Self::BackOff(id, _)
            | Self::Worn(id, _)
            | Self::Upgrading(id)
            | Self::UpgradeFailed(id, _)
            | Self::SuccessorLeft(id)
            | Self::Upgraded(id)
            | Self::HandingOver(id) => Some(*id),
            Self::Workers(_)
            | Self::Reloading(_)
            | Self::ReloadFailed(..)
            | Self::Generation(_)
            | Self::Promoted
            | Self::Held
            | Self::Ignored(..)
            | Self::Stopping(_)
            | Self::Stopped(_) => None,
        }
    }
}

/// Writes the line of `notice`, which is about `who`, if about anybody, who writes `slot`.
pub(super) fn write(notice: &Notice, who: Option<&Who>, slot: Option<&Slot>) {
    match who {
        Some(who) => write_of_child(notice, who, slot),
        None => write_of_server(notice),
    }
}

fn write_of_child(notice: &Notice, who: &Who, slot: Option<&Slot>) {
    let serving = Serving(slot);
    match notice {
        Notice::Started(_) => info!("{who} started"),
        Notice::Ready(_, boot_ms) => info!("{who} ready boot_ms={boot_ms}"),
        Notice::Loaded(_, artefacts) => info!("{who} loaded artefacts={artefacts}"),
        Notice::Left(_, reason) => info!("{who} left: {reason}"),
        Notice::Ended(_, reason) => info!("{who} ended: {reason}"),
        Notice::Died(_, reason) => warn!("{who} died unexpectedly: {reason}{serving}"),
        Notice::Failed(_, reason) => error!("{who} failed: {}", one_line(reason)),
        Notice::NotStarted(_, reason) => error!("{who} cannot be started: {}", one_line(reason)),
        Notice::TooSlow(_) => error!("{who} was not ready in time: killing it"),
        Notice::Silent(_) => error!("{who} missed its heartbeat: aborting it{serving}"),
        Notice::Unfinished(_) => warn!("{who} did not finish in time: killing it{serving}"),
        Notice::Lingers(_) => warn!("{who} should have ended by now: killing it"),
        Notice::Illegal(_) => error!("{who} sent an illegal message: killing it"),
        Notice::Lives(_) => info!("{who} lives: it accepts again"),
        Notice::BackOff(_, delay_ms) => {
            warn!("{who} keeps failing: its successor waits delay_ms={delay_ms}");
        }
        Notice::Worn(_, Wear::Requests) => info!("{who} has served max-requests: replacing it"),
        Notice::Worn(_, Wear::Age) => info!("{who} has reached max-worker-lifetime: replacing it"),
        Notice::Worn(_, Wear::Memory(bytes)) => {
            info!("{who} is above max-worker-memory: replacing it memory_bytes={bytes}");
        }
        Notice::Upgrading(_) => info!("{who} is being started: an upgrade"),
        Notice::UpgradeFailed(_, reason) => {
            error!("{who} is gone, this server goes on: {}", one_line(reason));
        }
        Notice::SuccessorLeft(_) => info!("{who} is gone as it was told: this server goes on"),
        Notice::Upgraded(_) => info!("{who} serves"),
        Notice::HandingOver(_) => info!("{who} goes on alone: this server finishes and leaves"),
        Notice::Workers(_)
        | Notice::Reloading(_)
        | Notice::ReloadFailed(..)
        | Notice::Generation(_)
        | Notice::Promoted
        | Notice::Held
        | Notice::Ignored(..)
        | Notice::Stopping(_)
        | Notice::Stopped(_) => write_of_server(notice),
    }
}

fn write_of_server(notice: &Notice) {
    match notice {
        Notice::Workers(count) => info!("role=arbiter workers={count}"),
        Notice::Reloading(number) => info!("role=arbiter reloading: making generation {number}"),
        Notice::ReloadFailed(number, reason) => {
            let reason = one_line(reason);
            error!("role=arbiter generation {number} failed, the one before goes on: {reason}");
        }
        Notice::Generation(number) => info!("role=arbiter generation {number} serves"),
        Notice::Promoted => info!("role=arbiter the server that started this one has left"),
        Notice::Held => info!("role=arbiter the workers finish; SIGHUP brings them back"),
        Notice::Ignored(order, why) => warn!("role=arbiter {order} ignored: {why}"),
        Notice::Stopping(Urgency::Graceful) => info!("role=arbiter stopping gracefully"),
        Notice::Stopping(Urgency::Quick) => info!("role=arbiter stopping quickly"),
        Notice::Stopping(Urgency::Now) => info!("role=arbiter stopping now"),
        Notice::Stopped(ExitCode::Ok) => info!("role=arbiter stopped"),
        Notice::Stopped(code) => error!("role=arbiter stopped: {}", meaning(*code)),
        // They are about a child.
        Notice::Started(_)
        | Notice::Ready(..)
        | Notice::Loaded(..)
        | Notice::Left(..)
        | Notice::Died(..)
        | Notice::Ended(..)
        | Notice::Failed(..)
        | Notice::NotStarted(..)
        | Notice::TooSlow(_)
        | Notice::Silent(_)
        | Notice::Unfinished(_)
        | Notice::Lingers(_)
        | Notice::Illegal(_)
        | Notice::Lives(_)
        | Notice::BackOff(..)
        | Notice::Worn(..)
        | Notice::Upgrading(_)
        | Notice::UpgradeFailed(..)
        | Notice::SuccessorLeft(_)
        | Notice::Upgraded(_)
        | Notice::HandingOver(_) => {}
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
    use crate::scoreboard::{Entry, Scoreboard};

    #[test]
    fn a_child_is_named_in_one_form() {
        let id = ChildId {
            place: Place::worker(3),
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
        let slot = Some(board.slot(0));
        assert_eq!(Serving(slot).to_string(), " in_flight=0");
        let entry = Entry {
            app: "blog",
            method: "GET",
            target: "/a\nb",
            protocol: "HTTP/1.1",
            tls: None,
            remote: None,
            client: None,
            started_ms: monotonic_ms(),
        };
        board.slot(0).enter(0, &entry);
        board.slot(0).show(Some(0));
        board.slot(0).set_in_flight(2);
        let line = Serving(slot).to_string();
        assert!(
            line.starts_with(" app=blog request=\"GET /a\\nb\" age_ms="),
            "{line}"
        );
        assert!(line.ends_with(" in_flight=2"), "{line}");
        assert_eq!(Serving(None).to_string(), "");
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
