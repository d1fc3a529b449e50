//! Defines listeners and the streams they accept, TCP and Unix alike.
//!
//! Invariant: every socket is non-blocking and closed by exec.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::sockopt::{AcceptConn, Ipv6V6Only, ReuseAddr, ReusePort, TcpNoDelay};
use nix::sys::socket::{
    self as nix_socket, AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage,
    getpeername, getsockname, setsockopt,
};

use super::identity::Identity;
use super::inherited;
use super::queue::{self, Queue};
use super::socket_file::SocketFile;

/// Connections that died in the queue which one call passes over: an error that is not the
/// connection's but lasts, as a sandbox may give, must not hold the caller for ever.
const DEAD_CONNECTIONS_MAX: u32 = 64;
/// Most buffers of one vectored write: `UIO_MAXIOV` of the kernel.
const SLICES_MAX: usize = 1024;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BindTo {
    /// A TCP address; port 0 lets the kernel choose one. An IPv6 address does not serve IPv4.
    Tcp(SocketAddr),
    /// The same, as one of several sockets of this user with that address: the kernel divides the
    /// connections among their queues (`SO_REUSEPORT`, socket(7)).
    TcpAmongOthers(SocketAddr),
    /// The path of a Unix socket to create.
    Unix(PathBuf),
    /// A listening stream socket that this process has inherited: 3 or more.
    Fd(RawFd),
}

/// Where a listener listens. `Display` gives `http://127.0.0.1:8000/` or `unix:/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An address and the real port.
    Tcp(SocketAddr),
    /// The path of a Unix socket; empty for one without a name.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "http://{address}/"),
            Self::Unix(path) => {
                formatter.write_str("unix:")?;
                // The line that shows it is read by scripts: it must stay one line.
                path.to_string_lossy().chars().try_for_each(|character| {
                    if character.is_control() {
                        write!(formatter, "{}", character.escape_default())
                    } else {
                        write!(formatter, "{character}")
                    }
                })
            }
        }
    }
}

