//! Defines the configuration that the rest of the program sees.
//!
//! Invariant: every value is within the range that the settings table gives it, every path is
//! absolute, there is at least one address and one app, and no two apps have a name or a route in
//! common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::address::BindAddress;
use super::choice::choices;
use super::error::Origin;
use super::grant::Dir;
use super::outbound::OutboundPattern;
use super::proxies::Proxies;
use super::route::Route;
use super::syslog::{Facility, SyslogTo};
use super::tls::{Http2, Tls};
use crate::access::{Format, Target};

/// Where each setting of the server or of one app was written, by its key.
pub(super) type Origins = BTreeMap<&'static str, Origin>;

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything, for the developers of rgunicorn.
    Trace,
    /// Every connection and request.
    Debug,
    /// The life of the server and its workers.
    Info,
    /// What went wrong in an app, or may go wrong in the server.
    Warn,
    /// What went wrong in the server.
    Error,
}

impl LogLevel {
    /// Every level and its name, most talkative first.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Trace, "trace"),
        (Self::Debug, "debug"),
        (Self::Info, "info"),
        (Self::Warn, "warn"),
        (Self::Error, "error"),
    ];

    /// The level's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(level, _)| *level == self)
            .map_or("info", |(_, name)| name)
    }
}

choices! {
    /// What counts as the memory of a worker (proc_pid_smaps(5)).
    MemoryMeasure, "a measure of memory: pss or rss" {
        /// The proportional set size: a page that n processes share counts as one nth.
        Pss = "pss",
        /// The resident set size: every page in memory counts in full.
        Rss = "rss",
    }
}

choices! {
    /// What the old server does once the program of an upgrade serves.
    UpgradeMode, "a mode of upgrades: auto or manual" {
        /// It drains and leaves.
        Auto = "auto",
        /// It serves on beside the new one until it gets a signal, as in gunicorn.
        Manual = "manual",
    }
}

choices! {
    /// Who decides which worker accepts a connection.
    AcceptMode, "a way to accept: auto, signalled, delegated, kernel or reuseport" {
        /// The workers among themselves, and the arbiter where they cannot.
        Auto = "auto",
        /// The arbiter.
        Signalled = "signalled",
        /// The workers among themselves.
        Delegated = "delegated",
        /// The kernel, which wakes all that have room.
        Kernel = "kernel",
        /// The kernel, which gives each worker a queue of its own.
        Reuseport = "reuseport",
    }
}

choices! {
    /// How much a worker does at the same time.
    WorkerClass, "a kind of worker: async or sync" {
        /// Many connections and requests.
        Async = "async",
        /// One request.
        Sync = "sync",
    }
}

