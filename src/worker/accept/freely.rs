//! Defines how a worker accepts that has agreed on nothing with others: it waits on every listener
//! while it has room, and whoever is fastest gets the connection.

use std::io;
use std::rc::Rc;

use tokio::task::JoinSet;

use super::{Attempt, attempt};
use crate::sys::socket::Listener;
use crate::sys::watch::watch;
use crate::worker::shared::Shared;

/// Takes connections until the worker drains. Returns the listeners.
pub(super) async fn run(
    shared: &Rc<Shared>,
    listeners: Vec<Listener>,
) -> io::Result<Vec<Listener>> {
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn_local(one(Rc::clone(shared), listener));
    }
    let mut back = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        back.push(ended.map_err(io::Error::other)??);
    }
    Ok(back)
}

async fn one(shared: Rc<Shared>, listener: Listener) -> io::Result<Listener> {
    let listener = watch(listener)?;
    // Whether the worker has waited since it last tried.
    let mut woken = true;
    while !shared.is_draining() {
        let changed = shared.room.changed.notified();
        if !shared.room.is_there() {
            changed.await;
            continue;
        }
        let drain = shared.drain.notified();
        let mut ready = tokio::select! {
            biased;
            ready = listener.readable() => ready?,
            () = drain => break,
        };
        // A request may have begun meanwhile, on a connection that is here already.
        if !shared.room.is_there() {
            continue;
        }
        let counters = &shared.slot().counters;
        counters.wakeups.add(u64::from(woken));
        match attempt(&shared, listener.get_ref()) {
            // Others may have room too: one connection a turn.
            Attempt::Accepted => {
                counters.pulled.add(u64::from(!woken));
                woken = false;
                tokio::task::yield_now().await;
            }
            Attempt::Nobody => {
                counters.spurious.add(u64::from(woken));
                woken = true;
                ready.clear_ready();
            }
            Attempt::Refused => {}
        }
    }
    Ok(listener.into_inner())
}
