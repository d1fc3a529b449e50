//! Defines how the server starts its own program anew, which may be another version by then.
//!
//! Invariant: the new program gets the arguments, environment and working directory that this one
//! got, the standard streams and one channel, and nothing else.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sys::signal::SigSet;

use super::channel::Channel;
use super::process::Pid;
use super::{environment, inherited};

/// The variable that tells a new program the number of its channel.
const CHANNEL: &str = "RGUNICORN_UPGRADE";
/// What the service manager meant for the process that it started: the sockets come over the channel,
/// and the watchdog is for the successor too. See sd_listen_fds(3) and sd_watchdog_enabled(3).
const NOT_PASSED_ON: [&str; 5] = [
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "WATCHDOG_PID",
];
/// What the kernel says is this process's program.
const OWN_FILE: &str = "/proc/self/exe";
/// One more than the number of the last signal of Linux.
const SIGNALS_END: libc::c_int = 65;
/// Mode bits by which somebody may execute a file.
const EXECUTABLE: u32 = 0o111;

/// How this process was started.
#[derive(Debug, Clone)]
pub struct Program {
    file: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    folder: PathBuf,
}

impl Program {
    /// Takes down how this process was started. To be called first, before it changes its working
    /// directory or its environment.
    ///
    /// The file is the one by which it was started, found as the shell finds it, so that a new file of
    /// that name, or a symbolic link that has been switched, is followed. Only if no such name leads
    /// to this program it is the file that the kernel names.
    pub fn capture() -> io::Result<Self> {
        let folder = working_folder()?;
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let name = arguments.first().map_or(Path::new(""), Path::new);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let file = match find(name, &folder, &path) {
            Some(file) => file,
            None => std::env::current_exe()?,
        };
        Ok(Self {
            file,
            arguments,
            variables: std::env::vars_os().collect(),
            folder,
        })
    }

