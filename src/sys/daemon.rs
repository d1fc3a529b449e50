//! Defines how the server leaves the terminal that it was started from, and how the terminal learns
//! whether it runs.
//!
//! Invariant: the command that was started ends when the daemon has said how its start went, or is
//! gone, and not before.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

use super::channel::{Channel, Recv};
use super::poll::{self, Watched};
use super::process;

/// Exit code for a daemon that ended without a word.
const GONE: i32 = 1;

/// Which of the two processes this is after [`detach`].
#[derive(Debug)]
pub enum Side {
    /// The command that was started: it waits and ends.
    Foreground(Waiting),
    /// The daemon: it becomes the server.
    Daemon(Report),
}

/// The end of the foreground process.
#[derive(Debug)]
pub struct Waiting(Channel);

/// The end of the daemon, which reports once how its start went. A start that is not reported is
/// reported as exit code 1 when this is dropped.
///
/// Every forked child has a copy, which must be dropped in it: while one is open the foreground
/// process cannot see that the daemon is gone.
#[derive(Debug)]
pub struct Report {
    channel: Channel,
    null: File,
}

/// Makes a process that belongs to no terminal and is nobody's child, and returns in both.
///
/// The daemon has a session of its own, which it does not lead, so that it never gets a terminal
/// (setsid(2)). Its standard input and output are `/dev/null`; standard error stays, until
/// [`Report::ready`]. Its working directory and umask are the caller's. Fails, before anything has
/// happened, in a process with several threads.
pub fn detach() -> io::Result<Side> {
    if process::thread_count()? != 1 {
        return Err(io::Error::other(
            "a process with several threads cannot become a daemon",
        ));
    }
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    let (ours, theirs) = Channel::pair()?;
    // What is buffered now would be written by both.
    let _ = io::stdout().flush();
    // SAFETY: there is one thread, so no lock is held by a thread that the child lacks.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(theirs);
            match wait_for(child)? {
                WaitStatus::Exited(_, 0) => Ok(Side::Foreground(Waiting(ours))),
                WaitStatus::Exited(_, errno) => Err(io::Error::from_raw_os_error(errno)),
                _ => Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
        ForkResult::Child => {
            drop(ours);
            leave_session();
            dup2_stdin(&null)?;
            dup2_stdout(&null)?;
            Ok(Side::Daemon(Report {
                channel: theirs,
                null,
            }))
        }
    }
}

fn wait_for(child: nix::unistd::Pid) -> nix::Result<WaitStatus> {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Returns in a child of this process alone; this one ends, with 0 or with the error as its status.
fn leave_session() {
    // SAFETY: as in `detach`: it has one thread.
    let forked = setsid().and_then(|_| unsafe { fork() });
    let status = match forked {
        Ok(ForkResult::Child) => return,
        Ok(ForkResult::Parent { .. }) => 0,
        Err(error) => error as i32,
    };
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

impl Waiting {
    /// Waits until the daemon serves or has failed, and returns the exit code: 0, or what
    /// [`Report::failed`] said, or 1 if the daemon ended without a word.
    pub fn wait(self) -> i32 {
        let mut code = [0; size_of::<i32>()];
        loop {
            match self.0.recv(&mut code) {
                Ok(Recv::Frame { .. }) => return i32::from_le_bytes(code),
                Ok(Recv::Eof) | Err(_) => return GONE,
                Ok(Recv::Empty) => {}
            }
            if poll::wait(&mut [Watched::readable(self.0.as_fd())], None).is_err() {
                return GONE;
            }
        }
    }
}

impl Report {
    /// Says that the server runs. Unless `keep_stderr`, which is for a standard error that is no
    /// longer the terminal's, standard error becomes `/dev/null` first.
    pub fn ready(self, keep_stderr: bool) {
        if !keep_stderr {
            // The descriptors are open: there is nothing to fail.
            let _ = dup2_stderr(&self.null);
        }
        self.tell(0);
    }

    /// Says that the start has failed, and the exit code that tells why.
    pub fn failed(self, code: i32) {
        self.tell(code);
    }

    fn tell(self, code: i32) {
        // If nobody waits any more, nobody has to know.
        let _ = self.channel.send(&code.to_le_bytes(), &[]);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use nix::unistd::{getpid, getppid, getsid};

    use super::*;
    use crate::sys::fork_lock;
    use crate::sys::process::expect_exit;

    /// Runs a server that becomes a daemon, and checks the exit code of the command that started it.
    /// The daemon is given the number of that command.
    fn expect_code(code: i32, serve: impl FnOnce(Report, nix::unistd::Pid)) {
        let _forking = fork_lock::forking();
        let (alive, theirs) = io::pipe().unwrap();
        let child = process::fork(|| {
            let command = getpid();
            match detach().unwrap() {
                Side::Foreground(waiting) => waiting.wait(),
                Side::Daemon(report) => {
                    serve(report, command);
                    0
                }
            }
        });
        expect_exit(child.unwrap(), code);
        // The pipe ends when the daemon, its last holder, is gone.
        drop(theirs);
        assert_eq!(io::Read::read(&mut { alive }, &mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_daemon_has_no_terminal_no_input_and_no_output() {
        expect_code(0, |report, command| {
            let null = std::fs::metadata("/dev/null").unwrap();
            let is_null = |fd: i32| {
                let found = std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap();
                (found.dev(), found.ino()) == (null.dev(), null.ino())
            };
            assert!(is_null(0) && is_null(1));
            let (own, session) = (getpid(), getsid(None).unwrap());
            assert!(own != session && session != getsid(Some(command)).unwrap());
            assert!(getppid() != command);
            report.ready(true);
        });
    }

    #[test]
    fn standard_error_stays_until_the_start_is_reported() {
        let (reader, writer) = io::pipe().unwrap();
        expect_code(0, |report, _| {
            dup2_stderr(&writer).unwrap();
            let _ = io::stderr().write_all(b"before ");
            report.ready(true);
            let _ = io::stderr().write_all(b"kept");
        });
        expect_code(0, |report, _| {
            dup2_stderr(&writer).unwrap();
            let _ = io::stderr().write_all(b" second ");
            report.ready(false);
            let _ = io::stderr().write_all(b"lost");
        });
        drop(writer);
        let mut text = String::new();
        io::Read::read_to_string(&mut { reader }, &mut text).unwrap();
        assert_eq!(text, "before kept second ");
    }

    #[test]
    fn a_start_that_fails_has_its_exit_code() {
        expect_code(5, |report, _| report.failed(5));
    }

    #[test]
    fn a_daemon_that_ends_without_a_word_is_exit_code_1() {
        expect_code(GONE, |_, _| {});
    }

    #[test]
    fn a_process_with_several_threads_stays_what_it_is() {
        let (wait, done) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait.wait();
                done.wait();
            });
            wait.wait();
            let error = detach().map(drop).unwrap_err();
            done.wait();
            assert!(error.to_string().contains("several threads"), "{error}");
        });
    }
}
