//! Defines who a process is to the kernel, and how it becomes somebody else for good.
//!
//! Invariant: a process that has become somebody without failing cannot go back.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getresgid, getresuid, initgroups, setgroups,
    setresgid, setresuid,
};

/// To setresuid(2) and setresgid(2): leave this one as it is.
const UNCHANGED: u32 = u32::MAX;

/// A user and a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The number of the user.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// The user's name, if the system knows one.
    pub user: Option<String>,
    /// The user's home folder, if the system knows one.
    pub home: Option<PathBuf>,
}

/// Why there is no such identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The user is neither a name that the system knows nor a number.
    #[error("no such user: {0:?}")]
    UnknownUser(String),
    /// The group is neither a name that the system knows nor a number.
    #[error("no such group: {0:?}")]
    UnknownGroup(String),
    /// A user without an account has no primary group.
    #[error("user {0} has no account that names a group: set the group too")]
    NoPrimaryGroup(u32),
    /// The system's database of users cannot be read.
    #[error("cannot look up {name:?}: {source}")]
    Lookup {
        /// Who was looked for.
        name: String,
        /// What the system says.
        source: io::Error,
    },
}

impl Identity {
    /// The user and the group with these names or numbers; a name that looks like a number is taken
    /// as a name if there is one, as chown(1) does.
    ///
    /// Without a group it is the user's primary one; what is not given at all is this process's.
    pub fn find(user: Option<&str>, group: Option<&str>) -> Result<Self, IdentityError> {
        let (uid, account) = match user {
            Some(name) => find_user(name)?,
            None => (geteuid(), User::from_uid(geteuid()).ok().flatten()),
        };
        let gid = match (group, user, &account) {
            (Some(name), _, _) => find_group(name)?,
            (None, None, _) => getegid(),
            (None, Some(_), Some(account)) => account.gid,
            (None, Some(_), None) => return Err(IdentityError::NoPrimaryGroup(uid.as_raw())),
        };
        let (user, home) = match account {
            Some(account) => (Some(account.name), Some(account.dir)),
            None => (None, None),
        };
        Ok(Self {
            uid: uid.as_raw(),
            gid: gid.as_raw(),
            user,
            home,
        })
    }

    /// Makes this process that user and group, with the user's supplementary groups, or with the one
    /// group if the user has no name. Does nothing if it is both already.
    ///
    /// Fails with `PermissionDenied` in a process that may not do so. After a failure the process is
    /// perhaps half of one and half of the other: it must end. The kernel forgets
    /// [`die_with_parent`](super::process::die_with_parent) here: ask for it afterwards.
    pub fn become_it(&self) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        if is_already(uid, gid)? {
            return Ok(());
        }
        match &self.user {
            Some(name) => initgroups(&CString::new(name.as_str())?, gid)?,
            None => setgroups(&[gid])?,
        }
        // The groups first: the user may not change them.
        setresgid(gid, gid, gid)?;
        setresuid(uid, uid, uid)?;
        let unchanged = Uid::from_raw(UNCHANGED);
        let regained = !uid.is_root() && setresuid(unchanged, Uid::from_raw(0), unchanged).is_ok();
        if regained || !is_already(uid, gid)? {
            return Err(io::Error::other(
                "the process could become the superuser again",
            ));
        }
        Ok(())
    }
}

fn is_already(uid: Uid, gid: Gid) -> io::Result<bool> {
    let (users, groups) = (getresuid()?, getresgid()?);
    Ok([users.real, users.effective, users.saved] == [uid; 3]
        && [groups.real, groups.effective, groups.saved] == [gid; 3])
}

fn find_user(name: &str) -> Result<(Uid, Option<User>), IdentityError> {
    let failed = |error: nix::Error| IdentityError::Lookup {
        name: name.to_owned(),
        source: error.into(),
    };
    if let Some(account) = User::from_name(name).map_err(failed)? {
        return Ok((account.uid, Some(account)));
    }
    let uid = number(name).ok_or_else(|| IdentityError::UnknownUser(name.to_owned()))?;
    let uid = Uid::from_raw(uid);
    Ok((uid, User::from_uid(uid).map_err(failed)?))
}

fn find_group(name: &str) -> Result<Gid, IdentityError> {
    let found = Group::from_name(name).map_err(|error| IdentityError::Lookup {
        name: name.to_owned(),
        source: error.into(),
    })?;
    let found = found.map(|group| group.gid);
    found
        .or_else(|| number(name).map(Gid::from_raw))
        .ok_or_else(|| IdentityError::UnknownGroup(name.to_owned()))
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != UNCHANGED)
}

/// Makes `identity` the owner of the file at `path`; of a symbolic link, not of what it leads to.
pub fn chown(path: &Path, identity: &Identity) -> io::Result<()> {
    lchown(path, Some(identity.uid), Some(identity.gid))
}

