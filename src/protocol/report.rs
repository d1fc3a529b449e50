//! Defines the document that the control socket shows, as JSON has it.
//!
//! Invariant: a reader that does not know a field passes it over, and a field is only ever added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The document; only what was asked for is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The arbiter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arbiter: Option<ArbiterReport>,
    /// Numbers of the whole server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<Stats>,
    /// Every child in a slot, and every slot that waits for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<Vec<WorkerReport>>,
    /// The apps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apps: Option<Vec<AppReport>>,
    /// Where the server listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<ListenerReport>>,
    /// The settings, as `--print-config` prints them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
}

/// The arbiter. Times are in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArbiterReport {
    /// Version of the program.
    pub version: String,
    /// Its process number.
    pub pid: u32,
    /// What it is doing: starting, running, reloading, upgrading or stopping.
    pub phase: String,
    /// The generation that serves.
    pub generation: u32,
    /// Since the arbiter was started.
    pub uptime_ms: u64,
    /// How many workers there should be.
    pub workers_wanted: u64,
    /// The server that has started this one and has not left yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor_pid: Option<u32>,
    /// The server that this one has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor_pid: Option<u32>,
}

/// Numbers of the whole server since the arbiter was started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Milliseconds.
    pub uptime_ms: u64,
    /// The generation that serves.
    pub generation: u32,
    /// Reloads that succeeded.
    pub reloads: u64,
    /// Reloads that failed.
    pub reloads_failed: u64,
    /// New programs that came to serve.
    pub upgrades: u64,
    /// Children that ended without having been asked to.
    pub restarts: u64,
    /// Workers that serve now.
    pub workers_ready: u64,
    /// Connections that are open now.
    pub connections: u64,
    /// Requests that are being answered now.
    pub in_flight: u64,
    /// Requests so far, those of workers that have left too.
    pub requests: u64,
    /// Connections so far, those of workers that have left too.
    pub accepted: u64,
    /// How they were accepted, by workers that have left too.
    #[serde(flatten)]
    pub accepting: AcceptReport,
}

/// How connections came to whoever accepted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AcceptReport {
    /// Times that a worker was woken to accept.
    pub wakeups: u64,
    /// Of these, those in which there was no connection for it.
    pub spurious: u64,
    /// Times that a worker handed the baton on.
    pub handed_on: u64,
    /// Connections that a worker accepted while it was awake, without having been woken.
    pub pulled: u64,
    /// Milliseconds in which a worker had no room for another connection.
    pub parked_ms: u64,
    /// Times that a worker did not accept though it should have, and was passed over.
    pub revocations: u64,
}

/// A child in a slot, or a slot that waits for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// The name of its role.
    pub role: String,
    /// Its slot.
    pub slot: u64,
    /// Its process number; none for a slot that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its generation.
    pub generation: u32,
    /// booting, ready, worn (serves until its successor does), draining, killed, or waiting.
    pub state: String,
    /// Milliseconds since it was started.
    pub age_ms: u64,
    /// Requests that it has begun to answer.
    pub requests: u64,
    /// Connections that it has accepted.
    pub accepted: u64,
    /// Connections that it holds.
    pub connections: u64,
    /// Requests that it is answering.
    pub in_flight: u64,
    /// The request that it has begun last and is still at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<ServingReport>,
    /// Its resident memory, part of which others share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Milliseconds until its heartbeat is due; none while it sleeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_ms: Option<u64>,
    /// How the last one in the slot ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<ExitReport>,
    /// How its connections came to it.
    #[serde(flatten)]
    pub accepting: AcceptReport,
}

impl WorkerReport {
    /// A slot that waits for a child.
    pub fn waiting(role: &str, slot: u64, generation: u32, last_exit: Option<ExitReport>) -> Self {
        Self {
            role: role.to_owned(),
            slot,
            pid: None,
            generation,
            state: "waiting".to_owned(),
            age_ms: 0,
            requests: 0,
            accepted: 0,
            connections: 0,
            in_flight: 0,
            serving: None,
            memory_bytes: None,
            heartbeat_ms: None,
            last_exit,
            accepting: AcceptReport::default(),
        }
    }
}

/// A request that is being answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingReport {
    /// Name of the app.
    pub app: String,
    /// Method and path.
    pub request: String,
    /// Milliseconds since it began.
    pub age_ms: u64,
}

/// How a child ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// What its process number was.
    pub pid: u32,
    /// How, and whether it was asked to.
    pub reason: String,
    /// Milliseconds since then.
    pub ago_ms: u64,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReport {
    /// Its name.
    pub name: String,
    /// The file of its component.
    pub component: String,
    /// The requests that it answers.
    pub routes: Vec<String>,
    /// Its limits, by the name of the setting.
    pub limits: BTreeMap<String, String>,
}

/// Something that the server accepts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerReport {
    /// Where it really listens.
    pub address: String,
    /// What the configuration asks for.
    pub key: String,
    /// Connections that wait to be accepted; the kernel does not tell for Unix sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// Connections that may wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_max: Option<u32>,
    /// Connections that found the queue full, and must try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overflows: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_is_written() {
        assert_eq!(serde_json::to_string(&Report::default()).unwrap(), "{}");
        let slot = WorkerReport::waiting("worker", 3, 2, None);
        let text = serde_json::to_string(&slot).unwrap();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<WorkerReport>(&text).unwrap(), slot);
    }

    #[test]
    fn fields_of_a_later_version_are_passed_over() {
        let text = r#"{
            "weather": {"sky": ["blue"]},
            "listeners": [{"address": "127.0.0.1:8000", "key": "127.0.0.1:0", "clients": 7}]
        }"#;
        let report: Report = serde_json::from_str(text).unwrap();
        let listener = ListenerReport {
            address: "127.0.0.1:8000".to_owned(),
            key: "127.0.0.1:0".to_owned(),
            queue: None,
            queue_max: None,
            overflows: None,
        };
        assert_eq!(
            report,
            Report {
                listeners: Some(vec![listener]),
                ..Report::default()
            }
        );
    }
}
