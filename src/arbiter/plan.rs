//! Defines a plan: everything that a generation is made from, and that a reload makes anew.
//!
//! Invariant: a plan that was checked can be carried out: its numbers are within their ranges.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::builder::Error;
use super::children::{SLOTS_MAX, WORKER};
use super::generation::{MemoryLimit, Settings, Staffing, Upgrade};
use super::role::{BackOff, Role, millis};
use crate::accept::Through;
use crate::access;
use crate::protocol::report::AppReport;
use crate::protocol::upgrade::SECRET_BYTES;
use crate::sys::identity::Identity;
use crate::sys::process::{self, Pid};
use crate::sys::socket::Listener;

/// gunicorn's graceful timeout.
const GRACEFUL_TIMEOUT: Duration = Duration::from_secs(30);
/// Boot is linking and one instance of each app; compiling is the loader's.
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// Large components take minutes on small machines.
const LOAD_TIMEOUT: Duration = Duration::from_secs(600);
/// The new program may have to compile.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(300);

/// What a generation is made from: roles, listeners and times. See the methods for the defaults.
#[derive(Debug)]
pub struct Plan {
    pub(super) worker: Role,
    pub(super) workers: usize,
    pub(super) others: Vec<(Role, usize)>,
    pub(super) loader: Option<Role>,
    pub(super) apps: usize,
    pub(super) listeners: Vec<Open>,
    pub(super) accept: Option<Through>,
    pub(super) identity: Option<Identity>,
    pub(super) access_log: Option<access::Log>,
    pub(super) watched_files: Vec<PathBuf>,
    scheme: &'static str,
    pub(super) secret: Option<[u8; SECRET_BYTES]>,
    pub(super) description: Description,
    boot_timeout: Duration,
    load_timeout: Option<Duration>,
    heartbeat_timeout: Option<Duration>,
    graceful_timeout: Duration,
    upgrade_timeout: Duration,
    upgrade: Upgrade,
    max_unavailable: usize,
    max_lifetime: Option<Duration>,
    memory: Option<MaxMemory>,
}

/// A listener of a plan.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) key: String,
    pub(super) listener: Listener,
    /// Whose children accept from it.
    pub(super) role: usize,
    /// Which of them, if not all.
    pub(super) slot: Option<usize>,
}

/// When a worker has too much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxMemory {
    /// More bytes than this are too much,
    pub bytes: u64,
    /// when they are found in so many samples in a row,
    pub samples: u32,
    /// which are so far apart.
    pub interval: Duration,
    /// What counts.
    pub measure: Measure,
}

/// What counts as a process's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// All that is in memory (RSS), though others may share it.
    Resident,
    /// What it has alone, and its part of what it shares (PSS).
    Proportional,
}

impl Measure {
    /// Measures a process, in bytes.
    ///
    /// # Errors
    /// When the process is gone, or not ours.
    pub fn of(self, pid: Pid) -> io::Result<u64> {
        match self {
            Self::Resident => process::resident_bytes(pid),
            Self::Proportional => process::proportional_bytes(pid),
        }
    }
}

/// What the control socket shows of a plan; the arbiter does not understand it.
#[derive(Debug, Clone, Default)]
pub struct Description {
    /// The apps.
    pub apps: Vec<AppReport>,
    /// The settings, as text.
    pub config: String,
}

impl Plan {
    /// One worker of this role, no loader, no listener, a graceful timeout of 30 s, a boot timeout
    /// of 60 s, no heartbeat, and nothing that retires a worker.
    pub fn new(worker: Role) -> Self {
        Self {
            worker,
            workers: 1,
            others: Vec::new(),
            loader: None,
            apps: 0,
            listeners: Vec::new(),
            accept: None,
            identity: None,
            access_log: None,
            watched_files: Vec::new(),
            scheme: "http",
            secret: None,
            description: Description::default(),
            boot_timeout: BOOT_TIMEOUT,
            load_timeout: Some(LOAD_TIMEOUT),
            heartbeat_timeout: None,
            graceful_timeout: GRACEFUL_TIMEOUT,
            upgrade_timeout: UPGRADE_TIMEOUT,
            upgrade: Upgrade::Auto,
            max_unavailable: 0,
            max_lifetime: None,
            memory: None,
        }
    }

