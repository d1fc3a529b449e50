//! Defines the settings of HTTP.
//!
//! Invariant: a reload can change every one that is not marked `at_start`.

use std::time::Duration;

use super::{DAY, MIB, TIB};
use crate::config::kind::Kind;
use crate::config::setting::{Group, Scope, Setting, setting};

/// Group Http.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        hidden_aliases: &["keepalive"],
        ..setting(
            Group::Http,
            "keep-alive",
            "75",
            Scope::Server(Kind::Duration {
                at: |config| &mut config.keep_alive,
                range: Duration::ZERO..=DAY,
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
            range: Duration::from_millis(100)..=DAY,
        }),
        "Time that a client has to send a whole request head, from its first byte. After it the \
         client gets 408 and the connection is closed. A client cannot hold a place by sending \
         slowly.",
    ),
    setting(
        Group::Http,
        "min-body-rate",
        "240",
        Scope::Server(Kind::Limit {
            at: |config| &mut config.min_body_rate,
            range: 0..=1_000_000_000,
        }),
        "Bytes of a body that a client must send or take in a second, on average and beyond the \
         first 5 seconds of waiting for it. One that sends more slowly gets 408, or is cut off if \
         its response has begun, as is one that takes its response more slowly. What was quick for a \
         while may pause for up to 30 seconds. 0: it may be as slow as it likes; what is waited for \
         before the app starts may take the app's timeout.",
    ),
    setting(
        Group::Http,
        "body-memory",
        "128MiB",
        Scope::Server(Kind::Size {
            at: |config| &mut config.body_memory,
            range: MIB..=TIB,
        }),
        "Memory of a worker for bodies that wait for their clients: those of requests before their \
         apps get them, and those of responses that are taken slowly. When it is used up no request \
         is begun, and whoever has made the worker wait for longest, and longer than a second, is \
         cut off; if there is none soon, requests get 503. Responses that were begun before may take \
         more. A quarter is for the first 64 KiB of request bodies. It must be twice as much as \
         buffered-body-limit.",
    ),
    setting(
        Group::Http,
        "limit-request-line",
        "4094",
        Scope::Server(Kind::Count {
            at: |config| &mut config.limit_request_line,
            range: 64..=65_536,
        }),
        "Longest request line in bytes. A longer one is answered with 414.",
    ),
    setting(
        Group::Http,
        "limit-request-fields",
        "100",
        Scope::Server(Kind::Count {
            at: |config| &mut config.limit_request_fields,
            range: 1..=4096,
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
                range: 64..=65_536,
            }),
            "Longest header field of a request in bytes, its name and its value. A longer one is \
             answered with 431.",
        )
    },
    setting(
        Group::Http,
        "server-header",
        "true",
        Scope::Server(Kind::Flag {
            at: |config| &mut config.server_header,
        }),
        "Whether a response that has no Server field of the app's gets one that names rgunicorn.",
    ),
];
