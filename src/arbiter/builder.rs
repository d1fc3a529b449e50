//! Defines how an arbiter is put together.
//!
//! Invariant: an arbiter that was built can start: it is alone in its process, has a loader and a
//! worker to start, and hears its signals.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::action::Notice;
use super::children::{ROWS_MAX, SLOTS_MAX};
use super::exit::ExitCode;
use super::log::Who;
use super::perform::{Driver, Surroundings};
use super::plan::Plan;
use super::plans::Loaded;
use super::role::millis;
use super::state::Circumstances;
use crate::scoreboard::Scoreboard;
use crate::sys::channel::{Channel, ChannelListener};
use crate::sys::pid_file::PidFile;
use crate::sys::process;
use crate::sys::program::Program;
use crate::sys::signals::{Signal, SignalQueue};
use crate::sys::systemd;

/// Mode of the control socket: whoever can connect can stop the server.
pub const CONTROL_MODE: u32 = 0o600;

/// What the arbiter listens to.
const SIGNALS: [Signal; 10] = [
    Signal::Chld,
    Signal::Term,
    Signal::Int,
    Signal::Quit,
    Signal::Ttin,
    Signal::Ttou,
    Signal::Hup,
    Signal::Usr1,
    Signal::Usr2,
    Signal::Winch,
];

/// Why an arbiter cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another thread exists. Its locks would stay locked for ever in every child.
    #[error("cannot fork from a process with {count} threads")]
    Threads {
        /// How many there are.
        count: usize,
    },
    /// There is no worker, or there are more than 1024 children of all roles together.
    #[error("cannot run {count} children: 1 to {SLOTS_MAX} are possible")]
    Workers {
        /// What was asked for.
        count: usize,
    },
    /// The number of apps does not fit in a message.
    #[error("cannot serve {count} apps")]
    Apps {
        /// What was asked for.
        count: usize,
    },
    /// There is nothing to start.
    #[error("cannot start without a plan")]
    MissingPlan,
    /// The kernel refuses.
    #[error("cannot {operation}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
}

/// A supervisor that is ready to start.
#[derive(Debug)]
pub struct Arbiter(Driver);

impl Arbiter {
    /// Begins to put an arbiter together. It needs a [`Plan`]; all else has a default.
    pub fn builder() -> Builder {
        Builder {
            plan: None,
            surroundings: Surroundings::default(),
            predecessor: None,
            daemon: false,
        }
    }

    /// Serves until it is told to stop, or must. Returns when the last child has left.
    ///
    /// The signals it listens to stay blocked, since a late one would otherwise kill the process.
    pub fn run(self) -> ExitCode {
        self.0.run()
    }
}

/// An arbiter in the making; see [`Arbiter::builder`].
#[derive(Debug)]
pub struct Builder {
    plan: Option<Plan>,
    surroundings: Surroundings,
    predecessor: Option<Channel>,
    daemon: bool,
}

impl Builder {
    /// What to start with.
    #[must_use]
    pub fn plan(mut self, plan: Plan) -> Self {
        self.plan = Some(plan);
        self
    }

    /// How a reload makes the next plan: it is given the current one, whose listeners it may use
    /// again, and answers with the plan or with the reason why there is none. Without it a reload is refused.
    /// It runs in the arbiter, and must not block.
    #[must_use]
    pub fn plan_again(
        mut self,
        plan_again: impl Fn(&Plan) -> Result<Plan, String> + 'static,
    ) -> Self {
        self.surroundings.plan_again = Some(Box::new(plan_again));
        self
    }

    /// What to do, in the arbiter, when the first worker is ready. It must not block.
    #[must_use]
    pub fn on_ready(mut self, on_ready: impl FnOnce() + 'static) -> Self {
        self.surroundings.on_ready = Some(Box::new(on_ready));
        self
    }

    /// Whom to tell, in the arbiter, of everything that happens: a child that was started, is ready or
    /// has ended and why, a new generation, a stop. It must not block.
    #[must_use]
    pub fn on_notice(mut self, on_notice: impl FnMut(&Notice, Option<Who>) + 'static) -> Self {
        self.surroundings.on_notice = Some(Box::new(on_notice));
        self
    }