/// A whole configuration: the server's settings and its apps.
///
/// The meaning of each setting is in its help text, which docs/configuration.md shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The settings file that was read, absolute, or `None` if there was none.
    pub file: Option<PathBuf>,
    /// Addresses to listen on; at least one.
    pub bind: Vec<BindAddress>,
    /// Number of worker processes, at least 1.
    pub workers: u32,
    /// Most connections that one worker holds.
    pub worker_connections: u32,
    /// Who decides which worker accepts a connection.
    pub accept: AcceptMode,
    /// How much a worker does at the same time.
    pub worker_class: WorkerClass,
    /// Most requests that one worker is answering when it still accepts connections.
    pub worker_requests: u32,
    /// Length of the kernel's queue of connections, for listen(2).
    pub backlog: u32,
    /// Whether a TCP connection waits in the kernel until its first bytes are there.
    pub defer_accept: bool,
    /// Time that a stopping worker has to finish its requests.
    pub graceful_timeout: Duration,
    /// Time that a connection may be idle between requests; zero closes it after each response.
    pub keep_alive: Duration,
    /// Time that a worker has from its fork until it is ready.
    pub boot_timeout: Duration,
    /// Time that a worker may show no sign of life, or `None` if it is not watched.
    pub heartbeat_timeout: Option<Duration>,
    /// Requests after which a worker is replaced, or `None` for any number.
    pub max_requests: Option<u64>,
    /// Greatest random number that is added to `max_requests`, anew for each worker.
    pub max_requests_jitter: u64,
    /// Time after which a worker is replaced, or `None` for any.
    pub max_worker_lifetime: Option<Duration>,
    /// Memory in bytes above which a worker is replaced, or `None` for any.
    pub max_worker_memory: Option<u64>,
    /// What counts as a worker's memory.
    pub worker_memory_measure: MemoryMeasure,
    /// Measurements in a row that must be above `max_worker_memory`; at least 1.
    pub worker_memory_samples: u32,
    /// Time between two measurements of a worker's memory.
    pub worker_memory_interval: Duration,
    /// Workers that may be missing during a reload. It may be more than there are workers.
    pub max_unavailable: u32,
    /// What the old server does after an upgrade.
    pub upgrade_mode: UpgradeMode,
    /// Time that the new program of an upgrade has from its start until its workers are ready.
    pub upgrade_timeout: Duration,
    /// Whether a change of a component or of the settings file is a reason to reload.
    pub reload: bool,
    /// Files that are watched beside those, absolute; none twice.
    pub reload_extra_files: Vec<PathBuf>,
    /// Time that a client has to send a whole request head.
    pub head_timeout: Duration,
    /// Bytes of a body in a second, at least, or `None` if it may be slow.
    pub min_body_rate: Option<u64>,
    /// Memory of one worker for bodies that wait for their clients, in bytes.
    pub body_memory: u64,
    /// Longest request line in bytes.
    pub limit_request_line: u32,
    /// Most header fields of a request.
    pub limit_request_fields: u32,
    /// Longest header field of a request in bytes.
    pub limit_request_field_size: u32,
    /// Whether responses say which server it is.
    pub server_header: bool,
    /// How TLS is spoken.
    pub tls: Tls,
    /// How HTTP/2 is spoken.
    pub http2: Http2,
    /// Which proxies are believed, and what.
    pub proxies: Proxies,
    /// How much is logged.
    pub log_level: LogLevel,
    /// File that the log is added to, absolute, or `None` for standard error.
    pub error_logfile: Option<PathBuf>,
    /// Where the access log goes, or `None` for nowhere.
    pub access_logfile: Option<Target>,
    /// What a line of the access log looks like.
    pub access_logformat: Format,
    /// Whether the access log goes to syslog, whether or not it goes to a file.
    pub log_syslog: bool,
    /// Where syslog listens.
    pub log_syslog_to: SyslogTo,
    /// What syslog calls this program: 1 to 32 printable ASCII characters without a space.
    pub log_syslog_prefix: String,
    /// The facility of the messages.
    pub log_syslog_facility: Facility,
    /// Folder of compiled components, or `None` to keep none.
    pub cache_dir: Option<PathBuf>,
    /// CPU time that compiling one component may take.
    pub compile_timeout: Duration,
    /// Memory in bytes that compiling one component may take.
    pub compile_memory: u64,
    /// File for the arbiter's process id, absolute, or `None` for none.
    pub pidfile: Option<PathBuf>,
    /// Whether the server leaves its terminal and runs in the background.
    pub daemon: bool,
    /// User of the children as it was written, or `None` for the server's own. Not yet looked up.
    /// If it is a number, it is one that setresuid(2) takes for a user.
    pub user: Option<String>,
    /// Group of the children, in the same way.
    pub group: Option<String>,
    /// Permissions that new files do not get, 0 to 0o777, or `None` to keep what is inherited.
    pub umask: Option<u32>,
    /// Folder to change to, absolute, or `None` to stay. No other path depends on it.
    pub chdir: Option<PathBuf>,
    /// How process titles begin: 1 to 32 printable ASCII characters without a space.
    pub proc_name: String,
    /// Path of the control socket, absolute and short enough for unix(7), or `None` for none.
    pub control_socket: Option<PathBuf>,
    /// The apps, by name; at least one.
    pub apps: Vec<App>,
    pub(super) origins: Origins,
}

/// One app: its component, the requests it answers, its rights and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// 1 to 32 of `a-z`, `0-9`, `-` and `_`; no two apps have the same.
    pub name: String,
    /// The component's file, absolute.
    pub component: PathBuf,
    /// The requests that it answers; at least one.
    pub routes: Vec<Route>,
    /// The environment that the guest sees; no key twice.
    pub env: Vec<(String, String)>,
    /// The directories that the guest can reach; no guest path twice.
    pub dirs: Vec<Dir>,
    /// The servers that the guest may send requests to.
    pub outbound: Vec<OutboundPattern>,
    /// What a request may use.
    pub limits: AppLimits,
    pub(super) origins: Origins,
}

