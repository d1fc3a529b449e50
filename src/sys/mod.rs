//! Defines the border with the kernel: processes, signals, sockets, shared memory and timers.
//!
//! Invariant: apart from the one call that maps a compiled component, all `unsafe` code of the
//! server is below this module, and what this module exports is safe to call.
#![allow(unsafe_code, reason = "this is the room for it")]

pub mod channel;
pub mod clock;
pub mod memory_file;
pub mod poll;
pub mod process;
pub mod shared;
pub mod signals;
pub mod socket;
pub mod timer;

/// A forked child holds copies of whatever the tests beside it have open. So a test that forks
/// excludes those that need a closed descriptor to be closed.
#[cfg(test)]
pub(crate) mod fork_lock {
    use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

    static LOCK: RwLock<()> = RwLock::new(());

    /// For a test that forks, until its child is reaped.
    pub(crate) fn forking() -> RwLockWriteGuard<'static, ()> {
        LOCK.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a test that relies on closing.
    pub(crate) fn closing() -> RwLockReadGuard<'static, ()> {
        LOCK.read().unwrap_or_else(PoisonError::into_inner)
    }
}
pub mod watch;
