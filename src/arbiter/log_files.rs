//! Defines how the driver keeps the files of the logs, which all processes write: it opens them and
//! hands them to the children, who may not be allowed to. And it writes into an access log what a
//! child can write no more.
//!
//! Invariant: an access log stays open as long as anybody lives of its generation.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime};

use tracing::{error, warn};

use super::children::{ChildId, Place};
use super::perform::Driver;
use crate::access::{Log, Reason, Record, Request, Worker};
use crate::protocol::message::ToChild;
use crate::scoreboard::LeftBehind;
use crate::sys::clock::monotonic_ms;
use crate::sys::process::Pid;
use crate::sys::stdio;

/// The access logs, by generation.
#[derive(Debug, Default)]
pub(super) struct AccessLogs(BTreeMap<u32, Log>);

impl AccessLogs {
    /// Keeps the log of a generation, if it has one.
    pub(super) fn keep(&mut self, generation: u32, log: Option<Log>) {
        self.0.extend(log.map(|log| (generation, log)));
    }

    /// The log of a child's generation, if it serves; in the child, where the others are closed.
    pub(super) fn inherit(self, child: ChildId) -> Option<Log> {
        let inherited = self.0.into_iter().map(|(of, log)| (of, log.inherit()));
        let mut its = inherited.filter(|(of, _)| *of == child.generation);
        let log = its.next().map(|(_, log)| log);
        log.filter(|_| matches!(child.place, Place::Slot { .. }))
    }
}

impl Driver {
    /// Opens the files of the logs again and hands them to the children.
    pub(super) fn reopen_logs(&mut self) -> Result<String, String> {
        // One that cannot be opened is no reason to leave the other where it is.
        let (server, access) = (self.reopen_log(), self.reopen_access_logs());
        match (server, access) {
            (Ok(server), Ok(None)) => Ok(server.to_owned()),
            (Ok(server), Ok(Some(access))) => Ok(format!("{server}; {access}")),
            (Err(server), Err(access)) => Err(format!("{server}; {access}")),
            (Err(reason), Ok(_)) | (Ok(_), Err(reason)) => Err(reason),
        }
    }

    fn reopen_log(&mut self) -> Result<&'static str, String> {
        let Some(path) = &self.surroundings.log_path else {
            return Ok("the log goes to standard error, which stays as it is");
        };
        let opened = stdio::open_log(path)
            .and_then(|file| stdio::redirect_stderr(file.as_fd()).map(|()| OwnedFd::from(file)));
        let file = opened.map_err(|error| cannot_open(path, &error))?;
        self.share_log(&file);
        Ok("the log file is open again")
    }

    /// Answers with nothing if no access log goes to a file.
    fn reopen_access_logs(&mut self) -> Result<Option<&'static str>, String> {
        let mut result = Ok(None);
        let mut opened = Vec::new();
        for (generation, log) in &mut self.family.access_logs.0 {
            match log.reopen() {
                Ok(None) => {}
                Ok(Some(file)) => opened.push((*generation, file)),
                Err((path, error)) => result = Err(cannot_open(&path, &error)),
            }
        }
        for (generation, file) in opened {
            for child in self.family.ids() {
                if child.generation == generation && matches!(child.place, Place::Slot { .. }) {
                    self.send(child, &ToChild::ReopenAccessLog, Some(&file));
                }
            }
            result = result.map(|_| Some("the access log is open again"));
        }
        result
    }

    /// Hands `file` to the children as their standard error.
    fn share_log(&mut self, file: &OwnedFd) {
        for child in self.family.ids() {
            if matches!(child.place, Place::Slot { .. }) {
                self.send(child, &ToChild::ReopenLog, Some(file));
            }
        }
    }

    /// A daemon that serves has let go of the standard error that it was started with, and so must
    /// those whom it has forked before.
    pub(super) fn share_null(&mut self) {
        if !self.state.circumstances.daemon || self.surroundings.log_path.is_some() {
            return;
        }
        match stdio::duplicate_stderr() {
            Ok(file) => self.share_log(&file.into()),
            Err(error) => warn!("role=arbiter cannot share its standard error: {error}"),
        }
    }

    /// Writes the lines of the requests that a dead child had: it cannot do it any more.
    pub(super) fn write_left_behind(&mut self, id: ChildId, pid: Pid, row: usize, killed: bool) {
        let Place::Slot { slot, .. } = id.place else {
            return;
        };
        let Some(log) = self.family.access_logs.0.get_mut(&id.generation) else {
            return;
        };
        let (left_behind, untold) = {
            let row = self.scoreboard.slot(row);
            (row.left_behind(), row.unplaced())
        };
        let worker = Worker {
            pid: pid.number(),
            slot,
            generation: id.generation,
        };
        let reason = if killed {
            Reason::Killed
        } else {
            Reason::Crashed
        };
        let (now, now_ms) = (SystemTime::now(), monotonic_ms());
        for request in &left_behind {
            let took = Duration::from_millis(now_ms.saturating_sub(request.started_ms));
            // A worker may have made up when it was.
            let began = now.checked_sub(took).unwrap_or(now);
            log.write(&record(request, worker, (began, took), reason));
        }
        if untold > 0 {
            let who = self.who(id);
            warn!("{who} had more requests than are known: the access log lacks lines={untold}");
        }
    }

    /// Closes the access logs of generations of which nobody lives.
    pub(super) fn close_access_logs(&mut self) {
        let living = self.family.ids();
        self.family.access_logs.0.retain(|generation, _| {
            self.plans.contains_key(generation)
                || living.iter().any(|child| child.generation == *generation)
        });
    }
}

fn cannot_open(path: &std::path::Path, error: &std::io::Error) -> String {
    let reason = format!("cannot open {} again: {error}", path.display());
    error!("role=arbiter {reason}");
    reason
}

/// What the scoreboard tells of a request.
fn record(
    request: &LeftBehind,
    worker: Worker,
    (began, took): (SystemTime, Duration),
    reason: Reason,
) -> Record<'_> {
    Record {
        began,
        took,
        remote: request.remote,
        client: request.client,
        request: Request::Head {
            method: &request.method,
            target: &request.target,
            protocol: &request.protocol,
        },
        request_fields: &[],
        response_fields: &[],
        status: request.status,
        body_bytes: 0,
        tls: request.tls.as_deref(),
        worker,
        app: Some(&request.app),
        reason: Some(reason),
        queue: None,
        instantiate: None,
        cpu: None,
        peak_memory: None,
        reuse: None,
    }
}
