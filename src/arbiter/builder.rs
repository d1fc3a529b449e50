//! Defines how an arbiter is put together.
//!
//! Invariant: an arbiter that was built can start: it is alone in its process, has a loader and a
//! worker to start, and hears its signals.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::exit::ExitCode;
use super::perform::Driver;
use super::role::{Role, millis};
use super::state::{SLOTS_MAX, Settings};
use crate::scoreboard::Scoreboard;
use crate::sys::process;
use crate::sys::signals::{Signal, SignalQueue};
use crate::sys::socket::Listener;

/// gunicorn's graceful timeout.
const GRACEFUL_TIMEOUT: Duration = Duration::from_secs(30);
/// Boot is linking and one instance of each app; compiling is the loader's.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// Large components take minutes on small machines.
const LOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// What the arbiter listens to. It would rather ignore the last four than be killed by them.
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
    /// The number of workers is not within 1 to 1024.
    #[error("cannot run {count} workers: 1 to {SLOTS_MAX} are possible")]
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
    /// Something that a child would run is missing.
    #[error("cannot start without the {name} role")]
    MissingRole {
        /// Which role.
        name: &'static str,
    },
    /// The kernel refuses.
    #[error("cannot {operation}")]
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
    /// Begins to put an arbiter together: one worker, no app, no listener, a graceful timeout of
    /// 30 s, a boot timeout of 60 s, a load timeout of 600 s and no heartbeat.
    pub fn builder() -> Builder {
        Builder {
            workers: 1,
            apps: 0,
            boot_timeout: BOOT_TIMEOUT,
            load_timeout: Some(LOAD_TIMEOUT),
            heartbeat_timeout: None,
            graceful_timeout: GRACEFUL_TIMEOUT,
            listeners: Vec::new(),
            loader: None,
            worker: None,
            on_ready: None,
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
pub struct Builder {
    workers: usize,
    apps: usize,
    boot_timeout: Duration,
    load_timeout: Option<Duration>,
    heartbeat_timeout: Option<Duration>,
    graceful_timeout: Duration,
    listeners: Vec<Listener>,
    loader: Option<Role>,
    worker: Option<Role>,
    on_ready: Option<Box<dyn FnOnce()>>,
}

impl Builder {
    /// How many workers to start with, 1 to 1024.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// How many artefacts the loader must hand over: those of the apps 0 to `apps` - 1.
    #[must_use]
    pub fn apps(mut self, apps: usize) -> Self {
        self.apps = apps;
        self
    }

    /// The longest time from a worker's fork until it is ready.
    #[must_use]
    pub fn boot_timeout(mut self, timeout: Duration) -> Self {
        self.boot_timeout = timeout;
        self
    }

    /// The longest time from the loader's fork until it has handed over everything.
    #[must_use]
    pub fn load_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// The time by which an awake worker moves its deadline ahead; `None` watches no heartbeat.
    #[must_use]
    pub fn heartbeat_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.heartbeat_timeout = timeout;
        self
    }

    /// The longest time from the order to drain until a worker has ended.
    #[must_use]
    pub fn graceful_timeout(mut self, timeout: Duration) -> Self {
        self.graceful_timeout = timeout;
        self
    }

    /// What the workers accept from. The arbiter closes and unlinks them when it stops.
    #[must_use]
    pub fn listeners(mut self, listeners: Vec<Listener>) -> Self {
        self.listeners = listeners;
        self
    }

    /// What loads the apps, once, before the workers start.
    #[must_use]
    pub fn loader(mut self, role: Role) -> Self {
        self.loader = Some(role);
        self
    }

    /// What serves.
    #[must_use]
    pub fn worker(mut self, role: Role) -> Self {
        self.worker = Some(role);
        self
    }

    /// What to do, in the arbiter, when the first worker is ready. It must not block.
    #[must_use]
    pub fn on_ready(mut self, on_ready: impl FnOnce() + 'static) -> Self {
        self.on_ready = Some(Box::new(on_ready));
        self
    }

    /// Checks everything, and blocks the signals that the arbiter listens to.
    pub fn build(self) -> Result<Arbiter, Error> {
        if !(1..=SLOTS_MAX).contains(&self.workers) {
            return Err(Error::Workers {
                count: self.workers,
            });
        }
        let apps = u32::try_from(self.apps).map_err(|_| Error::Apps { count: self.apps })?;
        let loader = self.loader.ok_or(Error::MissingRole { name: "loader" })?;
        let worker = self.worker.ok_or(Error::MissingRole { name: "worker" })?;
        let settings = Settings {
            workers: self.workers,
            apps,
            boot_timeout_ms: millis(self.boot_timeout),
            load_timeout_ms: self.load_timeout.map(millis),
            heartbeat_timeout_ms: self.heartbeat_timeout.map(millis),
            graceful_timeout_ms: millis(self.graceful_timeout),
            loader_back_off: loader.respawn,
            worker_back_off: worker.respawn,
        };
        let system = |operation| move |source| Error::System { operation, source };
        match process::thread_count().map_err(system("count the threads of the process"))? {
            1 => {}
            count => return Err(Error::Threads { count }),
        }
        let scoreboard = Scoreboard::new(SLOTS_MAX).map_err(system("map the scoreboard"))?;
        let signals = SignalQueue::new(&SIGNALS).map_err(system("listen for signals"))?;
        let mut driver = Driver::new(settings, loader, worker, signals, Arc::new(scoreboard));
        driver.listeners = self.listeners;
        driver.on_ready = self.on_ready;
        Ok(Arbiter(driver))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role() -> Role {
        Role::new("role", |_| 0)
    }

    fn check(builder: Builder, expect: &str) {
        assert_eq!(builder.build().unwrap_err().to_string(), expect);
    }

    #[test]
    fn an_impossible_arbiter_is_refused() {
        let both = || Arbiter::builder().loader(role()).worker(role());
        check(
            both().workers(0),
            "cannot run 0 workers: 1 to 1024 are possible",
        );
        check(
            both().workers(1025),
            "cannot run 1025 workers: 1 to 1024 are possible",
        );
        check(
            both().apps(usize::MAX),
            &format!("cannot serve {} apps", usize::MAX),
        );
        check(
            Arbiter::builder().worker(role()),
            "cannot start without the loader role",
        );
        check(
            Arbiter::builder().loader(role()),
            "cannot start without the worker role",
        );
    }

    #[test]
    fn a_process_with_threads_cannot_be_forked() {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let error = Arbiter::builder()
            .loader(role())
            .worker(role())
            .build()
            .unwrap_err();
        assert!(
            matches!(error, Error::Threads { count } if count >= 2),
            "{error}"
        );
        drop(stop);
        assert!(thread.join().unwrap().is_err());
    }
}
