//! Defines how a worker comes to serve: it makes its runtime, links the apps, makes one instance of
//! each to see that it can, and says that it is ready.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::admission::Gate;
use super::record::AccessLog;
use super::room::Room;
use super::route::Routes;
use super::shared::{Heartbeat, Served, Shared};
use super::{accept, drain, kind, room};
use crate::access::Worker;
use crate::arbiter::exit::ExitCode;
use crate::arbiter::role::{Child, Title};
use crate::config::Config;
use crate::host::{self, Host, LoadError, Pool};
use crate::protocol::message::FromChild;
use crate::sys::channel::Channel;
use crate::sys::process;
use crate::sys::signals::{Signal, SignalQueue};
use crate::sys::socket::Listener;
use crate::sys::timer::CpuTicks;

/// Instances that one worker can hold, whatever the apps' limits add up to.
const INSTANCES_MAX: u32 = 1000;

/// What a worker is to serve, and on what.
struct Plan<'a> {
    config: &'a Config,
    listeners: Vec<Listener>,
    handed: Vec<OwnedFd>,
    title: Title,
    serves: bool,
    room: Room,
    tls: Option<TlsAcceptor>,
    access_log: Option<AccessLog>,
}

/// Why a worker cannot serve.
#[derive(Debug, thiserror::Error)]
enum BootError {
    #[error("apps.{app}: {source}")]
    Load { app: String, source: LoadError },
    #[error("apps.{app}: cannot make an instance: {source}")]
    Rehearse { app: String, source: host::Failure },
    #[error(transparent)]
    Host(LoadError),
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: io::Error,
    },
}

impl BootError {
    fn code(&self) -> ExitCode {
        match self {
            Self::Load { .. } | Self::Rehearse { .. } => ExitCode::AppLoad,
            Self::Host(_) | Self::System { .. } => ExitCode::WorkerBoot,
        }
    }
}

/// Serves until told to end. Answers with the exit code of the process.
pub fn main(child: Child, config: &Config, tls: Option<&Arc<ServerConfig>>) -> i32 {
    let (slot, pid) = (child.slot, process::own_pid());
    let _span = tracing::info_span!("worker", slot, %pid).entered();
    let heartbeat = Heartbeat::new(
        Arc::clone(&child.scoreboard),
        child.row,
        config.heartbeat_timeout,
    );
    let worker = Worker {
        pid: pid.number(),
        slot,
        generation: child.generation,
    };
    let access_log = child.access_log.map(|log| AccessLog::new(log, worker));
    let channel = Rc::new(child.channel);
    let (seat, due) = (child.seat.map(Arc::new), Arc::new(Notify::new()));
    let at_rest = room::at_rest(seat.as_ref(), &due);
    let result = event_loop(&heartbeat, at_rest).and_then(|runtime| {
        let plan = Plan {
            config,
            listeners: child.listeners,
            handed: child.handed,
            title: child.title,
            serves: child.serves,
            room: Room::new(kind::of(config), seat, due),
            tls: tls.map(|tls| TlsAcceptor::from(Arc::clone(tls))),
            access_log,
        };
        let serving = serve(plan, Rc::clone(&channel), heartbeat.clone());
        let tasks = LocalSet::new();
        runtime.block_on(heartbeat.with_each_turn(tasks.run_until(serving)))
    });
    match result {
        Ok(()) => i32::from(ExitCode::Ok.number()),
        Err(error) => {
            let code = error.code().number();
            let reason = error.to_string();
            // Without an arbiter there is nobody to tell.
            let _ = channel.send_blocking(&FromChild::Failed { code, reason }.encode(), &[]);
            i32::from(code)
        }
    }
}

fn event_loop(
    heartbeat: &Heartbeat,
    at_rest: impl Fn() + Send + Sync + 'static,
) -> Result<tokio::runtime::Runtime, BootError> {
    let heartbeat = heartbeat.clone();
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(move || {
            at_rest();
            heartbeat.sleep();
        })
        .build()
        .map_err(|source| BootError::System {
            what: "cannot make an event loop",
            source,
        })
}

