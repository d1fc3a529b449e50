//! Defines the settings of listeners and workers, and of what replaces workers.
//!
//! Invariant: a reload can change every one of them.

use std::time::Duration;

use super::{DAY, SECOND};
use crate::config::choice::At;
use crate::config::kind::Kind;
use crate::config::resolved::Config;
use crate::config::setting::{Group, Scope, Setting, Variable, setting};

const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// Beyond what a worker can answer in its life, and far from where adding to it overflows.
const MOST_REQUESTS: u64 = 1_000_000_000_000;

/// Groups Listening, Workers and Reloading.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        short: Some('b'),
        aliases: &["addr"],
        variables: &[Variable {
            name: "PORT",
            prefix: "0.0.0.0:",
        }],
        ..setting(
            Group::Listening,
            "bind",
            "127.0.0.1:8000",
            Scope::Server(Kind::Addresses {
                at: |config| &mut config.bind,
            }),
            "Address to listen on: HOST:PORT, [V6]:PORT, unix:PATH or fd://N; may be repeated. \
             Port 0 lets the kernel choose one, HOST alone has port 8000, and :PORT is \
             0.0.0.0:PORT. fd://N is a listening socket that the parent process opened.",
        )
    },
    setting(
        Group::Listening,
        "backlog",
        "2048",
        Scope::Server(Kind::Count {
            at: |config| &mut config.backlog,
            range: 1..=65_535,
        }),
        "Connections that wait in the kernel while no worker has room. The kernel's own \
         net.core.somaxconn bounds it too.",
    ),
    setting(
        Group::Listening,
        "defer-accept",
        "false",
        Scope::Server(Kind::Flag {
            at: |config| &mut config.defer_accept,
        }),
        "The kernel keeps a new TCP connection until its first bytes are there, so that a worker \
         sleeps once less for each. One that stays silent is accepted after about a second. Until \
         then it is not counted, and a server that stops does not wait for it. Not for health \
         checks that connect and say nothing, where they measure how long that takes.",
    ),
    setting(
        Group::Listening,
        "accept",
        "auto",
        Scope::Server(Kind::Choice {
            at: &At(|config: &mut Config| &mut config.accept),
            placeholder: "HOW",
        }),
        "Who decides which worker accepts a connection. `auto`: the workers among themselves, so \
         that each connection wakes one worker, an idle one with few connections, and when all \
         are busy the first that has finished takes it; the arbiter helps where they cannot. \
         `delegated`: the same without the arbiter's help. `signalled`: the arbiter, which tells \
         one worker each time. `kernel`: each worker that has room waits for connections itself, \
         so that one may wake several. `reuseport`: each worker has a queue of its own, which it \
         alone serves however busy it is; the number of workers cannot be changed without a \
         reload then. docs/accept.md compares them.",
    ),
    Setting {
        short: Some('w'),
        variables: &[Variable {
            name: "WEB_CONCURRENCY",
            prefix: "",
        }],
        ..setting(
            Group::Workers,
            "workers",
            "auto",
            Scope::Server(Kind::CountOrCpus {
                at: |config| &mut config.workers,
                range: 1..=1024,
            }),
            "Number of worker processes. `auto` is the number of CPUs that the server may use.",
        )
    },
    Setting {
        short: Some('k'),
        ..setting(
            Group::Workers,
            "worker-class",
            "async",
            Scope::Server(Kind::Choice {
                at: &At(|config: &mut Config| &mut config.worker_class),
                placeholder: "CLASS",
            }),
            "Kind of worker. `async`: many connections and requests at the same time. `sync`: one \
             request at a time, on a connection of its own that is closed after it; the worker \
             accepts nothing meanwhile, so a request never waits for another one in its worker.",
        )
    },
    setting(
        Group::Workers,
        "worker-requests",
        "1000",
        Scope::Server(Kind::Count {
            at: |config| &mut config.worker_requests,
            range: 1..=1_000_000,
        }),
        "Requests that one async worker may be answering when it accepts another connection. \
         Requests on the connections that it has are not bounded by it, but by \
         requests-in-flight of their app.",
    ),
    setting(
        Group::Workers,
        "worker-connections",
        "1000",
        Scope::Server(Kind::Count {
            at: |config| &mut config.worker_connections,
            range: 1..=1_000_000,
        }),
        "Connections that one worker holds at the same time. A worker that is full closes the one \
         that has been idle for longest, and for a second; if none has, it accepts no more, so \
         another one does, or they wait in the backlog. Up to 64 more that only have to be closed take no \
         place.",
    ),
    setting(
        Group::Workers,
        "graceful-timeout",
        "30",
        Scope::Server(Kind::Duration {
            at: |config| &mut config.graceful_timeout,
            range: Duration::ZERO..=DAY,
        }),
        "Time that a worker has to finish its requests when it is told to stop. After it the \
         worker is killed.",
    ),
    setting(
        Group::Workers,
        "boot-timeout",
        "60",
        Scope::Server(Kind::Duration {
            at: |config| &mut config.boot_timeout,
            range: SECOND..=DAY,
        }),
        "Time that a worker has from its start until it is ready. After it the worker is killed \
         and replaced.",
    ),
    setting(
        Group::Workers,
        "heartbeat-timeout",
        "30",
        Scope::Server(Kind::Deadline {
            at: |config| &mut config.heartbeat_timeout,
            range: SECOND..=DAY,
        }),
        "Time that a worker may give no sign of life. After it the worker is killed and replaced. \
         This watches the server's own code, and an idle worker is never killed: what a request \
         may take is timeout and cpu-timeout.",
    ),
    setting(
        Group::Workers,
        "max-requests",
        "0",
        Scope::Server(Kind::Limit {
            at: |config| &mut config.max_requests,
            range: 1..=MOST_REQUESTS,
        }),
        "Requests that a worker answers before it is replaced. The new worker is ready before the \
         old one stops accepting. 0: a worker is never replaced for this.",
    ),
    setting(
        Group::Workers,
        "max-requests-jitter",
        "0",
        Scope::Server(Kind::Number {
            at: |config| &mut config.max_requests_jitter,
            range: 0..=MOST_REQUESTS,
        }),
        "Greatest random number that is added to max-requests. Each worker has its own, so those \
         that started together are not replaced together.",
    ),
    setting(
        Group::Workers,
        "max-worker-lifetime",
        "0",
        Scope::Server(Kind::Deadline {
            at: |config| &mut config.max_worker_lifetime,
            range: SECOND..=YEAR,
        }),
        "Time that a worker serves before it is replaced. The new worker is ready before the old \
         one stops accepting. 0: a worker is never replaced for this.",
    ),
    setting(
        Group::Workers,
        "max-worker-memory",
        "0",
        Scope::Server(Kind::Allowance {
            at: |config| &mut config.max_worker_memory,
        }),
        "Memory that a worker may have before it is replaced. The new worker is ready before the \
         old one stops accepting. 0: a worker is never replaced for this, and its memory is not \
         measured.",
    ),
    setting(
        Group::Workers,
        "worker-memory-measure",
        "pss",
        Scope::Server(Kind::Choice {
            at: &At(|config: &mut Config| &mut config.worker_memory_measure),
            placeholder: "MEASURE",
        }),
        "How max-worker-memory is measured. `pss` divides a page by the number of processes that \
         share it, so what the workers have in common is counted once; `rss` counts it for each \
         of them, and costs the kernel less.",
    ),
    setting(
        Group::Workers,
        "worker-memory-samples",
        "3",
        Scope::Server(Kind::Count {
            at: |config| &mut config.worker_memory_samples,
            range: 1..=100,
        }),
        "Measurements in a row that must be above max-worker-memory. A short peak does not replace \
         a worker.",
    ),
    setting(
        Group::Workers,
        "worker-memory-interval",
        "10",
        Scope::Server(Kind::Duration {
            at: |config| &mut config.worker_memory_interval,
            range: SECOND..=DAY,
        }),
        "Time between two measurements of a worker's memory.",
    ),
    setting(
        Group::Reloading,
        "max-unavailable",
        "0",
        Scope::Server(Kind::Count {
            at: |config| &mut config.max_unavailable,
            range: 0..=1024,
        }),
        "Workers that may be missing while a reload replaces them. So many fewer new workers have \
         to be ready before the old ones are told to finish: of 4 workers three, if it is 1. 0: \
         the whole new generation is ready first.",
    ),
    setting(
        Group::Reloading,
        "upgrade-mode",
        "auto",
        Scope::Server(Kind::Choice {
            at: &At(|config: &mut Config| &mut config.upgrade_mode),
            placeholder: "MODE",
        }),
        "What the old server does when an upgrade has started the new program. `auto`: when the \
         new program's workers are ready, the old server finishes its requests and leaves. \
         `manual`: as in gunicorn, both serve until the operator ends one of them, the old one \
         with WINCH and then QUIT, or the new one with QUIT.",
    ),
    setting(
        Group::Reloading,
        "upgrade-timeout",
        "300",
        Scope::Server(Kind::Duration {
            at: |config| &mut config.upgrade_timeout,
            range: SECOND..=DAY,
        }),
        "Time that the new program of an upgrade has from its start until its workers are ready. \
         After it the new program is ended, and the old server goes on.",
    ),
    setting(
        Group::Reloading,
        "reload",
        "false",
        Scope::Server(Kind::Flag {
            at: |config| &mut config.reload,
        }),
        "Reload when a component or the settings file has changed. This is for development: the \
         reload waits until the files have settled, and if the new state is broken the log says \
         why and the old workers go on.",
    ),
    Setting {
        flag: Some("reload-extra-file"),
        ..setting(
            Group::Reloading,
            "reload-extra-files",
            "",
            Scope::Server(Kind::Paths {
                at: |config| &mut config.reload_extra_files,
            }),
            "File that `reload` watches too; may be repeated.",
        )
    },
];
