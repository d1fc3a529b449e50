//! Defines where a guest's standard output and error go: line by line into the log, named after the
//! app, with control characters escaped, and only so many bytes for each request.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::store::printable;

/// Longest line; a longer one is logged in parts. In bytes.
const LINE_BYTES: usize = 4096;

/// Which stream of the guest it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum StreamName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl StreamName {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One stream of one guest. All handles to it share what has no line end yet.
#[derive(Clone)]
pub(super) struct GuestLog(Arc<Mutex<Lines>>);

struct Lines {
    app: Arc<str>,
    stream: StreamName,
    /// Bytes that the request may still log, on both of its streams.
    budget: Arc<AtomicU64>,
    unfinished: Vec<u8>,
}

impl GuestLog {
    pub(super) fn new(app: Arc<str>, stream: StreamName, budget: Arc<AtomicU64>) -> Self {
        Self(Arc::new(Mutex::new(Lines {
            app,
            stream,
            budget,
            unfinished: Vec::new(),
        })))
    }

    fn push(&self, bytes: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(bytes);
    }
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in part.chunks(LINE_BYTES) {
                if self.unfinished.len() + piece.len() > LINE_BYTES {
                    self.emit();
                }
                self.unfinished.extend_from_slice(piece);
            }
            if part.ends_with(b"\n") {
                self.unfinished.pop();
                self.emit();
            }
        }
    }

    fn emit(&mut self) {
        let line = std::mem::take(&mut self.unfinished);
        let size = line.len() as u64 + 1;
        let before = self.budget.load(Ordering::Relaxed);
        self.budget
            .store(before.saturating_sub(size), Ordering::Relaxed);
        let (app, stream) = (&*self.app, self.stream.as_str());
        if before >= size {
            let text: String = String::from_utf8_lossy(&line)
                .chars()
                .flat_map(printable)
                .collect();
            tracing::info!(app, "{stream}: {text}");
        } else if before > 0 {
            tracing::warn!(
                app,
                "{stream}: the rest of what this request prints is dropped: guest-log-limit"
            );
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.unfinished.is_empty() {
            self.emit();
        }
    }
}

impl IsTerminal for GuestLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestLog {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for GuestLog {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl AsyncWrite for GuestLog {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
