//! Defines processes: making, limiting, signalling and reaping them.
//!
//! Invariant: a child never returns into the code of its parent, and between fork and the child's
//! first instruction no signal is lost or handled by the parent's rules.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::ForkResult;

use super::signals::Signal;

/// Exit code of a child whose code panicked.
const PANICKED: i32 = 1;

/// Signals that stay blocked in a child until it makes its own
/// [`SignalQueue`](super::signals::SignalQueue). Faults and SIGABRT are not among them: they must
/// reach a handler, or kill.
const HELD: [Signal; 11] = [
    Signal::Term,
    Signal::Int,
    Signal::Quit,
    Signal::Chld,
    Signal::Ttin,
    Signal::Ttou,
    Signal::Hup,
    Signal::Usr1,
    Signal::Usr2,
    Signal::Winch,
    Signal::Prof,
];

/// The number of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(i32);

impl fmt::Display for Pid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Why a process is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It ended by itself with this status, 0 to 255.
    Exited(i32),
    /// This signal killed it.
    Signaled(i32),
}

impl fmt::Display for ExitReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(formatter, "exit status {status}"),
            Self::Signaled(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(formatter, "signal {signal}"),
                Err(_) => write!(formatter, "signal {number}"),
            },
        }
    }
}

/// The number of this process.
pub fn own_pid() -> Pid {
    Pid(nix::unistd::getpid().as_raw())
}

/// Starts a process that runs `child` and exits with what it returns, or with 1 if it panics.
///
/// The child starts with the signals that order it about blocked, whatever the parent's mask is. It
/// leaves by `_exit`: no destructor of the parent and no `atexit` function runs in it. The parent
/// must have one thread unless `child` only does what is safe in a signal handler. Fails as fork(2)
/// does, which for want of processes or memory is `EAGAIN` or `ENOMEM`: try later.
pub fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // What is buffered now would be written by both; a broken output is no reason not to fork. The
    // lock is held so that in the child no thread that it lacks can be holding it.
    let mut stdout = io::stdout().lock();
    let _ = stdout.flush();
    let parent_mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: the caller promises one thread, so no lock is held by a thread that the child lacks.
    match unsafe { nix::unistd::fork() } {
        Ok(ForkResult::Child) => {
            drop(stdout);
            let status = catch_unwind(AssertUnwindSafe(|| {
                child_mask(parent_mask)
                    .thread_set_mask()
                    .map_or(PANICKED, |()| child())
            }));
            let _ = catch_unwind(|| io::stdout().flush());
            // SAFETY: `_exit` has no preconditions.
            unsafe { libc::_exit(status.unwrap_or(PANICKED)) }
        }
        Ok(ForkResult::Parent { child }) => {
            parent_mask.thread_set_mask()?;
            Ok(Pid(child.as_raw()))
        }
        Err(error) => {
            parent_mask.thread_set_mask()?;
            Err(error.into())
        }
    }
}

fn child_mask(mut mask: SigSet) -> SigSet {
    for signal in HELD {
        mask.add(signal.to_nix());
    }
    mask
}

/// The next child that has ended, if there is one: call it until `None`.
pub fn reap() -> Option<(Pid, ExitReason)> {
    // Not nix's waitpid: it reaps a child that a real-time signal killed and loses its number.
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid > 0 && libc::WIFEXITED(status) {
            return Some((Pid(pid), ExitReason::Exited(libc::WEXITSTATUS(status))));
        }
        if pid > 0 && libc::WIFSIGNALED(status) {
            return Some((Pid(pid), ExitReason::Signaled(libc::WTERMSIG(status))));
        }
        if pid == 0 || (pid < 0 && Errno::last() != Errno::EINTR) {
            return None;
        }
    }
}

/// Sends `signal` to `pid`. The caller must not have reaped it, or the number may be another's.
pub fn kill(pid: Pid, signal: Signal) -> io::Result<()> {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.0), signal.to_nix())?;
    Ok(())
}

/// Limits this process's address space; an allocation beyond it fails.
pub fn limit_address_space(bytes: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
    Ok(())
}

/// Limits this process's CPU time: SIGXCPU kills it after `seconds`, and SIGKILL one second later.
pub fn limit_cpu(seconds: u64) -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CPU, seconds, seconds.saturating_add(1))?;
    Ok(())
}

