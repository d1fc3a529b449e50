//! Defines a server under test: started with what a test asks for, watched through its log, and
//! ended with the test.
//!
//! A server that is dropped by a test that passed is told to stop and must do it cleanly: exit code
//! 0, no process left, no error in its log. One of a test that failed is killed, and its log shown.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Address, Client, PATIENCE, Process, Response, guest, limited, until, until_some};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rgunicorn");
/// A start may have to compile an interpreter on a machine that is busy with other tests.
const START_PATIENCE: Duration = Duration::from_secs(400);

/// What a server is to be started with.
pub(crate) struct Start {
    args: Vec<String>,
    env: BTreeMap<String, String>,
    setup: Option<String>,
    stdin: Option<Stdio>,
    folder: TempDir,
}

impl Start {
    /// A server without an app: the verb, and what every test wants.
    pub(crate) fn new(verb: &str) -> Self {
        let cache = shared_cache()
            .to_str()
            .expect("the path is text")
            .to_owned();
        let env = [
            ("PATH", std::env::var("PATH").unwrap_or_default()),
            ("RGUNICORN_CACHE_DIR", cache),
            ("RGUNICORN_BIND", "127.0.0.1:0".to_owned()),
            ("RGUNICORN_WORKERS", "1".to_owned()),
        ];
        Self {
            args: vec![verb.to_owned()],
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            setup: None,
            stdin: None,
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
        }
    }

    /// A server of one guest.
    pub(crate) fn app(name: &str) -> Self {
        Self::new("serve").args([guest(name)])
    }

    /// A server of a settings file. `{NAME}` in it stands for the path of the guest of that name.
    pub(crate) fn config(text: &str) -> Self {
        let start = Self::new("serve");
        let path = start.write("rgunicorn.toml", &with_guests(text));
        start.args(["--config".to_owned(), path])
    }

    /// Writes a file into the server's own folder and returns its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("the file can be written");
        path.to_str().expect("the path is text").to_owned()
    }

    /// The server's own folder, which is also its current one.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable, or with an empty value removes it.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        match value {
            "" => self.env.remove(name),
            _ => self.env.insert(name.to_owned(), value.to_owned()),
        };
        self
    }

    /// Runs this in the shell that becomes the server.
    pub(crate) fn setup(mut self, script: &str) -> Self {
        self.setup = Some(script.to_owned());
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    fn command(&mut self) -> Command {
        let mut command = match &self.setup {
            Some(setup) => limited(setup, PROGRAM),
            None => Command::new(PROGRAM),
        };
        command.args(&self.args).env_clear().envs(&self.env);
        command.current_dir(self.folder.path()).process_group(0);
        command.stdin(self.stdin.take().unwrap_or_else(Stdio::null));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it, and waits until it is ready.
    pub(crate) fn start(self) -> Server {
        let mut server = self.spawn();
        server.wait_ready();
        server
    }

    /// Starts it.
    pub(crate) fn spawn(mut self) -> Server {
        let mut child = self.command().spawn().expect("the program can be started");
        let log = Log::default();
        let stderr = child.stderr.take().expect("it is a pipe");
        let reader = log.read(stderr);
        Server {
            child,
            log,
            reader: Some(reader),
            addresses: Vec::new(),
            errors_expected: false,
            ended: false,
            _folder: self.folder,
        }
    }

    /// Runs it to its end, which must come by itself.
    pub(crate) fn run(self) -> Ended {
        let mut server = self.spawn();
        let mut stdout = server.child.stdout.take().expect("it is a pipe");
        let mut output = String::new();
        stdout
            .read_to_string(&mut output)
            .expect("the output is text");
        let status = server.wait_exit();
        server.no_process_is_left();
        Ended {
            code: status.code(),
            stdout: output,
            stderr: server.log(),
        }
    }
}

/// How a program that ended by itself ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The only line of standard error that is not of the log.
    pub(crate) fn line(&self) -> &str {
        let plain = |line: &&str| !line.contains(" INFO ") && !line.contains(" WARN ");
        let lines: Vec<&str> = self.stderr.lines().filter(plain).collect();
        assert_eq!(lines.len(), 1, "not one line: {self:#?}");
        lines[0]
    }
}

/// The beginning and the end of a log that is too long to be read.
fn abridged(log: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = log.lines().collect();
    let left_out = lines.len().saturating_sub(LINES);
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        if at < LINES / 2 || at >= LINES / 2 + left_out {
            text.extend(line.chars().take(500));
            text.push('\n');
        } else if at == LINES / 2 {
            text.push_str(&format!("({left_out} lines left out)\n"));
        }
    }
    text
}

/// Puts paths in the place of the names of guests.
fn with_guests(text: &str) -> String {
    let mut parts = text.split('{');
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('}') {
            Some((name, rest)) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') => {
                result.push_str(&guest(name));
                result.push_str(rest);
            }
            Some(_) | None => {
                result.push('{');
                result.push_str(part);
            }
        }
    }
    result
}

