//! Defines the channel between the arbiter and one child or client: whole frames, and file
//! descriptors.
//!
//! Invariant: a frame arrives whole or not at all, every descriptor that arrives is owned and is
//! closed by exec, and no call blocks unless its name says so.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::sockopt::{AcceptConn, PeerCredentials, SendTimeout};
use nix::sys::socket::{
    self as nix_socket, AddressFamily, SockFlag, SockType, UnixAddr, socketpair,
};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::time::TimeVal;

use super::poll::{self, Watched};
use super::socket::{self, Address, BindError};
use super::socket_file::SocketFile;

/// Most file descriptors that may come with one frame; a sender of more is in error.
pub const DESCRIPTORS_MAX: usize = 4;

/// Clients that may wait to be accepted. One more waits in [`Channel::connect`].
const BACKLOG: u32 = 16;
/// Seconds that a client waits for room in that queue.
const CONNECT_SECONDS: i64 = 5;

/// Room for one control message with [`DESCRIPTORS_MAX`] descriptors and no more, aligned as
/// cmsg(3) wants.
type ControlRoom = [libc::cmsghdr; 2];
const _: () = {
    let descriptors = (DESCRIPTORS_MAX * size_of::<RawFd>()) as libc::c_uint;
    // SAFETY: it only computes a length.
    assert!(size_of::<ControlRoom>() == unsafe { libc::CMSG_SPACE(descriptors) } as usize);
};

/// One end of a pair of sockets that keep the bounds of frames.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What [`Channel::recv`] found.
#[derive(Debug)]
pub enum Recv {
    /// Nothing yet.
    Empty,
    /// The other end is closed, and everything it sent has been received.
    Eof,
    /// A frame in the first `len` bytes of the buffer, and what came with it.
    Frame {
        /// Bytes of the frame.
        len: usize,
        /// The file descriptors, in the order of the sender.
        fds: Vec<OwnedFd>,
    },
}

