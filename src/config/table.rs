//! Defines every setting, once.
//!
//! Invariant: whatever knows settings (the command line, the environment, the settings file, help,
//! docs/configuration.md, `--print-config`) walks [`SETTINGS`]; a setting is added or changed here
//! and nowhere else, but for the field that it fills.

use std::time::Duration;

use super::kind::Kind;
use super::setting::{Group, Scope, Setting, Variable, setting};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// CPU time is measured in steps of this.
const CPU_STEP: Duration = Duration::from_millis(10);

/// Every setting, in the order of help and documentation.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        flag: None,
        ..setting(
            Group::Apps,
            "app",
            "",
            Scope::OnlyApp,
            "WebAssembly component to serve as the only app. It answers every request, and is \
             named after its file. In the settings file it is the key `app`; several apps have \
             [apps.NAME] tables instead.",
        )
    },
    Setting {
        flag: None,
        ..setting(
            Group::Apps,
            "component",
            "",
            Scope::App(Kind::File {
                at: |app| &mut app.component,
            }),
            "WebAssembly component of this app. Two apps may have the same one.",
        )
    },
    Setting {
        flag: None,
        ..setting(
            Group::Apps,
            "routes",
            "/",
            Scope::App(Kind::Routes {
                at: |app| &mut app.routes,
            }),
            "Requests that this app answers: `/`, `/api`, `example.com`, `example.com/api` or \
             `*.example.com`. A path stands for itself and for what is below it: `/api` holds \
             for `/api` and `/api/v1`, not for `/apis`. `*.example.com` stands for every host \
             below example.com, not for example.com. A full host name goes before one with a \
             star, that before none, and then the longest path wins. Two apps cannot have the \
             same route; a request without one is answered with 404.",
        )
    },
    Setting {
        short: Some('e'),
        ..setting(
            Group::Rights,
            "env",
            "",
            Scope::Both(Kind::Variables {
                at: |app| &mut app.env,
            }),
            "Environment variable that the app sees; may be repeated. An app sees no other: \
             nothing of the server's own environment reaches it.",
        )
    },
    Setting {
        flag: Some("dir"),
        ..setting(
            Group::Rights,
            "dirs",
            "",
            Scope::Both(Kind::Dirs {
                at: |app| &mut app.dirs,
            }),
            "Directory that the app can reach, and the path under which it sees it; may be \
             repeated. `:ro` at the end lets it read only. An app reaches no other file.",
        )
    },
    setting(
        Group::Rights,
        "outbound",
        "",
        Scope::Both(Kind::Outbound {
            at: |app| &mut app.outbound,
        }),
        "Server that the app may send requests to; may be repeated. `https://api.example.com` \
         is that host on port 443, `https://*.example.com` every host below example.com, \
         `http://127.0.0.1:9000` that address and port, `:*` every port, and `*` everything \
         public. A pattern with a star for its host never reaches an address that is not public. \
         Without a pattern an app can send none.",
    ),
    Setting {
        short: Some('t'),
        ..setting(
            Group::Limits,
            "timeout",
            "30",
            Scope::Both(Kind::Deadline {
                at: |app| &mut app.limits.timeout,
                least: CPU_STEP,
                most: DAY,
            }),
            "Time that a request may take by the clock. After it the request is ended, with 504 if \
             the response has not begun. The worker and its other requests go on.",
        )
    },
    setting(
        Group::Limits,
        "cpu-timeout",
        "10",
        Scope::Both(Kind::Duration {
            at: |app| &mut app.limits.cpu_timeout,
            least: CPU_STEP,
            most: DAY,
        }),
        "CPU time that a request may take, in steps of 10 ms. Waiting does not count. After it the \
         request is ended, with 504 if the response has not begun.",
    ),
    setting(
        Group::Limits,
        "memory-limit",
        "256MiB",
        Scope::Both(Kind::Size {
            at: |app| &mut app.limits.memory,
            least: 64 * KIB,
            most: 4 * GIB,
        }),
        "Linear memory that one instance of the app may have. A request for more fails inside the \
         app.",
    ),
    Setting {
        aliases: &["limit-request-body"],
        ..setting(
            Group::Limits,
            "request-body-limit",
            "100MiB",
            Scope::Both(Kind::Allowance {
                at: |app| &mut app.limits.request_body,
            }),
            "Longest request body. A longer one is answered with 413.",
        )
    },
    setting(
        Group::Limits,
        "buffered-body-limit",
        "8MiB",
        Scope::Both(Kind::Size {
            at: |app| &mut app.limits.buffered_body,
            least: 0,
            most: 4 * GIB,
        }),
        "Longest request body for an app that takes the whole body at once. This holds for \
         components of the world rgunicorn:http, whose bodies the worker keeps in memory; a \
         longer one is answered with 413.",
    ),
    setting(
        Group::Limits,
        "response-body-limit",
        "0",
        Scope::Both(Kind::Allowance {
            at: |app| &mut app.limits.response_body,
        }),
        "Longest response body. A response that would be longer is cut off. A body that is made \
         whole in the app's memory is also bounded by memory-limit.",
    ),
    setting(
        Group::Limits,
        "requests-in-flight",
        "64",
        Scope::Both(Kind::Count {
            at: |app| &mut app.limits.requests_in_flight,
            least: 1,
            most: 4096,
        }),
        "Requests of the app that one worker runs at the same time. Each has an instance of its \
         own.",
    ),
    setting(
        Group::Limits,
        "request-queue",
        "1024",
        Scope::Both(Kind::Count {
            at: |app| &mut app.limits.request_queue,
            least: 0,
            most: 65_536,
        }),
        "Requests of the app that wait in one worker while requests-in-flight run. One more is \
         answered with 503 and Retry-After.",
    ),
    setting(
        Group::Limits,
        "guest-log-limit",
        "64KiB",
        Scope::Both(Kind::Size {
            at: |app| &mut app.limits.guest_log,
            least: 0,
            most: 64 * MIB,
        }),
        "Bytes of standard output and standard error that one request may log. The rest is \
         dropped, and a line says so.",
    ),
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
            least: 1,
            most: 65_535,
        }),
        "Connections that wait in the kernel while no worker has room. The kernel's own \
         net.core.somaxconn bounds it too.",
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
                least: 1,
                most: 1024,
            }),
            "Number of worker processes. `auto` is the number of CPUs that the server may use.",
        )
    },
    setting(
        Group::Workers,
        "worker-connections",
        "1000",
        Scope::Server(Kind::Count {
            at: |config| &mut config.worker_connections,
            least: 1,
            most: 1_000_000,
        }),
        "Connections that one worker holds at the same time. A worker that is full accepts no \
         more, so another one does, or they wait in the backlog.",
    ),
    setting(
        Group::Workers,
        "graceful-timeout",
        "30",
        Scope::Server(Kind::Duration {
            at: |config| &mut config.graceful_timeout,
            least: Duration::ZERO,
            most: DAY,
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
            least: SECOND,
            most: DAY,
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
            least: SECOND,
            most: DAY,
        }),
        "Time that a worker may give no sign of life. After it the worker is killed and replaced. \
         This watches the server's own code, and an idle worker is never killed: what a request \
         may take is timeout and cpu-timeout.",
    ),
    Setting {
        hidden_aliases: &["keepalive"],
        ..setting(
            Group::Http,
            "keep-alive",
            "75",
            Scope::Server(Kind::Duration {
                at: |config| &mut config.keep_alive,
                least: Duration::ZERO,
                most: DAY,
            }),
            "Time that a connection may be idle between two requests. 0 closes it after each \
             response. gunicorn has 2 seconds. Load balancers keep an idle connection for 60; one \
             that the server closes first can take a request with it, which the client sees as a \
             502.",
        )
    },
    setting(
        Group::Http,
        "head-timeout",
        "10",
        Scope::Server(Kind::Duration {
            at: |config| &mut config.head_timeout,
            least: Duration::from_millis(100),
            most: DAY,
        }),
        "Time that a client has to send a whole request head, from its first byte. After it the \
         client gets 408 and the connection is closed. A client cannot hold a place by sending \
         slowly.",
    ),
    setting(
        Group::Http,
        "limit-request-line",
        "4094",
        Scope::Server(Kind::Count {
            at: |config| &mut config.limit_request_line,
            least: 64,
            most: 65_536,
        }),
        "Longest request line in bytes. A longer one is answered with 414.",
    ),
    setting(
        Group::Http,
        "limit-request-fields",
        "100",
        Scope::Server(Kind::Count {
            at: |config| &mut config.limit_request_fields,
            least: 1,
            most: 4096,
        }),
        "Most header fields of a request. More are answered with 431.",
    ),
    Setting {
        hidden_aliases: &["limit-request-field_size"],
        ..setting(
            Group::Http,
            "limit-request-field-size",
            "8190",
            Scope::Server(Kind::Count {
                at: |config| &mut config.limit_request_field_size,
                least: 64,
                most: 65_536,
            }),
            "Longest header field of a request in bytes, its name and its value. A longer one is \
             answered with 431.",
        )
    },
    setting(
        Group::Compiling,
        "cache-dir",
        "auto",
        Scope::Server(Kind::Cache {
            at: |config| &mut config.cache_dir,
        }),
        "Folder of compiled components, so that the next start compiles nothing. `auto` is \
         $XDG_CACHE_HOME/rgunicorn, else ~/.cache/rgunicorn; `none` keeps none. Only the server's \
         user may be able to write to it.",
    ),
    setting(
        Group::Compiling,
        "compile-timeout",
        "300",
        Scope::Server(Kind::Duration {
            at: |config| &mut config.compile_timeout,
            least: SECOND,
            most: DAY,
        }),
        "CPU time that compiling one component may take. It counts the time of all threads \
         together.",
    ),
    setting(
        Group::Compiling,
        "compile-memory",
        "4GiB",
        Scope::Server(Kind::Size {
            at: |config| &mut config.compile_memory,
            least: 128 * MIB,
            most: TIB,
        }),
        "Memory that compiling one component may take.",
    ),
    setting(
        Group::Logging,
        "log-level",
        "info",
        Scope::Server(Kind::Level {
            at: |config| &mut config.log_level,
        }),
        "How much is logged. gunicorn's `warning` and `critical` mean `warn` and `error`.",
    ),
];