/// Sets the permissions that new files of this process do not get, and returns the earlier ones.
pub fn set_umask(mask: u32) -> u32 {
    umask(Mode::from_bits_truncate(mask)).bits()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::sys::{fork_lock, process};

    fn error(user: Option<&str>, group: Option<&str>) -> String {
        Identity::find(user, group).unwrap_err().to_string()
    }

    #[test]
    fn names_and_numbers_are_found() {
        let root = Identity::find(Some("root"), None).unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(root.user.as_deref(), Some("root"));
        assert!(root.home.as_ref().unwrap().is_absolute());
        assert_eq!(Identity::find(Some("0"), None).unwrap(), root);
        let nobody = Identity::find(Some("nobody"), Some("12345")).unwrap();
        assert_eq!((nobody.uid, nobody.gid), (65534, 12345));
        let group = Identity::find(Some("nobody"), Some("root")).unwrap();
        assert_eq!((group.uid, group.gid), (65534, 0));
        let number = Identity::find(Some("4123456789"), Some("7")).unwrap();
        assert_eq!(number.user, None);
        let own = Identity::find(None, None).unwrap();
        assert_eq!((own.uid, own.gid), (geteuid().as_raw(), getegid().as_raw()));
    }

    #[test]
    fn who_does_not_exist_is_named() {
        assert_eq!(
            error(Some("no such"), None),
            "no such user: \"no such\"".to_owned()
        );
        assert_eq!(error(None, Some("-1")), "no such group: \"-1\"");
        assert_eq!(
            error(Some("4294967295"), None),
            "no such user: \"4294967295\""
        );
        assert_eq!(
            error(Some("4123456789"), None),
            "user 4123456789 has no account that names a group: set the group too"
        );
    }

    /// What the kernel says of this process: all four user numbers, all four group numbers and the
    /// supplementary groups.
    fn status() -> [String; 3] {
        let text = fs::read_to_string("/proc/self/status").unwrap();
        ["Uid:", "Gid:", "Groups:"].map(|key| {
            let line = text.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
    }

    #[test]
    fn who_it_is_already_needs_no_right() {
        let _forking = fork_lock::forking();
        let child = process::fork(|| {
            let before = status();
            Identity::find(None, None).unwrap().become_it().unwrap();
            assert_eq!(status(), before);
            0
        });
        process::expect_exit(child.unwrap(), 0);
    }

    #[test]
    fn root_becomes_somebody_for_good_and_others_may_not() {
        let _forking = fork_lock::forking();
        let somebody = Identity {
            uid: 4567,
            gid: 5678,
            user: None,
            home: None,
        };
        let named = Identity::find(Some("nobody"), None).unwrap();
        let child = process::fork(|| {
            if !geteuid().is_root() {
                let error = somebody.become_it().unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
                return 0;
            }
            somebody.become_it().unwrap();
            let thrice = ["4567 4567 4567 4567", "5678 5678 5678 5678", "5678"];
            assert_eq!(status(), thrice);
            somebody.become_it().unwrap();
            assert!(setresuid(0.into(), 0.into(), 0.into()).is_err());
            assert!(named.become_it().is_err());
            assert_eq!(status(), thrice);
            0
        });
        process::expect_exit(child.unwrap(), 0);
        let child = process::fork(|| {
            if geteuid().is_root() {
                named.become_it().unwrap();
                let groups = status()[2].clone();
                assert!(groups.split(' ').any(|gid| gid == named.gid.to_string()));
                assert!(!groups.split(' ').any(|gid| gid == "0"), "{groups}");
            }
            0
        });
        process::expect_exit(child.unwrap(), 0);
    }

    #[test]
    fn a_file_is_given_away_and_not_what_a_link_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let own = Identity::find(None, None).unwrap();
        chown(&file, &own).unwrap();
        let other = Identity {
            uid: 4567,
            ..own.clone()
        };
        if geteuid().is_root() {
            chown(&link, &other).unwrap();
            assert_eq!(fs::symlink_metadata(&link).unwrap().uid(), 4567);
        } else {
            assert!(chown(&link, &other).is_err());
        }
        assert_eq!(fs::metadata(&file).unwrap().uid(), own.uid);
    }

    #[test]
    fn the_umask_holds_for_new_files() {
        let _forking = fork_lock::forking();
        let folder = tempfile::tempdir().unwrap();
        let child = process::fork(|| {
            set_umask(0o027);
            assert_eq!(set_umask(0o027), 0o027);
            let path = folder.path().join("file");
            fs::write(&path, "").unwrap();
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o640);
            0
        });
        process::expect_exit(child.unwrap(), 0);
    }
}