/// The folder of compiled guests that all tests share: an interpreter takes a while.
fn shared_cache() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("blackbox")
        .join("cache");
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&path);
    made.expect("the cache's folder can be made");
    path
}

/// What a server has written to standard error so far.
#[derive(Clone, Default)]
struct Log(Arc<(Mutex<Text>, Condvar)>);

#[derive(Default)]
struct Text {
    written: String,
    ended: bool,
}

impl Log {
    fn read(&self, from: impl Read + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while matches!(from.read_until(b'\n', &mut line), Ok(count) if count > 0) {
                log.lock().written.push_str(&String::from_utf8_lossy(&line));
                log.0.1.notify_all();
                line.clear();
            }
            log.lock().ended = true;
            log.0.1.notify_all();
        })
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `find` finds something in the log, or no more will come.
    fn wait<T>(&self, patience: Duration, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut text = self.lock();
        loop {
            if let Some(found) = find(&text.written) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if text.ended || left.is_zero() {
                return None;
            }
            let waited = self.0.1.wait_timeout(text, left);
            text = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    log: Log,
    reader: Option<JoinHandle<()>>,
    addresses: Vec<Address>,
    errors_expected: bool,
    ended: bool,
    _folder: TempDir,
}

impl Server {
    fn wait_ready(&mut self) {
        let ready = self.log.wait(START_PATIENCE, |log| {
            log.contains("Serving HTTP on ").then_some(())
        });
        assert!(ready.is_some(), "the server did not start");
        self.addresses = self
            .ready_lines(1)
            .iter()
            .map(|url| Address::of_url(url))
            .collect();
    }

    /// The URLs of the first so many ready lines.
    pub(crate) fn ready_lines(&self, count: usize) -> Vec<String> {
        let find = |log: &str| {
            let lines = log
                .lines()
                .filter_map(|line| line.strip_prefix("Serving HTTP on "));
            let urls: Vec<String> = lines.map(str::to_owned).collect();
            (urls.len() >= count).then_some(urls)
        };
        self.log
            .wait(PATIENCE, find)
            .expect("there are so many ready lines")
    }

    /// Where it listens first.
    pub(crate) fn address(&self) -> &Address {
        &self.addresses[0]
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Asks for a path on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// The arbiter's process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number fits")
    }

    /// The processes of the workers, when there are so many.
    pub(crate) fn workers(&self, count: usize) -> Vec<i32> {
        until_some("the number of workers", || {
            let mut pids = self.workers_now();
            pids.sort_unstable();
            (pids.len() == count).then_some(pids)
        })
    }

    /// The processes of the workers, as many as there are.
    pub(crate) fn workers_now(&self) -> Vec<i32> {
        let children = Process::all()
            .into_iter()
            .filter(|process| process.parent == self.pid());
        children.map(|process| process.pid).collect()
    }

    /// The process of the only worker.
    pub(crate) fn worker(&self) -> i32 {
        self.workers(1)[0]
    }

    /// Sends a signal to the arbiter.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).expect("the arbiter can be signalled");
    }

    /// Sends a signal to all its processes.
    pub(crate) fn signal_all(&self, signal: Signal) {
        killpg(Pid::from_raw(self.pid()), signal).expect("the group can be signalled");
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().written.clone()
    }

    /// Waits for a line of the log that holds all of `parts`, and returns it.
    pub(crate) fn wait_log(&self, parts: &[&str]) -> String {
        let holds = |line: &&str| parts.iter().all(|part| line.contains(part));
        let find = |log: &str| log.lines().find(holds).map(str::to_owned);
        self.log
            .wait(PATIENCE, find)
            .unwrap_or_else(|| panic!("not in the log: {parts:?}"))
    }

    /// The test makes the server log errors.
    pub(crate) fn expect_errors(&mut self) {
        self.errors_expected = true;
    }

    /// Waits until the arbiter has ended, and its log with it.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let status = until_some("the server ends", || {
            self.child.try_wait().expect("it is our child")
        });
        self.ended = true;
        status
    }

    /// Waits until nothing of it runs any more, and its log is complete.
    pub(crate) fn no_process_is_left(&mut self) {
        let group = self.pid();
        until("no process is left", || {
            !Process::all().iter().any(|process| process.group == group)
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log was read");
        }
    }

    /// Stops it, and checks that it stopped cleanly.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        self.stopped();
    }

    /// Checks that it stops cleanly by itself.
    pub(crate) fn stopped(&mut self) {
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "{status}");
        self.no_process_is_left();
        let log = self.log();
        // A guest may print what it likes; it comes with a level of its own.
        let is_error = |line: &&str| {
            line.contains(" ERROR ") || (line.contains("panicked at") && !line.contains(" INFO "))
        };
        let error = log.lines().find(is_error);
        assert!(
            self.errors_expected || error.is_none(),
            "an error in the log: {error:?}"
        );
    }

    /// Kills all of it, for a test that leaves it in no state to stop.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.child.wait();
        self.ended = true;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.kill();
            let log = self.log();
            eprintln!("---- log of the server\n{}----", abridged(&log));
        } else if !self.ended {
            self.stop();
        }
    }
}
