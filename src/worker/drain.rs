//! Defines what a worker listens to besides its clients: the arbiter's orders, the arbiter's death,
//! and signals.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use super::shared::Shared;
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::protocol::message::ToChild;
use crate::sys::channel::{Channel, Recv};
use crate::sys::signals::{Signal, SignalQueue};
use crate::sys::watch::watch;

/// What a worker takes longer than the arbiter, which is to be the one that ends it and says why.
const SPARE: Duration = Duration::from_secs(5);

/// Why a worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Finish what is in flight, then end.
    Drain,
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
    accepting: Vec<JoinHandle<()>>,
    graceful: Duration,
) -> io::Result<()> {
    let channel = watch(channel)?;
    let signals = watch(signals)?;
    if next_order(&channel, &signals).await? == Order::Quit {
        return Ok(());
    }
    shared.begin_drain();
    tokio::select! {
        () = drained(shared, accepting) => {}
        () = quit(&signals) => {}
        () = tokio::time::sleep(graceful.saturating_add(SPARE)) => {
            tracing::warn!("{} connections were not finished in time", shared.connections());
        }
    }
    Ok(())
}

async fn drained(shared: &Rc<Shared>, accepting: Vec<JoinHandle<()>>) {
    for task in accepting {
        // A listener's task that panicked has closed its listener too.
        let _ = task.await;
    }
    loop {
        let ended = shared.room.notified();
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
    channel: &AsyncFd<Rc<Channel>>,
    signals: &AsyncFd<SignalQueue>,
) -> io::Result<Order> {
    tokio::select! {
        order = from_arbiter(channel) => order,
        order = from_signals(signals) => order,
    }
}

async fn from_arbiter(channel: &AsyncFd<Rc<Channel>>) -> io::Result<Order> {
    let mut frame = [0; FRAME_BYTES_MAX];
    loop {
        let mut ready = channel.readable().await?;
        match channel.get_ref().recv(&mut frame)? {
            Recv::Empty => ready.clear_ready(),
            // The arbiter is dead: what was accepted is still served.
            Recv::Eof => return Ok(Order::Drain),
            Recv::Frame { len, .. } => match ToChild::decode(&frame[..len]) {
                Ok(ToChild::Drain) => return Ok(Order::Drain),
                Err(error) => return Err(io::Error::other(error)),
            },
        }
    }
}

async fn from_signals(signals: &AsyncFd<SignalQueue>) -> io::Result<Order> {
    loop {
        let mut ready = signals.readable().await?;
        match signals.get_ref().next()? {
            None => ready.clear_ready(),
            Some(Signal::Term) => return Ok(Order::Drain),
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
            Ok(Order::Drain) => {}
            Ok(Order::Quit) | Err(_) => return,
        }
    }
}
