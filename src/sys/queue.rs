//! Defines the queue of a listening TCP socket: which connections enter it, and what the kernel tells
//! of them.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// The connections that nobody has accepted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// How many there are.
    pub waiting: u32,
    /// How many there may be: the backlog, cut to the kernel's limit.
    pub limit: u32,
    /// How many found no place, or came to nothing for another reason, since the socket was made:
    /// they try again. Not counted for a Unix socket, where they wait or are told at once.
    pub overflows: Option<u32>,
}

/// Of a listening TCP socket the kernel tells the length of the queue and its limit in two fields
/// of `tcp_info` that mean something else otherwise: see `tcp_get_info` in net/ipv4/tcp.c. The
/// drops are the last of the numbers of `SO_MEMINFO`: see `sk_get_meminfo` in net/core/sock.c.
pub(super) fn of(fd: &OwnedFd) -> nix::Result<Queue> {
    /// From asm-generic/socket.h; libc has only the order of the numbers.
    const SO_MEMINFO: i32 = 55;
    let memory: [u32; 9] = numbers(fd, libc::SOL_SOCKET, SO_MEMINFO)?;
    let (waiting, limit) = lengths(fd)?;
    let overflows = Some(memory[8]);
    Ok(Queue {
        waiting,
        limit,
        overflows,
    })
}

/// The length of the queue, and its limit.
pub(super) fn lengths(fd: &OwnedFd) -> nix::Result<(u32, u32)> {
    // Eight bytes, then `rto`, `ato`, `snd_mss`, `rcv_mss`, `unacked` and `sacked`.
    let info: [u32; 8] = numbers(fd, libc::IPPROTO_TCP, libc::TCP_INFO)?;
    Ok((info[6], info[7]))
}

/// Whether a connection enters the queue only when its first bytes are there. One that is silent
/// enters it when the kernel has asked its peer once more, after about a second: tcp(7),
/// `TCP_DEFER_ACCEPT`, whose seconds the kernel counts in such repetitions.
pub(super) fn defer(fd: &OwnedFd, defer: bool) -> nix::Result<()> {
    let seconds = i32::from(defer);
    let length = libc::socklen_t::try_from(size_of_val(&seconds)).unwrap_or(0);
    let place = (&raw const seconds).cast();
    let (level, option) = (libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT);
    // SAFETY: the kernel reads `length` bytes, which is the size of `seconds`.
    Errno::result(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, place, length) })
        .map(drop)
}

/// The first numbers of a socket option that is made of such.
fn numbers<const N: usize>(fd: &OwnedFd, level: i32, option: i32) -> nix::Result<[u32; N]> {
    let mut numbers = [0_u32; N];
    let mut length = libc::socklen_t::try_from(size_of_val(&numbers)).unwrap_or(0);
    let place = numbers.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `length` bytes, which is the size of `numbers`.
    Errno::result(unsafe {
        libc::getsockopt(fd.as_raw_fd(), level, option, place, &raw mut length)
    })?;
    Ok(numbers)
}
