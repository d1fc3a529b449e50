//! Defines what a person sees while a large component compiles: a line that counts the seconds on a
//! terminal, a line in the log now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A compilation that is under way.
pub(super) struct Progress {
    app: String,
    started: Instant,
    stop: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    /// Begins to tell. The loader may have threads: it never forks.
    pub(super) fn start(app: &str, path: &Path, bytes: usize) -> Self {
        tracing::info!(
            app,
            "{}: compiling {} KiB",
            path.display(),
            bytes.div_ceil(1024)
        );
        let started = Instant::now();
        let (stop, stopped) = mpsc::channel();
        let terminal = io::stderr().is_terminal();
        let every = if terminal {
            Duration::from_millis(200)
        } else {
            Duration::from_secs(5)
        };
        let name = app.to_owned();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                tell(&name, started, terminal);
            }
            if terminal && started.elapsed() >= every {
                // Clears the line.
                let _ = io::stderr().write_all(b"\r\x1b[K");
            }
        });
        Self {
            app: app.to_owned(),
            started,
            stop,
            thread: Some(thread),
        }
    }

    /// Says how long it took.
    pub(super) fn done(mut self, bytes: usize) {
        self.end();
        let (app, seconds) = (&*self.app, self.started.elapsed().as_secs_f32());
        tracing::info!(
            app,
            "compiled to {} KiB in {seconds:.1} s",
            bytes.div_ceil(1024)
        );
    }

    fn end(&mut self) {
        // The thread may have ended by itself; then there is nothing to stop.
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

fn tell(app: &str, started: Instant, terminal: bool) {
    let seconds = started.elapsed().as_secs();
    if terminal {
        let _ = write!(io::stderr(), "\rcompiling {app}: {seconds} s ");
    } else {
        tracing::info!(app, "still compiling after {seconds} s");
    }
}
