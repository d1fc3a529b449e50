//! Defines what all scenarios have in common: what they are told, and what they answer.

use anyhow::Result;

use crate::client::Failures;
use crate::options::Options;
use crate::places::Places;
use crate::rounds::Rounds;
use crate::server::{Accept, Server, Setup};
use crate::table::Table;

pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) places: Places,
}

/// What a scenario found.
pub(crate) struct Report {
    pub(crate) table: Table,
    /// What the table does not say.
    pub(crate) notes: Vec<String>,
    pub(crate) gates: Vec<Gate>,
}

/// Something that is to be so.
pub(crate) struct Gate {
    pub(crate) wants: String,
    pub(crate) found: String,
    pub(crate) passed: bool,
}

impl Gate {
    pub(crate) fn nothing_failed(scenario: &str, failures: Failures) -> Self {
        Self {
            wants: format!("requests that fail with auto in {scenario}: none"),
            found: failures.to_string(),
            passed: failures.all() == 0,
        }
    }
}

impl Bench {
    pub(crate) fn start(&self, setup: &Setup) -> Result<Server> {
        Server::start(&self.places, setup)
    }

    /// How many seconds to measure.
    pub(crate) fn seconds(&self, usual: f64, quick: f64) -> f64 {
        let default = if self.options.quick { quick } else { usual };
        self.options.seconds.unwrap_or(default)
    }

    /// Measures each strategy in each round, on a server of this setup; `measure` is also told which round it is,
    /// which makes the arrivals of a round the same for all.
    pub(crate) fn compare<M>(
        &self,
        setup: Setup,
        strategies: &[Accept],
        measure: impl Fn(Server, u64) -> Result<M>,
    ) -> Result<Rounds<Accept, M>> {
        let name = |accept: Accept| accept.name().to_owned();
        Rounds::take(self.options.rounds, strategies, name, |round, accept| {
            let server = self.start(&Setup { accept, ..setup })?;
            measure(server, round)
        })
    }
}
