//! Defines who owns a descriptor that came through exec.
//!
//! Invariant: what this process has opened or already owns is never taken.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::fcntl::FdFlag;
use nix::libc;

/// First descriptor that is not a standard stream, as in sd_listen_fds(3).
pub(super) const FIRST_DESCRIPTOR: RawFd = 3;

/// Takes an inherited descriptor, or says why it is none. The caller makes it closed by exec, which
/// marks it as owned, or [leaves](leave) it.
pub(super) fn take(descriptor: RawFd) -> Result<OwnedFd, &'static str> {
    if descriptor < FIRST_DESCRIPTOR {
        return Err("it is a standard stream");
    }
    // SAFETY: only numbers are passed; a descriptor that is not open is reported.
    let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
    if flags < 0 {
        return Err("it is not open");
    }
    // Whatever this process opens is closed by exec, and what it inherits cannot be.
    if FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC) {
        return Err("it is already in use by this process");
    }
    // SAFETY: it is open, and by the above nobody in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Gives a descriptor back as it was to whoever opened it.
pub(super) fn leave(fd: OwnedFd) {
    let _ = fd.into_raw_fd();
}
