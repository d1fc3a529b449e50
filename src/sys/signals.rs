//! Defines signals as a queue that can be polled, instead of handlers that interrupt.
//!
//! Invariant: a signal that a queue listens for never interrupts the code of its process.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as NixSignal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signals that processes of the server send or obey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGCHLD.
    Chld,
    /// SIGTTIN.
    Ttin,
    /// SIGTTOU.
    Ttou,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGWINCH.
    Winch,
    /// SIGABRT.
    Abrt,
    /// SIGKILL, which cannot be queued.
    Kill,
    /// SIGPROF.
    Prof,
}

/// Every [`Signal`] beside the kernel's name for it.
const NAMES: [(Signal, NixSignal); 13] = [
    (Signal::Term, NixSignal::SIGTERM),
    (Signal::Int, NixSignal::SIGINT),
    (Signal::Quit, NixSignal::SIGQUIT),
    (Signal::Chld, NixSignal::SIGCHLD),
    (Signal::Ttin, NixSignal::SIGTTIN),
    (Signal::Ttou, NixSignal::SIGTTOU),
    (Signal::Hup, NixSignal::SIGHUP),
    (Signal::Usr1, NixSignal::SIGUSR1),
    (Signal::Usr2, NixSignal::SIGUSR2),
    (Signal::Winch, NixSignal::SIGWINCH),
    (Signal::Abrt, NixSignal::SIGABRT),
    (Signal::Kill, NixSignal::SIGKILL),
    (Signal::Prof, NixSignal::SIGPROF),
];

impl Signal {
    pub(super) fn to_nix(self) -> NixSignal {
        match self {
            Self::Term => NixSignal::SIGTERM,
            Self::Int => NixSignal::SIGINT,
            Self::Quit => NixSignal::SIGQUIT,
            Self::Chld => NixSignal::SIGCHLD,
            Self::Ttin => NixSignal::SIGTTIN,
            Self::Ttou => NixSignal::SIGTTOU,
            Self::Hup => NixSignal::SIGHUP,
            Self::Usr1 => NixSignal::SIGUSR1,
            Self::Usr2 => NixSignal::SIGUSR2,
            Self::Winch => NixSignal::SIGWINCH,
            Self::Abrt => NixSignal::SIGABRT,
            Self::Kill => NixSignal::SIGKILL,
            Self::Prof => NixSignal::SIGPROF,
        }
    }

    fn from_raw(number: u32) -> Option<Self> {
        let number = i32::try_from(number).ok()?;
        let known = NAMES.iter().find(|(_, name)| *name as i32 == number);
        known.map(|(signal, _)| *signal)
    }

    /// The kernel's name, such as `SIGTERM`.
    pub fn name(self) -> &'static str {
        self.to_nix().as_str()
    }
}

/// A signalfd(2): the signals of this process, in a file descriptor.
#[derive(Debug)]
pub struct SignalQueue(SignalFd);

impl SignalQueue {
    /// Blocks `signals` in this thread, gives them back their default disposition, and listens for
    /// them.
    ///
    /// They stay blocked when the queue is dropped, since a late one would otherwise kill the
    /// process. Call it before any other thread exists. An inherited "ignore" is undone: with
    /// SIGCHLD ignored no child could be reaped.
    pub fn new(signals: &[Signal]) -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in signals.iter().filter(|signal| **signal != Signal::Kill) {
            set.add(signal.to_nix());
        }
        set.thread_block()?;
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        for signal in &set {
            // SAFETY: the default disposition runs no code of this process.
            unsafe { sigaction(signal, &default) }?;
        }
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        Ok(Self(SignalFd::with_flags(&set, flags)?))
    }

    /// The next signal, or `None` if none waits. Equal signals that wait together are one.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        loop {
            match self.0.read_signal() {
                Ok(None) => return Ok(None),
                Ok(Some(info)) => {
                    if let Some(signal) = Signal::from_raw(info.ssi_signo) {
                        return Ok(Some(signal));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl std::os::fd::AsRawFd for SignalQueue {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0.as_fd())
    }
}

impl AsFd for SignalQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    #[test]
    fn the_two_tables_agree() {
        for (signal, name) in NAMES {
            assert_eq!(signal.to_nix(), name);
            assert_eq!(Signal::from_raw(name as u32), Some(signal));
        }
        assert_eq!(Signal::from_raw(NixSignal::SIGSEGV as u32), None);
        assert_eq!(Signal::Winch.name(), "SIGWINCH");
    }

    #[test]
    fn a_raised_signal_is_queued_once_and_interrupts_nothing() {
        // `raise` signals the calling thread alone, and only that thread reads it here.
        let queue = SignalQueue::new(&[Signal::Usr2, Signal::Winch]).unwrap();
        assert_eq!(queue.next().unwrap(), None);
        raise(NixSignal::SIGUSR2).unwrap();
        raise(NixSignal::SIGUSR2).unwrap();
        raise(NixSignal::SIGWINCH).unwrap();
        let mut seen = [queue.next().unwrap(), queue.next().unwrap()];
        seen.sort_by_key(|signal| signal.map(Signal::name));
        assert_eq!(seen, [Some(Signal::Usr2), Some(Signal::Winch)]);
        assert_eq!(queue.next().unwrap(), None);
    }
}
