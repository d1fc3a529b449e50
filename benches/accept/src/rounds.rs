//! Defines rounds: in each of them every subject is measured once, so that a busy neighbour of the machine spoils all
//! or none.

use std::io::{Write as _, stderr};
use std::iter::Sum;

use anyhow::{Context as _, Result};

use crate::statistics::{median, ratio};

/// What was found of each subject.
pub(crate) struct Rounds<S, M>(Vec<(S, Series<M>)>);

/// What was found of one subject, round by round.
pub(crate) struct Series<M>(Vec<M>);

impl<S: Copy + PartialEq, M> Rounds<S, M> {
    /// Measures each of `subjects` in each of `rounds`. Each round begins with another one, so that none always has
    /// the same neighbours.
    pub(crate) fn take(
        rounds: u64,
        subjects: &[S],
        name: impl Fn(S) -> String,
        mut measure: impl FnMut(u64, S) -> Result<M>,
    ) -> Result<Self> {
        let mut found: Vec<_> = subjects
            .iter()
            .map(|it| (*it, Series(Vec::new())))
            .collect();
        for round in 0..rounds {
            for turn in 0..subjects.len() {
                let at = (turn + round as usize) % subjects.len();
                let (subject, series) = &mut found[at];
                let what = format!("round {} of {rounds}: {}", round + 1, name(*subject));
                // This is to be looked at; nothing is lost if nobody does.
                let _ = writeln!(stderr(), "{what}");
                series.0.push(measure(round, *subject).context(what)?);
            }
        }
        Ok(Self(found))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (S, &Series<M>)> {
        self.0.iter().map(|(subject, series)| (*subject, series))
    }

    pub(crate) fn of(&self, wanted: S) -> Result<&Series<M>> {
        let mut all = self.iter();
        let found = all.find(|(subject, _)| *subject == wanted);
        found
            .map(|(_, series)| series)
            .context("it was not measured")
    }
}

impl<M> Series<M> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &M> {
        self.0.iter()
    }

    pub(crate) fn median(&self, value: impl Fn(&M) -> f64) -> f64 {
        median(self.iter().map(value))
    }

    /// The median of what `value` is in a round, in parts of what it is for `other` in the same round: the arrivals of a
    /// round are the same for all, and whatever disturbs the machine disturbs few rounds.
    pub(crate) fn ratio_to(&self, other: &Self, value: impl Fn(&M) -> f64) -> f64 {
        let both = self.iter().zip(other.iter());
        median(both.map(|(ours, theirs)| ratio(value(ours), value(theirs))))
    }

    pub(crate) fn greatest(&self, value: impl Fn(&M) -> f64) -> f64 {
        self.iter().map(value).fold(0.0, f64::max)
    }

    pub(crate) fn total<T: Sum>(&self, value: impl Fn(&M) -> T) -> T {
        self.iter().map(value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_take_turns() {
        let mut order = Vec::new();
        let found = Rounds::take(3, &["a", "b"], str::to_owned, |round, subject| {
            order.push((round, subject));
            Ok(round + 1)
        });
        let found = found.unwrap();
        let expect = [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")];
        assert_eq!(order, expect);
        let of_b = found.of("b").unwrap();
        assert_eq!(of_b.median(|it| *it as f64), 2.0);
        assert_eq!(of_b.greatest(|it| *it as f64), 3.0);
        assert_eq!(of_b.total(|it| *it), 6_u64);
        assert_eq!(of_b.ratio_to(found.of("a").unwrap(), |it| *it as f64), 1.0);
        assert!(found.of("c").is_err());
    }
}
