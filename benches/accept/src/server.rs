//! Defines the server that is measured: the real program, on a port of its own.

use std::collections::VecDeque;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::counters::Shown;
use crate::pause::pause;
use crate::places::Places;
use crate::process;

/// Time in which a server starts, or fills its slots again.
const START_WITHIN: Duration = Duration::from_secs(60);
/// Time in which a server ends; its own limit for requests is half of it.
const END_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// Lines of the log that are kept for the error message.
const LOG_LINES: usize = 20;

/// Who is woken for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accept {
    Auto,
    Signalled,
    Delegated,
    Kernel,
    Reuseport,
}

impl Accept {
    pub(crate) const ALL: [Self; 5] = [
        Self::Auto,
        Self::Signalled,
        Self::Delegated,
        Self::Kernel,
        Self::Reuseport,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Signalled => "signalled",
            Self::Delegated => "delegated",
            Self::Kernel => "kernel",
            Self::Reuseport => "reuseport",
        }
    }
}

/// The worker's kind: whether it serves one connection at a time or many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sync,
    Async,
}

/// The component that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum App {
    /// Answers at once.
    Hello,
    /// Answers `/?ms=N` after so many milliseconds.
    Sleep,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) app: App,
    pub(crate) kind: Kind,
    pub(crate) workers: usize,
    pub(crate) accept: Accept,
    /// Whether the kernel keeps a connection until its first bytes are there.
    pub(crate) defer: bool,
    /// Whether a worker holds more connections than usual, and lets clients take their time.
    pub(crate) crowd: bool,
}

impl Setup {
    fn arguments(&self) -> Vec<String> {
        let kind = match self.kind {
            Kind::Sync => "sync",
            Kind::Async => "async",
        };
        let workers = self.workers.to_string();
        let words = ["-w", &workers, "-k", kind, "--accept", self.accept.name()];
        let defer = self.defer.then_some("--defer-accept");
        let crowd = ["--worker-connections", "10000", "--head-timeout", "3600"];
        let crowd = crowd.into_iter().filter(|_| self.crowd);
        let all = words.into_iter().chain(defer).chain(crowd);
        all.map(str::to_owned).collect()
    }

    fn component(&self) -> &'static str {
        match self.app {
            App::Hello => "tests/guests/target/components/hello.wasm",
            App::Sleep => "tests/guests/target/components/wasi-sleep.wasm",
        }
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "rgunicorn serve {} {}",
            self.component(),
            self.arguments().join(" ")
        )
    }
}

/// A running server; it is killed if it is dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) pid: i32,
    pub(crate) address: SocketAddrV4,
    program: PathBuf,
    socket: PathBuf,
    log: Log,
}

impl Server {
    /// Starts a server and waits until all its workers are ready.
    pub(crate) fn start(places: &Places, setup: &Setup) -> Result<Self> {
        let component = places.root.join(setup.component());
        if !component.exists() {
            bail!(
                "{} is not there: run tests/guests/build rust",
                component.display()
            );
        }
        let socket = places
            .folder()
            .join(format!("{}.sock", setup.accept.name()));
        let mut command = Command::new(&places.program);
        command.arg("serve").arg(component).args(setup.arguments());
        command.args(["--bind", "127.0.0.1:0", "--log-level", "warn"]);
        command.arg("--control-socket").arg(&socket);
        command
            .arg("--cache-dir")
            .arg(places.folder().join("cache"));
        // Nobody's settings file is to be found.
        command.current_dir(places.folder());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let started = command.spawn();
        let mut process =
            started.with_context(|| format!("cannot run {}", places.program.display()))?;
        let stderr = process
            .stderr
            .take()
            .context("the server has no standard error")?;
        let (log, addresses) = Log::follow(stderr);
        let mut server = Self {
            pid: i32::try_from(process.id())?,
            process,
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
            program: places.program.clone(),
            socket,
            log,
        };
        server.address = match addresses.recv_timeout(START_WITHIN) {
            Ok(address) => address,
            Err(RecvTimeoutError::Timeout) => bail!("the server does not start: {setup}"),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the server does not start: {setup}: {}", server.log.tail())
            }
        };
        server.wait_until(|shown| shown.ready().count() == setup.workers)?;
        Ok(server)
    }

    pub(crate) fn show(&self) -> Result<Shown> {
        let mut command = Command::new(&self.program);
        command
            .arg("ctl")
            .arg("--socket")
            .arg(&self.socket)
            .args(["--json", "show", "all"]);
        let answer = command.output().context("cannot run ctl")?;
        if !answer.status.success() {
            bail!(
                "ctl: {}",
                String::from_utf8_lossy(&answer.stderr).trim_end()
            );
        }
        Shown::parse(&answer.stdout)
    }

    /// Asks the server again and again until what it shows is so.
    pub(crate) fn wait_until(&self, is_so: impl Fn(&Shown) -> bool) -> Result<Shown> {
        let start = Instant::now();
        loop {
            let shown = self.show()?;
            if is_so(&shown) {
                return Ok(shown);
            }
            if start.elapsed() > START_WITHIN {
                bail!("the server never comes to the state that is waited for: {shown:?}");
            }
            pause(LOOK_AGAIN_AFTER)?;
        }
    }

    /// Tells the server to end, and waits for it.
    pub(crate) fn end(mut self) -> Result<()> {
        process::signal(self.pid, Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < END_WITHIN {
            if let Some(status) = self.process.try_wait()? {
                if !status.success() {
                    bail!("the server ended with {status}: {}", self.log.tail());
                }
                return Ok(());
            }
            pause(LOOK_AGAIN_AFTER)?;
        }
        bail!("the server does not end: {}", self.log.tail())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(Some(_))) {
            return;
        }
        // A worker that stands still would outlive its arbiter.
        for worker in process::children(self.pid).unwrap_or_default() {
            let _ = process::signal(worker, Signal::SIGKILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The end of what the server says on standard error, which is read so that it never has to wait.
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    /// Reads on in a thread of its own, and passes on the address that the server listens at.
    fn follow(stderr: impl Read + Send + 'static) -> (Self, Receiver<SocketAddrV4>) {
        let (sender, receiver) = sync_channel(1);
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || read_lines(stderr, &kept, &sender));
        (Self(lines), receiver)
    }

    fn tail(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lines.join("; ")
    }
}

fn read_lines(
    stderr: impl Read,
    kept: &Mutex<VecDeque<String>>,
    addresses: &SyncSender<SocketAddrV4>,
) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let address = line.strip_prefix("Serving HTTP on http://");
        let address = address.and_then(|rest| rest.trim_end_matches('/').parse().ok());
        if let Some(address) = address {
            // Only the first is waited for.
            let _ = addresses.try_send(address);
        }
        if line.is_empty() {
            continue;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LOG_LINES {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}
