//! Defines the file that says which process the server is.
//!
//! Invariant: a process that holds a [`PidFile`] holds a record lock on the file at its path, unless
//! somebody has put another one there; so a file that nobody locks is left over by a dead server,
//! whatever number it holds.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::process::{self, Pid};

/// Mode of the file, whatever the umask is: it is there for others to read.
const MODE: u32 = 0o644;
/// How often to look again when others create and remove the same file meanwhile.
const ATTEMPTS: u32 = 64;

/// A file with the number of this process, which others can see to be running.
///
/// The lock is this process's: a forked child does not have it, and the process loses it when it
/// closes any descriptor of the file (fcntl_locking(2)). So nothing else in the process may open the
/// file, and a second `PidFile` of the same path must not be made. Dropping it ends the lock and
/// leaves the file: a forked child drops its copy and does no harm.
#[derive(Debug)]
pub struct PidFile {
    /// Absolute, so that it means the same after chdir(2).
    path: PathBuf,
    file: File,
}

/// Why there is no pid file.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another server runs with this file.
    #[error("{}: already in use by {}", .path.display(), Holder(*.pid))]
    AlreadyRunning {
        /// The file.
        path: PathBuf,
        /// The server, unless it is in another pid namespace.
        pid: Option<Pid>,
    },
    /// What is there is not a file, or is a symbolic link. It is left alone.
    #[error("{}: cannot be a pid file, since it exists and is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The file cannot be written.
    #[error("cannot write the pid file {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
}

struct Holder(Option<Pid>);

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(formatter, "process {pid}"),
            None => formatter.write_str("a process of another container"),
        }
    }
}

