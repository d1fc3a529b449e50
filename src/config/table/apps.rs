//! Defines the settings of apps: what they are, what they may, and what they may use.
//!
//! Invariant: a setting that the server and an app can both write has no effect but on apps.

use std::time::Duration;

use super::{DAY, GIB, KIB, MIB};
use crate::config::kind::Kind;
use crate::config::setting::{Group, Scope, Setting, setting};

/// CPU time is measured in steps of this.
const CPU_STEP: Duration = Duration::from_millis(10);

/// Groups Apps, Rights and Limits.
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
                range: CPU_STEP..=DAY,
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
            range: CPU_STEP..=DAY,
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
            range: 64 * KIB..=4 * GIB,
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
            range: 0..=4 * GIB,
        }),
        "Longest request body for an app that takes the whole body at once. This holds for \
         components of the world rgunicorn:http, whose bodies the worker keeps in memory; a \
         longer one is answered with 413.",
    ),
    setting(
        Group::Limits,
        "request-read-ahead",
        "64KiB",
        Scope::Both(Kind::Size {
            at: |app| &mut app.limits.read_ahead,
            range: 0..=64 * MIB,
        }),
        "Bytes of a request's body that are waited for before the app gets the request, so that a \
         client that sends slowly takes no instance from others. A shorter body is waited for whole. \
         0: for apps that talk with their clients while the request still comes. Apps that take the \
         whole body at once have it whole in any case.",
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
            range: 1..=4096,
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
            range: 0..=65_536,
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
            range: 0..=64 * MIB,
        }),
        "Bytes of standard output and standard error that one request may log. The rest is \
         dropped, and a line says so.",
    ),
];
