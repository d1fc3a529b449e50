//! Defines how a worker takes connections: one at a time, only while it has room, and when it is the
//! last to listen, until nobody is left who waited then.

mod by_turns;
mod freely;

use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::connection;
use super::shared::{Counted, Shared};
use crate::sys::socket::Listener;

/// How long a worker waits when the kernel cannot give it a connection, for want of descriptors or
/// memory. The connections stay in the backlog.
const BREATHER: Duration = Duration::from_millis(100);

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// A connection is being served.
    Accepted,
    /// Nobody waits.
    Nobody,
    /// The kernel cannot give it; the worker has no room for a while.
    Refused,
}

/// Takes connections until the worker drains, and then gives up the listeners.
pub(super) async fn run(shared: Rc<Shared>, listeners: Vec<Listener>) {
    let listeners = match shared.room.seat() {
        Some(seat) => by_turns::run(&shared, seat, listeners).await,
        None => freely::run(&shared, listeners).await,
    };
    match listeners {
        // A worker that was never to serve leaves whoever waits to those that were.
        Ok(listeners) if shared.last_to_listen.get() && shared.room.has_opened() => {
            // Nobody is told of its room any more, and it takes no more than it has room for.
            shared.open_again();
            // Each is closed when its queue is empty: whoever comes later is refused.
            let mut emptying = JoinSet::new();
            for listener in listeners {
                let shared = Rc::clone(&shared);
                emptying.spawn_local(async move { empty_backlog(&shared, &listener).await });
            }
            emptying.join_all().await;
            shared.accept_no_more();
        }
        Ok(_) => {}
        Err(error) => {
            tracing::error!("cannot watch the listeners, others accept: {error}");
            shared.accept_no_more();
        }
    }
}

fn attempt(shared: &Rc<Shared>, listener: &Listener) -> Attempt {
    match listener.accept() {
        Ok(Some(stream)) => {
            let counted = Counted::new(shared);
            tokio::task::spawn_local(connection::serve(Rc::clone(shared), stream, counted));
            Attempt::Accepted
        }
        Ok(None) => Attempt::Nobody,
        Err(error) => {
            if shared.complain_of_accept() {
                tracing::error!("cannot accept connections, they wait in the backlog: {error}");
            }
            shared.set_starves(true);
            let shared = Rc::clone(shared);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(BREATHER).await;
                shared.set_starves(false);
            });
            Attempt::Refused
        }
    }
}

/// Whoever waited when the listener was given up is served, each when there is room. Until then
/// they wait in the kernel, where others that drain find them too, and are not lost with this
/// worker. So many are taken at most, so under a load that never ends the worker still comes to an
/// end.
async fn empty_backlog(shared: &Rc<Shared>, listener: &Listener) {
    let queue = listener.queue();
    let waited = queue.map_or(shared.backlog, |queue| queue.waiting);
    for _ in 0..=waited {
        shared.room.wait_for_it().await;
        match attempt(shared, listener) {
            Attempt::Accepted => tokio::task::yield_now().await,
            Attempt::Nobody => return,
            // There is room again after a while.
            Attempt::Refused => {}
        }
    }
}