    /// How many workers there are, at least 1; 1024 slots of all roles together are the most.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Adds `count` children of another role, which accept from these listeners, if from any. They
    /// are started, watched, replaced and stopped like workers, and a reload succeeds only when they
    /// are ready too.
    #[must_use]
    pub fn role(mut self, role: Role, count: usize, listeners: Vec<(String, Listener)>) -> Self {
        self.others.push((role, count));
        let role = self.others.len();
        for (key, listener) in listeners {
            self.listeners.push(Open {
                key,
                listener,
                role,
                slot: None,
            });
        }
        self
    }

    /// What loads the apps, once in a generation, before anybody else of it starts; it must hand over
    /// the artefacts of the apps 0 to `apps` - 1.
    #[must_use]
    pub fn loader(mut self, role: Role, apps: usize) -> Self {
        self.loader = Some(role);
        self.apps = apps;
        self
    }

    /// Adds something that the workers accept from. Listeners of two plans are the same one if they have the same
    /// key: then it is kept open. The arbiter closes and unlinks it when nobody needs it any more.
    #[must_use]
    pub fn listener(self, key: impl Into<String>, listener: Listener) -> Self {
        self.listener_of(None, key, listener)
    }

    /// The same, for the worker in this slot alone: it must serve its queue, so while there is such a
    /// listener, the number of workers cannot be changed.
    #[must_use]
    pub fn listener_of(
        mut self,
        slot: Option<usize>,
        key: impl Into<String>,
        listener: Listener,
    ) -> Self {
        self.listeners.push(Open {
            key: key.into(),
            listener,
            role: WORKER,
            slot,
        });
        self
    }

    /// How the workers agree on who accepts; by default they do not, and each may try.
    #[must_use]
    pub fn accept(mut self, through: Option<Through>) -> Self {
        self.accept = through;
        self
    }

    /// Who the children become; by default they stay who the arbiter is.
    #[must_use]
    pub fn identity(mut self, identity: Option<Identity>) -> Self {
        self.identity = identity;
        self
    }

    /// How the URLs of its listeners begin, in place of `http`.
    #[must_use]
    pub fn scheme(mut self, scheme: &'static str) -> Self {
        self.scheme = scheme;
        self
    }

    /// What the processes of this server share and nobody else knows. The plans of its reloads and
    /// the next program of an upgrade are to have the same: the arbiter hands it over.
    #[must_use]
    pub fn secret(mut self, secret: [u8; SECRET_BYTES]) -> Self {
        self.secret = Some(secret);
        self
    }

    /// The secret of [`secret`](Self::secret).
    pub fn shared_secret(&self) -> Option<[u8; SECRET_BYTES]> {
        self.secret
    }

    /// The access log, which is open: each child of a slot has it, and the arbiter writes the lines of
    /// requests that died with their worker.
    #[must_use]
    pub fn access_log(mut self, log: Option<access::Log>) -> Self {
        self.access_log = log;
        self
    }

    /// Files whose change begins a reload.
    #[must_use]
    pub fn watched_files(mut self, files: Vec<PathBuf>) -> Self {
        self.watched_files = files;
        self
    }

