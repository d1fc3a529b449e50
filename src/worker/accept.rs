//! Defines how a worker takes connections: one at a time, only while it has room, and when it is the
//! last to listen, until nobody is left who waited then.

use std::rc::Rc;
use std::time::Duration;

use super::connection;
use super::shared::Shared;
use crate::sys::socket::Listener;
use crate::sys::watch::watch;

/// How long a worker waits when the kernel cannot give it a connection, for want of descriptors or
/// memory. The connections stay in the backlog.
const BREATHER: Duration = Duration::from_millis(100);

/// Takes connections of one listener until the worker drains; closes it then.
pub(super) async fn run(shared: Rc<Shared>, listener: Listener) {
    let listener = match watch(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("cannot watch a listener: {error}"),
    };
    let mut complained = false;
    while !shared.draining.get() {
        if shared.connections() >= shared.connections_max {
            shared.room.notified().await;
            continue;
        }
        let drain = shared.drain.notified();
        let mut ready = tokio::select! {
            biased;
            ready = listener.readable() => match ready {
                Ok(ready) => ready,
                Err(error) => return tracing::error!("cannot watch a listener: {error}"),
            },
            () = drain => break,
        };
        match listener.get_ref().accept() {
            Ok(Some(stream)) => {
                complained = false;
                tokio::task::spawn_local(connection::serve(Rc::clone(&shared), stream));
                // Others may have room too: one connection a turn.
                tokio::task::yield_now().await;
            }
            Ok(None) => ready.clear_ready(),
            Err(error) => {
                if !complained {
                    tracing::error!("cannot accept connections, they wait in the backlog: {error}");
                }
                complained = true;
                tokio::time::sleep(BREATHER).await;
            }
        }
    }
    if shared.last_to_listen.get() {
        empty_backlog(&shared, listener.get_ref()).await;
    }
}

/// Whoever waited when the listener was given up is served. The queue cannot have been longer than
/// this, so under a load that never ends the worker still comes to an end.
async fn empty_backlog(shared: &Rc<Shared>, listener: &Listener) {
    for _ in 0..=shared.backlog {
        match listener.accept() {
            Ok(Some(stream)) => {
                tokio::task::spawn_local(connection::serve(Rc::clone(shared), stream));
                tokio::task::yield_now().await;
            }
            Ok(None) => return,
            Err(_) => tokio::time::sleep(BREATHER).await,
        }
    }
}
