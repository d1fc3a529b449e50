//! Defines an access log: a format, and the sinks that its lines go to.
//!
//! Invariant: each line is one write, so that lines of several processes never mix, and the kernel's
//! is the only buffer, so that a process that is killed has lost none.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Instant;

use super::format::Format;
use super::loss::Loss;
use super::record::Record;
use super::syslog::Syslog;
use crate::sys::log_file::LogFile;
use crate::sys::stdio;

/// Which file the lines go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file that is appended to.
    File(PathBuf),
}

/// An access log that is open. The arbiter opens it, and each worker has it from there, since a
/// worker may not be allowed to open the file.
#[derive(Debug)]
pub struct Log {
    format: Format,
    target: Option<Target>,
    file: Option<LogFile>,
    syslog: Option<Syslog>,
    loss: Loss,
    line: Vec<u8>,
}

impl Log {
    /// Opens it.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(
        format: Format,
        target: Option<Target>,
        syslog: Option<Syslog>,
    ) -> io::Result<Self> {
        let file = target.as_ref().map(open).transpose()?;
        Ok(Self {
            format,
            target,
            file,
            syslog,
            loss: Loss::default(),
            line: Vec::new(),
        })
    }

    /// The same log in a child that has just been forked: what its parent has lost is the parent's to
    /// tell.
    #[must_use]
    pub fn inherit(mut self) -> Self {
        self.loss = Loss::default();
        self
    }

    /// What its lines look like.
    #[must_use]
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Opens the file again, which may have been moved. The result is for other processes that have
    /// this log, and `None` if there is no file that could be moved.
    ///
    /// # Errors
    /// When it cannot be opened, with its path; then the old one is kept.
    pub fn reopen(&mut self) -> Result<Option<OwnedFd>, (PathBuf, io::Error)> {
        let Some(target @ Target::File(path)) = &self.target else {
            return Ok(None);
        };
        let opened = open(target).and_then(|file| Ok((file.try_clone()?, file)));
        let (shared, file) = opened.map_err(|error| (path.clone(), error))?;
        self.file = Some(file);
        Ok(Some(shared))
    }

    /// Writes to `file`, which another process has opened, from now on.
    ///
    /// # Errors
    /// When the kernel does not say what it is.
    pub fn replace_file(&mut self, file: OwnedFd) -> io::Result<()> {
        self.file = Some(LogFile::new(file)?);
        Ok(())
    }

    /// Writes the line of `record`. What a sink does not take at once is lost, and told in the
    /// server's log, but not line by line.
    pub fn write(&mut self, record: &Record<'_>) {
        self.format.write(record, &mut self.line);
        let of_file = self.file.as_mut().map(|file| file.write_line(&self.line));
        let pid = record.worker.pid;
        let of_syslog = self
            .syslog
            .as_mut()
            .map(|syslog| syslog.send(&self.line, pid));
        for result in [of_file, of_syslog].into_iter().flatten() {
            self.count(result);
        }
    }

    fn count(&mut self, result: io::Result<()>) {
        if result.is_ok() && self.loss.is_none() {
            return;
        }
        let now = Instant::now();
        match result {
            Ok(()) => {
                if let Some(lines) = self.loss.tell(now) {
                    tracing::warn!("access log: lost lines={lines}");
                }
            }
            Err(error) => {
                if let Some(lines) = self.loss.add(now) {
                    tracing::warn!("access log: lost lines={lines}: {error}");
                }
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let lines = self.loss.take();
        if lines > 0 {
            tracing::warn!("access log: lost lines={lines}");
        }
    }
}

fn open(target: &Target) -> io::Result<LogFile> {
    let file = match target {
        Target::Stdout => stdio::duplicate_stdout()?,
        Target::File(path) => stdio::open_log(path)?,
    };
    LogFile::new(file.into())
}
