//! Defines how the tests see a log: as text that grows, to wait for.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a server has written to standard error so far.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<(Mutex<Text>, Condvar)>);

#[derive(Default)]
struct Text {
    written: String,
    ended: bool,
}

impl Log {
    pub(super) fn read(&self, from: impl Read + Send + 'static) -> JoinHandle<()> {
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

    /// All of it so far.
    pub(super) fn text(&self) -> String {
        self.lock().written.clone()
    }

    /// Whether no more will come.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    fn lock(&self) -> MutexGuard<'_, Text> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `find` finds something in the log, or no more will come.
    pub(super) fn wait<T>(
        &self,
        patience: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
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

/// The beginning and the end of a log that is too long to be read.
pub(super) fn abridged(log: &str) -> String {
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