    /// The file that is executed.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Starts the program as a child of this process, with a copy of `channel`, which it
    /// [adopts](adopt_channel), and with more variables.
    ///
    /// No signal is blocked or ignored in it, whatever this process does. Fails if the file cannot be
    /// executed or the working directory is gone: there is no child then, not even one to reap.
    pub fn start(&self, channel: &Channel, extra: &[(&str, String)]) -> io::Result<Pid> {
        let copy = fcntl(
            channel,
            FcntlArg::F_DUPFD_CLOEXEC(inherited::FIRST_DESCRIPTOR),
        )?;
        // SAFETY: the kernel has just made it, and nobody else owns it.
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        let descriptor = copy.as_raw_fd();
        let mut command = Command::new(&self.file);
        if let Some((name, rest)) = self.arguments.split_first() {
            command.arg0(name).args(rest);
        }
        let passed_on = self
            .variables
            .iter()
            .filter(|(name, _)| !NOT_PASSED_ON.iter().any(|variable| name == variable));
        command
            .current_dir(&self.folder)
            .env_clear()
            .envs(passed_on.map(|(name, value)| (name, value)))
            .envs(extra.iter().map(|(name, value)| (name, value)))
            .env(CHANNEL, descriptor.to_string());
        // SAFETY: it only makes system calls, which may be made between fork and exec.
        unsafe { command.pre_exec(move || prepare(descriptor)) };
        let child = command.spawn()?;
        Pid::from_number(child.id()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

/// Runs in the child, which executes the program next.
fn prepare(descriptor: RawFd) -> io::Result<()> {
    // All that this process has opened is closed by exec; this is for what it has inherited. Linux
    // before 5.11 does not know the call, and keeps those open.
    // SAFETY: the call takes three numbers and closes nothing now.
    unsafe {
        let first = inherited::FIRST_DESCRIPTOR;
        libc::syscall(
            libc::SYS_close_range,
            first,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
    // SAFETY: it is open for as long as the parent's copy lives, which outlives the start.
    let copy = unsafe { BorrowedFd::borrow_raw(descriptor) };
    fcntl(copy, FcntlArg::F_SETFD(FdFlag::empty()))?;
    for signal in 1..SIGNALS_END {
        // Those that cannot be changed refuse, which is right.
        // SAFETY: the default disposition runs no code of this process.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    SigSet::empty().thread_set_mask()?;
    Ok(())
}

/// The working directory by the name that the shell has for it, which may lead over symbolic links,
/// if that is where this process is.
fn working_folder() -> io::Result<PathBuf> {
    let real = std::env::current_dir()?;
    let logical = std::env::var_os("PWD").map(PathBuf::from);
    let logical = logical.filter(|path| path.is_absolute() && is_same(path, &real));
    Ok(logical.unwrap_or(real))
}

/// The path by which `name` leads to this program: as it is if it has a slash, else in the folders of
/// `path`. None of its symbolic links is resolved.
fn find(name: &Path, folder: &Path, path: &OsStr) -> Option<PathBuf> {
    let is_own = |file: &PathBuf| is_same(file, Path::new(OWN_FILE));
    if name.as_os_str().as_encoded_bytes().contains(&b'/') {
        return Some(folder.join(name)).filter(is_own);
    }
    if name.as_os_str().is_empty() {
        return None;
    }
    let mut found = std::env::split_paths(path).map(|part| folder.join(part).join(name));
    found.find(|file| is_executable(file)).filter(is_own)
}

fn is_executable(file: &Path) -> bool {
    std::fs::metadata(file)
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & EXECUTABLE != 0)
}

fn is_same(one: &Path, other: &Path) -> bool {
    let place = |path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    place(one).is_some_and(|found| place(other) == Some(found))
}

/// In a program that [`Program::start`] has started, the channel to whoever did; `None` in others.
///
/// The variable that tells its number is removed, so that what this process starts does not look for
/// a channel. Fails if the number is not that of a channel which this process has inherited.
pub fn adopt_channel() -> Option<io::Result<Channel>> {
    let number = environment::take(CHANNEL)?;
    Some(adopt(&number).map_err(|reason| {
        let message = format!("{CHANNEL}={}: {reason}", number.to_string_lossy());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    }))
}

fn adopt(number: &OsStr) -> Result<Channel, String> {
    let number = number.to_str().and_then(|number| number.parse().ok());
    let fd = inherited::take(number.ok_or("it is not a number")?)?;
    Channel::adopt(fd).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::{AsFd, IntoRawFd};
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::sys::channel::Recv;
    use crate::sys::process::{expect_exit, fork};
    use crate::sys::{fork_lock, own_process};

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(60));

    fn program(file: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
        Program {
            file: file.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            variables: variables
                .iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            folder: "/".into(),
        }
    }

    fn shell(script: &str, variables: &[(&str, &str)]) -> Program {
        // Not every shell can name a descriptor with two digits.
        program("/bin/bash", &["a name", "-c", script], variables)
    }

    fn frame(channel: &Channel) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        match channel.recv_blocking(&mut buffer, PATIENCE).unwrap() {
            Recv::Frame { len, .. } => Some(buffer[..len].to_vec()),
            Recv::Eof => None,
            Recv::Empty => panic!("nothing came"),
        }
    }

    /// Starts a program whose script writes to the channel, and returns what it wrote.
    fn said(program: &Program, extra: &[(&str, String)]) -> String {
        let (ours, theirs) = Channel::pair().unwrap();
        let pid = program.start(&theirs, extra).unwrap();
        drop(theirs);
        let mut text = Vec::new();
        while let Some(part) = frame(&ours) {
            text.extend(part);
        }
        expect_exit(pid, 0);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn it_gets_its_arguments_folder_and_variables() {
        let _forking = fork_lock::forking();
        let script = "echo \"$0 $1|$KEPT|$MORE|$LISTEN_FDS$LISTEN_PID$LISTEN_FDNAMES|\
            $WATCHDOG_PID|$HOME|$PWD\" >&$RGUNICORN_UPGRADE";
        let variables = [
            ("KEPT", "kept"),
            ("LISTEN_FDS", "1"),
            ("LISTEN_PID", "1"),
            ("LISTEN_FDNAMES", "x"),
            ("WATCHDOG_PID", "1"),
            ("RGUNICORN_UPGRADE", "99"),
        ];
        let mut program = shell(script, &variables);
        program.arguments.extend(["zero".into(), "one".into()]);
        let told = said(&program, &[("MORE", "more".to_owned())]);
        assert_eq!(told, "zero one|kept|more||||/\n");
    }

    #[test]
    fn it_gets_the_streams_and_the_channel_and_no_other_descriptor() {
        let _forking = fork_lock::forking();
        let (reader, _writer) = io::pipe().unwrap();
        // Inherited by this process, say: not closed by exec.
        fcntl(&reader, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let script = "set -- /proc/$$/fd/*; echo $# >&$RGUNICORN_UPGRADE";
        // Three streams, the channel, and the folder while it is being read.
        assert_eq!(said(&shell(script, &[]), &[]), "5\n");
    }

    #[test]
    fn no_signal_is_blocked_or_ignored_in_it() {
        let _forking = fork_lock::forking();
        // The shell changes some for itself, and changes them back for what takes its place.
        let script = "exec grep -E '^Sig(Blk|Ign):' /proc/self/status >&$RGUNICORN_UPGRADE";
        let child = fork(|| {
            SigSet::all().thread_set_mask().unwrap();
            for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGUSR1, 40] {
                // SAFETY: to ignore a signal runs no code of this process.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            let told = said(&shell(script, &[]), &[]);
            for line in told.lines() {
                let (name, mask) = line.split_once(":").unwrap();
                let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
                // 32 and 33 are the C library's own, which lets nobody change them.
                assert_eq!(mask & !(0b11 << 31), 0, "{name}");
            }
            assert_eq!(told.lines().count(), 2);
            0
        });
        expect_exit(child.unwrap(), 0);
    }

    #[test]
    fn what_cannot_be_executed_is_an_error_and_leaves_no_child() {
        let _forking = fork_lock::forking();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("program");
        fs::write(&file, "").unwrap();
        let child = fork(|| {
            let (_ours, theirs) = Channel::pair().unwrap();
            let kind = |program: Program| program.start(&theirs, &[]).unwrap_err().kind();
            let plain = program(file.to_str().unwrap(), &["x"], &[]);
            assert_eq!(kind(plain), io::ErrorKind::PermissionDenied);
            let missing = program("/no/such/file", &["x"], &[]);
            assert_eq!(kind(missing), io::ErrorKind::NotFound);
            let mut moved = shell("true", &[]);
            moved.folder = "/no/such/folder".into();
            assert_eq!(kind(moved), io::ErrorKind::NotFound);
            let none = nix::sys::wait::waitpid(None, None);
            i32::from(none != Err(nix::errno::Errno::ECHILD))
        });
        expect_exit(child.unwrap(), 0);
    }

    #[test]
    fn a_started_program_adopts_its_channel_once() {
        let test = a_started_program_adopts_its_channel_once;
        if std::env::var_os(CHANNEL).is_some() {
            return own_process::run(&test, &[], || {
                let channel = adopt_channel().unwrap().unwrap();
                assert_eq!(std::env::var_os(CHANNEL), None);
                assert!(adopt_channel().is_none());
                let flags = fcntl(&channel, FcntlArg::F_GETFD).unwrap();
                assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
                channel.send(b"ready", &[]).unwrap();
                assert_eq!(frame(&channel).unwrap(), b"go");
            });
        }
        let _forking = fork_lock::forking();
        let (ours, theirs) = Channel::pair().unwrap();
        let (file, arguments, own) = own_process::again(&test);
        let mut started = shell("exec \"$0\" \"$@\" >/dev/null", &[]);
        started.arguments.push(file.into());
        started
            .arguments
            .extend(arguments.into_iter().map(OsString::from));
        let pid = started.start(&theirs, &[own]).unwrap();
        drop(theirs);
        assert_eq!(frame(&ours).unwrap(), b"ready");
        ours.send(b"go", &[]).unwrap();
        expect_exit(pid, 0);
    }

    #[test]
    fn what_is_no_inherited_channel_is_refused() {
        own_process::run(&what_is_no_inherited_channel_is_refused, &[], || {
            assert!(adopt_channel().is_none());
            let (reader, _writer) = io::pipe().unwrap();
            let own = reader.as_raw_fd().to_string();
            let refused = |value: &str, reason: &str| {
                // SAFETY: this process has one thread.
                unsafe { std::env::set_var(CHANNEL, value) };
                let error = adopt_channel().unwrap().unwrap_err();
                let expected = format!("RGUNICORN_UPGRADE={value}: {reason}");
                assert_eq!(error.to_string(), expected);
                assert!(adopt_channel().is_none());
            };
            refused("x", "it is not a number");
            refused("2", "it is a standard stream");
            refused("99999", "it is not open");
            refused(&own, "it is already in use by this process");
            fcntl(&reader, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            assert!(reader.as_fd().try_clone_to_owned().is_ok());
            let _ = reader.into_raw_fd();
            refused(&own, "it is not a connected SEQPACKET socket");
        });
    }

    #[test]
    fn this_program_is_found_by_its_name_and_links_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let own = fs::read_link(OWN_FILE).unwrap();
        let (link, other) = (folder.path().join("server"), folder.path().join("other"));
        symlink(&own, &link).unwrap();
        symlink("/bin/sh", &other).unwrap();
        let find_in = |name: &str, path: &str| find(Path::new(name), folder.path(), path.as_ref());
        let path = format!("/nowhere::{}", folder.path().display());
        assert_eq!(
            find_in("./server", ""),
            Some(folder.path().join("./server"))
        );
        assert_eq!(find_in(link.to_str().unwrap(), ""), Some(link.clone()));
        assert_eq!(find_in("server", &path), Some(folder.path().join("server")));
        // A name that leads to another program, as one that was made up does.
        assert_eq!(find_in("./other", ""), None);
        assert_eq!(find_in("other", &path), None);
        assert_eq!(find_in("server", "/nowhere"), None);
        assert_eq!(find_in("", &path), None);
    }

    #[test]
    fn what_is_captured_is_what_this_process_was_started_with() {
        let _forking = fork_lock::forking();
        let captured = Program::capture().unwrap();
        assert!(is_same(captured.file(), Path::new(OWN_FILE)));
        assert!(captured.arguments.iter().cloned().eq(std::env::args_os()));
        assert!(is_same(&captured.folder, &std::env::current_dir().unwrap()));
        assert!(!captured.variables.is_empty());
    }
}
