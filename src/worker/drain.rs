//! Defines what a worker listens to besides its clients: the arbiter's orders, the arbiter's death,
//! and signals.
//!
//! Invariant: a signal that is meant for the arbiter does nothing to a worker.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::shared::Shared;
use crate::arbiter::role::Title;
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::protocol::message::ToChild;
use crate::sys::channel::{Channel, Recv};
use crate::sys::signals::{Signal, SignalQueue};
use crate::sys::stdio;
use crate::sys::watch::watch;

/// What a worker takes longer than the arbiter, which is to be the one that ends it and says why.
const SPARE: Duration = Duration::from_secs(5);

/// Why a worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Finish what is in flight, then end. If nobody goes on listening, whoever still waits to be
    /// accepted is served too.
    Finish {
        /// Whether this worker may be the last that listens.
        last_to_listen: bool,
    },
    /// End now.
    Quit,
}

/// Waits for an order to end, and for what it asks to be done.
///
/// `graceful` bounds a drain whose arbiter is gone; while there is one, it keeps the time.
pub(super) async fn until_done(
    shared: &Rc<Shared>,
    channel: Rc<Channel>,
    signals: SignalQueue,
    accepting: JoinHandle<()>,
    graceful: Duration,
    title: &Title,
) -> io::Result<()> {
    let channel = watch(channel)?;
    let signals = watch(signals)?;
    let last_to_listen = match next_order(shared, &channel, &signals).await? {
        Order::Quit => return Ok(()),
        Order::Finish { last_to_listen } => last_to_listen,
    };
    title.set_state("draining");
    shared.begin_drain(last_to_listen);
    tokio::select! {
        () = drained(shared, accepting) => {}
        () = obey(shared, &channel) => {}
        () = quit(&signals) => {}
        () = tokio::time::sleep(graceful.saturating_add(SPARE)) => {
            tracing::warn!("{} connections were not finished in time", shared.connections());
        }
    }
    Ok(())
}

async fn drained(shared: &Rc<Shared>, accepting: JoinHandle<()>) {
    // If that task has panicked, it has closed the listeners too.
    let _ = accepting.await;
    loop {
        let ended = shared.room.changed.notified();
        if shared.connections() == 0 && shared.in_flight() == 0 {
            return;
        }
        // A guest may work on after its connection has gone.
        tokio::select! {
            () = ended => {}
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}

async fn next_order(
    shared: &Shared,
    channel: &AsyncFd<Rc<Channel>>,
    signals: &AsyncFd<SignalQueue>,
) -> io::Result<Order> {
    tokio::select! {
        order = from_arbiter(shared, channel) => order,
        order = from_signals(signals) => order,
    }
}

async fn from_arbiter(shared: &Shared, channel: &AsyncFd<Rc<Channel>>) -> io::Result<Order> {
    let order = next_order_of(shared, channel).await?;
    // Without an arbiter nobody comes after this worker, and what was accepted is still served.
    Ok(order.unwrap_or(finish(true)))
}

/// The next order to end; `None` if the arbiter is dead. What else it wants is done on the way.
async fn next_order_of(
    shared: &Shared,
    channel: &AsyncFd<Rc<Channel>>,
) -> io::Result<Option<Order>> {
    let mut frame = [0; FRAME_BYTES_MAX];
    loop {
        let mut ready = channel.readable().await?;
        let received = match channel.get_ref().recv(&mut frame) {
            // A worker that may have no more files open gets none sent: only logs come with one.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!("no room for the file of a log: it goes on with the old one");
                continue;
            }
            received => received?,
        };
        match received {
            Recv::Empty => ready.clear_ready(),
            Recv::Eof => return Ok(None),
            Recv::Frame { len, fds } => match ToChild::decode(&frame[..len]) {
                Ok(ToChild::ReopenLog) => reopen_log(&fds)?,
                Ok(ToChild::ReopenAccessLog) => reopen_access_log(shared, fds)?,
                Ok(ToChild::Serve) => shared.open(),
                // The baton says whether it is still so.
                Ok(ToChild::Accept { listener }) => shared.room.tell(usize::from(listener)),
                Ok(ToChild::Revoke) => shared.say_alive(),
                Ok(ToChild::Drain) => return Ok(Some(finish(true))),
                Ok(ToChild::Retire) => return Ok(Some(finish(false))),
                Err(error) => return Err(io::Error::other(error)),
            },
        }
    }
}

fn finish(last_to_listen: bool) -> Order {
    Order::Finish { last_to_listen }
}

/// Writes the log to the file that the arbiter has opened: this process may not be allowed to.
fn reopen_log(files: &[OwnedFd]) -> io::Result<()> {
    match files {
        [file] => stdio::redirect_stderr(file.as_fd()),
        _ => Err(io::Error::other("a log file came without its file")),
    }
}

/// The same with the access log.
fn reopen_access_log(shared: &Shared, files: Vec<OwnedFd>) -> io::Result<()> {
    match (&shared.access_log, files.into_iter().next()) {
        (Some(log), Some(file)) => log.replace_file(file),
        _ => Err(io::Error::other("an access log came without its file")),
    }
}

/// Goes on listening to the arbiter while the worker drains.
async fn obey(shared: &Shared, channel: &AsyncFd<Rc<Channel>>) {
    // Further orders to end change nothing, and without an arbiter the drain's own time runs.
    while let Ok(Some(_)) = next_order_of(shared, channel).await {}
    std::future::pending().await
}

async fn from_signals(signals: &AsyncFd<SignalQueue>) -> io::Result<Order> {
    loop {
        let mut ready = signals.readable().await?;
        match signals.get_ref().next()? {
            None => ready.clear_ready(),
            Some(Signal::Term) => return Ok(finish(true)),
            Some(Signal::Int | Signal::Quit) => return Ok(Order::Quit),
            // Meant for the arbiter, and sent to all by a careless pkill.
            Some(_) => {}
        }
    }
}

/// Waits for a signal that asks for a quick end.
async fn quit(signals: &AsyncFd<SignalQueue>) {
    loop {
        match from_signals(signals).await {
            Ok(Order::Finish { .. }) => {}
            Ok(Order::Quit) | Err(_) => return,
        }
    }
}