impl PidFile {
    /// Writes the number of this process to a new file at `path`, whole from the first moment, and
    /// locks it. A file that nobody locks is replaced.
    ///
    /// A server that becomes a daemon calls it afterwards: the number changes.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        let path = std::path::absolute(path).map_err(|source| PidFileError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}", process::own_pid()));
        let draft = path.with_file_name(name);
        let file = write(&draft).map_err(|source| PidFileError::Io {
            path: path.clone(),
            source,
        });
        match file.and_then(|file| put(&draft, &path).map(|()| file)) {
            Ok(file) => Ok(Self { path, file }),
            Err(error) => {
                let _ = fs::remove_file(&draft);
                Err(error)
            }
        }
    }

    /// Moves the file, with its lock, to `to`, where a file that nobody locks is replaced. For the
    /// successor of an upgrade.
    ///
    /// Fails with `NotFound` if the file is not there any more, and with a [`PidFileError`] inside if
    /// another server runs with `to`: the file then stays where it is.
    pub fn rename(&mut self, to: &Path) -> io::Result<()> {
        let to = std::path::absolute(to)?;
        if !self.is_at(&self.path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        // To open the own file and close it again would end the lock.
        if !self.is_at(&to)? {
            put(&self.path, &to).map_err(io::Error::other)?;
        }
        self.path = to;
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, unless another has taken its place.
    pub fn remove(self) -> io::Result<()> {
        if self.is_at(&self.path)? {
            fs::remove_file(&self.path)?;
        }
        Ok(())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        is_at(&self.file, path)
    }
}

/// A whole and locked file beside the place where it is to be.
fn write(draft: &Path) -> io::Result<File> {
    // One of that name can only be left over by a dead server that had the same number.
    match fs::remove_file(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create_new(true).mode(MODE);
    let mut file = options.open(draft)?;
    file.set_permissions(Permissions::from_mode(MODE))?;
    writeln!(file, "{}", process::own_pid())?;
    if !lock(&file)? {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    Ok(file)
}

/// Moves the locked file at `from` to `to`, in the place of a file that nobody locks, or of none.
fn put(from: &Path, to: &Path) -> Result<(), PidFileError> {
    let failed = |source| PidFileError::Io {
        path: to.to_owned(),
        source,
    };
    for _ in 0..ATTEMPTS {
        match look(to)? {
            // While its lock is ours nobody else takes it for left over.
            Found::Stale(_locked) => return fs::rename(from, to).map_err(failed),
            Found::Nothing => match fs::hard_link(from, to) {
                Ok(()) => return fs::remove_file(from).map_err(failed),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            },
            Found::Changing => {}
        }
    }
    Err(failed(io::ErrorKind::ResourceBusy.into()))
}

/// What is at a path.
enum Found {
    Nothing,
    /// A file that nobody locked; now this process does, until it is dropped.
    Stale(File),
    /// Something else than a moment ago.
    Changing,
}

fn look(path: &Path) -> Result<Found, PidFileError> {
    let failed = |source| PidFileError::Io {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let options = options.read(true).write(true).custom_flags(flags);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) => {
            return match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                Errno::ENOENT => Ok(Found::Nothing),
                Errno::ELOOP | Errno::EISDIR | Errno::ENXIO | Errno::ENODEV => {
                    Err(PidFileError::NotAFile(path.to_owned()))
                }
                _ => Err(failed(error)),
            };
        }
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(PidFileError::NotAFile(path.to_owned()));
    }
    if lock(&file).map_err(failed)? {
        let still_there = is_at(&file, path).map_err(failed)?;
        return Ok(if still_there {
            Found::Stale(file)
        } else {
            Found::Changing
        });
    }
    match holder(&file).map_err(failed)? {
        Some(holder) => Err(PidFileError::AlreadyRunning {
            path: path.to_owned(),
            pid: u32::try_from(holder).ok().and_then(Pid::from_number),
        }),
        None => Ok(Found::Changing),
    }
}

/// Whether `file` is what is at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let place = |metadata: &Metadata| (metadata.dev(), metadata.ino());
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(place(&found) == place(&file.metadata()?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A write lock on a whole file, however long it becomes.
fn whole() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Locks `file` for this process; `false` if another has it.
fn lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_SETLK(&whole())) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The number of the process that locks `file`, 0 if it cannot be seen from here; `None` if none
/// does.
fn holder(file: &File) -> io::Result<Option<libc::pid_t>> {
    let mut found = whole();
    fcntl(file, FcntlArg::F_GETLK(&mut found))?;
    Ok((found.l_type != libc::F_UNLCK as libc::c_short).then_some(found.l_pid))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::sys::channel::Channel;
    use crate::sys::fork_lock;
    use crate::sys::poll::{self, Watched};
    use crate::sys::process::{expect_exit, fork};

    /// A process that has done something with a pid file and then holds it until it is let go.
    struct Server {
        pid: Pid,
        channel: Channel,
    }

    impl Server {
        fn start(act: impl FnOnce() -> PidFile) -> Self {
            let (ours, theirs) = Channel::pair().unwrap();
            let pid = fork(|| {
                let file = act();
                theirs.send(b"ready", &[]).unwrap();
                wait(&theirs);
                file.remove().unwrap();
                0
            });
            wait(&ours);
            assert!(matches!(
                ours.recv(&mut [0; 8]).unwrap(),
                crate::sys::channel::Recv::Frame { .. }
            ));
            Self {
                pid: pid.unwrap(),
                channel: ours,
            }
        }

        fn stop(self) {
            self.channel.send(b"stop", &[]).unwrap();
            expect_exit(self.pid, 0);
        }

        fn kill(self) {
            process::kill(self.pid, crate::sys::signals::Signal::Kill).unwrap();
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid.number() as i32), None)
                .unwrap();
        }
    }

    fn wait(channel: &Channel) {
        poll::wait(&mut [Watched::readable(channel.as_fd())], None).unwrap();
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<OsString> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    fn text(pid: Pid) -> String {
        format!("{pid}\n")
    }

    #[test]
    fn a_running_server_is_found_and_named_and_a_dead_one_is_replaced() {
        let _forking = fork_lock::forking();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pid");
        let server = Server::start(|| PidFile::create(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text(server.pid));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE);
        let error = PidFile::create(&path).unwrap_err();
        let expected = format!(
            "{}: already in use by process {}",
            path.display(),
            server.pid
        );
        assert_eq!(error.to_string(), expected);
        assert_eq!(names(folder.path()), ["server.pid"]);
        server.kill();
        assert!(path.exists());
        let next = Server::start(|| PidFile::create(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), text(next.pid));
        next.stop();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_a_file_says_does_not_matter() {
        let _forking = fork_lock::forking();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pid");
        // This process runs, and is no server; the others are no numbers of processes.
        for left in [
            &text(process::own_pid()),
            "",
            "garbage",
            "-1",
            "0\n",
            "1 2 3",
        ] {
            fs::write(&path, left).unwrap();
            let server = Server::start(|| PidFile::create(&path).unwrap());
            assert_eq!(fs::read_to_string(&path).unwrap(), text(server.pid));
            server.stop();
        }
    }

    #[test]
    fn a_forked_child_neither_has_the_lock_nor_ends_it() {
        let _forking = fork_lock::forking();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pid");
        let server = Server::start(|| {
            let file = PidFile::create(&path).unwrap();
            let child = fork(|| {
                // Closed here, and only here.
                drop(file.file.try_clone());
                drop(File::open(&path));
                0
            });
            expect_exit(child.unwrap(), 0);
            file
        });
        assert!(PidFile::create(&path).is_err());
        server.stop();
    }

    #[test]
    fn a_successor_takes_the_name_over_when_it_is_free() {
        let _forking = fork_lock::forking();
        let folder = tempfile::tempdir().unwrap();
        let (path, second) = (folder.path().join("a.pid"), folder.path().join("a.pid.2"));
        let old = Server::start(|| PidFile::create(&path).unwrap());
        let new = Server::start(|| {
            let mut file = PidFile::create(&second).unwrap();
            let error = file.rename(&path).unwrap_err();
            assert!(error.to_string().contains("already in use"), "{error}");
            assert_eq!(file.path(), second);
            process::kill(old.pid, crate::sys::signals::Signal::Kill).unwrap();
            // The lock goes with the process: look until it has.
            while file.rename(&path).is_err() {}
            file.rename(&path).unwrap();
            assert_eq!(file.path(), path);
            file
        });
        assert_eq!(names(folder.path()), ["a.pid"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), text(new.pid));
        let error = PidFile::create(&path).unwrap_err();
        assert!(
            matches!(error, PidFileError::AlreadyRunning { pid, .. } if pid == Some(new.pid)),
            "{error}"
        );
        old.kill();
        new.stop();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn only_the_own_file_is_renamed_or_removed() {
        let _forking = fork_lock::forking();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.pid");
        let server = Server::start(|| {
            let mut file = PidFile::create(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let error = file.rename(&folder.path().join("other")).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            fs::write(&path, "another's").unwrap();
            file
        });
        server.stop();
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
    }

    #[test]
    fn what_is_no_file_is_left_alone_and_a_folder_that_is_missing_is_said_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "kept").unwrap();
        symlink(&target, &link).unwrap();
        let fifo = folder.path().join("fifo");
        mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        for path in [&link, folder.path(), &fifo] {
            let error = PidFile::create(path).unwrap_err();
            assert!(matches!(error, PidFileError::NotAFile(_)), "{error}");
        }
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        let missing = folder.path().join("missing/server.pid");
        let error = PidFile::create(&missing).unwrap_err().to_string();
        assert!(error.starts_with("cannot write the pid file"), "{error}");
    }
}
