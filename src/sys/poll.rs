//! Defines a thin wrapper around poll(2).
//!
//! Invariant: a signal handler that runs meanwhile neither ends the wait nor makes it longer.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// A file descriptor to wait for, and what the last [`wait`] found.
#[derive(Debug)]
#[repr(transparent)]
pub struct Watched<'fd>(PollFd<'fd>);

impl<'fd> Watched<'fd> {
    /// Waits until there is something to read, or the other side is gone.
    pub fn readable(fd: BorrowedFd<'fd>) -> Self {
        Self(PollFd::new(fd, PollFlags::POLLIN))
    }

    /// Waits until there is room to write, or the other side is gone.
    pub fn writable(fd: BorrowedFd<'fd>) -> Self {
        Self(PollFd::new(fd, PollFlags::POLLOUT))
    }

    /// Whether the next operation will not block; it may report an error or an end of file.
    pub fn is_ready(&self) -> bool {
        // Bits that nix does not know are still a reason to look.
        self.0.revents().is_none_or(|flags| !flags.is_empty())
    }
}

/// Waits until at least one of `watched` is ready, or `timeout` has passed; `None` waits for ever.
///
/// Returns how many are ready. See poll(2) for the errors.
pub fn wait(watched: &mut [Watched<'_>], timeout: Option<Duration>) -> io::Result<usize> {
    // SAFETY: a transparent structure has the layout of its only field.
    let fds = unsafe { &mut *(std::ptr::from_mut(watched) as *mut [PollFd<'_>]) };
    // A timeout beyond the range of the clock is as good as none.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| {
            TimeSpec::from_duration(deadline.saturating_duration_since(Instant::now()))
        });
        match ppoll(fds, left, None) {
            Err(Errno::EINTR) => {}
            other => return Ok(usize::try_from(other?).unwrap_or(0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sys::fork_lock;

    #[test]
    fn only_what_is_ready_is_reported() {
        let (mut writer, reader) = UnixStream::pair().unwrap();
        let (_silent, other) = UnixStream::pair().unwrap();
        let mut watched = [
            Watched::readable(reader.as_fd()),
            Watched::readable(other.as_fd()),
        ];
        assert_eq!(wait(&mut watched, Some(Duration::ZERO)).unwrap(), 0);
        assert!(!watched[0].is_ready() && !watched[1].is_ready());
        writer.write_all(b"x").unwrap();
        assert_eq!(wait(&mut watched, None).unwrap(), 1);
        assert!(watched[0].is_ready() && !watched[1].is_ready());
    }

    #[test]
    fn a_hangup_is_ready() {
        let _closing = fork_lock::closing();
        let (writer, reader) = UnixStream::pair().unwrap();
        drop(writer);
        let mut watched = [Watched::readable(reader.as_fd())];
        assert_eq!(wait(&mut watched, None).unwrap(), 1);
        assert!(watched[0].is_ready());
    }

    #[test]
    fn the_timeout_is_never_cut_short() {
        let started = Instant::now();
        assert_eq!(wait(&mut [], Some(Duration::from_millis(15))).unwrap(), 0);
        assert!(started.elapsed() >= Duration::from_millis(15));
    }
}
