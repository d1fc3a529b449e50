//! Defines the settings of a server behind a proxy: who is believed, and what is said.
//!
//! Invariant: nobody who is not named here decides what an app learns of its client.

use crate::config::choice::At;
use crate::config::grammar::In;
use crate::config::kind::Kind;
use crate::config::proxies::prefix;
use crate::config::resolved::Config;
use crate::config::setting::{Group, Scope, Setting, Variable, setting};

/// Group Proxies.
pub(super) static SETTINGS: &[Setting] = &[
    Setting {
        variables: &[Variable {
            name: "FORWARDED_ALLOW_IPS",
            prefix: "",
        }],
        ..setting(
            Group::Proxies,
            "forwarded-allow-ips",
            "127.0.0.1,::1",
            Scope::Server(Kind::Networks {
                at: |config| &mut config.proxies.forwarded_allow_ips,
            }),
            "Address or network of proxies whose X-Forwarded-For, X-Forwarded-Proto, \
             X-Forwarded-Host and Forwarded are believed; may be repeated, or be a list with \
             commas. `*` is everybody, and an empty text nobody. Whoever connects to a Unix socket \
             is believed always. Such fields from anybody else are taken off, and every app gets \
             an X-Forwarded-For that begins with its client. docs/proxies.md says more.",
        )
    },
    setting(
        Group::Proxies,
        "secure-scheme-headers",
        "X-FORWARDED-PROTOCOL=ssl,X-FORWARDED-PROTO=https,X-FORWARDED-SSL=on",
        Scope::Server(Kind::Fields {
            at: |config| &mut config.proxies.secure_scheme_headers,
        }),
        "Header field of a proxy, and the value with which it says that the client uses https; may \
         be repeated. Another value says http. A request in which two of them contradict each \
         other is answered with 400.",
    ),
    setting(
        Group::Proxies,
        "proxy-protocol",
        "off",
        Scope::Server(Kind::Choice {
            at: &At(|config: &mut Config| &mut config.proxies.protocol),
            placeholder: "VERSION",
        }),
        "Version of the PROXY protocol that connections begin with. It tells the client's address \
         where a proxy relays bytes. `auto` is version 1 or 2. A connection from an address of \
         proxy-allow-from must begin so within head-timeout, or it is closed; from another address nothing of the kind \
         is expected, nor understood.",
    ),
    Setting {
        aliases: &["proxy-allow-ips"],
        ..setting(
            Group::Proxies,
            "proxy-allow-from",
            "127.0.0.1,::1",
            Scope::Server(Kind::Networks {
                at: |config| &mut config.proxies.protocol_allow_from,
            }),
            "Address or network of proxies that speak the PROXY protocol; may be repeated, or be a \
             list with commas. `*` is everybody. With proxy-protocol, whoever connects to a Unix \
             socket must speak it too.",
        )
    },
    setting(
        Group::Proxies,
        "root-path",
        "/",
        Scope::Server(Kind::Text {
            at: &In {
                at: |config: &mut Config| &mut config.proxies.root_path,
                parse: |text, _| prefix(text),
                show: String::clone,
            },
            placeholder: "PATH",
            values: "a path",
        }),
        "Path prefix under which a proxy publishes the apps, such as `/api`. A request for a path \
         below it is routed, and given to its app, without the prefix; any other as it is, since a \
         proxy may have taken the prefix off. Every app is told the prefix in X-Forwarded-Prefix. `/` is no prefix.",
    ),
];