    /// Where control clients connect.
    ///
    /// With a predecessor, `listener` is what that hands over, if it does. Nobody is let in before it
    /// has left, and if the listener is not at `path`, another is bound there then.
    #[must_use]
    pub fn control(mut self, listener: Option<ChannelListener>, path: Option<PathBuf>) -> Self {
        self.surroundings.control = listener;
        self.surroundings.control_path = path;
        self
    }

    /// The file that says who the arbiter is. At the end it is removed.
    ///
    /// With a predecessor it has another name, and gets `path` when that has left.
    #[must_use]
    pub fn pid_file(mut self, file: Option<PidFile>, path: Option<PathBuf>) -> Self {
        self.surroundings.pid_file = file;
        self.surroundings.pid_path = path;
        self
    }

    /// Where the log goes, if not to standard error: what SIGUSR1 opens again.
    #[must_use]
    pub fn log_file(mut self, path: Option<PathBuf>) -> Self {
        self.surroundings.log_path = path;
        self
    }

    /// What an upgrade starts. Without it an upgrade is refused.
    #[must_use]
    pub fn program(mut self, program: Option<Program>) -> Self {
        self.surroundings.program = program;
        self
    }

    /// The arbiter of the program before, which has started this one and waits to hear from it.
    #[must_use]
    pub fn predecessor(mut self, channel: Option<Channel>) -> Self {
        self.predecessor = channel;
        self
    }

    /// Whether the server runs in the background: then SIGWINCH retires the workers.
    #[must_use]
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.daemon = daemon;
        self
    }

    /// How process titles begin; `rgunicorn` by default. They are shown if the process has called
    /// [`title::prepare`](crate::sys::title::prepare).
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.surroundings.name = name.into();
        self
    }

    /// Checks everything, and blocks the signals that the arbiter listens to.
    ///
    /// # Errors
    /// When the plan cannot be carried out, the process has several threads, or the kernel refuses.
    pub fn build(self) -> Result<Arbiter, Error> {
        let plan = self.plan.ok_or(Error::MissingPlan)?;
        let settings = plan.settings()?;
        let system = |operation| move |source| Error::System { operation, source };
        match process::thread_count().map_err(system("count the threads of the process"))? {
            1 => {}
            count => return Err(Error::Threads { count }),
        }
        let scoreboard = Scoreboard::new(ROWS_MAX).map_err(system("map the scoreboard"))?;
        let signals = SignalQueue::new(&SIGNALS).map_err(system("listen for signals"))?;
        let circumstances = Circumstances {
            daemon: self.daemon,
            predecessor: self.predecessor.is_some(),
            watchdog_ms: systemd::watchdog_interval().map(millis),
        };
        let mut surroundings = self.surroundings;
        surroundings.predecessor = self.predecessor;
        let first = Loaded::new(plan).map_err(system("make a group of workers"))?;
        Ok(Arbiter(Driver::new(
            circumstances,
            settings,
            first,
            surroundings,
            signals,
            Arc::new(scoreboard),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbiter::role::Role;

    fn plan() -> Plan {
        Plan::new(Role::new("worker", |_| 0))
    }

    fn check(builder: Builder, expect: &str) {
        assert_eq!(builder.build().unwrap_err().to_string(), expect);
    }

    #[test]
    fn an_impossible_arbiter_is_refused() {
        let of = |plan| Arbiter::builder().plan(plan);
        check(
            of(plan().workers(0)),
            "cannot run 0 children: 1 to 1024 are possible",
        );
        check(
            of(plan().workers(1025)),
            "cannot run 1025 children: 1 to 1024 are possible",
        );
        check(
            of(plan()
                .workers(1024)
                .role(Role::new("clock", |_| 0), 1, Vec::new())),
            "cannot run 1025 children: 1 to 1024 are possible",
        );
        check(
            of(plan().loader(Role::new("loader", |_| 0), usize::MAX)),
            &format!("cannot serve {} apps", usize::MAX),
        );
        check(Arbiter::builder(), "cannot start without a plan");
    }

    #[test]
    fn a_process_with_threads_cannot_be_forked() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let error = Arbiter::builder().plan(plan()).build().unwrap_err();
        assert!(
            matches!(error, Error::Threads { count } if count >= 2),
            "{error}"
        );
        drop(stop);
        assert!(thread.join().unwrap().is_err());
    }
}