/// Why a listener cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel refuses the address.
    #[error("cannot bind {address}")]
    Bind {
        /// What was to be bound.
        address: Address,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// Another process serves the address.
    #[error("cannot bind {address}: address in use")]
    InUse {
        /// What was to be bound.
        address: Address,
    },
    /// A file that is no socket has the path; it is left alone.
    #[error("cannot bind {address}: the file exists and is not a socket")]
    NotASocket {
        /// What was to be bound.
        address: Address,
    },
    /// The descriptor is not what a parent hands down to be served.
    #[error("cannot serve fd://{descriptor}: {reason}")]
    Descriptor {
        /// The number of the descriptor.
        descriptor: RawFd,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: Address,
    /// The socket file that this server has created.
    file: Option<SocketFile>,
}

impl Listener {
    /// Binds and listens, with a queue of `backlog` connections, which the kernel cuts to
    /// `net.core.somaxconn`.
    ///
    /// A Unix socket at the path that refuses connections is left over by a dead server and is
    /// replaced. Two servers that replace the same one at the same time are not told apart. The
    /// mode of the new file follows the umask.
    pub fn bind(to: &BindTo, backlog: u32) -> Result<Self, BindError> {
        match to {
            BindTo::Tcp(address) => bind_tcp(*address, backlog, false),
            BindTo::TcpAmongOthers(address) => bind_tcp(*address, backlog, true),
            BindTo::Unix(path) => bind_unix(path, backlog),
            BindTo::Fd(descriptor) => {
                adopt(*descriptor, backlog).map_err(|reason| BindError::Descriptor {
                    descriptor: *descriptor,
                    reason,
                })
            }
        }
    }

    /// Takes over a listening socket that an earlier process of this server has handed over, with
    /// its queue and a new limit of `backlog`.
    ///
    /// `owned` says that the server has created the socket's file, so that [`unlink`](Self::unlink)
    /// removes it. Fails with what is wrong with the socket.
    pub fn inherit(fd: OwnedFd, owned: bool, backlog: u32) -> Result<Self, &'static str> {
        let address = inspect(&fd, backlog)?;
        let file = match &address {
            // A file that is gone is nobody's.
            Address::Unix(path) if owned => SocketFile::find(path).ok(),
            Address::Unix(_) | Address::Tcp(_) => None,
        };
        Ok(Self { fd, address, file })
    }

    /// Another descriptor of the same socket: one queue, one address, one file.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            address: self.address.clone(),
            file: self.file.clone(),
        })
    }

    /// Changes how many connections may wait, as in [`bind`](Self::bind).
    pub fn set_backlog(&self, backlog: u32) -> io::Result<()> {
        Ok(listen(&self.fd, backlog)?)
    }

    /// Where it listens, with the real port.
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// Takes the next connection from the queue; `None` means that the queue is empty.
    ///
    /// A connection that died in the queue is passed over, as accept(2) advises; after 64 in a row
    /// the error of the last is told, and more may be waiting. What is left to fail is for want of
    /// descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`): the connection stays in the
    /// queue.
    pub fn accept(&self) -> io::Result<Option<Stream>> {
        Ok(accept(&self.fd)?.map(Stream))
    }

    /// How many connections wait; `None` for a Unix socket, of which the kernel does not tell.
    pub fn waiting(&self) -> Option<u32> {
        match self.address {
            Address::Tcp(_) => Some(queue::lengths(&self.fd).ok()?.0),
            Address::Unix(_) => None,
        }
    }

    /// What waits in the queue; `None` for a Unix socket, of which the kernel does not tell.
    pub fn queue(&self) -> Option<Queue> {
        match self.address {
            Address::Tcp(_) => queue::of(&self.fd).ok(),
            Address::Unix(_) => None,
        }
    }

    /// Whether [`unlink`](Self::unlink) has a file to remove.
    pub fn owns_file(&self) -> bool {
        self.file.is_some()
    }

    /// Makes `identity` the owner of the socket file that this server has created, unless another
    /// has taken its place. Does nothing for TCP and for an inherited socket.
    pub fn give_to(&self, identity: &Identity) -> io::Result<()> {
        self.file
            .as_ref()
            .map_or(Ok(()), |file| file.give_to(identity))
    }

    /// Removes the socket file that this server has created, unless another has taken its place.
    /// For the arbiter, at a clean stop; does nothing for TCP and for an inherited socket.
    pub fn unlink(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), SocketFile::unlink)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Accepts, as [`Listener::accept`] says, on a listening socket that does not block.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let mut dead = 0;
    loop {
        match nix_socket::accept4(listener.as_raw_fd(), flags) {
            // SAFETY: the kernel has just made it, and nobody else owns it.
            Ok(fd) => return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(error) if is_passing(error) && dead < DEAD_CONNECTIONS_MAX => dead += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an error of accept(2) concerns the one connection, and not the listener.
fn is_passing(error: Errno) -> bool {
    matches!(
        error,
        Errno::ECONNABORTED
            | Errno::EPERM
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENONET
            | Errno::EOPNOTSUPP
    )
}

fn new_socket(family: AddressFamily) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    nix_socket::socket(family, SockType::Stream, flags, None)
}

pub(super) fn listen(fd: &OwnedFd, backlog: u32) -> nix::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // Not nix's listen: it refuses what is above a constant that somaxconn may exceed.
    // SAFETY: the call takes two numbers.
    Errno::result(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

fn bind_tcp(address: SocketAddr, backlog: u32, among_others: bool) -> Result<Listener, BindError> {
    let attempt = || -> nix::Result<(OwnedFd, Address)> {
        let storage = SockaddrStorage::from(address);
        let fd = new_socket(match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        })?;
        setsockopt(&fd, ReuseAddr, &true)?;
        if among_others {
            setsockopt(&fd, ReusePort, &true)?;
        }
        if address.is_ipv6() {
            setsockopt(&fd, Ipv6V6Only, &true)?;
        }
        // Linux gives it to each accepted socket, which saves a call for each.
        setsockopt(&fd, TcpNoDelay, &true)?;
        nix_socket::bind(fd.as_raw_fd(), &storage)?;
        listen(&fd, backlog)?;
        let bound = socket_address(&getsockname(fd.as_raw_fd())?).unwrap_or(address);
        Ok((fd, Address::Tcp(bound)))
    };
    match attempt() {
        Ok((fd, address)) => Ok(Listener {
            fd,
            address,
            file: None,
        }),
        Err(Errno::EADDRINUSE) => Err(BindError::InUse {
            address: Address::Tcp(address),
        }),
        Err(error) => Err(BindError::Bind {
            address: Address::Tcp(address),
            source: error.into(),
        }),
    }
}

fn bind_unix(path: &Path, backlog: u32) -> Result<Listener, BindError> {
    let address = Address::Unix(path.to_owned());
    let failed = |source| BindError::Bind {
        address: address.clone(),
        source,
    };
    let fd = new_socket(AddressFamily::Unix).map_err(|error| failed(error.into()))?;
    let file = SocketFile::bind(&fd, path)?;
    listen(&fd, backlog).map_err(|error| failed(error.into()))?;
    Ok(Listener {
        fd,
        address,
        file: Some(file),
    })
}

/// Takes over a socket that was inherited through exec.
fn adopt(descriptor: RawFd, backlog: u32) -> Result<Listener, &'static str> {
    let fd = inherited::take(descriptor)?;
    match inspect(&fd, backlog) {
        Ok(address) => Ok(Listener {
            fd,
            address,
            file: None,
        }),
        Err(reason) => {
            inherited::leave(fd);
            Err(reason)
        }
    }
}

