//! Defines how the event loop watches what this room makes.

use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;

use super::bell::Bell;
use super::channel::Channel;
use super::signals::SignalQueue;
use super::socket::Listener;
use super::stream::Stream;

/// Owns its descriptor, or shares the owner: it is the same, and open, for as long as the value lives.
pub trait Watchable: AsRawFd + sealed::Sealed {}

mod sealed {
    pub trait Sealed {}
}

macro_rules! watchable {
    ($($type:ty),*) => { $(impl sealed::Sealed for $type {} impl Watchable for $type {})* };
}

watchable!(Arc<Bell>, Rc<Channel>, Listener, SignalQueue, Stream);

/// Registers with the event loop of this thread.
///
/// # Errors
/// When the kernel cannot watch one more descriptor.
pub fn watch<T: Watchable>(what: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: a `Watchable` owns its descriptor or shares the owner, so it stays open and the same until it is dropped.
    unsafe { AsyncFd::register(what) }.map_err(Into::into)
}
