//! Defines a server under test: watched through its log, and ended with the test.
//!
//! A server that is dropped by a test that passed is told to stop and must do it cleanly: exit code
//! 0, no process left, no error in its log. One of a test that failed is killed, and its log shown.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustls::ClientConfig;
use tempfile::TempDir;

use super::log::{Log, abridged};
use super::start::{LINK, SETTINGS, with_guests};
use super::{Address, Client, PATIENCE, Process, Response, until, until_some};

/// A start may have to compile an interpreter on a machine that is busy with other tests.
const START_PATIENCE: Duration = Duration::from_secs(400);

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    log: Log,
    reader: Option<JoinHandle<()>>,
    addresses: Vec<Address>,
    errors_expected: bool,
    ended: bool,
    /// The arbiter that has followed the one that was started, if one has.
    successor: Option<i32>,
    folder: TempDir,
}

impl Server {
    /// Watches a server that has just been started in its folder.
    pub(super) fn watch(mut child: Child, folder: TempDir) -> Self {
        let log = Log::default();
        let stderr = child.stderr.take().expect("it is a pipe");
        let reader = log.read(stderr);
        Self {
            child,
            log,
            reader: Some(reader),
            addresses: Vec::new(),
            errors_expected: false,
            ended: false,
            successor: None,
            folder,
        }
    }

    /// What it writes to standard output until it closes that.
    pub(crate) fn output(&mut self) -> String {
        let mut stdout = self.child.stdout.take().expect("it is a pipe");
        let mut output = String::new();
        stdout
            .read_to_string(&mut output)
            .expect("the output is text");
        output
    }

    pub(super) fn wait_ready(&mut self) {
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

    /// A connection with TLS to it, as localhost.
    pub(crate) fn connect_tls(&self, config: &Arc<ClientConfig>) -> Client {
        Client::connect_tls(self.address(), config, "localhost")
    }

    /// Asks for a path on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// The arbiter's process: after an upgrade that was followed, the new one's.
    pub(crate) fn pid(&self) -> i32 {
        self.successor.unwrap_or_else(|| self.group())
    }

    /// The group of all its processes, also after upgrades.
    fn group(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number fits")
    }

    /// The processes of the workers, when there are so many.
    pub(crate) fn workers(&self, count: usize) -> Vec<i32> {
        self.workers_of(self.pid(), count)
    }

    /// The processes of the workers, as many as there are.
    pub(crate) fn workers_now(&self) -> Vec<i32> {
        self.workers_of_now(self.pid())
    }

    /// The processes of the workers of one of two arbiters, when there are so many.
    pub(crate) fn workers_of(&self, arbiter: i32, count: usize) -> Vec<i32> {
        until_some("the number of workers", || {
            let mut pids = self.workers_of_now(arbiter);
            pids.sort_unstable();
            (pids.len() == count).then_some(pids)
        })
    }

    fn workers_of_now(&self, arbiter: i32) -> Vec<i32> {
        let processes = Process::all();
        let successors = self.successors();
        let children = processes
            .into_iter()
            .filter(|process| process.parent == arbiter && !successors.contains(&process.pid));
        children.map(|process| process.pid).collect()
    }

    /// The arbiters that upgrades have started, in their order.
    pub(crate) fn successors(&self) -> Vec<i32> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.ends_with(" started"));
        lines
            .filter(|line| line.contains(" role=successor "))
            .filter_map(|line| line.split(" pid=").nth(1)?.split(' ').next()?.parse().ok())
            .collect()
    }

    /// Tells the arbiter to start the new program, and returns the new arbiter's process.
    pub(crate) fn upgrade(&self) -> i32 {
        let before = self.successors().len();
        self.signal(Signal::SIGUSR2);
        until_some("the new program is started", || {
            self.successors().get(before).copied()
        })
    }

    /// Waits until the new arbiter of an upgrade serves.
    pub(crate) fn upgraded(&self, new: i32) {
        self.wait_log(&["role=successor", &format!(" pid={new} serves")]);
    }

    /// Checks that the arbiter leaves cleanly; the new one is followed from here on.
    pub(crate) fn hand_over(&mut self, new: i32) {
        let status = self.wait_exit();
        assert_eq!(status.code(), Some(0), "{status}");
        self.follow(new);
    }

    /// The arbiter has ended, and the new one is meant from here on.
    pub(crate) fn follow(&mut self, new: i32) {
        self.successor = Some(new);
        self.ended = false;
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
        killpg(Pid::from_raw(self.group()), signal).expect("the group can be signalled");
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line of the log that holds all of `parts`, and returns it.
    pub(crate) fn wait_log(&self, parts: &[&str]) -> String {
        let holds = |line: &&str| parts.iter().all(|part| line.contains(part));
        let find = |log: &str| log.lines().find(holds).map(str::to_owned);
        self.log
            .wait(PATIENCE, find)
            .unwrap_or_else(|| panic!("not in the log: {parts:?}"))
    }

    /// Waits until so many lines of the log hold all of `parts`, and returns them.
    pub(crate) fn wait_logs(&self, parts: &[&str], count: usize) -> Vec<String> {
        let holds = |line: &&str| parts.iter().all(|part| line.contains(part));
        let find = |log: &str| {
            let lines: Vec<String> = log.lines().filter(holds).map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        };
        self.log
            .wait(PATIENCE, find)
            .unwrap_or_else(|| panic!("not {count} times in the log: {parts:?}"))
    }

    /// Waits until nobody can write to the log any more.
    pub(crate) fn wait_log_end(&self) {
        until("the log ends", || self.log.has_ended());
    }

    /// The server's own folder, which is also its current one.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Changes its settings file. `{NAME}` in it stands for the path of the guest of that name.
    pub(crate) fn reconfigure(&self, text: &str) {
        // Whole from the first moment: a reload may be reading it.
        let fresh = self.folder.path().join("fresh-settings");
        fs::write(&fresh, with_guests(text)).expect("the file can be written");
        fs::rename(fresh, self.folder.path().join(SETTINGS)).expect("the file can be replaced");
    }

    /// Lets the link that it was started through lead to another program.
    pub(crate) fn switch_program(&self, program: impl AsRef<Path>) {
        let fresh = self.folder.path().join("fresh-link");
        symlink(program, &fresh).expect("a link can be made");
        fs::rename(fresh, self.folder.path().join(LINK)).expect("the link can be switched");
    }

    /// The test makes the server log errors.
    pub(crate) fn expect_errors(&mut self) {
        self.errors_expected = true;
    }

    /// Waits until the arbiter has ended, and its log with it.
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        let status = until_some("the server ends", || match self.successor {
            Some(pid) => ended(pid),
            None => self.child.try_wait().expect("it is our child"),
        });
        self.ended = true;
        status
    }

    /// Waits until nothing of it runs any more, and its log is complete.
    pub(crate) fn no_process_is_left(&mut self) {
        let group = self.group();
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
        let _ = killpg(Pid::from_raw(self.group()), Signal::SIGKILL);
        let _ = self.child.wait();
        self.ended = true;
    }
}

/// How an arbiter ended that this process has adopted, if it has ended.
fn ended(pid: i32) -> Option<ExitStatus> {
    let status = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    match status.expect("it is our child") {
        WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw(code << 8)),
        WaitStatus::Signaled(_, signal, _) => Some(ExitStatus::from_raw(signal as i32)),
        _ => None,
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
