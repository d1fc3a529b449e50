//! Defines where the log goes: standard error, or a file that takes its place.
//!
//! Invariant: writers of standard error find the old file or the new one at any time, never none.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::dup2_stderr;

/// Mode of a new log: others may not read what clients asked for.
const LOG_MODE: u32 = 0o640;

/// Names of this process's own streams. To open them can fail where to write does not: sockets
/// cannot be opened, and other users' pipes and terminals may not be.
const STDOUT: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
const STDERR: [&str; 3] = ["/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"];

/// Makes `file` the standard error of this process, in one step for all who write there.
pub fn redirect_stderr(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(dup2_stderr(file)?)
}

/// What is standard error now, to be kept when another takes its place; closed by exec.
pub fn duplicate_stderr() -> io::Result<File> {
    Ok(io::stderr().as_fd().try_clone_to_owned()?.into())
}

/// Standard output once more; closed by exec.
pub fn duplicate_stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// Opens a log to append to, or makes it with mode 0640 less the umask; closed by exec.
///
/// `/dev/stdout` and `/dev/stderr` are the streams that this process has. A FIFO is opened whether
/// somebody reads it or not, and lines that do not fit into it are lost: a log must not stop the
/// server.
pub fn open_log(path: &Path) -> io::Result<File> {
    if STDOUT.iter().any(|name| path == Path::new(name)) {
        return duplicate_stdout();
    }
    if STDERR.iter().any(|name| path == Path::new(name)) {
        return duplicate_stderr();
    }
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .mode(LOG_MODE)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK);
    let file = match options.open(path) {
        // A FIFO that nobody reads: with an end of it for reading this process does not have to wait
        // for somebody (fifo(7)).
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => options.read(true).open(path)?,
        other => other?,
    };
    if !file.metadata()?.file_type().is_fifo() {
        let flags = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
        fcntl(&file, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    use nix::fcntl::FdFlag;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::sys::fork_lock;
    use crate::sys::process::{expect_exit, fork};

    fn flags(file: &File) -> OFlag {
        OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL).unwrap())
    }

    #[test]
    fn a_log_is_made_for_few_and_appended_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        let mut log = open_log(&path).unwrap();
        assert_eq!(log.metadata().unwrap().mode() & 0o137, 0);
        log.write_all(b"one\n").unwrap();
        let mut second = open_log(&path).unwrap();
        second.write_all(b"two\n").unwrap();
        log.write_all(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        assert!(!flags(&log).contains(OFlag::O_NONBLOCK));
        let descriptor = fcntl(&log, FcntlArg::F_GETFD).unwrap();
        assert!(FdFlag::from_bits_retain(descriptor).contains(FdFlag::FD_CLOEXEC));
        assert!(open_log(folder.path()).is_err());
        assert!(open_log(&folder.path().join("missing/error.log")).is_err());
    }

    #[test]
    fn a_fifo_never_holds_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        let mut log = open_log(&path).unwrap();
        log.write_all(b"nobody reads yet\n").unwrap();
        let mut reader = OpenOptions::new();
        reader.read(true).custom_flags(libc::O_NONBLOCK);
        let mut reader = reader.open(&path).unwrap();
        let mut second = open_log(&path).unwrap();
        second.write_all(b"second\n").unwrap();
        let mut text = [0; 64];
        let length = reader.read(&mut text).unwrap();
        assert_eq!(&text[..length], b"nobody reads yet\nsecond\n");
        let error = loop {
            if let Err(error) = log.write_all(&[b'x'; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn standard_error_can_be_a_file_and_itself_again() {
        let _forking = fork_lock::forking();
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("1"), folder.path().join("2"));
        let child = fork(|| {
            redirect_stderr(open_log(&first).unwrap().as_fd()).unwrap();
            let kept = duplicate_stderr().unwrap();
            redirect_stderr(open_log(&second).unwrap().as_fd()).unwrap();
            let _ = io::stderr().write_all(b"to the second");
            redirect_stderr(kept.as_fd()).unwrap();
            let _ = io::stderr().write_all(b"to the first");
            // It is its own log: opened anew, it is what it was.
            redirect_stderr(open_log(Path::new("/dev/stderr")).unwrap().as_fd()).unwrap();
            let _ = io::stderr().write_all(b" again");
            // Standard error is for whatever this process starts, too.
            let flags = fcntl(io::stderr(), FcntlArg::F_GETFD).unwrap();
            i32::from(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC))
        });
        expect_exit(child.unwrap(), 0);
        assert_eq!(fs::read_to_string(first).unwrap(), "to the first again");
        assert_eq!(fs::read_to_string(second).unwrap(), "to the second");
    }

    /// As systemd makes it for the journal.
    #[test]
    fn standard_output_can_be_a_socket() {
        let _forking = fork_lock::forking();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let child = fork(|| {
            nix::unistd::dup2_stdout(&theirs).unwrap();
            let mut log = open_log(Path::new("/dev/stdout")).unwrap();
            log.write_all(b"line\n").unwrap();
            0
        });
        expect_exit(child.unwrap(), 0);
        drop(theirs);
        let mut text = String::new();
        (&ours).read_to_string(&mut text).unwrap();
        assert_eq!(text, "line\n");
    }
}
