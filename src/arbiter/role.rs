//! Defines roles: what a kind of child is called, what it runs, and what follows its end.
//!
//! Invariant: the arbiter knows no more than this about what its children do.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::accept::Seat;
use crate::access;
use crate::scoreboard::Scoreboard;
use crate::sys::channel::Channel;
use crate::sys::socket::Listener;
use crate::sys::title;

/// A kind of child: a name, a main function and a respawn policy.
pub struct Role {
    /// What the log calls it.
    pub name: &'static str,
    /// What the child runs after the fork; its result is the exit status.
    pub main: Box<dyn Fn(Child) -> i32>,
    /// When one that failed is followed by another. A one-off child is not, unless it could not
    /// even be forked.
    pub respawn: BackOff,
}

impl Role {
    /// A role with the default policy.
    pub fn new(name: &'static str, main: impl Fn(Child) -> i32 + 'static) -> Self {
        Self {
            name,
            main: Box::new(main),
            respawn: BackOff::default(),
        }
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Role");
        debug
            .field("name", &self.name)
            .field("respawn", &self.respawn)
            .finish_non_exhaustive()
    }
}

/// How long a slot stays empty after failures: at first not at all, then twice as long each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// The wait after the second failure in a row.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// A worker that was ready for so long ends the row of failures.
    pub stable: Duration,
}

impl Default for BackOff {
    /// 100 ms, doubled up to 30 s; 10 s of good service are forgiveness.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            max: Duration::from_secs(30),
            stable: Duration::from_secs(10),
        }
    }
}

impl BackOff {
    /// The wait in milliseconds when `failures` children in a row have failed before this one.
    pub fn delay_ms(&self, failures: u32) -> u64 {
        let Some(doublings) = failures.checked_sub(1) else {
            return 0;
        };
        let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
        millis(self.first)
            .saturating_mul(factor)
            .min(millis(self.max))
    }
}

/// Whole milliseconds, rounded up, so that no timeout becomes shorter; a century is the longest.
pub(super) fn millis(duration: Duration) -> u64 {
    const CENTURY_MS: u64 = 100 * 366 * 24 * 3600 * 1000;
    let rounded = duration.as_nanos().div_ceil(1_000_000);
    u64::try_from(rounded).map_or(CENTURY_MS, |rounded| rounded.min(CENTURY_MS))
}

/// What a child starts with; it owns all of it, and nothing else of the arbiter is open in it.
///
/// The signals that order a process about are blocked: make a
/// [`SignalQueue`](crate::sys::signals::SignalQueue) of those to obey. An end of file on the
/// channel means that the arbiter is dead.
#[derive(Debug)]
pub struct Child {
    /// Number of its slot in its role; 0 in a one-off child.
    pub slot: usize,
    /// Its row of the scoreboard. No other living child has it; a one-off child, which writes none,
    /// has 0.
    pub row: usize,
    /// Of which generation it is.
    pub generation: u32,
    /// Whether it is to take connections as soon as it is ready: a worker that is made beside another
    /// generation is told to ([`Serve`](crate::protocol::message::ToChild::Serve)), once that leaves.
    pub serves: bool,
    /// To the arbiter.
    pub channel: Channel,
    /// The listeners of its role, in the order of the plan; none in the loader.
    pub listeners: Vec<Listener>,
    /// The artefacts from the loader, by number of the app; none in the loader.
    pub handed: Vec<OwnedFd>,
    /// Its place among those who accept from the listeners; `None` if each may try whenever it likes.
    pub seat: Option<Seat>,
    /// The access log, if there is one; none in the loader.
    pub access_log: Option<access::Log>,
    /// The table in which it writes its row.
    pub scoreboard: Arc<Scoreboard>,
    /// How `ps` shows it.
    pub title: Title,
}

/// The beginning of a process's title, which names its role, slot and generation.
#[derive(Debug, Clone)]
pub struct Title(pub(super) String);

impl Title {
    /// Says in which state the process is now, such as `booting`.
    pub fn set_state(&self, state: &str) {
        title::set(&format!("{} {state}", self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_costs_nothing_and_the_rest_double_up_to_the_limit() {
        let back_off = BackOff::default();
        let delays = [0, 1, 2, 3, 4, 9, 10, 33, 64, 65, u32::MAX].map(|n| back_off.delay_ms(n));
        let expect = [
            0, 100, 200, 400, 800, 25_600, 30_000, 30_000, 30_000, 30_000, 30_000,
        ];
        assert_eq!(delays, expect);
    }

    #[test]
    fn milliseconds_are_rounded_up_and_bounded() {
        assert_eq!(millis(Duration::ZERO), 0);
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_micros(1500)), 2);
        assert!(millis(Duration::MAX) < u64::MAX / 1000);
    }
}
