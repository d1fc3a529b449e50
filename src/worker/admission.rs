//! Defines how many requests of an app run at the same time, and how many wait for their turn.

use std::cell::Cell;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Leave to run one request; it ends when this is dropped.
pub(super) type Permit = OwnedSemaphorePermit;

/// The door of one app in one worker.
pub(super) struct Gate {
    places: Arc<Semaphore>,
    waiting: Cell<u32>,
    waiting_max: u32,
}

impl Gate {
    pub(super) fn new(running_max: u32, waiting_max: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(running_max as usize)),
            waiting: Cell::new(0),
            waiting_max,
        }
    }

    /// Waits for leave to run, in the order of arrival; `None` if too many wait already.
    pub(super) async fn enter(&self) -> Option<Permit> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(permit);
        }
        if self.waiting.get() >= self.waiting_max {
            return None;
        }
        let _place = Waiting::new(&self.waiting);
        Arc::clone(&self.places).acquire_owned().await.ok()
    }
}

/// A place in the queue, given up when the wait ends or is given up.
struct Waiting<'a>(&'a Cell<u32>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::Gate;

    #[test]
    fn the_queue_is_bounded_and_a_place_given_up_is_free_again() {
        let mut cx = Context::from_waker(Waker::noop());
        let gate = Gate::new(1, 1);
        let Poll::Ready(Some(running)) = pin!(gate.enter()).poll(&mut cx) else {
            panic!("room for one")
        };
        {
            let mut waiting = pin!(gate.enter());
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            assert!(
                matches!(pin!(gate.enter()).poll(&mut cx), Poll::Ready(None)),
                "the queue is full"
            );
        }
        let mut waiting = pin!(gate.enter());
        assert!(
            waiting.as_mut().poll(&mut cx).is_pending(),
            "the place in the queue is free again"
        );
        drop(running);
        assert!(matches!(
            waiting.as_mut().poll(&mut cx),
            Poll::Ready(Some(_))
        ));
    }
}
