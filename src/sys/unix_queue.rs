//! Defines what the kernel tells of the queue of a listening Unix socket: it is asked by
//! netlink, sock_diag(7), for there is no socket option.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use nix::sys::stat::fstat;

use super::queue::Queue;

/// A netlink header, and the request or the answer that follows it, `unix_diag_req` and
/// `unix_diag_msg` of linux/unix_diag.h.
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = 24;
const ANSWER_BYTES: usize = 16;
/// From linux/sock_diag.h and linux/unix_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_RQLEN: u16 = 4;
/// The head of an attribute: its length, which includes the head, and its kind.
const ATTRIBUTE_BYTES: usize = 4;

/// Fails where the kernel has no `unix_diag`, or the socket is of another network namespace.
pub(super) fn of(fd: &OwnedFd) -> nix::Result<Queue> {
    let inode = u32::try_from(fstat(fd)?.st_ino).map_err(|_| Errno::EOVERFLOW)?;
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    send(kernel.as_raw_fd(), &request(inode), MsgFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel has answered by now.
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    read(&answer[..length]).ok_or(Errno::ENOENT)
}

/// Asks for the lengths of one socket's queue, whatever its cookie.
fn request(inode: u32) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + REQUEST_BYTES).unwrap_or(0);
    let (family, flags) = (libc::AF_UNIX as u8, libc::NLM_F_REQUEST as u16);
    let mut request = length.to_ne_bytes().to_vec();
    request.extend([SOCK_DIAG_BY_FAMILY, flags].map(u16::to_ne_bytes).concat());
    // No number of its own for the message and its sender; then the protocol, and a gap.
    request.extend([0; 8]);
    request.extend([family, 0, 0, 0]);
    let words = [u32::MAX, inode, UDIAG_SHOW_RQLEN, u32::MAX, u32::MAX];
    request.extend(words.map(u32::to_ne_bytes).concat());
    request
}

/// `None` if the answer is an error, or does not tell.
fn read(answer: &[u8]) -> Option<Queue> {
    if u16_at(answer, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut rest = answer.get(HEADER_BYTES + ANSWER_BYTES..)?;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        if u16_at(rest, 2)? == UNIX_DIAG_RQLEN {
            return Some(Queue {
                waiting: u32_at(rest, ATTRIBUTE_BYTES)?,
                limit: u32_at(rest, ATTRIBUTE_BYTES + 4)?,
                overflows: None,
            });
        }
        rest = rest.get(length.max(ATTRIBUTE_BYTES).next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}