/// What the requests of one app may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppLimits {
    /// Wall-clock time of one request, or `None` for no limit.
    pub timeout: Option<Duration>,
    /// CPU time of one request.
    pub cpu_timeout: Duration,
    /// Linear memory of one instance in bytes.
    pub memory: u64,
    /// Request body in bytes, or `None` for no limit.
    pub request_body: Option<u64>,
    /// Request body in bytes of a component whose world takes the whole body at once.
    pub buffered_body: u64,
    /// Bytes of a request's body that are waited for before an instance is made for it.
    pub read_ahead: u64,
    /// Response body in bytes, or `None` for no limit.
    pub response_body: Option<u64>,
    /// Requests that one worker runs at the same time.
    pub requests_in_flight: u32,
    /// Requests that wait in one worker when that many run.
    pub request_queue: u32,
    /// Bytes of standard output and error that one request may log.
    pub guest_log: u64,
}

// The three that are blank are where resolving starts. They are not `Default`, since nobody else
// may have a value that breaks the invariant; the settings table then writes every field.

impl Config {
    /// Whether nobody has written the setting of the server that has this key.
    #[must_use]
    pub fn is_default(&self, key: &str) -> bool {
        self.origins.get(key) == Some(&Origin::Default)
    }

    pub(super) fn blank() -> Self {
        Self {
            file: None,
            bind: Vec::new(),
            workers: 0,
            worker_connections: 0,
            accept: AcceptMode::Auto,
            worker_class: WorkerClass::Async,
            worker_requests: 0,
            backlog: 0,
            defer_accept: false,
            graceful_timeout: Duration::ZERO,
            keep_alive: Duration::ZERO,
            boot_timeout: Duration::ZERO,
            heartbeat_timeout: None,
            max_requests: None,
            max_requests_jitter: 0,
            max_worker_lifetime: None,
            max_worker_memory: None,
            worker_memory_measure: MemoryMeasure::Pss,
            worker_memory_samples: 0,
            worker_memory_interval: Duration::ZERO,
            max_unavailable: 0,
            upgrade_mode: UpgradeMode::Auto,
            upgrade_timeout: Duration::ZERO,
            reload: false,
            reload_extra_files: Vec::new(),
            head_timeout: Duration::ZERO,
            min_body_rate: None,
            body_memory: 0,
            limit_request_line: 0,
            limit_request_fields: 0,
            limit_request_field_size: 0,
            server_header: false,
            tls: Tls::blank(),
            http2: Http2::blank(),
            proxies: Proxies::blank(),
            log_level: LogLevel::Trace,
            error_logfile: None,
            access_logfile: None,
            access_logformat: Format::default(),
            log_syslog: false,
            log_syslog_to: SyslogTo::Unix(PathBuf::new()),
            log_syslog_prefix: String::new(),
            log_syslog_facility: Facility::User,
            cache_dir: None,
            compile_timeout: Duration::ZERO,
            compile_memory: 0,
            pidfile: None,
            daemon: false,
            user: None,
            group: None,
            umask: None,
            chdir: None,
            proc_name: String::new(),
            control_socket: None,
            apps: Vec::new(),
            origins: Origins::new(),
        }
    }
}

impl App {
    pub(super) fn blank() -> Self {
        Self {
            name: String::new(),
            component: PathBuf::new(),
            routes: Vec::new(),
            env: Vec::new(),
            dirs: Vec::new(),
            outbound: Vec::new(),
            limits: AppLimits::blank(),
            origins: Origins::new(),
        }
    }
}

impl AppLimits {
    fn blank() -> Self {
        Self {
            timeout: None,
            cpu_timeout: Duration::ZERO,
            memory: 0,
            request_body: None,
            buffered_body: 0,
            read_ahead: 0,
            response_body: None,
            requests_in_flight: 0,
            request_queue: 0,
            guest_log: 0,
        }
    }
}