async fn serve(
    plan: Plan<'_>,
    channel: Rc<Channel>,
    heartbeat: Heartbeat,
) -> Result<(), BootError> {
    let config = plan.config;
    let system = |what| move |source| BootError::System { what, source };
    let signals = SignalQueue::new(&[
        Signal::Term,
        Signal::Int,
        Signal::Quit,
        Signal::Hup,
        Signal::Usr1,
        Signal::Usr2,
        Signal::Winch,
        Signal::Ttin,
        Signal::Ttou,
    ])
    .map_err(system("cannot receive signals"))?;
    let host = Host::new(&pool(config)).map_err(BootError::Host)?;
    // It lives as long as the process: a signal may come at any moment.
    let ticker: &'static (dyn Fn() + Sync) = Box::leak(Box::new(host.ticker()));
    let _ticks =
        CpuTicks::start(host::TICK, ticker).map_err(system("cannot start the CPU timer"))?;
    let routes = load(config, &plan.handed, &host).await?;
    let shared = Shared::new(
        config,
        plan.tls,
        routes,
        heartbeat,
        plan.room,
        plan.access_log,
        &channel,
    );
    let shared = Rc::new(shared);
    tokio::task::spawn_local(Heartbeat::keep_up(Rc::clone(&shared)));
    let accepting = accept::run(Rc::clone(&shared), plan.listeners);
    let accepting = tokio::task::spawn_local(accepting);
    plan.title.set_state("ready");
    channel
        .send_blocking(&FromChild::Ready.encode(), &[])
        .map_err(system("cannot reach the arbiter"))?;
    if plan.serves {
        shared.open();
    }
    drain::until_done(
        &shared,
        channel,
        signals,
        accepting,
        config.graceful_timeout,
        &plan.title,
    )
    .await
    .map_err(system("lost the arbiter"))
}

fn pool(config: &Config) -> Pool {
    let instances = config
        .apps
        .iter()
        .map(|app| app.limits.requests_in_flight)
        .fold(1, u32::saturating_add);
    let memory_bytes = config
        .apps
        .iter()
        .map(|app| app.limits.memory)
        .max()
        .unwrap_or(0);
    Pool {
        instances: instances.min(INSTANCES_MAX),
        memory_bytes,
    }
}

async fn load(
    config: &Config,
    handed: &[OwnedFd],
    host: &Host,
) -> Result<Routes<Served>, BootError> {
    let mut routes = Routes::default();
    for (app, artefact) in config.apps.iter().zip(handed) {
        let name = || app.name.clone();
        let loaded = host
            .load(app, artefact.as_fd())
            .map_err(|source| BootError::Load {
                app: name(),
                source,
            })?;
        loaded
            .rehearse()
            .await
            .map_err(|source| BootError::Rehearse {
                app: name(),
                source,
            })?;
        let served = Rc::new(Served {
            name: app.name.clone(),
            app: loaded,
            limits: app.limits.clone(),
            gate: Gate::new(app.limits.requests_in_flight, app.limits.request_queue),
        });
        for route in &app.routes {
            routes.insert(route, Rc::clone(&served));
        }
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::scoreboard::Scoreboard;

    /// More than a deadline needs to be seen to move.
    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn an_event_loop_that_always_has_work_and_no_request_is_alive() {
        let board = Arc::new(Scoreboard::new(1).unwrap());
        let heartbeat = Heartbeat::new(Arc::clone(&board), 0, Some(Duration::from_secs(1)));
        let runtime = event_loop(&heartbeat, || {}).unwrap();
        let busy = async {
            let (began, first) = (Instant::now(), board.slot(0).alive_until());
            while board.slot(0).alive_until() == first {
                assert!(began.elapsed() < PATIENCE, "the deadline stands still");
                tokio::task::yield_now().await;
            }
        };
        let tasks = LocalSet::new();
        runtime.block_on(heartbeat.with_each_turn(tasks.run_until(async {
            tokio::task::spawn_local(tokio::task::yield_now());
            busy.await;
        })));
    }
}
