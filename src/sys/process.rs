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
use nix::unistd::{ForkResult, SysconfVar, sysconf};

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

impl Pid {
    /// The process with this number; `None` for 0 and for what no process has as its number, which
    /// mean groups of processes to kill(2).
    pub fn from_number(number: u32) -> Option<Self> {
        i32::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .map(Self)
    }

    /// The number.
    pub fn number(self) -> u32 {
        self.0.unsigned_abs()
    }
}

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

impl ExitReason {
    /// Whether the kernel has ended it for using more CPU time than it may, see [`limit_cpu`].
    pub fn is_out_of_cpu_time(self) -> bool {
        self == Self::Signaled(libc::SIGXCPU)
    }
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

/// The process that has started this one, or whoever adopted it since; 0, which is no process, if
/// that one is in another pid namespace.
pub fn parent_pid() -> Pid {
    Pid(nix::unistd::getppid().as_raw())
}

/// Whether this process is number 1, as in a container: the kernel gives it every orphan to reap,
/// and kills it only with signals that it does not leave at their default.
pub fn is_first_process() -> bool {
    own_pid() == Pid(1)
}

/// The user with whose rights this process acts.
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Has the kernel kill this process when the thread that forked it ends. See prctl(2),
/// `PR_SET_PDEATHSIG`.
///
/// Fails with `BrokenPipe` if `parent`, the process that forked this one, has already ended. The
/// kernel forgets it when the process changes its user or group.
pub fn die_with_parent(parent: Pid) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::Kill.to_nix())?;
    // It may have ended before the call: then nobody sends the signal.
    if parent_pid() != parent {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Bytes of memory that a process has in use, shared or not: the resident set of proc_pid_statm(5).
///
/// Fails with `NotFound` if there is no such process.
pub fn resident_bytes(pid: Pid) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm"))?;
    let pages = text.split_whitespace().nth(1);
    let pages = pages.and_then(|pages| pages.parse::<u64>().ok());
    let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|bytes| u64::try_from(bytes).ok());
    match (pages, page) {
        (Some(pages), Some(page)) => Ok(pages * page),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Bytes of memory that a process has in use, where what is shared counts in equal parts for those
/// who share it: `Pss` of proc_pid_smaps_rollup(5).
///
/// It makes the kernel walk the page tables, which takes milliseconds for a large process. Fails
/// with `NotFound` or `ESRCH` if there is no such process, and with `PermissionDenied` for another
/// user's.
pub fn proportional_bytes(pid: Pid) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let kibibytes = kibibytes.ok_or(io::ErrorKind::InvalidData)?;
    Ok(kibibytes * 1024)
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

/// How many files this process may have open.
pub fn open_files_max() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// Whether an error says that as many files are open as may be.
pub fn is_for_want_of_files(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EMFILE as i32)
}

/// How many threads this process has. Needs `/proc`.
pub fn thread_count() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task")?.count())
}

/// Waits for one child and no other, since the tests run side by side, and checks its exit status.
#[cfg(test)]
#[track_caller]
pub(super) fn expect_exit(pid: Pid, status: i32) {
    assert_eq!(tests::wait_for(pid), ExitReason::Exited(status));
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;
    use crate::sys::channel::{Channel, Recv};
    use crate::sys::fork_lock;
    use crate::sys::poll::{self, Watched};

    /// Waits for one child and no other: the tests run side by side.
    pub(super) fn wait_for(pid: Pid) -> ExitReason {
        match waitpid(nix::unistd::Pid::from_raw(pid.0), None).unwrap() {
            WaitStatus::Exited(_, status) => ExitReason::Exited(status),
            WaitStatus::Signaled(_, signal, _) => ExitReason::Signaled(signal as i32),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_number_is_a_process_only_if_it_can_be_one() {
        assert_eq!(Pid::from_number(0), None);
        assert_eq!(Pid::from_number(u32::MAX), None);
        assert_eq!(Pid::from_number(own_pid().number()), Some(own_pid()));
        assert!(!is_first_process());
    }

    #[test]
    fn a_child_knows_its_parent() {
        let _forking = fork_lock::forking();
        let parent = own_pid();
        let pid = fork(|| i32::from(parent_pid() != parent));
        assert_eq!(wait_for(pid.unwrap()), ExitReason::Exited(0));
    }

    #[test]
    fn a_child_that_wants_to_dies_with_its_parent() {
        let _forking = fork_lock::forking();
        let (ours, theirs) = Channel::pair().unwrap();
        let pid = fork(|| {
            let parent = own_pid();
            let child = fork(|| {
                die_with_parent(parent).unwrap();
                theirs.send(b"ready", &[]).unwrap();
                loop {
                    nix::unistd::pause();
                }
            });
            poll::wait(&mut [Watched::readable(ours.as_fd())], None).unwrap();
            i32::from(child.is_err())
        });
        drop(theirs);
        assert_eq!(wait_for(pid.unwrap()), ExitReason::Exited(0));
        // The channel ends when its last other holder, the grandchild, is gone.
        let mut frames = 0;
        loop {
            poll::wait(&mut [Watched::readable(ours.as_fd())], None).unwrap();
            match ours.recv(&mut [0; 8]).unwrap() {
                Recv::Eof => break,
                _ => frames += 1,
            }
        }
        assert_eq!(frames, 1);
    }

    #[test]
    fn a_parent_that_is_gone_already_is_an_error() {
        let _forking = fork_lock::forking();
        let other = parent_pid();
        let pid = fork(|| {
            let error = die_with_parent(other).unwrap_err();
            i32::from(error.kind() != io::ErrorKind::BrokenPipe)
        });
        assert_eq!(wait_for(pid.unwrap()), ExitReason::Exited(0));
    }

    #[test]
    fn memory_counts_what_is_touched_and_shared_memory_once() {
        let _forking = fork_lock::forking();
        const BYTES: u64 = 32 << 20;
        let pid = fork(|| {
            let before = (
                resident_bytes(own_pid()).unwrap(),
                proportional_bytes(own_pid()).unwrap(),
            );
            let touched = vec![1_u8; BYTES as usize];
            let resident = resident_bytes(own_pid()).unwrap() - before.0;
            let proportional = proportional_bytes(own_pid()).unwrap() - before.1;
            std::hint::black_box(touched);
            let near = |grown: u64| (BYTES * 9 / 10..BYTES * 3 / 2).contains(&grown);
            let less = proportional_bytes(own_pid()).unwrap() < resident_bytes(own_pid()).unwrap();
            i32::from(!near(resident) || !near(proportional) || !less)
        });
        let pid = pid.unwrap();
        assert_eq!(wait_for(pid), ExitReason::Exited(0));
        assert_eq!(
            resident_bytes(pid).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert!(proportional_bytes(pid).is_err());
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
