//! Defines the streams that a listener accepts, TCP and Unix alike.
//!
//! Invariant: every socket is non-blocking and closed by exec.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{self as nix_socket, SockaddrStorage, getpeername, setsockopt};

use super::socket::socket_address;

/// Most buffers of one vectored write: `UIO_MAXIOV` of the kernel.
const SLICES_MAX: usize = 1024;

/// A connection. No call blocks: where one would, it fails with `WouldBlock`.
#[derive(Debug)]
pub struct Stream(OwnedFd);

impl Stream {
    /// Of a connected stream socket that does not block.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Two connected streams.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = UnixStream::pair()?;
        one.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        Ok((Self(one.into()), Self(other.into())))
    }

    /// Reads into `buffer`; 0 is the end of the stream.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // SAFETY: `buffer` is valid for writes of its length.
        unsafe { self.receive(buffer.as_mut_ptr(), buffer.len()) }
    }

    /// Reads into `buffer` what stays to be read; 0 is the end of the stream.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        retrying(|| {
            let place = buffer.as_mut_ptr().cast();
            // SAFETY: `place` is valid for writes of the buffer's length.
            unsafe { libc::recv(self.0.as_raw_fd(), place, buffer.len(), flags) }
        })
    }

    /// Reads into memory that need not be initialised; so many bytes at its start then are.
    pub fn read_uninit(&self, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        // SAFETY: `buffer` is valid for writes of its length, and the kernel only writes.
        unsafe { self.receive(buffer.as_mut_ptr().cast(), buffer.len()) }
    }

    /// Appends what there is to the spare capacity of `buffer`, which does not grow; 0 is the end
    /// of the stream, or no capacity.
    pub fn read_to_spare(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let length = buffer.len();
        let read = self.read_uninit(buffer.spare_capacity_mut())?;
        // SAFETY: the kernel has written `read` bytes after the first `length`.
        unsafe { buffer.set_len(length + read) };
        Ok(read)
    }

    /// # Safety
    /// `start` must be valid for writes of `length` bytes.
    unsafe fn receive(&self, start: *mut u8, length: usize) -> io::Result<usize> {
        retrying(|| {
            // SAFETY: as the caller promises.
            unsafe { libc::recv(self.0.as_raw_fd(), start.cast(), length, libc::MSG_DONTWAIT) }
        })
    }

    /// Writes a part of `bytes`, as much as there is room for, and returns how many.
    ///
    /// Fails with `BrokenPipe`, and without a signal, if the peer reads no more.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        retrying(|| {
            // SAFETY: `bytes` is valid for reads of its length.
            unsafe {
                libc::send(
                    self.0.as_raw_fd(),
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    flags,
                )
            }
        })
    }

    /// Like [`write`](Self::write), from several buffers at once; those beyond 1024 wait.
    pub fn write_vectored(&self, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
        let count = buffers.len().min(SLICES_MAX);
        // SAFETY: a message header is numbers and pointers, and null is a pointer.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        // An IoSlice has the layout of an iovec; sendmsg does not write through it.
        header.msg_iov = buffers.as_ptr().cast_mut().cast();
        header.msg_iovlen = count;
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        retrying(|| {
            // SAFETY: `header` describes the first `count` buffers, which outlive the call.
            unsafe { libc::sendmsg(self.0.as_raw_fd(), &raw const header, flags) }
        })
    }

    /// Bytes that were written and that the peer's kernel has not taken yet, or, of a Unix socket, the
    /// peer itself (tcp(7), `SIOCOUTQ`).
    pub fn unsent(&self) -> io::Result<usize> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the kernel writes one int there. TIOCOUTQ is the same number.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        Errno::result(result)?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }

    /// Tells the peer that nothing more will be written; reading goes on.
    pub fn shutdown_write(&self) -> io::Result<()> {
        nix_socket::shutdown(self.0.as_raw_fd(), nix_socket::Shutdown::Write)?;
        Ok(())
    }

    /// Makes closing a reset, so that the peer can tell that something is missing (socket(7),
    /// `SO_LINGER`). Does nothing for a Unix socket.
    pub fn break_off(&self) -> io::Result<()> {
        let at_once = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&self.0, Linger, &at_once)?;
        Ok(())
    }

    /// The peer's address, which only TCP has.
    ///
    /// Fails with `NotConnected` if the peer is gone already: what it has sent can still be read,
    /// but nobody can tell any more from whom it is.
    pub fn peer(&self) -> io::Result<Option<SocketAddr>> {
        let address = getpeername::<SockaddrStorage>(self.0.as_raw_fd())?;
        Ok(socket_address(&address))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn retrying(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match Errno::result(call()) {
            Ok(count) => return Ok(usize::try_from(count).unwrap_or(0)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fork_lock;
    use super::*;

    #[test]
    fn streams_never_block() {
        let (one, other) = Stream::pair().unwrap();
        let would_block = |result: io::Result<usize>| {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        };
        would_block(other.read(&mut [0; 4]));
        let block = [1; 65536];
        while one.write(&block).is_ok() {}
        would_block(one.write(&block));
        would_block(one.write_vectored(&[IoSlice::new(&block)]));
    }

    #[test]
    fn what_the_peer_has_not_taken_is_known() {
        let (one, other) = Stream::pair().unwrap();
        assert_eq!(one.unsent().unwrap(), 0);
        one.write(b"some bytes").unwrap();
        assert!(one.unsent().unwrap() >= 10);
        other.read(&mut [0; 10]).unwrap();
        assert_eq!(one.unsent().unwrap(), 0);
    }

    #[test]
    fn bytes_arrive_in_order_until_the_end() {
        let (one, other) = Stream::pair().unwrap();
        let slices = [
            IoSlice::new(b"GET "),
            IoSlice::new(b""),
            IoSlice::new(b"/ HTTP"),
        ];
        assert_eq!(one.write_vectored(&slices).unwrap(), 10);
        let mut buffer = Vec::with_capacity(4);
        let mut first = [0; 3];
        assert_eq!(other.peek(&mut first).unwrap(), 3);
        assert_eq!(&first, b"GET");
        assert_eq!(other.read_to_spare(&mut buffer).unwrap(), 4);
        assert_eq!(buffer, b"GET ");
        let mut rest = [0; 16];
        assert_eq!(other.read(&mut rest).unwrap(), 6);
        assert_eq!(&rest[..6], b"/ HTTP");
        one.shutdown_write().unwrap();
        assert_eq!(other.read(&mut rest).unwrap(), 0);
        assert_eq!(other.write(b"answer").unwrap(), 6);
        assert_eq!(one.read(&mut rest).unwrap(), 6);
    }

    #[test]
    fn more_slices_than_the_kernel_takes_are_a_short_write() {
        let (one, _other) = Stream::pair().unwrap();
        assert_eq!(
            one.write_vectored(&vec![IoSlice::new(b"x"); 1500]).unwrap(),
            SLICES_MAX
        );
    }

    #[test]
    fn writing_to_a_closed_peer_is_an_error_and_no_signal() {
        let _closing = fork_lock::closing();
        let (one, other) = Stream::pair().unwrap();
        drop(other);
        assert_eq!(
            one.write(b"x").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        let error = one.write_vectored(&[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
