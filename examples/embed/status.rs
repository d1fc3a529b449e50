//! A role: a kind of worker that is not rgunicorn's own. Like any other it says when it is ready, obeys the
//! arbiter's orders, and ends when the arbiter is gone.

use std::io;
use std::os::fd::AsFd;

use rgunicorn::arbiter::Child;
use rgunicorn::protocol::frame::FRAME_BYTES_MAX;
use rgunicorn::protocol::message::{FromChild, ToChild};
use rgunicorn::scoreboard::Scoreboard;
use rgunicorn::sys::channel::Recv;
use rgunicorn::sys::poll::{self, Watched};
use rgunicorn::sys::signals::{Signal, SignalQueue};
use rgunicorn::sys::stream::Stream;

/// What the child runs; its result is the exit status.
pub(crate) fn main(child: Child) -> i32 {
    match serve(&child) {
        Ok(()) => 0,
        Err(error) => {
            let code = 3;
            let reason = format!("the status page: {error}");
            let _ = child
                .channel
                .send_blocking(&FromChild::Failed { code, reason }.encode(), &[]);
            i32::from(code)
        }
    }
}

fn serve(child: &Child) -> io::Result<()> {
    let signals = SignalQueue::new(&[Signal::Term, Signal::Int, Signal::Quit])?;
    child
        .channel
        .send_blocking(&FromChild::Ready.encode(), &[])?;
    child.title.set_state("ready");
    loop {
        let mut sources = vec![
            Watched::readable(signals.as_fd()),
            Watched::readable(child.channel.as_fd()),
        ];
        let listeners = child.listeners.iter();
        sources.extend(listeners.map(|listener| Watched::readable(listener.as_fd())));
        poll::wait(&mut sources, None)?;
        if signals.next()?.is_some() || told_to_leave(child)? {
            return Ok(());
        }
        for listener in &child.listeners {
            while let Some(client) = listener.accept()? {
                answer(&client, &child.scoreboard);
            }
        }
    }
}

/// The arbiter says so, or is gone.
fn told_to_leave(child: &Child) -> io::Result<bool> {
    let mut frame = [0; FRAME_BYTES_MAX];
    match child.channel.recv(&mut frame)? {
        Recv::Empty => Ok(false),
        Recv::Eof => Ok(true),
        Recv::Frame { len, .. } => match ToChild::decode(&frame[..len]) {
            Ok(ToChild::Drain | ToChild::Retire) => Ok(true),
            Ok(
                ToChild::Serve
                | ToChild::ReopenLog
                | ToChild::ReopenAccessLog
                | ToChild::Accept { .. }
                | ToChild::Revoke,
            ) => Ok(false),
            Err(error) => Err(io::Error::other(error)),
        },
    }
}

/// The same answer to whatever is asked, in one write: it fits into the socket's buffer.
fn answer(client: &Stream, scoreboard: &Scoreboard) {
    let rows = (0..scoreboard.slots()).map(|row| scoreboard.slot(row));
    let requests: u64 = rows.map(|row| row.counters.requests.get()).sum();
    let body = format!("requests answered: {requests}\n");
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    // A client that does not wait gets nothing.
    let _ = client.write((head + &body).as_bytes());
    let _ = client.shutdown_write();
}
