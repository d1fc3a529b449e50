//! Defines the command line.

use anyhow::{Context as _, Result, bail};

use crate::scenarios::{SCENARIOS, Scenario};

const ROUNDS: u64 = 5;

pub(crate) struct Options {
    /// Those that are named; all, if none is.
    pub(crate) scenarios: Vec<&'static Scenario>,
    pub(crate) rounds: u64,
    /// In place of the time that each scenario measures by default.
    pub(crate) seconds: Option<f64>,
    pub(crate) quick: bool,
}

impl Options {
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut words = words.into_iter();
        let (mut named, mut rounds, mut seconds, mut quick) = (Vec::new(), None, None, false);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => quick = true,
                "--rounds" => rounds = Some(value(&word, words.next())?),
                "--seconds" => seconds = Some(value(&word, words.next())?),
                _ => named.push(word),
            }
        }
        let rounds = rounds.unwrap_or(if quick { 1 } else { ROUNDS });
        if rounds < 1 || seconds.is_some_and(|seconds| !(0.1..=3600.0).contains(&seconds)) {
            bail!("at least one round, and between 0.1 and 3600 seconds");
        }
        let is_named = |name: &str| named.is_empty() || named.iter().any(|word| word == name);
        if let Some(word) = named
            .iter()
            .find(|word| SCENARIOS.iter().all(|it| it.name != **word))
        {
            let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            bail!(
                "{word} is none of {}, --rounds N, --seconds N, --quick",
                names.join(", ")
            );
        }
        Ok(Self {
            scenarios: SCENARIOS
                .iter()
                .filter(|scenario| is_named(scenario.name))
                .collect(),
            rounds,
            seconds,
            quick,
        })
    }
}

fn value<T: std::str::FromStr>(option: &str, word: Option<String>) -> Result<T> {
    let number = word.as_deref().and_then(|word| word.parse().ok());
    number.with_context(|| format!("{option} takes a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read() {
        let parse = |line: &str| Options::parse(line.split_whitespace().map(str::to_owned));
        let options = parse("").unwrap();
        assert_eq!(
            (options.scenarios.len(), options.rounds),
            (SCENARIOS.len(), ROUNDS)
        );
        let options = parse("skew --quick idle --seconds 2.5").unwrap();
        let names: Vec<&str> = options
            .scenarios
            .iter()
            .map(|scenario| scenario.name)
            .collect();
        assert_eq!(names, ["idle", "skew"]);
        assert_eq!(
            (options.rounds, options.seconds, options.quick),
            (1, Some(2.5), true)
        );
        for wrong in [
            "other",
            "--rounds",
            "--rounds 0",
            "--rounds x",
            "--seconds -1",
            "--seconds NaN",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