/// Raises the number of files that may be open to what the hard limit allows, and returns it.
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// How many threads this process has. Needs `/proc`.
pub fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;
    use crate::sys::fork_lock;

    /// Waits for one child and no other: the tests run side by side.
    fn wait_for(pid: Pid) -> ExitReason {
        match waitpid(nix::unistd::Pid::from_raw(pid.0), None).unwrap() {
            WaitStatus::Exited(_, status) => ExitReason::Exited(status),
            WaitStatus::Signaled(_, signal, _) => ExitReason::Signaled(signal as i32),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_status_is_what_the_closure_returns() {
        let _forking = fork_lock::forking();
        assert_eq!(wait_for(fork(|| 42).unwrap()), ExitReason::Exited(42));
    }

    #[test]
    fn a_panic_is_exit_status_1() {
        let _forking = fork_lock::forking();
        // `resume_unwind` panics without the hook, which might wait for a lock of another thread.
        let pid = fork(|| std::panic::resume_unwind(Box::new(()))).unwrap();
        assert_eq!(wait_for(pid), ExitReason::Exited(PANICKED));
    }

    #[test]
    fn a_child_holds_signals_back_but_not_faults() {
        let _forking = fork_lock::forking();
        let before = SigSet::thread_get_mask().unwrap();
        let pid = fork(|| {
            let mask = SigSet::thread_get_mask().unwrap();
            let held = HELD.iter().all(|signal| mask.contains(signal.to_nix()));
            let faults = [nix::sys::signal::SIGSEGV, nix::sys::signal::SIGABRT];
            i32::from(!held || faults.iter().any(|signal| mask.contains(*signal)))
        });
        assert_eq!(wait_for(pid.unwrap()), ExitReason::Exited(0));
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }

    #[test]
    fn a_held_signal_waits_and_a_kill_does_not() {
        let _forking = fork_lock::forking();
        let pid = fork(|| {
            loop {
                nix::unistd::pause();
            }
        });
        let pid = pid.unwrap();
        kill(pid, Signal::Term).unwrap();
        kill(pid, Signal::Kill).unwrap();
        assert_eq!(wait_for(pid), ExitReason::Signaled(libc::SIGKILL));
    }

    /// Reaping takes any child, so it is tried in a process that has no others.
    #[test]
    fn reaping_tells_how_each_child_ended_and_then_that_none_is_left() {
        let _forking = fork_lock::forking();
        let next = || {
            loop {
                if let Some(ended) = reap() {
                    break ended;
                }
            }
        };
        let pid = fork(|| {
            let exits = fork(|| 7).map(|pid| next() == (pid, ExitReason::Exited(7)));
            let realtime = fork(|| {
                // SAFETY: the signal is not handled here: it kills.
                unsafe { libc::raise(40) }
            });
            let dies = realtime.map(|pid| next() == (pid, ExitReason::Signaled(40)));
            let good = matches!((exits, dies), (Ok(true), Ok(true))) && reap().is_none();
            i32::from(!good)
        });
        assert_eq!(wait_for(pid.unwrap()), ExitReason::Exited(0));
    }

    #[test]
    fn limits_hold_in_the_process_that_sets_them() {
        let _forking = fork_lock::forking();
        let pid = fork(|| {
            let limited = limit_address_space(1 << 30)
                .and_then(|()| limit_cpu(7))
                .is_ok();
            let read = [Resource::RLIMIT_AS, Resource::RLIMIT_CPU].map(getrlimit);
            i32::from(!limited || read != [Ok((1 << 30, 1 << 30)), Ok((7, 8))])
        });
        assert_eq!(wait_for(pid.unwrap()), ExitReason::Exited(0));
    }

    #[test]
    fn a_fresh_child_has_one_thread() {
        let _forking = fork_lock::forking();
        let pid = fork(|| i32::from(!matches!(thread_count(), Ok(1)))).unwrap();
        assert_eq!(wait_for(pid), ExitReason::Exited(0));
    }

    #[test]
    fn the_open_file_limit_is_the_hard_one() {
        let raised = raise_open_files().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((soft, hard), (raised, raised));
    }

    #[test]
    fn reasons_name_the_signal() {
        assert_eq!(ExitReason::Exited(3).to_string(), "exit status 3");
        assert_eq!(ExitReason::Signaled(11).to_string(), "signal SIGSEGV");
        assert_eq!(ExitReason::Signaled(40).to_string(), "signal 40");
    }
}
