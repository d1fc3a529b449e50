//! Defines the border with the kernel: processes, signals, sockets, files, shared memory and timers.
//!
//! Invariant: apart from the one call that maps a compiled component, all `unsafe` code of the
//! server is below this module, and what this module exports is safe to call.
#![allow(unsafe_code, reason = "this is the room for it")]

pub mod bell;
pub mod channel;
pub mod clock;
pub mod daemon;
mod environment;
pub mod file_watch;
pub mod identity;
mod inherited;
pub mod log_file;
pub mod memory_file;
pub mod pid_file;
pub mod poll;
pub mod process;
pub mod program;
mod queue;
pub mod random;
pub mod shared;
pub mod signals;
pub mod socket;
mod socket_file;
pub mod stdio;
pub mod stream;
pub mod systemd;
pub mod timer;
pub mod title;
mod unix_queue;
pub mod watch;

/// A forked child holds copies of whatever the tests beside it have open. So a test that forks
/// excludes those that need a closed descriptor to be closed.
#[cfg(test)]
pub(crate) mod fork_lock {
    use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

    static LOCK: RwLock<()> = RwLock::new(());

    /// For a test that forks, until its child is reaped.
    pub(crate) fn forking() -> RwLockWriteGuard<'static, ()> {
        LOCK.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a test that relies on closing.
    pub(crate) fn closing() -> RwLockReadGuard<'static, ()> {
        LOCK.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The environment and the standard streams belong to the whole process. So a test that changes
/// them does it in a process of its own.
#[cfg(test)]
mod own_process {
    use std::any::type_name_of_val;
    use std::path::PathBuf;
    use std::process::Command;

    use super::{fork_lock, process};

    /// Says that this is the process of one test.
    const OWN: &str = "RGUNICORN_TEST_IN_OWN_PROCESS";

    /// A program that runs one test again: `test` is the function that calls [`run`].
    pub(super) fn again<T>(test: &T) -> (PathBuf, Vec<String>, (&'static str, String)) {
        let (_, name) = type_name_of_val(test).split_once("::").unwrap();
        let arguments = ["--exact", name, "--nocapture", "--quiet"].map(str::to_owned);
        let program = std::env::current_exe().unwrap();
        (program, arguments.to_vec(), (OWN, "1".to_owned()))
    }

    /// Runs `body` in a process with one thread that does nothing else, with these variables;
    /// fails if it panics.
    pub(super) fn run<T>(test: &T, variables: &[(&str, &str)], body: impl FnOnce()) {
        let _forking = fork_lock::forking();
        if std::env::var_os(OWN).is_some() {
            let child = process::fork(|| {
                body();
                0
            });
            return process::expect_exit(child.unwrap(), 0);
        }
        let (program, arguments, own) = again(test);
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(variables.iter().copied())
            .env(own.0, own.1);
        let output = command.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("1 passed"), "{text}");
    }
}
