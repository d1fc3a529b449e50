//! Defines what is measured of an instance, for those who ask.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// What the instance of one request took. It is shared with the store, which may go at any time.
#[derive(Debug, Default)]
pub struct Usage {
    /// 0 before there is one.
    instantiate_ns: AtomicU64,
    peak_memory: AtomicU64,
}

impl Usage {
    /// The time that it took to make the instance, and the most linear memory in bytes that it had;
    /// `None` if there never was one.
    #[must_use]
    pub fn of_instance(&self) -> Option<(Duration, u64)> {
        match self.instantiate_ns.load(Relaxed) {
            0 => None,
            nanos => Some((Duration::from_nanos(nanos), self.peak_memory.load(Relaxed))),
        }
    }

    pub(super) fn made(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.instantiate_ns.store(nanos.max(1), Relaxed);
    }

    pub(super) fn has_memory(&self, bytes: u64) {
        self.peak_memory.fetch_max(bytes, Relaxed);
    }
}
