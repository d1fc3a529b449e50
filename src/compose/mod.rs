//! Defines the composition root: the one place that knows both the arbiter and what its children do.
//!
//! Invariant: whatever a start needs of the machine is got here, in an order in which each failure
//! ends with one line, one exit code and nothing left behind.

mod access_log;
mod listeners;
mod plan;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, RawFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::arbiter::{Arbiter, Builder, CONTROL_MODE, ExitCode, Notice, Plan};
use crate::config::{Config, LogLevel};
use crate::protocol::message::FromChild;
use crate::sys::channel::{Channel, ChannelListener};
use crate::sys::daemon::{self, Report, Side};
use crate::sys::identity::{Identity, IdentityError};
use crate::sys::pid_file::{PidFile, PidFileError};
use crate::sys::process::Pid;
use crate::sys::program::{self, Program};
use crate::sys::socket::{Address, BindError};
use crate::sys::{identity, process, stdio, systemd, title};
use crate::tls::TlsError;

pub use self::listeners::Open;
pub use self::plan::plan;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be bound.
    #[error("{}", chain(.0))]
    Bind(#[from] BindError),
    /// An address is served by this server, and its queues cannot be made others.
    #[error("cannot bind {address}: accept is changed to or from reuseport by a new start alone")]
    Queues {
        /// What was to be bound.
        address: Address,
    },
    /// A host name in an address has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The user or the group cannot be found, or cannot be become.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another server has the pid file, or it cannot be written.
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    /// Something else that the configuration asks for cannot be done.
    #[error("{setting}: {what}: {source}")]
    Setting {
        /// Which setting asks for it.
        setting: &'static str,
        /// What was tried.
        what: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The kernel gives nothing to make keys of.
    #[error("cannot make a secret: {0}")]
    Secret(io::Error),
    /// The server that started this one does not say what it listens to.
    #[error("cannot take over from the server that runs: {0}")]
    TakeOver(String),
    /// The arbiter cannot be made.
    #[error(transparent)]
    Arbiter(#[from] crate::arbiter::Error),
}

fn chain(error: &BindError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

impl StartError {
    /// The exit code that goes with it.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Bind(_) | Self::Queues { .. } | Self::Resolve { .. } => ExitCode::Bind,
            Self::Identity(_) | Self::Setting { .. } | Self::Tls(_) => ExitCode::Config,
            Self::PidFile(_) | Self::Secret(_) | Self::TakeOver(_) | Self::Arbiter(_) => {
                ExitCode::Failure
            }
        }
    }
}

/// How a server is started.
pub struct Start {
    /// What it is to be.
    pub config: Config,
    /// Reads the configuration again, for a reload; the error is one line for the log.
    pub read_again: Box<dyn Fn() -> Result<Config, String>>,
    /// Changes how much this process logs, and the children that it will fork.
    pub set_log_level: fn(LogLevel),
}

/// Reads what else a start would read, beside the apps, and keeps nothing: certificates and keys.
///
/// # Errors
/// The first that would end a start.
pub fn check(config: &Config) -> Result<(), StartError> {
    plan::tls(config, None).map(|_| ())
}

/// Serves what the configuration says until told to stop. When the first worker is ready, standard
/// error gets a line with the URL of each listener.
///
/// The process must have one thread, and must have read its arguments: its title takes their place.
///
/// # Errors
/// When the server could not be started at all; later failures are logged and told by the exit code.
pub fn serve(start: Start) -> Result<ExitCode, StartError> {
    let predecessor = match program::adopt_channel() {
        None => None,
        Some(Ok(channel)) => Some(channel),
        Some(Err(error)) => return Err(StartError::TakeOver(error.to_string())),
    };
    // Without it an upgrade is refused, and says why.
    let program = Program::capture().ok();
    let config = &start.config;
    if let Some(path) = &config.chdir {
        std::env::set_current_dir(path).map_err(setting("chdir", || {
            format!("cannot change to {}", path.display())
        }))?;
    }
    if let Some(mask) = config.umask {
        identity::set_umask(mask);
    }
    // They were opened for this process, and not for one that it becomes.
    let activated = systemd::activated();
    // The new program of a daemon is in the background already.
    let mut report = None;
    if config.daemon && predecessor.is_none() {
        let what = || "cannot go into the background".to_owned();
        match daemon::detach().map_err(setting("daemon", what))? {
            Side::Foreground(waiting) => return Ok(exit_code(waiting.wait())),
            Side::Daemon(side) => report = Some(side),
        }
    }
    let teller = predecessor.as_ref().map(Channel::try_clone);
    let report = Rc::new(Cell::new(report));
    let origin = Origin {
        program,
        predecessor,
        activated,
    };
    let built = build(start, origin, Rc::clone(&report));
    if let (Err(error), Some(Ok(channel))) = (&built, &teller) {
        tell_predecessor(channel, error.exit_code(), &error.to_string());
    }
    // From here on it is the arbiter's.
    drop(teller);
    let result = built.map(Arbiter::run);
    // Whoever is in the foreground still waits if no worker was ever ready.
    let Some(report) = report.take() else {
        return result;
    };
    let code = result.unwrap_or_else(|error| {
        // It must be there when the foreground ends.
        let _ = writeln!(io::stderr(), "rgunicorn: {error}");
        error.exit_code()
    });
    report.failed(i32::from(code.number()));
    Ok(code)
}

/// How this process came to be a server.
struct Origin {
    /// What an upgrade starts.
    program: Option<Program>,
    /// The server that has started it.
    predecessor: Option<Channel>,
    /// The sockets that the service manager has opened for it.
    activated: Vec<(RawFd, Option<String>)>,
}

fn exit_code(number: i32) -> ExitCode {
    let code = u8::try_from(number).ok();
    match code {
        Some(0) => ExitCode::Ok,
        Some(code) => ExitCode::from_child(code).unwrap_or(ExitCode::Failure),
        None => ExitCode::Failure,
    }
}

fn build(
    start: Start,
    origin: Origin,
    report: Rc<Cell<Option<Report>>>,
) -> Result<Arbiter, StartError> {
    let config = &start.config;
    let terminal = stdio::duplicate_stderr().ok();
    prepare(config)?;
    let identity = identity(config)?;
    let Origin {
        program,
        predecessor,
        activated,
    } = origin;
    let mut open = match &predecessor {
        Some(channel) => Open::from_predecessor(channel, config.backlog)?,
        None => Open::from_service_manager(activated, config.backlog)?,
    };
    let first = plan::logging(config, &open, identity.as_ref(), start.set_log_level)?;
    let control = open.control.take();
    // An address that nobody listens to any more is to refuse, and not to queue.
    drop(open);
    let pid_file = pid_file(config.pidfile.as_deref(), predecessor.is_some())?;
    let control = match &config.control_socket {
        Some(path) if predecessor.is_none() => Some(ChannelListener::bind(path, CONTROL_MODE)?),
        // It is the predecessor's until that leaves.
        Some(_) | None => control,
    };
    let urls: Vec<String> = first.urls().collect();
    let keeps_stderr = config.error_logfile.is_some();
    let report = Reporter::new(report);
    let on_ready = move || {
        announce(terminal, &urls);
        if let Some(report) = report.0.take() {
            report.ready(keeps_stderr);
        }
    };
    let builder = Arbiter::builder()
        .plan(first)
        .on_ready(on_ready)
        .control(control, config.control_socket.clone())
        .pid_file(pid_file, config.pidfile.clone())
        .log_file(config.error_logfile.clone())
        .program(program)
        .predecessor(predecessor)
        .daemon(config.daemon)
        .name(config.proc_name.clone());
    Ok(reloading(builder, start, identity).build()?)
}

/// What tells the foreground that the server is ready. A forked child drops it, and with it the
/// child's copy of the report: or the foreground could not see that the arbiter is gone.
struct Reporter(Rc<Cell<Option<Report>>>, Pid);

impl Reporter {
    fn new(report: Rc<Cell<Option<Report>>>) -> Self {
        Self(report, process::own_pid())
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if process::own_pid() != self.1 {
            self.0.take();
        }
    }
}

/// Makes the process what the configuration says, as far as that needs nobody else.
fn prepare(config: &Config) -> Result<(), StartError> {
    if let Some(path) = &config.error_logfile {
        stdio::open_log(path)
            .and_then(|file| stdio::redirect_stderr(file.as_fd()))
            .map_err(setting("error-logfile", || {
                format!("cannot open {}", path.display())
            }))?;
    }
    // The limit is the process's: without the whole of it few connections fit.
    if let Err(error) = process::raise_open_files() {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    if let Err(error) = title::prepare() {
        tracing::debug!("process titles cannot be changed: {error}");
    }
    Ok(())
}

/// An arbiter that reads the configuration again at a reload. Who the children are was found out at
/// the start. A reload that fails changes nothing, not even how much is logged.
fn reloading(builder: Builder, start: Start, identity: Option<Identity>) -> Builder {
    let set_log_level = start.set_log_level;
    let next_log_level = Rc::new(Cell::new(start.config.log_level));
    let log_level = Rc::clone(&next_log_level);
    let plan_again = move |current: &Plan| {
        let config = (start.read_again)()?;
        for key in start.config.restart_only_changes(&config) {
            tracing::warn!("{key} has changed: that takes effect at the next start");
        }
        next_log_level.set(config.log_level);
        let text = |error: StartError| error.to_string();
        let open = Open::of_plan(current).map_err(text)?;
        plan::logging(&config, &open, identity.as_ref(), set_log_level).map_err(text)
    };
    let on_notice = move |notice: &Notice, _| {
        if matches!(notice, Notice::Generation(_)) {
            set_log_level(log_level.get());
        }
    };
    builder.plan_again(plan_again).on_notice(on_notice)
}

/// If this process has been started to follow another server, tells that it cannot.
pub fn refuse_upgrade(code: ExitCode, reason: &str) {
    if let Some(Ok(channel)) = program::adopt_channel() {
        tell_predecessor(&channel, code, reason);
    }
}

fn tell_predecessor(channel: &Channel, code: ExitCode, reason: &str) {
    let (code, reason) = (code.number(), reason.to_owned());
    // If it is gone, nobody needs to know.
    let _ = channel.send(&FromChild::Failed { code, reason }.encode(), &[]);
}

/// Scripts wait for these lines: they are a contract, not log lines, and come to the standard error
/// that the server was started with.
fn announce(terminal: Option<File>, urls: &[String]) {
    let lines: String = urls
        .iter()
        .map(|url| format!("Serving HTTP on {url}\n"))
        .collect();
    // Nobody may be listening any more.
    let _ = match terminal {
        Some(mut file) => file.write_all(lines.as_bytes()),
        None => io::stderr().write_all(lines.as_bytes()),
    };
}

/// Makes the pid file. Beside a predecessor, who has it, it is called `.2`, as in gunicorn.
fn pid_file(path: Option<&Path>, beside: bool) -> Result<Option<PidFile>, StartError> {
    let Some(path) = path else {
        return Ok(None);
    };
    let mut name = path.as_os_str().to_owned();
    if beside {
        name.push(".2");
    }
    Ok(Some(PidFile::create(&PathBuf::from(name))?))
}

/// Who the children are to be, if not who the arbiter is.
fn identity(config: &Config) -> Result<Option<Identity>, StartError> {
    let (user, group) = (config.user.as_deref(), config.group.as_deref());
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    Ok(Some(Identity::find(user, group)?))
}

fn setting(
    setting: &'static str,
    what: impl FnOnce() -> String,
) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::Setting {
        setting,
        what: what(),
        source,
    }
}
