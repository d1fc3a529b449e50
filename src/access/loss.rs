//! Defines what is said of lines that a sink did not take: not about each of them.

use std::time::{Duration, Instant};

/// Time between two complaints.
const PAUSE: Duration = Duration::from_secs(10);

/// The lines that were lost since the last complaint.
#[derive(Debug, Default)]
pub(super) struct Loss {
    lines: u64,
    told: Option<Instant>,
}

impl Loss {
    /// A line was lost. Says how many were if it is time to complain.
    pub(super) fn add(&mut self, now: Instant) -> Option<u64> {
        self.lines += 1;
        self.tell(now)
    }

    /// A line was taken. Says how many were not if it is time to complain.
    pub(super) fn tell(&mut self, now: Instant) -> Option<u64> {
        let due = self.told.is_none_or(|told| now >= told + PAUSE);
        (due && self.lines > 0).then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.lines)
        })
    }

    /// Whether nothing has to be told.
    pub(super) fn is_none(&self) -> bool {
        self.lines == 0
    }

    /// How many were lost and not told.
    pub(super) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_loss_is_told_at_once_and_the_others_together() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut loss = Loss::default();
        assert_eq!(loss.tell(at(0)), None);
        assert_eq!(loss.add(at(0)), Some(1));
        assert_eq!(loss.add(at(1)), None);
        assert_eq!(loss.add(at(9_999)), None);
        assert!(!loss.is_none());
        assert_eq!(loss.tell(at(10_000)), Some(2));
        assert!(loss.is_none());
        assert_eq!(loss.add(at(20_000)), Some(1));
        assert_eq!(loss.add(at(20_001)), None);
        assert_eq!((loss.take(), loss.take()), (1, 0));
    }
}
