//! Defines how the server notices that files have changed.
//!
//! Invariant: whatever puts another file at a watched path, be it written, renamed, linked or made
//! together with its folder, is noticed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

/// Most symbolic links on the way to one file, as in path_resolution(7).
const LINKS_MAX: u32 = 40;

/// A name in a folder that leads to a watched file.
type Place = (PathBuf, OsString);

/// An inotify(7) queue for some files; it can be polled.
///
/// It watches the folders, since a file is replaced by another of its name more often than it is
/// changed.
#[derive(Debug)]
pub struct FileWatch {
    inotify: Inotify,
    names: HashMap<WatchDescriptor, HashSet<OsString>>,
}

impl FileWatch {
    /// Watches `files`, the symbolic links that lead to them, and what they lead to.
    ///
    /// Of a file that does not exist its folder is watched, or what there is of the way to it. When
    /// something has changed links may lead elsewhere: make a new watch then, and before the files
    /// are read. Fails for want of watches (`ENOSPC`, see inotify(7)) and for what may not be read.
    pub fn new(files: &[PathBuf]) -> io::Result<Self> {
        let mut before = HashSet::new();
        loop {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            let places = all_places(files)?;
            let mut names: HashMap<WatchDescriptor, HashSet<OsString>> = HashMap::new();
            for (folder, name) in &places {
                match inotify.add_watch(folder, events()) {
                    Ok(watch) => {
                        names.entry(watch).or_default().insert(name.clone());
                    }
                    // It was there a moment ago: look again.
                    Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // What has changed since it was looked up is not watched yet.
            if all_places(files)? == places || places == before {
                return Ok(Self { inotify, names });
            }
            before = places;
        }
    }

    /// Whether one of the files may have changed since the last call; takes all that is reported.
    pub fn changed(&self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => changed |= events.iter().any(|event| self.concerns(event)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(changed),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn concerns(&self, event: &InotifyEvent) -> bool {
        let lost = AddWatchFlags::IN_Q_OVERFLOW
            | AddWatchFlags::IN_IGNORED
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_UNMOUNT;
        let is_one = |name: &OsString| {
            let names = self.names.get(&event.wd);
            names.is_some_and(|names| names.contains(name))
        };
        event.mask.intersects(lost) || event.name.as_ref().is_some_and(is_one)
    }
}

impl AsFd for FileWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn events() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
}

fn all_places(files: &[PathBuf]) -> io::Result<HashSet<Place>> {
    let mut all = HashSet::new();
    for file in files {
        places(&std::path::absolute(file)?, &mut all)?;
    }
    Ok(all)
}

/// Adds each place on the way along the absolute path `file` where another file could be put: each
/// symbolic link, and the end of the way, which is the file or the first thing that is missing.
fn places(file: &Path, all: &mut HashSet<Place>) -> io::Result<()> {
    let mut folder = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = parts(file).collect();
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == OsStr::new("..") {
            folder.pop();
            continue;
        }
        let path = folder.join(&name);
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            Err(error) if is_missing(&error) => {
                all.insert((folder, name));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if found.is_symlink() {
            links += 1;
            if links > LINKS_MAX {
                return Err(Errno::ELOOP.into());
            }
            let target = match fs::read_link(&path) {
                Err(error) if is_missing(&error) => return Err(io::ErrorKind::NotFound.into()),
                other => other?,
            };
            all.insert((folder.clone(), name));
            if target.is_absolute() {
                folder = PathBuf::from("/");
            }
            rest = parts(&target).chain(rest).collect();
        } else if rest.is_empty() || !found.is_dir() {
            all.insert((folder, name));
            return Ok(());
        } else {
            folder = path;
        }
    }
    Ok(())
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The names along a path; neither the root nor `.` is one.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::sys::poll::{self, Watched};

    /// Watches one file below a new folder that `make` fills.
    fn watch(file: &str, make: impl FnOnce(&Path)) -> (tempfile::TempDir, FileWatch) {
        let folder = tempfile::tempdir().unwrap();
        make(folder.path());
        let watch = FileWatch::new(&[folder.path().join(file)]).unwrap();
        assert!(!watch.changed().unwrap());
        (folder, watch)
    }

    /// Events are queued before the call that causes them returns.
    #[track_caller]
    fn expect_change(watch: &FileWatch) {
        let mut watched = [Watched::readable(watch.as_fd())];
        assert_eq!(poll::wait(&mut watched, Some(Duration::ZERO)).unwrap(), 1);
        assert!(watch.changed().unwrap());
        assert!(!watch.changed().unwrap());
    }

    #[test]
    fn writing_replacing_and_removing_a_file_are_changes() {
        let (folder, watch) = watch("app.wasm", |folder| {
            fs::write(folder.join("app.wasm"), "1").unwrap()
        });
        let path = |name: &str| folder.path().join(name);
        fs::write(path("app.wasm"), "2").unwrap();
        expect_change(&watch);
        fs::write(path("draft"), "3").unwrap();
        assert!(!watch.changed().unwrap());
        fs::rename(path("draft"), path("app.wasm")).unwrap();
        expect_change(&watch);
        fs::remove_file(path("app.wasm")).unwrap();
        expect_change(&watch);
        fs::write(path("draft"), "4").unwrap();
        fs::hard_link(path("draft"), path("app.wasm")).unwrap();
        expect_change(&watch);
        fs::rename(path("app.wasm"), path("elsewhere")).unwrap();
        expect_change(&watch);
    }

    #[test]
    fn reading_and_other_files_are_no_changes() {
        let (folder, watch) = watch("a", |folder| fs::write(folder.join("a"), "1").unwrap());
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"1");
        let permissions = fs::metadata(folder.path().join("a")).unwrap().permissions();
        fs::set_permissions(folder.path().join("a"), permissions).unwrap();
        for name in ["b", "aa", "a~"] {
            fs::write(folder.path().join(name), "1").unwrap();
        }
        assert!(!watch.changed().unwrap());
    }

    #[test]
    fn a_file_or_folder_that_does_not_exist_yet_is_noticed() {
        let (folder, watch) = watch("target/release/app.wasm", |_| ());
        fs::write(folder.path().join("other"), "").unwrap();
        assert!(!watch.changed().unwrap());
        fs::create_dir_all(folder.path().join("target/release")).unwrap();
        expect_change(&watch);
        let file = folder.path().join("target/release/app.wasm");
        let watch = FileWatch::new(std::slice::from_ref(&file)).unwrap();
        fs::write(&file, "").unwrap();
        expect_change(&watch);
        fs::remove_dir_all(folder.path().join("target")).unwrap();
        expect_change(&watch);
    }

    #[test]
    fn every_link_on_the_way_is_watched_and_so_is_its_target() {
        let make = |folder: &Path| {
            for version in ["1", "2"] {
                fs::create_dir(folder.join(version)).unwrap();
                fs::write(folder.join(version).join("app.toml"), version).unwrap();
            }
            // As a mounted configuration map has it.
            symlink("1", folder.join("data")).unwrap();
            fs::create_dir(folder.join("etc")).unwrap();
            symlink("../data/app.toml", folder.join("etc/app.toml")).unwrap();
        };
        let (folder, watch) = watch("etc/./app.toml", make);
        let path = |name: &str| folder.path().join(name);
        fs::write(path("2/app.toml"), "not yet").unwrap();
        assert!(!watch.changed().unwrap());
        fs::write(path("1/app.toml"), "changed").unwrap();
        expect_change(&watch);
        symlink("2", path("new")).unwrap();
        assert!(!watch.changed().unwrap());
        fs::rename(path("new"), path("data")).unwrap();
        expect_change(&watch);
        fs::remove_file(path("etc/app.toml")).unwrap();
        expect_change(&watch);
    }

    #[test]
    fn several_files_share_a_folder_and_an_absolute_link_leads_out_of_it() {
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("target");
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink(&target, path("link")).unwrap();
        let watch = FileWatch::new(&[path("a"), path("link"), path("b")]).unwrap();
        for file in [path("a"), path("b"), target] {
            File::create(file).unwrap();
            expect_change(&watch);
        }
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        let error = FileWatch::new(&[folder.path().join("a/file")]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ELOOP as i32));
    }

    #[test]
    fn events_that_were_lost_may_have_been_ours() {
        let (_folder, watch) = watch("a", |_| ());
        let event = |mask| InotifyEvent {
            wd: *watch.names.keys().next().unwrap(),
            mask,
            cookie: 0,
            name: None,
        };
        assert!(watch.concerns(&event(AddWatchFlags::IN_Q_OVERFLOW)));
        assert!(!watch.concerns(&event(AddWatchFlags::IN_CREATE)));
    }
}