impl Channel {
    /// Two connected ends, both non-blocking and closed by exec.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self(one), Self(other)))
    }

    /// Another descriptor of the same end: what one receives, the other does not.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Connects to the [`ChannelListener`] at `path`; waits up to 5 s while too many others do.
    ///
    /// Fails with `NotFound` or `ConnectionRefused` if nobody listens there, with `WouldBlock` if it
    /// is too busy, and with `PermissionDenied`.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let fd = new_socket(SockFlag::SOCK_CLOEXEC)?;
        // It bounds the time that connect(2) takes; see SO_SNDTIMEO in socket(7).
        nix_socket::setsockopt(&fd, SendTimeout, &TimeVal::new(CONNECT_SECONDS, 0))?;
        let address = UnixAddr::new(path)?;
        while let Err(error) = nix_socket::connect(fd.as_raw_fd(), &address) {
            if error != Errno::EINTR {
                return Err(error.into());
            }
        }
        Self::adopt(fd)
    }

    /// Makes a channel of a connected socket that keeps the bounds of frames.
    ///
    /// Fails with `InvalidInput` for any other descriptor, which is closed.
    pub(super) fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let is_seqpacket = nix_socket::getsockopt(&fd, nix_socket::sockopt::SockType)
            .is_ok_and(|kind| kind == SockType::SeqPacket);
        let is_connected = nix_socket::getpeername::<UnixAddr>(fd.as_raw_fd()).is_ok();
        if !is_seqpacket || !is_connected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a connected SEQPACKET socket",
            ));
        }
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?) | OFlag::O_NONBLOCK;
        fcntl(&fd, FcntlArg::F_SETFL(flags))?;
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        Ok(Self(fd))
    }

    /// Sends `frame`, which must not be empty, and copies of `fds`; `false` if the queue is full.
    ///
    /// Fails with `InvalidInput` for an empty frame or too many descriptors, and with `BrokenPipe`
    /// or `ConnectionReset` when the other end is closed.
    pub fn send(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<bool> {
        if frame.is_empty() || fds.len() > DESCRIPTORS_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut room = control_room();
        let mut io_vector = libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        };
        let mut header = message(&mut io_vector, &mut room);
        put_descriptors(&mut header, fds);
        loop {
            // SAFETY: `header` points to `io_vector` and `room`, which outlive the call, and the
            // kernel only reads the frame.
            match unsafe {
                libc::sendmsg(self.0.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL)
            } {
                -1 if Errno::last() == Errno::EINTR => {}
                -1 if Errno::last() == Errno::EAGAIN => return Ok(false),
                -1 => return Err(io::Error::last_os_error()),
                // A frame is sent whole.
                _ => return Ok(true),
            }
        }
    }

    /// Like [`send`](Self::send), but waits until there is room.
    pub fn send_blocking(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        while !self.send(frame, fds)? {
            poll::wait(&mut [Watched::writable(self.as_fd())], None)?;
        }
        Ok(())
    }

    /// Receives one frame into `buffer`.
    ///
    /// Fails with `InvalidData` when the frame is longer than `buffer`, or when it came with more
    /// than [`DESCRIPTORS_MAX`] descriptors or with more than this process may open.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Recv> {
        let mut room = control_room();
        let mut io_vector = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut header = message(&mut io_vector, &mut room);
        let flags = libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT;
        let len = loop {
            // SAFETY: `header` points to `io_vector` and `room`, which outlive the call; the first
            // describes `buffer`, which is ours to write.
            let got = unsafe { libc::recvmsg(self.0.as_raw_fd(), &raw mut header, flags) };
            if let Ok(len) = usize::try_from(got) {
                break len;
            }
            match Errno::last() {
                Errno::EAGAIN => return Ok(Recv::Empty),
                // The other end was closed before it read everything. This is said once, ahead of
                // the frames that it sent, which are still there.
                Errno::EINTR | Errno::ECONNRESET => {}
                error => return Err(error.into()),
            }
        };
        // SAFETY: `header` was filled by a successful recvmsg and `room` has not been touched.
        let fds = unsafe { take_descriptors(&header) };
        if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if len == 0 {
            return Ok(Recv::Eof);
        }
        Ok(Recv::Frame { len, fds })
    }

    /// Like [`recv`](Self::recv), but waits for a frame or the end; never [`Recv::Empty`]. Fails
    /// with `TimedOut` if neither comes within `timeout`.
    pub fn recv_blocking(&self, buffer: &mut [u8], timeout: Option<Duration>) -> io::Result<Recv> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            match self.recv(buffer)? {
                Recv::Empty => {}
                found @ (Recv::Eof | Recv::Frame { .. }) => return Ok(found),
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if poll::wait(&mut [Watched::readable(self.as_fd())], left)? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

/// A socket in the file system to which clients connect channels.
#[derive(Debug)]
pub struct ChannelListener {
    fd: OwnedFd,
    file: SocketFile,
}

impl ChannelListener {
    /// Listens at `path`, in a file with exactly `mode`, which at no time lets anybody else in.
    ///
    /// A socket there that refuses connections is left over by a dead server and is replaced.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        let failed = |source| BindError::Bind {
            address: Address::Unix(path.to_owned()),
            source,
        };
        let prepare = || -> nix::Result<OwnedFd> {
            let fd = new_socket(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
            // The file gets the mode of the socket, less the umask.
            fchmod(&fd, Mode::from_bits_truncate(mode))?;
            Ok(fd)
        };
        let fd = prepare().map_err(|error| failed(error.into()))?;
        let file = SocketFile::bind(&fd, path)?;
        let listen = || -> io::Result<()> {
            // What the umask took away. Nobody can connect before it listens.
            file.set_mode(mode)?;
            Ok(socket::listen(&fd, BACKLOG)?)
        };
        if let Err(error) = listen() {
            let _ = file.unlink();
            return Err(failed(error));
        }
        Ok(Self { fd, file })
    }

    /// One that the server before has bound, and hands over.
    ///
    /// Fails if it is no such socket, or its file is gone.
    pub fn inherit(fd: OwnedFd) -> io::Result<Self> {
        let kind = nix_socket::getsockopt(&fd, nix_socket::sockopt::SockType)?;
        if kind != SockType::SeqPacket || !nix_socket::getsockopt(&fd, AcceptConn)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let name = nix_socket::getsockname::<UnixAddr>(fd.as_raw_fd())?;
        let path = name.path().ok_or(io::ErrorKind::InvalidInput)?;
        let file = SocketFile::find(path)?;
        Ok(Self { fd, file })
    }

    /// Whether its file is the one at `path`, which is absolute.
    pub fn is_at(&self, path: &Path) -> bool {
        self.file.is_at(path)
    }

    /// The next client, and the number of the user who started it, as the kernel knows it
    /// (`SO_PEERCRED`); `None` if none waits. Fails as
    /// [`Listener::accept`](super::socket::Listener::accept) does.
    pub fn accept(&self) -> io::Result<Option<(Channel, u32)>> {
        let Some(fd) = socket::accept(&self.fd)? else {
            return Ok(None);
        };
        let user = nix_socket::getsockopt(&fd, PeerCredentials)?.uid();
        Ok(Some((Channel(fd), user)))
    }

    /// Removes the file, unless another has taken its place.
    pub fn unlink(&self) -> io::Result<()> {
        self.file.unlink()
    }
}

