//! Defines the files of Unix sockets.
//!
//! Invariant: only a socket that nobody serves is ever replaced, and only a file that is still the
//! one it was is changed or removed.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{self as nix_socket, AddressFamily, SockFlag, SockType, UnixAddr};

use super::identity::{self, Identity};
use super::socket::{Address, BindError};

/// Mode bits that say who may do what.
const PERMISSIONS: u32 = 0o7777;

/// The file of a Unix socket that this server has made.
#[derive(Debug, Clone)]
pub(super) struct SocketFile {
    /// Absolute, so that it means the same after chdir(2).
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Binds `fd` to `path`.
    ///
    /// A socket there that refuses connections is left over by a dead server and is replaced. Two
    /// servers that replace the same one at the same time are not told apart.
    pub(super) fn bind(fd: &OwnedFd, path: &Path) -> Result<Self, BindError> {
        let failed = |source| BindError::Bind {
            address: Address::Unix(path.to_owned()),
            source,
        };
        let attempt = || -> io::Result<()> {
            nix_socket::bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
            Ok(())
        };
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                attempt().map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
        Self::find(path).map_err(failed)
    }

    /// The socket file at `path`, which the caller knows to be this server's.
    pub(super) fn find(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let found = fs::symlink_metadata(&path)?;
        if !found.file_type().is_socket() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self {
            path,
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Whether this is the file at `path`.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        self.path == path
    }

    /// The metadata of the file, unless another has taken its place or it is gone.
    fn metadata(&self) -> io::Result<Option<fs::Metadata>> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) => {
                let ours = (found.dev(), found.ino()) == (self.device, self.inode);
                Ok(ours.then_some(found))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the file exactly this mode.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        match self.metadata()? {
            Some(found) if found.mode() & PERMISSIONS != mode => {
                fs::set_permissions(&self.path, Permissions::from_mode(mode))
            }
            _ => Ok(()),
        }
    }

    /// Makes `identity` the owner of the file.
    pub(super) fn give_to(&self, identity: &Identity) -> io::Result<()> {
        match self.metadata()? {
            Some(_) => identity::chown(&self.path, identity),
            None => Ok(()),
        }
    }

    /// Removes the file.
    pub(super) fn unlink(&self) -> io::Result<()> {
        match self.metadata()? {
            Some(_) => fs::remove_file(&self.path),
            None => Ok(()),
        }
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let address = || Address::Unix(path.to_owned());
    let failed = |source| BindError::Bind {
        address: address(),
        source,
    };
    let found = fs::symlink_metadata(path).map_err(failed)?;
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket { address: address() });
    }
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let probe = nix_socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)
        .map_err(|error| failed(error.into()))?;
    let target = UnixAddr::new(path).map_err(|error| failed(error.into()))?;
    // A socket that nobody holds refuses whatever its type is.
    match nix_socket::connect(probe.as_raw_fd(), &target) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(failed),
        // Any other answer, be it that the queue is full, comes from a socket in use.
        _ => Err(BindError::InUse { address: address() }),
    }
}
