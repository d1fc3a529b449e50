//! Defines what the server counts, as `rgunicorn ctl --json show all` tells it.

use std::ops::{Add, Sub};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// What the server, or one worker, has done about connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) accepted: u64,
    /// Times woken for a listener.
    pub(crate) wakeups: u64,
    /// Of those, how often there was nothing to accept.
    pub(crate) spurious: u64,
    pub(crate) handed_on: u64,
    /// Connections taken while everybody was busy, without having been woken.
    pub(crate) pulled: u64,
    pub(crate) revocations: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Worker {
    pub(crate) pid: i32,
    pub(crate) slot: u64,
    pub(crate) state: String,
    /// Connections that it holds now.
    pub(crate) connections: u64,
    pub(crate) counters: Counters,
}

/// Everything that is read of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) total: Counters,
    /// In the order of their slots.
    pub(crate) workers: Vec<Worker>,
    /// How often a listener's queue was full.
    pub(crate) overflows: u64,
}

impl Shown {
    pub(crate) fn parse(answer: &[u8]) -> Result<Self> {
        let answer: Value = serde_json::from_slice(answer).context("ctl shows no JSON")?;
        let slots = list(&answer, "workers")?.iter();
        // An empty slot is shown too.
        let filled = slots.filter(|slot| !slot["pid"].is_null());
        let mut workers: Vec<Worker> = filled.map(Worker::read).collect::<Result<_>>()?;
        workers.sort_by_key(|worker| worker.slot);
        let listeners = list(&answer, "listeners")?.iter();
        let overflows = listeners.map(|listener| number(listener, "overflows"));
        Ok(Self {
            total: Counters::read(&answer["stats"])?,
            workers,
            overflows: overflows.sum::<Result<u64>>()?,
        })
    }

    pub(crate) fn ready(&self) -> impl Iterator<Item = &Worker> {
        self.workers.iter().filter(|worker| worker.state == "ready")
    }

    pub(crate) fn pids(&self) -> Vec<i32> {
        self.workers.iter().map(|worker| worker.pid).collect()
    }

    /// What each worker that there still is has accepted since `before`.
    pub(crate) fn accepted_since(&self, before: &Self) -> Vec<u64> {
        let then = |pid| before.workers.iter().find(|worker| worker.pid == pid);
        let accepted = self.workers.iter().map(|worker| {
            let then = then(worker.pid).map_or(0, |worker| worker.counters.accepted);
            worker.counters.accepted - then
        });
        accepted.collect()
    }
}

impl Worker {
    fn read(value: &Value) -> Result<Self> {
        let state = value["state"].as_str().context("ctl shows no `state`")?;
        Ok(Self {
            pid: i32::try_from(number(value, "pid")?)?,
            slot: number(value, "slot")?,
            state: state.to_owned(),
            connections: number(value, "connections")?,
            counters: Counters::read(value)?,
        })
    }
}

impl Counters {
    fn read(value: &Value) -> Result<Self> {
        Ok(Self {
            accepted: number(value, "accepted")?,
            wakeups: number(value, "wakeups")?,
            spurious: number(value, "spurious")?,
            handed_on: number(value, "handed_on")?,
            pulled: number(value, "pulled")?,
            revocations: number(value, "revocations")?,
        })
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            wakeups: self.wakeups + other.wakeups,
            spurious: self.spurious + other.spurious,
            handed_on: self.handed_on + other.handed_on,
            pulled: self.pulled + other.pulled,
            revocations: self.revocations + other.revocations,
        }
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            accepted: self.accepted - before.accepted,
            wakeups: self.wakeups - before.wakeups,
            spurious: self.spurious - before.spurious,
            handed_on: self.handed_on - before.handed_on,
            pulled: self.pulled - before.pulled,
            revocations: self.revocations - before.revocations,
        }
    }
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value[name]
        .as_array()
        .with_context(|| format!("ctl shows no `{name}`"))
}

fn number(value: &Value, name: &str) -> Result<u64> {
    value[name]
        .as_u64()
        .with_context(|| format!("ctl shows no `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_a_missing_counter_is_named() {
        let counters = r#""accepted":5,"connections":2,"wakeups":4,"spurious":1,"handed_on":3,"pulled":2,
            "parked_ms":9,"revocations":0"#;
        let worker = |slot| {
            format!(
                r#"{{"pid":{},"slot":{slot},"state":"ready",{counters}}}"#,
                70 + slot
            )
        };
        let answer = format!(
            r#"{{"arbiter":{{"pid":7}},"stats":{{{counters}}},"workers":[{},{{"slot":2,"pid":null}},{}],
            "listeners":[{{"queue":0,"queue_max":3,"overflows":1}},{{"queue":0,"queue_max":2,"overflows":1}}]}}"#,
            worker(1),
            worker(0),
        );
        let shown = Shown::parse(answer.as_bytes()).unwrap();
        assert_eq!(shown.pids(), [70, 71]);
        assert_eq!(shown.ready().count(), 2);
        assert_eq!(shown.overflows, 2);
        assert_eq!((shown.total.accepted, shown.total.handed_on), (5, 3));
        assert_eq!(shown.accepted_since(&shown), [0, 0]);
        let error = Shown::parse(answer.replace("spurious", "other").as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "ctl shows no `spurious`");
    }
}
