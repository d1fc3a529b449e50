//! Defines the settings of TLS and HTTP/2.

use crate::config::choice::At;
use crate::config::kind::Kind;
use crate::config::resolved::Config;
use crate::config::setting::{Group, Scope, Setting, setting};

/// Groups Tls and Http2.
pub(super) static SETTINGS: &[Setting] = &[
    setting(
        Group::Tls,
        "certfile",
        "",
        Scope::Server(Kind::Paths {
            at: |config| &mut config.tls.certfile,
        }),
        "File of a certificate in PEM form, followed by its chain; may be repeated. With it all TCP \
         and Unix listeners speak TLS. A client is shown the certificate for the name that it asks \
         for, or the first. It is read when the server starts, before it becomes another user, and \
         again at each reload.",
    ),
    setting(
        Group::Tls,
        "keyfile",
        "",
        Scope::Server(Kind::Paths {
            at: |config| &mut config.tls.keyfile,
        }),
        "File of a certificate's private key in PEM form; may be repeated, as often as certfile and \
         in its order. Without any the keys are in the certificates' files.",
    ),
    setting(
        Group::Tls,
        "ca-certs",
        "none",
        Scope::Server(Kind::PathOr {
            at: |config| &mut config.tls.ca_certs,
            none: "none",
            placeholder: "FILE",
        }),
        "File of the authorities, in PEM form, that may have signed a client's certificate.",
    ),
    setting(
        Group::Tls,
        "cert-reqs",
        "none",
        Scope::Server(Kind::Choice {
            at: &At(|config: &mut Config| &mut config.tls.cert_reqs),
            placeholder: "DEMAND",
        }),
        "Whether clients must show a certificate that one of ca-certs has signed. `optional`: one \
         that is shown must be good. gunicorn's 0, 1 and 2 are `none`, `optional` and `required`.",
    ),
    setting(
        Group::Tls,
        "tls-min-version",
        "1.2",
        Scope::Server(Kind::Choice {
            at: &At(|config: &mut Config| &mut config.tls.min_version),
            placeholder: "VERSION",
        }),
        "Oldest version of TLS that is spoken: 1.2 or 1.3.",
    ),
    setting(
        Group::Tls,
        "http-protocols",
        "h2,h1",
        Scope::Server(Kind::Choice {
            at: &At(|config: &mut Config| &mut config.tls.http_protocols),
            placeholder: "LIST",
        }),
        "What clients may choose from over TLS, the preferred one first: `h2,h1`, `h1,h2`, `h1` or \
         `h2`. gunicorn has `h1`.",
    ),
    setting(
        Group::Http2,
        "http2-cleartext",
        "off",
        Scope::Server(Kind::Choice {
            at: &At(|config: &mut Config| &mut config.http2.cleartext),
            placeholder: "HOW",
        }),
        "Whether HTTP/2 is spoken without TLS. `prior-knowledge`: with clients that begin with it, \
         beside HTTP/1.1.",
    ),
    setting(
        Group::Http2,
        "http2-max-concurrent-streams",
        "100",
        Scope::Server(Kind::Count {
            at: |config| &mut config.http2.max_concurrent_streams,
            range: 1..=10_000,
        }),
        "Requests that one connection may have at the same time.",
    ),
    setting(
        Group::Http2,
        "http2-initial-window-size",
        "65535",
        Scope::Server(Kind::Count {
            at: |config| &mut config.http2.initial_window_size,
            range: 1024..=16_777_216,
        }),
        "Bytes of a request's body that a client may send before the app has taken them. Larger \
         ones make uploads over long distances faster, and cost so much memory for each request; \
         a connection may have so much for each of http2-max-concurrent-streams.",
    ),
    setting(
        Group::Http2,
        "http2-max-frame-size",
        "16384",
        Scope::Server(Kind::Count {
            at: |config| &mut config.http2.max_frame_size,
            range: 16_384..=16_777_215,
        }),
        "Longest frame that a client may send, in bytes.",
    ),
    setting(
        Group::Http2,
        "http2-max-header-list-size",
        "65536",
        Scope::Server(Kind::Count {
            at: |config| &mut config.http2.max_header_list_size,
            range: 1024..=1_048_576,
        }),
        "Longest request head over HTTP/2: its names and values in bytes, and 32 for each field. \
         A longer one is answered with 431. Clients are told twice as much: what is longer than that \
         is not even kept, and has no line in the access log. limit-request-line, \
         limit-request-fields and limit-request-field-size hold there too.",
    ),
];
