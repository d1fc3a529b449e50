//! Defines how a configuration becomes a plan.

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::StartError;
use super::access_log::access_log;
use super::listeners::{Open, Planned, listeners};
use crate::accept::Through;
use crate::arbiter::{Description, MaxMemory, Measure, Plan, Role, Upgrade};
use crate::config::{AcceptMode, App, Config, LogLevel, MemoryMeasure, UpgradeMode};
use crate::protocol::report::AppReport;
use crate::sys::identity::Identity;
use crate::sys::random;
use crate::tls::{Secret, ServerConfig};
use crate::{loader, tls, worker};

/// The plan that carries out `config`, on listeners that are open already where there are such.
///
/// # Errors
/// When an address cannot be bound, or the access log cannot be opened.
pub fn plan(config: &Config, open: &Open, identity: Option<&Identity>) -> Result<Plan, StartError> {
    logging(config, open, identity, |_| ())
}

/// The same, with children that log as much as `config` says.
pub(super) fn logging(
    config: &Config,
    open: &Open,
    identity: Option<&Identity>,
    set_log_level: fn(LogLevel),
) -> Result<Plan, StartError> {
    let (tls, secret) = tls(config, open.secret)?;
    let mut config = config.clone();
    keep_artefacts_at_home(&mut config, identity);
    let config = Rc::new(config);
    let (for_loader, for_worker) = (Rc::clone(&config), Rc::clone(&config));
    let load = Role::new("loader", move |child| {
        set_log_level(for_loader.log_level);
        loader::main(child, &for_loader)
    });
    let serve = Role::new("worker", move |child| {
        set_log_level(for_worker.log_level);
        worker::main(child, &for_worker, tls.as_ref())
    });
    let upgrade = match config.upgrade_mode {
        UpgradeMode::Auto => Upgrade::Auto,
        UpgradeMode::Manual => Upgrade::Manual,
    };
    let mut plan = Plan::new(serve)
        .workers(config.workers as usize)
        .loader(load, config.apps.len())
        .boot_timeout(config.boot_timeout)
        .heartbeat_timeout(config.heartbeat_timeout)
        .load_timeout(Some(load_timeout(&config)))
        .graceful_timeout(config.graceful_timeout)
        .max_unavailable(config.max_unavailable as usize)
        .max_lifetime(config.max_worker_lifetime)
        .max_memory(max_memory(&config))
        .upgrade(upgrade, config.upgrade_timeout)
        .identity(identity.cloned())
        .access_log(access_log(&config)?)
        .watched_files(watched_files(&config))
        .accept(through(config.accept))
        .scheme(if config.tls.is_on() { "https" } else { "http" })
        .secret(secret)
        .description(Description {
            apps: config.apps.iter().map(report).collect(),
            config: config.print(),
        });
    for Planned {
        key,
        listener,
        slot,
    } in listeners(&config, open)?
    {
        if let Some(identity) = identity {
            let given = listener.give_to(identity);
            given.map_err(super::setting("user", || format!("cannot own {key}")))?;
        }
        plan = plan.listener_of(slot, key, listener);
    }
    Ok(plan)
}

/// How TLS is spoken, if it is, and the secret that its tickets are made with: that of the server so far,
/// or a new one.
pub(super) fn tls(
    config: &Config,
    secret: Option<Secret>,
) -> Result<(Option<Arc<ServerConfig>>, Secret), StartError> {
    let secret = match secret {
        Some(secret) => secret,
        None => random::secret().map_err(StartError::Secret)?,
    };
    Ok((tls::load(&config.tls, secret)?, secret))
}

/// How the workers agree on who accepts; `None` leaves it to the kernel.
fn through(accept: AcceptMode) -> Option<Through> {
    match accept {
        AcceptMode::Auto => Some(Through::WorkersOrArbiter),
        AcceptMode::Signalled => Some(Through::Arbiter),
        AcceptMode::Delegated => Some(Through::Workers),
        AcceptMode::Kernel | AcceptMode::Reuseport => None,
    }
}

fn report(app: &App) -> AppReport {
    let app = app.describe();
    let limits = app.limits.into_iter();
    AppReport {
        name: app.name,
        component: app.component.display().to_string(),
        routes: app.routes,
        limits: limits.map(|(key, value)| (key.to_owned(), value)).collect(),
    }
}

/// The home of whoever starts the server is closed to the user that its children become.
fn keep_artefacts_at_home(config: &mut Config, identity: Option<&Identity>) {
    if let Some(home) = identity.and_then(|identity| identity.home.as_ref())
        && config.is_default("cache-dir")
    {
        config.cache_dir = Some(home.join(".cache/rgunicorn"));
    }
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

fn max_memory(config: &Config) -> Option<MaxMemory> {
    Some(MaxMemory {
        bytes: config.max_worker_memory?,
        samples: config.worker_memory_samples,
        interval: config.worker_memory_interval,
        measure: match config.worker_memory_measure {
            MemoryMeasure::Pss => Measure::Proportional,
            MemoryMeasure::Rss => Measure::Resident,
        },
    })
}

fn watched_files(config: &Config) -> Vec<PathBuf> {
    if !config.reload {
        return Vec::new();
    }
    let components = config.apps.iter().map(|app| app.component.clone());
    let settings = config.file.iter().cloned();
    let extra = config.reload_extra_files.iter().cloned();
    components.chain(settings).chain(extra).collect()
}
