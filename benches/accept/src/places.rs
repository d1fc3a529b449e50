//! Defines where things are.

use std::env;
use std::fs::{DirBuilder, remove_dir_all};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result};

/// Names another program than the one that was built here.
const PROGRAM: &str = "RGUNICORN";

pub(crate) struct Places {
    /// The server's.
    pub(crate) program: PathBuf,
    /// Of the repository.
    pub(crate) root: PathBuf,
    /// For the cache and the sockets.
    folder: Folder,
}

impl Places {
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root
            .canonicalize()
            .context("the repository is not where it was")?;
        let named = env::var_os(PROGRAM).map(PathBuf::from);
        let program = named.unwrap_or_else(|| root.join("target/release/rgunicorn"));
        let program = program.canonicalize().with_context(|| {
            format!(
                "{} is not there: run cargo build --release, or name it in {PROGRAM}",
                program.display()
            )
        })?;
        Ok(Self {
            program,
            root,
            folder: Folder::make()?,
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder.0
    }
}

/// A folder that nobody else can look into; it is removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn make() -> Result<Self> {
        let path = env::temp_dir().join(format!("rgunicorn-accept-{}", process::id()));
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = remove_dir_all(&self.0);
    }
}
