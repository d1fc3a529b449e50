//! Defines how many frames without content a client may send: what it asks for and takes earns more of
//! them, and so does time.

use tokio::time::Instant;

/// So many may come before anything was earned. In frames, as all of these.
const AT_ONCE: i64 = 1000;
/// A second earns so many, until there are as many as at the start.
const PER_SECOND: i64 = 100;
/// A request earns its head, its trailers, its end and some opinions on its priority.
const PER_REQUEST: i64 = 10;
/// A piece of a response earns the windows that are opened for it, of its stream and of the connection.
const PER_PIECE: i64 = 4;
/// The same for each so many bytes of it: some clients open windows in small steps.
const STEP_BYTES: usize = 1 << 10;

/// What a client has left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    left: i64,
    /// When time was last reckoned.
    since: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left: AT_ONCE,
            since: now,
        }
    }

    /// A request was accepted.
    pub(super) fn request(&mut self) {
        self.left += PER_REQUEST;
    }

    /// So many bytes of a response are sent.
    pub(super) fn piece(&mut self, bytes: usize) {
        let steps = i64::try_from(bytes / STEP_BYTES).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(PER_PIECE + steps);
    }

    /// So many frames came; whether that was too many.
    pub(super) fn spend(&mut self, frames: u32, now: Instant) -> bool {
        self.left -= i64::from(frames);
        if self.left < 0 {
            let elapsed = now.saturating_duration_since(self.since);
            let earned = elapsed.as_millis() as i64 * PER_SECOND / 1000;
            self.left = self.left.saturating_add(earned).min(AT_ONCE);
            self.since = now;
        }
        self.left < 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn frames_have_to_be_earned() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert!(!budget.spend(1000, now));
        assert!(budget.spend(1, now));
        let mut budget = Budget::new(now);
        for _ in 0..1_000_000 {
            budget.request();
            assert!(!budget.spend(10, now));
            budget.piece(1);
            assert!(!budget.spend(4, now));
            budget.piece(16 << 10);
            assert!(!budget.spend(20, now));
        }
        assert!(!budget.spend(1000, now));
        assert!(budget.spend(1, now));
    }

    #[test]
    fn time_earns_some_and_not_more_than_there_were() {
        let began = Instant::now();
        let mut budget = Budget::new(began);
        let after = |seconds| began + Duration::from_secs(seconds);
        for second in 1..10_000 {
            assert!(!budget.spend(100, after(second)), "{second}");
        }
        assert!(!budget.spend(1100, after(1_000_000)));
        assert!(budget.spend(1001, after(1_000_000)));
    }
}
