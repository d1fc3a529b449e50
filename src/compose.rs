//! Defines the composition root: the one place that knows both the arbiter and what its children do.

use std::net::ToSocketAddrs;
use std::rc::Rc;
use std::time::Duration;

use crate::arbiter::{Arbiter, ExitCode, Role};
use crate::config::{BindAddress, Config};
use crate::sys::process;
use crate::sys::socket::{BindError, BindTo, Listener};
use crate::{loader, worker};

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be bound.
    #[error("{}", chain(.0))]
    Bind(#[from] BindError),
    /// A host name in an address has no address.
    #[error("cannot resolve {host}: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver says.
        source: std::io::Error,
    },
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
            Self::Bind(_) | Self::Resolve { .. } => ExitCode::Bind,
            Self::Arbiter(_) => ExitCode::Failure,
        }
    }
}

/// Serves what the configuration says until told to stop. `ready` is called with the URL of each
/// listener when the first worker is ready.
///
/// # Errors
/// When the server could not be started at all; later failures are logged and told by the exit code.
pub fn serve(config: Config, ready: impl Fn(&str) + 'static) -> Result<ExitCode, StartError> {
    // The limit is the process's: without the whole of it few connections fit.
    if let Err(error) = process::raise_open_files() {
        tracing::warn!("cannot raise the limit of open files: {error}");
    }
    let mut listeners = Vec::new();
    for address in &config.bind {
        for to in resolve(address)? {
            listeners.push(Listener::bind(&to, config.backlog)?);
        }
    }
    let urls: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_address().to_string())
        .collect();
    let config = Rc::new(config);
    let (for_loader, for_worker) = (Rc::clone(&config), Rc::clone(&config));
    let arbiter = Arbiter::builder()
        .workers(config.workers as usize)
        .apps(config.apps.len())
        .boot_timeout(config.boot_timeout)
        .heartbeat_timeout(config.heartbeat_timeout)
        .load_timeout(Some(load_timeout(&config)))
        .graceful_timeout(config.graceful_timeout)
        .listeners(listeners)
        .loader(Role::new("loader", move |child| {
            loader::main(child, &for_loader)
        }))
        .worker(Role::new("worker", move |child| {
            worker::main(child, &for_worker)
        }))
        .on_ready(move || urls.iter().for_each(|url| ready(url)))
        .build()?;
    Ok(arbiter.run())
}

/// The kernel bounds the CPU time of compiling; this bounds a loader that waits, for a disk or for CPUs
/// that others use.
fn load_timeout(config: &Config) -> Duration {
    let apps = u32::try_from(config.apps.len()).unwrap_or(u32::MAX);
    config
        .compile_timeout
        .saturating_mul(apps)
        .saturating_mul(4)
}

fn resolve(address: &BindAddress) -> Result<Vec<BindTo>, StartError> {
    match address {
        BindAddress::Unix(path) => Ok(vec![BindTo::Unix(path.clone())]),
        BindAddress::Descriptor(number) => Ok(vec![BindTo::Fd(*number)]),
        BindAddress::Tcp { host, port } => {
            let failed = |source| StartError::Resolve {
                host: host.clone(),
                source,
            };
            let mut found = (host.as_str(), *port).to_socket_addrs().map_err(failed)?;
            // As in gunicorn, a name stands for its first address.
            let first = found
                .next()
                .ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
            Ok(vec![BindTo::Tcp(first)])
        }
    }
}
