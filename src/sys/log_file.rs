//! Defines a file that lines are written to without ever waiting for whoever reads it.
//!
//! Invariant: a line is one write, and where its reader has no room it is refused. Regular files are
//! written as they are: the kernel takes what fits on the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{MsgFlags, send};

use super::poll::{self, Watched};

/// A file, pipe, terminal or socket for lines.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    way: Way,
    /// Whether the last line is there in part, as on a full disk.
    torn: bool,
}

/// How a write does not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It never does, or the descriptor says so.
    Write,
    /// A socket is told so each time: the descriptor's flags may be others' too.
    Send,
    /// The kernel is asked before. Only somebody who writes in between can hold us.
    Ask,
}

impl LogFile {
    /// Writes to what `fd` leads to.
    ///
    /// A pipe or a terminal is opened once more, if that may be: its descriptor may be shared with
    /// other programs, which would not expect it not to wait.
    ///
    /// # Errors
    /// When the kernel does not say what it is.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let file = File::from(fd);
        let kind = file.metadata()?.file_type();
        let (file, way) = if kind.is_socket() {
            (file, Way::Send)
        } else if kind.is_fifo() || kind.is_char_device() {
            match (does_not_wait(&file)?, open_again(&file)) {
                (true, _) => (file, Way::Write),
                (false, Ok(own)) => (own, Way::Write),
                (false, Err(_)) => (file, Way::Ask),
            }
        } else {
            (file, Way::Write)
        };
        Ok(Self {
            file,
            way,
            torn: false,
        })
    }

    /// Another descriptor of it, for another process.
    ///
    /// # Errors
    /// When there are too many.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Writes a line, which has its end.
    ///
    /// # Errors
    /// When it is not there, or only a part of it: `WouldBlock` if the reader has no room.
    pub fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        // What follows a torn line must not become part of it.
        if self.torn {
            self.put(b"\n")?;
            self.torn = false;
        }
        let written = self.put(line)?;
        if written < line.len() {
            self.torn = written > 0;
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                "only a part of a line fits",
            ));
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let result = match self.way {
                Way::Write => self.file.write(bytes),
                Way::Send => {
                    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                    send(self.file.as_raw_fd(), bytes, flags).map_err(io::Error::from)
                }
                Way::Ask => self.ask().and_then(|()| self.file.write(bytes)),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn ask(&self) -> io::Result<()> {
        let ready = poll::wait(
            &mut [Watched::writable(self.file.as_fd())],
            Some(Duration::ZERO),
        )?;
        match ready {
            0 => Err(Errno::EAGAIN.into()),
            _ => Ok(()),
        }
    }
}

fn does_not_wait(file: &File) -> io::Result<bool> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    Ok(flags.contains(OFlag::O_NONBLOCK))
}

fn open_again(file: &File) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Fills it, and checks that whoever has the same descriptor did not notice, and that lines are
    /// whole.
    fn check(reader: OwnedFd, writer: OwnedFd, way: Option<Way>) {
        let shared = writer.try_clone().unwrap();
        let mut file = LogFile::new(writer).unwrap();
        if let Some(way) = way {
            file.way = way;
            file.file = shared.try_clone().unwrap().into();
        }
        let line = format!("{}\n", "x".repeat(999));
        let mut lines = 0;
        let error = loop {
            match file.write_line(line.as_bytes()) {
                Ok(()) => lines += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(lines > 0);
        assert!(!does_not_wait(&shared.into()).unwrap(), "others may wait");
        drop(file);
        let reader = BufReader::new(File::from(reader));
        let read: Vec<String> = reader.lines().map(Result::unwrap).collect();
        assert_eq!(read.len(), lines);
        assert!(read.iter().all(|read| *read == line.trim_end()));
    }

    #[test]
    fn a_reader_without_room_is_not_waited_for() {
        let _closing = crate::sys::fork_lock::closing();
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let (reader, writer) = pipe();
        check(reader, writer, None);
        let (reader, writer) = pipe();
        check(reader, writer, Some(Way::Ask));
        let (reader, writer) = UnixStream::pair().unwrap();
        check(reader.into(), writer.into(), None);
    }

    #[test]
    fn a_file_is_appended_to_and_a_full_disk_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let open = || LogFile::new(super::super::stdio::open_log(&path).unwrap().into()).unwrap();
        let (mut one, mut two) = (open(), open());
        one.write_line(b"one\n").unwrap();
        two.write_line(b"two\n").unwrap();
        two.torn = true;
        two.write_line(b"three\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n\nthree\n");
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut full = LogFile::new(full.into()).unwrap();
        for _ in 0..2 {
            let error = full.write_line(b"lost\n").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }
}
