//! Defines what a setting is.
//!
//! Invariant: a setting's scope decides which sources can write it, and its kind how.

use super::form::Form;
use super::kind::Kind;
use super::resolved::{App, Config};

/// One setting.
pub(super) struct Setting {
    /// Its name in the settings file and everywhere else.
    pub(super) key: &'static str,
    /// Long option, or `None` if only the settings file has it.
    pub(super) flag: Option<&'static str>,
    /// Short option.
    pub(super) short: Option<char>,
    /// Other long options that help shows.
    pub(super) aliases: &'static [&'static str],
    /// Other long options that help does not show.
    pub(super) hidden_aliases: &'static [&'static str],
    /// Variables beside `RGUNICORN_KEY`, which goes before them.
    pub(super) variables: &'static [Variable],
    /// The value if nobody writes one; empty for an empty list, or if there is none.
    pub(super) default: &'static str,
    /// Whose setting it is, its kind and its range.
    pub(super) scope: Scope,
    /// Where help and documentation list it.
    pub(super) group: Group,
    /// Whether a reload leaves it as it is, so that a change waits for the next start.
    pub(super) at_start: bool,
    /// Its meaning: the first sentence alone in short help.
    pub(super) help: &'static str,
}

/// An environment variable that other programs know too.
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// What goes before the variable's text to make it a value of the setting.
    pub(super) prefix: &'static str,
}

/// Whose setting it is.
pub(super) enum Scope {
    /// The component of the only app: the first argument, or a key of the server.
    OnlyApp,
    /// The server's.
    Server(Kind<Config>),
    /// Every app's; an app's own table goes before the server's value.
    Both(Kind<App>),
    /// One app's, in its table of the settings file.
    App(Kind<App>),
}

/// A heading of help and documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Apps,
    Rights,
    Limits,
    Listening,
    Workers,
    Reloading,
    Http,
    Tls,
    Http2,
    Proxies,
    Compiling,
    Logging,
    Process,
}

impl Group {
    pub(super) const ALL: [Self; 13] = [
        Self::Apps,
        Self::Rights,
        Self::Limits,
        Self::Listening,
        Self::Workers,
        Self::Reloading,
        Self::Http,
        Self::Tls,
        Self::Http2,
        Self::Proxies,
        Self::Compiling,
        Self::Logging,
        Self::Process,
    ];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Apps => "Apps",
            Self::Rights => "Rights of apps",
            Self::Limits => "Limits of apps",
            Self::Listening => "Listening",
            Self::Workers => "Workers",
            Self::Reloading => "Reloading and upgrading",
            Self::Http => "HTTP",
            Self::Tls => "TLS",
            Self::Http2 => "HTTP/2",
            Self::Proxies => "Proxies",
            Self::Compiling => "Compiling",
            Self::Logging => "Logging",
            Self::Process => "Process",
        }
    }
}

impl Setting {
    /// The environment variable that only this setting has, if the environment can write it.
    pub(super) fn variable(&self) -> Option<String> {
        match self.scope {
            Scope::App(_) => None,
            Scope::OnlyApp | Scope::Server(_) | Scope::Both(_) => Some(format!(
                "RGUNICORN_{}",
                self.key.to_ascii_uppercase().replace('-', "_")
            )),
        }
    }

    /// How its values are written.
    pub(super) fn form(&self) -> Form {
        match &self.scope {
            Scope::OnlyApp => Form::Text,
            Scope::Server(kind) => kind.form(),
            Scope::Both(kind) | Scope::App(kind) => kind.form(),
        }
    }

    /// The placeholder for a value in help text.
    pub(super) fn placeholder(&self) -> &'static str {
        match &self.scope {
            Scope::OnlyApp => "APP",
            Scope::Server(kind) => kind.placeholder(),
            Scope::Both(kind) | Scope::App(kind) => kind.placeholder(),
        }
    }

    /// What values are allowed, for a reader.
    pub(super) fn values(&self) -> String {
        match &self.scope {
            Scope::OnlyApp => "a path".into(),
            Scope::Server(kind) => kind.values(),
            Scope::Both(kind) | Scope::App(kind) => kind.values(),
        }
    }

    /// The first sentence of the help text, without its full stop.
    pub(super) fn summary(&self) -> &'static str {
        self.help
            .split_once(". ")
            .map_or(self.help, |(first, _)| first)
            .trim_end_matches('.')
    }
}

/// A setting that has nothing but what every setting has.
pub(super) const fn setting(
    group: Group,
    key: &'static str,
    default: &'static str,
    scope: Scope,
    help: &'static str,
) -> Setting {
    Setting {
        key,
        flag: Some(key),
        short: None,
        aliases: &[],
        hidden_aliases: &[],
        variables: &[],
        default,
        scope,
        group,
        at_start: false,
        help,
    }
}
