//! Defines listeners, TCP and Unix alike.
//!
//! Invariant: every socket is non-blocking and closed by exec.

use std::fmt;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::sockopt::{AcceptConn, Ipv6V6Only, ReuseAddr, ReusePort, TcpNoDelay};
use nix::sys::socket::{
    self as nix_socket, AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage,
    getsockname, setsockopt,
};

use super::identity::Identity;
use super::inherited;
use super::queue::{self, Queue};
use super::socket_file::SocketFile;
use super::stream::Stream;
use super::unix_queue;

/// Connections that died in the queue which one call passes over: an error that is not the
/// connection's but lasts, as a sandbox may give, must not hold the caller for ever.
const DEAD_CONNECTIONS_MAX: u32 = 64;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BindTo {
    /// A TCP address; port 0 lets the kernel choose one. An IPv6 address does not serve IPv4.
    Tcp(SocketAddr),
    /// The same, as the first of several sockets of this user with that address: the kernel divides
    /// the connections among their queues (`SO_REUSEPORT`, socket(7)). Fails if there is one already.
    TcpBeforeOthers(SocketAddr),
    /// The same, as one of those that follow.
    TcpAmongOthers(SocketAddr),
    /// The path of a Unix socket to create.
    Unix(PathBuf),
    /// A listening stream socket that this process has inherited: 3 or more.
    Fd(RawFd),
}

/// Where a listener listens. `Display` gives what [`url`](Self::url) gives for HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// An address and the real port.
    Tcp(SocketAddr),
    /// The path of a Unix socket; empty for one without a name.
    Unix(PathBuf),
}

impl Address {
    /// `https://127.0.0.1:8000/`, with this scheme, or `unix:/path`: one line in any case.
    pub fn url(&self, scheme: &str) -> String {
        match self {
            Self::Tcp(address) => format!("{scheme}://{address}/"),
            Self::Unix(path) => {
                let escaped =
                    path.to_string_lossy()
                        .chars()
                        .fold(String::new(), |mut text, character| {
                            if character.is_control() {
                                text.extend(character.escape_default());
                            } else {
                                text.push(character);
                            }
                            text
                        });
                format!("unix:{escaped}")
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.url("http"))
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
            BindTo::Tcp(address) => bind_tcp(*address, backlog, Others::Never),
            BindTo::TcpBeforeOthers(address) => bind_tcp(*address, backlog, Others::Later),
            BindTo::TcpAmongOthers(address) => bind_tcp(*address, backlog, Others::Always),
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

    /// Whether a connection that has sent nothing yet waits in the kernel, for about a second. Does
    /// nothing for a Unix socket.
    pub fn defer(&self, defer: bool) -> io::Result<()> {
        match self.address {
            Address::Tcp(_) => Ok(queue::defer(&self.fd, defer)?),
            Address::Unix(_) => Ok(()),
        }
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
        Ok(accept(&self.fd)?.map(Stream::new))
    }

    /// How many connections wait; `None` for a Unix socket, of which it takes longer to find out.
    pub fn waiting(&self) -> Option<u32> {
        match self.address {
            Address::Tcp(_) => Some(queue::lengths(&self.fd).ok()?.0),
            Address::Unix(_) => None,
        }
    }

    /// What waits in the queue, if the kernel tells.
    pub fn queue(&self) -> Option<Queue> {
        match self.address {
            Address::Tcp(_) => queue::of(&self.fd).ok(),
            Address::Unix(_) => unix_queue::of(&self.fd).ok(),
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

/// When others may have the same address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Never,
    Later,
    Always,
}

fn bind_tcp(address: SocketAddr, backlog: u32, others: Others) -> Result<Listener, BindError> {
    let attempt = || -> nix::Result<(OwnedFd, Address)> {
        let storage = SockaddrStorage::from(address);
        let fd = new_socket(match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        })?;
        setsockopt(&fd, ReuseAddr, &true)?;
        if others == Others::Always {
            setsockopt(&fd, ReusePort, &true)?;
        }
        if address.is_ipv6() {
            setsockopt(&fd, Ipv6V6Only, &true)?;
        }
        // Linux gives it to each accepted socket, which saves a call for each.
        setsockopt(&fd, TcpNoDelay, &true)?;
        nix_socket::bind(fd.as_raw_fd(), &storage)?;
        if others == Others::Later {
            // Before it listens, when the kernel looks which sockets belong together.
            setsockopt(&fd, ReusePort, &true)?;
        }
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

pub(super) fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
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

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
