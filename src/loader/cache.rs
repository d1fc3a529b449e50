//! Defines the folder of compiled components. It holds native code that workers run, so it is used
//! only if nobody but our user can write to it; without it every start compiles.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::sys::{memory_file, process};

/// The folder.
pub(super) struct Cache(PathBuf);

impl Cache {
    /// Opens the folder, or makes it; `None`, with a line in the log, if it cannot be trusted.
    pub(super) fn open(path: &Path) -> Option<Self> {
        match Self::try_open(path) {
            Ok(true) => Some(Self(path.to_owned())),
            Ok(false) => {
                tracing::warn!(
                    "cache-dir {}: not used, since others can write to it",
                    path.display()
                );
                None
            }
            Err(error) => {
                tracing::warn!("cache-dir {}: not used: {error}", path.display());
                None
            }
        }
    }

    fn try_open(path: &Path) -> io::Result<bool> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        memory_file::is_private_to_us(path)
    }

    fn path(&self, key: &str) -> PathBuf {
        self.0.join(format!("{key}.cwasm"))
    }

    /// The artefact of this key.
    pub(super) fn find(&self, key: &str) -> Option<OwnedFd> {
        let file = File::open(self.path(key)).ok()?;
        let whole = file.metadata().is_ok_and(|metadata| metadata.len() > 0);
        let ours =
            memory_file::is_private_file(file.as_fd(), process::effective_uid()).unwrap_or(false);
        (whole && ours).then(|| file.into())
    }

    /// Keeps an artefact, and opens it; `None`, with a line in the log, if that fails.
    pub(super) fn keep(&self, key: &str, artefact: &[u8]) -> Option<OwnedFd> {
        match self.write(key, artefact) {
            Ok(()) => self.find(key),
            Err(error) => {
                tracing::warn!(
                    "cache-dir {}: cannot keep an artefact: {error}",
                    self.0.display()
                );
                None
            }
        }
    }

    /// A reader sees all of the file or none: it gets its name when its bytes are on the disk.
    fn write(&self, key: &str, artefact: &[u8]) -> io::Result<()> {
        let unfinished = self
            .0
            .join(format!("{key}.{}.unfinished", process::own_pid()));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)
            .and_then(|mut file| {
                file.write_all(artefact)?;
                file.sync_all()?;
                fs::rename(&unfinished, self.path(key))
            });
        if written.is_err() {
            // What is left of it does no harm, and the error that matters is the first.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }
}