impl AsFd for ChannelListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn new_socket(flags: SockFlag) -> nix::Result<OwnedFd> {
    nix_socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn control_room() -> ControlRoom {
    // SAFETY: a control header is three numbers, for which zero is a value.
    unsafe { std::mem::zeroed() }
}

fn message(io_vector: &mut libc::iovec, room: &mut ControlRoom) -> libc::msghdr {
    // SAFETY: a message header is numbers and pointers, and null is a pointer.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = io_vector;
    header.msg_iovlen = 1;
    header.msg_control = room.as_mut_ptr().cast();
    header.msg_controllen = size_of::<ControlRoom>();
    header
}

fn put_descriptors(header: &mut libc::msghdr, fds: &[BorrowedFd<'_>]) {
    if fds.is_empty() {
        header.msg_control = std::ptr::null_mut();
        header.msg_controllen = 0;
        return;
    }
    // At most four descriptors of four bytes: no conversion here can lose anything.
    let bytes = size_of_val(fds) as libc::c_uint;
    // SAFETY: the room has space for DESCRIPTORS_MAX descriptors and the caller has checked that
    // there are no more; so the first header lies in it, and its data too.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(bytes) as usize;
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(bytes) as usize;
        let data = libc::CMSG_DATA(first).cast::<RawFd>();
        for (index, fd) in fds.iter().enumerate() {
            data.add(index).write_unaligned(fd.as_raw_fd());
        }
    }
}

/// Owns every descriptor of a received message, so that even those of a bad frame are closed.
///
/// # Safety
/// `header` must be as recvmsg left it, and be asked once.
unsafe fn take_descriptors(header: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the macros walk the control headers that the kernel wrote inside the room, and each
    // number in an SCM_RIGHTS one is a descriptor made for this process that nobody owns yet.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(control) = next.as_ref() {
            if control.cmsg_level == libc::SOL_SOCKET && control.cmsg_type == libc::SCM_RIGHTS {
                let bytes = control.cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(control).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            next = libc::CMSG_NXTHDR(header, control);
        }
    }
    fds
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    use std::fs;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sys::process::{expect_exit, fork};
    use crate::sys::{fork_lock, identity};