    /// What the control socket shows.
    #[must_use]
    pub fn description(mut self, description: Description) -> Self {
        self.description = description;
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

    /// The longest time from the order to finish until a worker has ended.
    #[must_use]
    pub fn graceful_timeout(mut self, timeout: Duration) -> Self {
        self.graceful_timeout = timeout;
        self
    }

    /// What an upgrade leads to, and the longest time until the new program's workers are ready.
    #[must_use]
    pub fn upgrade(mut self, upgrade: Upgrade, timeout: Duration) -> Self {
        self.upgrade = upgrade;
        self.upgrade_timeout = timeout;
        self
    }

    /// Workers that may be missing while this plan takes over from another; 0 by default.
    #[must_use]
    pub fn max_unavailable(mut self, workers: usize) -> Self {
        self.max_unavailable = workers;
        self
    }

    /// Age at which a worker is replaced.
    #[must_use]
    pub fn max_lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.max_lifetime = lifetime;
        self
    }

    /// Memory at which a worker is replaced.
    #[must_use]
    pub fn max_memory(mut self, limit: Option<MaxMemory>) -> Self {
        self.memory = limit;
        self
    }

    /// What the decisions depend on.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub(super) fn settings(&self) -> Result<Settings, Error> {
        let others = self.others.iter().map(|(_, count)| *count);
        let slots = others.fold(self.workers, usize::saturating_add);
        if self.workers == 0 || slots > SLOTS_MAX {
            return Err(Error::Workers { count: slots });
        }
        let apps = u32::try_from(self.apps).map_err(|_| Error::Apps { count: self.apps })?;
        let staffing = |role: &Role, count| Staffing {
            count,
            back_off: role.respawn,
        };
        let others = self
            .others
            .iter()
            .map(|(role, count)| staffing(role, *count));
        let worker = staffing(&self.worker, self.workers);
        Ok(Settings {
            roles: std::iter::once(worker).chain(others).collect(),
            apps: self.loader.as_ref().map(|_| apps),
            boot_timeout_ms: millis(self.boot_timeout),
            load_timeout_ms: self.load_timeout.map(millis),
            heartbeat_timeout_ms: self.heartbeat_timeout.map(millis),
            graceful_timeout_ms: millis(self.graceful_timeout),
            max_unavailable: self.max_unavailable,
            max_lifetime_ms: self.max_lifetime.map(millis),
            memory: self.memory.map(|limit| MemoryLimit {
                bytes: limit.bytes,
                samples: limit.samples.max(1),
                interval_ms: millis(limit.interval).max(1),
            }),
            upgrade: self.upgrade,
            upgrade_timeout_ms: millis(self.upgrade_timeout),
            loader_back_off: self
                .loader
                .as_ref()
                .map_or_else(BackOff::default, |role| role.respawn),
            fixed_workers: self.listeners.iter().any(|open| open.slot.is_some()),
        })
    }

    /// The role of slots with this number.
    pub(super) fn slot_role(&self, role: usize) -> Option<&Role> {
        match role.checked_sub(1) {
            None => Some(&self.worker),
            Some(other) => self.others.get(other).map(|(role, _)| role),
        }
    }

    /// What counts as a worker's memory.
    pub(super) fn measure(&self) -> Measure {
        self.memory.map_or(Measure::Resident, |limit| limit.measure)
    }

    /// Every listener with its key.
    pub fn listeners(&self) -> impl Iterator<Item = (&str, &Listener)> {
        self.listeners
            .iter()
            .map(|open| (open.key.as_str(), &open.listener))
    }

    /// What its listeners are called by clients; one for those that are each a worker's.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        let first = self.listeners.iter();
        let first = first.filter(|open| open.slot.is_none_or(|slot| slot == 0));
        first.map(|open| self.url(&open.listener))
    }

    /// What a listener is called by clients.
    pub(super) fn url(&self, listener: &Listener) -> String {
        listener.local_address().url(self.scheme)
    }

    /// The listener with this key.
    pub fn find_listener(&self, key: &str) -> Option<&Listener> {
        let mut listeners = self.listeners();
        listeners
            .find(|(known, _)| *known == key)
            .map(|(_, listener)| listener)
    }

    /// Whether there is a listener with this key.
    pub(super) fn listens_on(&self, key: &str) -> bool {
        self.find_listener(key).is_some()
    }
}