fn inspect(fd: &OwnedFd, backlog: u32) -> Result<Address, &'static str> {
    let is_stream = nix_socket::getsockopt(fd, nix_socket::sockopt::SockType);
    match is_stream {
        Ok(SockType::Stream) => {}
        Ok(_) => return Err("it is not a stream socket"),
        Err(_) => return Err("it is not a socket"),
    }
    if nix_socket::getsockopt(fd, AcceptConn) != Ok(true) {
        return Err("it does not listen");
    }
    let name = getsockname::<SockaddrStorage>(fd.as_raw_fd());
    let name = name.map_err(|_| "its address cannot be read")?;
    let address = match (socket_address(&name), name.as_unix_addr()) {
        (Some(address), _) => {
            // As for a listener of our own; without it answers are only slower.
            let _ = setsockopt(fd, TcpNoDelay, &true);
            Address::Tcp(address)
        }
        (None, Some(unix)) => Address::Unix(unix.path().unwrap_or(Path::new("")).to_owned()),
        (None, None) => return Err("it is neither a TCP nor a Unix socket"),
    };
    let prepare = || -> nix::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?) | OFlag::O_NONBLOCK;
        fcntl(fd, FcntlArg::F_SETFL(flags))?;
        listen(fd, backlog)?;
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map(drop)
    };
    prepare().map_err(|_| "it cannot be made non-blocking")?;
    Ok(address)
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    match storage.family()? {
        AddressFamily::Inet => storage
            .as_sockaddr_in()
            .map(|v4| SocketAddrV4::from(*v4).into()),
        AddressFamily::Inet6 => storage
            .as_sockaddr_in6()
            .map(|v6| SocketAddrV6::from(*v6).into()),
        _ => None,
    }
}

/// A connection. No call blocks: where one would, it fails with `WouldBlock`.
#[derive(Debug)]
pub struct Stream(OwnedFd);

impl Stream {
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

    /// Tells the peer that nothing more will be written; reading goes on.
    pub fn shutdown_write(&self) -> io::Result<()> {
        nix_socket::shutdown(self.0.as_raw_fd(), nix_socket::Shutdown::Write)?;
        Ok(())
    }

    /// The peer's address, which only TCP has. `None` too if the peer is gone already.
    pub fn peer(&self) -> Option<SocketAddr> {
        socket_address(&getpeername::<SockaddrStorage>(self.0.as_raw_fd()).ok()?)
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
#[path = "socket_tests.rs"]
mod tests;
