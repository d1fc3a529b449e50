//! Defines how many requests of an app run at the same time, and how many wait for their turn.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::patience::{GateId, Needed, Waiting};

/// How often whoever waits for a turn looks for a request that waits for a slow client.
const LOOK: Duration = Duration::from_secs(1);

/// Leave to run one request; it ends when this is dropped.
pub(super) type Permit = OwnedSemaphorePermit;

/// The door of one app in one worker.
pub(super) struct Gate {
    places: Arc<Semaphore>,
    queued: Cell<u32>,
    queued_max: u32,
}

impl Gate {
    pub(super) fn new(running_max: u32, queued_max: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(running_max as usize)),
            queued: Cell::new(0),
            queued_max,
        }
    }

    /// Tells it from the gates of other apps.
    pub(super) fn id(&self) -> GateId {
        GateId(Arc::as_ptr(&self.places).addr())
    }

    /// Waits for leave to run, in the order of arrival; `None` if too many wait already. A request
    /// that waits for its client may have to make way.
    pub(super) async fn enter(&self, waiting: &Waiting) -> Option<Permit> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(permit);
        }
        if self.queued.get() >= self.queued_max {
            waiting.make_way(Needed::Instance(self.id()));
            return None;
        }
        let _place = Queued::new(&self.queued);
        let mut turn = pin!(Arc::clone(&self.places).acquire_owned());
        loop {
            tokio::select! {
                biased;
                permit = &mut turn => return permit.ok(),
                () = tokio::time::sleep(LOOK) => {}
            }
            waiting.make_way(Needed::Instance(self.id()));
        }
    }
}

/// A place in the queue, given up when the wait ends or is given up.
struct Queued<'a>(&'a Cell<u32>);

impl<'a> Queued<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Queued<'_> {
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
    use crate::worker::patience::Waiting;

    #[test]
    fn the_queue_is_bounded_and_a_place_given_up_is_free_again() {
        let mut cx = Context::from_waker(Waker::noop());
        let timers = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let _timers = timers.enter();
        let gate = Gate::new(1, 1);
        let nobody = Waiting::default();
        let Poll::Ready(Some(running)) = pin!(gate.enter(&nobody)).poll(&mut cx) else {
            panic!("room for one")
        };
        {
            let mut waiting = pin!(gate.enter(&nobody));
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
            assert!(
                matches!(pin!(gate.enter(&nobody)).poll(&mut cx), Poll::Ready(None)),
                "the queue is full"
            );
        }
        let mut waiting = pin!(gate.enter(&nobody));
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
