//! Defines files in memory that cannot be changed any more, and the test that a file on disk can
//! be changed by nobody else.
//!
//! Invariant: a sealed file keeps its bytes and its length until it is gone, whoever holds it.

use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::process::effective_uid;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Mode bits by which the group or others may write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Mode bit by which, in a folder, only the owner of a file may replace it.
const STICKY: u32 = 0o1000;

fn all_seals() -> SealFlag {
    SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE
}

/// A file in memory with these bytes, which nobody can change any more.
///
/// `name` is what `/proc` shows, up to 249 bytes. See memfd_create(2).
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // It holds code to be mapped, never a program to be started; some systems insist on saying so.
    let no_exec = MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    let fd = match memfd_create(name, flags | no_exec) {
        // Linux before 6.3 does not know the flag.
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all_seals()))?;
    Ok(file.into())
}

/// Whether nobody can change the bytes or the length of this file any more.
pub fn is_sealed(file: BorrowedFd<'_>) -> bool {
    fcntl(file, FcntlArg::F_GET_SEALS)
        .is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(all_seals()))
}

/// A path by which this process can open the file of an open descriptor.
pub fn path_of(file: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Whether an open file can be written by its owner alone, and the owner is the user `uid`.
///
/// Ask this, not the path, about a file that will be read through the descriptor; ask
/// [`is_private_to_us`] too if someone might have put another file there.
pub fn is_private_file(file: BorrowedFd<'_>, uid: u32) -> io::Result<bool> {
    let metadata = File::from(file.try_clone_to_owned()?).metadata()?;
    Ok(metadata.is_file() && is_private(&metadata, uid))
}

/// Whether no other user, apart from the superuser, can change the file or folder at `path` or put
/// another one in its place.
///
/// It and the folder it lies in must belong to this process's user and be writable by nobody else;
/// the folders above may also be the superuser's, or sticky. A symbolic link is judged as what it
/// points to.
pub fn is_private_to_us(path: &Path) -> io::Result<bool> {
    let path = path.canonicalize()?;
    for (depth, part) in path.ancestors().enumerate() {
        let metadata = fs::symlink_metadata(part)?;
        let safe = if depth < 2 {
            is_private(&metadata, effective_uid())
        } else {
            is_passage(&metadata)
        };
        if !safe {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_private(metadata: &Metadata, uid: u32) -> bool {
    metadata.uid() == uid && metadata.mode() & WRITABLE_BY_OTHERS == 0
}

fn is_passage(metadata: &Metadata) -> bool {
    let owner = metadata.uid();
    let closed = metadata.mode() & WRITABLE_BY_OTHERS == 0 || metadata.mode() & STICKY != 0;
    closed && (owner == 0 || owner == nix::unistd::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

    use nix::sys::mman::{MapFlags, ProtFlags, mmap};

    use super::*;

    #[test]
    fn a_sealed_file_can_be_read_and_not_changed() {
        let fd = sealed("artefact", b"machine code").unwrap();
        assert!(is_sealed(fd.as_fd()));
        assert_eq!(fs::read(path_of(fd.as_fd())).unwrap(), b"machine code");
        let file = File::from(fd);
        assert!(file.write_at(b"evil", 0).is_err());
        assert!(file.set_len(3).is_err() && file.set_len(99).is_err());
        let unseal = fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::empty()));
        assert_eq!(unseal, Err(Errno::EPERM));
    }

    #[test]
    fn a_sealed_file_can_be_mapped_as_code() {
        let fd = sealed("artefact", &[0xc3; 4096]).unwrap();
        let file = File::open(path_of(fd.as_fd())).unwrap();
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
        let bytes = NonZeroUsize::new(4096).unwrap();
        // SAFETY: a new mapping at an address that the kernel chooses replaces no other.
        unsafe { mmap(None, bytes, protection, MapFlags::MAP_PRIVATE, &file, 0) }.unwrap();
    }

    #[test]
    fn other_files_are_not_sealed() {
        assert!(!is_sealed(tempfile::tempfile().unwrap().as_fd()));
        let flags = MFdFlags::MFD_ALLOW_SEALING;
        let fd = memfd_create("half", flags).unwrap();
        fcntl(&fd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE)).unwrap();
        assert!(!is_sealed(fd.as_fd()));
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn private_is_what_nobody_else_can_write_or_replace() {
        let folder = tempfile::tempdir().unwrap();
        let above = folder.path().join("above");
        let cache = above.join("cache");
        fs::create_dir_all(&cache).unwrap();
        let path = cache.join("file");
        let file = File::create(&path).unwrap();
        let check = |above_mode, cache_mode, file_mode| {
            set_mode(&above, above_mode);
            set_mode(&cache, cache_mode);
            set_mode(&path, file_mode);
            (
                is_private_to_us(&path).unwrap(),
                is_private_file(file.as_fd(), effective_uid()).unwrap(),
            )
        };
        assert_eq!(check(0o755, 0o700, 0o600), (true, true));
        assert_eq!(check(0o755, 0o755, 0o644), (true, true));
        assert_eq!(check(0o755, 0o700, 0o620), (false, false));
        assert_eq!(check(0o755, 0o700, 0o602), (false, false));
        assert_eq!(check(0o755, 0o770, 0o600), (false, true));
        assert_eq!(check(0o777, 0o700, 0o600), (false, true));
        assert_eq!(check(0o1777, 0o700, 0o600), (true, true));
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(is_private_to_us(&link).unwrap());
        set_mode(&path, 0o666);
        assert!(!is_private_to_us(&link).unwrap());
    }
}