    fn received(channel: &Channel) -> (Vec<u8>, Vec<OwnedFd>) {
        let mut buffer = [0; 64];
        match channel.recv(&mut buffer).unwrap() {
            Recv::Frame { len, fds } => (buffer[..len].to_vec(), fds),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn frames_keep_their_bounds_and_order() {
        let (one, other) = Channel::pair().unwrap();
        assert!(matches!(other.recv(&mut [0; 8]).unwrap(), Recv::Empty));
        assert!(one.send(b"first", &[]).unwrap());
        assert!(one.send(b"2", &[]).unwrap());
        assert_eq!(received(&other).0, b"first");
        assert_eq!(received(&other).0, b"2");
        assert!(matches!(other.recv(&mut [0; 8]).unwrap(), Recv::Empty));
    }

    #[test]
    fn a_clone_is_the_same_end() {
        let _closing = fork_lock::closing();
        let (one, other) = Channel::pair().unwrap();
        let clone = one.try_clone().unwrap();
        drop(one);
        assert!(clone.send(b"by the clone", &[]).unwrap());
        assert_eq!(received(&other).0, b"by the clone");
        drop(clone);
        assert!(matches!(other.recv(&mut [0; 8]).unwrap(), Recv::Eof));
    }

    #[test]
    fn descriptors_arrive_owned_in_order_and_closed_by_exec() {
        let (one, other) = Channel::pair().unwrap();
        let mut files = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        files[1].write_all(b"second").unwrap();
        let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        assert!(one.send(b"x", &fds).unwrap());
        let (_, mut fds) = received(&other);
        assert_eq!(fds.len(), 2);
        let flags = fcntl(&fds[1], FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
        let mut file = File::from(fds.remove(1));
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "second");
    }

    #[test]
    fn what_was_sent_before_the_end_is_received_first() {
        let _closing = fork_lock::closing();
        let (one, other) = Channel::pair().unwrap();
        // Unread data at the closing end makes the kernel report a reset.
        assert!(other.send(b"never read", &[]).unwrap());
        assert!(one.send(b"last words", &[]).unwrap());
        drop(one);
        assert_eq!(received(&other).0, b"last words");
        assert!(matches!(other.recv(&mut [0; 8]).unwrap(), Recv::Eof));
        assert!(other.send(b"x", &[]).is_err());
    }

    #[test]
    fn a_frame_that_does_not_fit_is_an_error() {
        let (one, other) = Channel::pair().unwrap();
        assert!(one.send(b"123456789", &[]).unwrap());
        let error = other.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(matches!(other.recv(&mut [0; 8]).unwrap(), Recv::Empty));
    }

    #[test]
    fn too_many_descriptors_are_an_error_and_leak_nothing() {
        let _closing = fork_lock::closing();
        let (one, other) = Channel::pair().unwrap();
        let (reader, writer) = io::pipe().unwrap();
        let fds = [writer.as_fd(); DESCRIPTORS_MAX + 1];
        assert_eq!(
            one.send(b"x", &fds).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        // A child that does not use this module can send more.
        let raw = fds.map(|fd| fd.as_raw_fd());
        let control = [nix::sys::socket::ControlMessage::ScmRights(&raw)];
        let data = [io::IoSlice::new(b"x")];
        let flags = nix::sys::socket::MsgFlags::empty();
        nix::sys::socket::sendmsg::<()>(one.as_raw_fd(), &data, &control, flags, None).unwrap();
        drop(writer);
        let error = other.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        // The pipe ends only if no copy of its writing end is left.
        let mut end = Vec::new();
        assert_eq!({ reader }.read_to_end(&mut end).unwrap(), 0);
    }

    #[test]
    fn a_full_queue_would_block_until_it_is_read() {
        let (one, other) = Channel::pair().unwrap();
        let frame = [7; 4096];
        let mut sent = 0;
        while one.send(&frame, &[]).unwrap() {
            sent += 1;
        }
        assert!(sent > 4, "{sent}");
        assert!(matches!(
            other.recv(&mut [0; 4096]).unwrap(),
            Recv::Frame { len: 4096, .. }
        ));
        one.send_blocking(b"there is room now", &[]).unwrap();
    }

    #[test]
    fn an_empty_frame_cannot_be_sent() {
        let (one, _other) = Channel::pair().unwrap();
        assert_eq!(
            one.send(b"", &[]).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    fn accepted(listener: &ChannelListener) -> (Channel, u32) {
        poll::wait(&mut [Watched::readable(listener.as_fd())], None).unwrap();
        listener.accept().unwrap().unwrap()
    }

    #[test]
    fn clients_connect_to_a_path_and_are_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let listener = ChannelListener::bind(&path, 0o600).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let client = Channel::connect(&path).unwrap();
        let (server, user) = accepted(&listener);
        assert_eq!(user, nix::unistd::geteuid().as_raw());
        assert!(listener.accept().unwrap().is_none());
        assert!(client.send(b"show", &[]).unwrap());
        assert_eq!(received(&server).0, b"show");
        server.send_blocking(b"answer", &[]).unwrap();
        let mut buffer = [0; 64];
        let answer = client.recv_blocking(&mut buffer, None).unwrap();
        assert!(matches!(answer, Recv::Frame { len: 6, .. }), "{answer:?}");
        for channel in [&client, &server] {
            let flags = OFlag::from_bits_retain(fcntl(channel, FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK));
            let flags = FdFlag::from_bits_retain(fcntl(channel, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
        }
        listener.unlink().unwrap();
        assert!(!path.exists());
        let error = Channel::connect(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_answer_that_does_not_come_is_waited_for_so_long_and_an_end_is_an_answer() {
        let _closing = fork_lock::closing();
        let (one, other) = Channel::pair().unwrap();
        let error = one.recv_blocking(&mut [0; 8], Some(Duration::from_millis(5)));
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(other);
        let end = one.recv_blocking(&mut [0; 8], Some(Duration::from_secs(20)));
        assert!(matches!(end.unwrap(), Recv::Eof));
    }

    #[test]
    fn the_file_has_its_mode_whatever_the_umask() {
        let _forking = fork_lock::forking();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let child = fork(|| {
            for (umask, mode) in [(0, 0o600), (0o077, 0o660), (0o777, 0o600), (0, 0o666)] {
                identity::set_umask(umask);
                let fd = new_socket(SockFlag::empty()).unwrap();
                fchmod(&fd, Mode::from_bits_truncate(mode)).unwrap();
                // This is the moment that matters: what bind(2) itself makes.
                drop(SocketFile::bind(&fd, &path).unwrap());
                let made = fs::metadata(&path).unwrap().mode() & 0o7777;
                assert_eq!(made, mode & !umask);
                fs::remove_file(&path).unwrap();
                let listener = ChannelListener::bind(&path, mode).unwrap();
                assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
                listener.unlink().unwrap();
            }
            0
        });
        expect_exit(child.unwrap(), 0);
    }

    #[test]
    fn only_a_path_that_nobody_serves_is_taken() {
        let _closing = fork_lock::closing();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control.sock");
        let bind = || ChannelListener::bind(&path, 0o600);
        let live = bind().unwrap();
        assert!(matches!(bind().unwrap_err(), BindError::InUse { .. }));
        // To look whether it is served did not connect to it.
        assert!(live.accept().unwrap().is_none());
        drop(live);
        assert!(fs::metadata(&path).unwrap().file_type().is_socket());
        let error = Channel::connect(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let first = bind().unwrap();
        fs::remove_file(&path).unwrap();
        let second = bind().unwrap();
        first.unlink().unwrap();
        drop(Channel::connect(&path).unwrap());
        second.unlink().unwrap();
        File::create(&path).unwrap();
        assert!(matches!(bind().unwrap_err(), BindError::NotASocket { .. }));
    }

    #[test]
    fn what_is_no_channel_is_not_made_one() {
        let kind = |fd: OwnedFd| Channel::adopt(fd).unwrap_err().kind();
        let stream = UnixStream::pair().unwrap().0;
        let unconnected = new_socket(SockFlag::SOCK_CLOEXEC).unwrap();
        for fd in [
            stream.into(),
            unconnected,
            tempfile::tempfile().unwrap().into(),
        ] {
            assert_eq!(kind(fd), io::ErrorKind::InvalidInput);
        }
    }
}
