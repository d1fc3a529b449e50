//! Defines the baton's numbers as the model checker has them.
//!
//! All accesses of the baton are sequentially consistent. The checker does not model that order, but it does model
//! interleavings: an access that reads and writes sees the last value, so that here a load is one.

use std::sync::atomic::Ordering::{self, AcqRel, SeqCst};

#[derive(Debug)]
pub(crate) struct AtomicU64(loom::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(loom::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        assert_eq!(order, SeqCst);
        self.0.fetch_add(0, AcqRel)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        assert_eq!(order, SeqCst);
        self.0.swap(value, AcqRel);
    }

    pub(crate) fn fetch_or(&self, value: u64, order: Ordering) -> u64 {
        assert_eq!(order, SeqCst);
        self.0.fetch_or(value, AcqRel)
    }

    pub(crate) fn fetch_and(&self, value: u64, order: Ordering) -> u64 {
        assert_eq!(order, SeqCst);
        self.0.fetch_and(value, AcqRel)
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        assert_eq!(order, SeqCst);
        self.0.fetch_add(value, AcqRel)
    }

    pub(crate) fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        assert_eq!((success, failure), (SeqCst, SeqCst));
        self.0.compare_exchange(old, new, AcqRel, AcqRel)
    }
}
