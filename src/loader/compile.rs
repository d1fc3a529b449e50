//! Defines how a file becomes an artefact: read, made a component, looked up, compiled, kept.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::cache::Cache;
use super::progress::Progress;
use crate::host::{Compiler, Described, LoadError, describe};
use crate::sys::memory_file;

/// Largest file that is read as a component, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Why an app cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The component cannot be served.
    #[error("{}: {source}", path.display())]
    Component {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// There is no compiler for this machine.
    #[error(transparent)]
    Compiler(LoadError),
    /// The artefact cannot be kept in memory.
    #[error("cannot keep the compiled artefact: {0}")]
    Seal(io::Error),
    /// The limits cannot be set.
    #[error("cannot limit the compiler: {0}")]
    Limits(io::Error),
    /// The arbiter is gone.
    #[error("cannot hand over the compiled artefact: {0}")]
    Arbiter(io::Error),
}

/// Reads a file and what it says of itself.
///
/// # Errors
/// When it cannot be read, or is no component and cannot be made one.
pub fn read_component(path: &Path) -> Result<Described, Error> {
    let bytes = read(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    describe(bytes).map_err(|source| Error::Component {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The compiler and its cache.
pub(super) struct Loader {
    compiler: Compiler,
    cache: Option<Cache>,
}

impl Loader {
    pub(super) fn new(cache: Option<&Path>) -> Result<Self, Error> {
        let compiler = Compiler::new().map_err(Error::Compiler)?;
        Ok(Self {
            compiler,
            cache: cache.and_then(Cache::open),
        })
    }

    /// The artefact of a component, from the cache if it is there.
    pub(super) fn load(&self, app: &str, path: &Path) -> Result<OwnedFd, Error> {
        let failed = |source| Error::Component {
            path: path.to_owned(),
            source,
        };
        let described = read_component(path)?;
        described.world().map_err(failed)?;
        let key = self.compiler.key(&described.bytes);
        if let Some(artefact) = self.cache.as_ref().and_then(|cache| cache.find(&key)) {
            if self.compiler.accepts(artefact.as_fd()) {
                tracing::info!(app, "{}: compiled before, from the cache", path.display());
                return Ok(artefact);
            }
            tracing::warn!(
                app,
                "{}: the artefact in the cache is damaged",
                path.display()
            );
        }
        let progress = Progress::start(app, path, described.bytes.len());
        let artefact = self.compiler.compile(&described.bytes).map_err(failed)?;
        progress.done(artefact.len());
        if let Some(kept) = self
            .cache
            .as_ref()
            .and_then(|cache| cache.keep(&key, &artefact))
        {
            return Ok(kept);
        }
        memory_file::sealed(app, &artefact).map_err(Error::Seal)
    }
}
