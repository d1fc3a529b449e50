//! Defines the atoms of a format: those of gunicorn, and those that only this server has.

use http::HeaderName;
use http::header::{AUTHORIZATION, REFERER, USER_AGENT};

/// Longest part of a wrong atom that an error repeats, in characters.
const QUOTE_MAX: usize = 40;

/// A value of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Atom {
    Remote,
    Client,
    /// Identd's name, which nobody asks for.
    Identity,
    User(usize),
    Time,
    RequestLine,
    Method,
    Path,
    Query,
    Protocol,
    Status,
    Bytes,
    BytesOrDash,
    RequestField(usize),
    ResponseField(usize),
    Seconds,
    Milliseconds,
    Microseconds,
    DecimalSeconds,
    Process,
    App,
    Slot,
    Generation,
    Queue,
    Instantiate,
    Cpu,
    PeakMemory,
    Reuse,
    Reason,
    Tls,
}

/// The atoms that are a name alone and need no field. gunicorn's have one letter, ours have more.
const NAMED: [(&str, Atom); 27] = [
    ("h", Atom::Remote),
    ("l", Atom::Identity),
    ("t", Atom::Time),
    ("r", Atom::RequestLine),
    ("m", Atom::Method),
    ("U", Atom::Path),
    ("q", Atom::Query),
    ("H", Atom::Protocol),
    ("s", Atom::Status),
    ("B", Atom::Bytes),
    ("b", Atom::BytesOrDash),
    ("T", Atom::Seconds),
    ("M", Atom::Milliseconds),
    ("D", Atom::Microseconds),
    ("L", Atom::DecimalSeconds),
    ("p", Atom::Process),
    ("client", Atom::Client),
    ("app", Atom::App),
    ("slot", Atom::Slot),
    ("generation", Atom::Generation),
    ("queue_us", Atom::Queue),
    ("instantiate_us", Atom::Instantiate),
    ("cpu_us", Atom::Cpu),
    ("peak_memory", Atom::PeakMemory),
    ("reuse", Atom::Reuse),
    ("reason", Atom::Reason),
    ("tls", Atom::Tls),
];

/// What is wrong with a format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// No atom has this name.
    #[error("character {at}: no atom is called `{name}`")]
    Unknown {
        /// Where it is, in characters from 1.
        at: usize,
        /// Its name, made printable and cut.
        name: String,
    },
    /// gunicorn's environ, which is of WSGI.
    #[error(
        "character {at}: `{name}` would be a WSGI variable, which this server does not have: \
         %({{FIELD}}i)s is a field of the request"
    )]
    Environ {
        /// Where it is, in characters from 1.
        at: usize,
        /// Its name, made printable and cut.
        name: String,
    },
    /// A percent sign that begins nothing.
    #[error("character {at}: an atom is written %(NAME)s, and a percent sign %%")]
    Syntax {
        /// Where it is, in characters from 1.
        at: usize,
    },
    /// The text is longer than a line should be, or would break it.
    #[error("a format is 1 to {max} bytes without control characters, or `json`")]
    Text {
        /// The most bytes.
        max: usize,
    },
}

/// Finds fields' places: each has one, however often it is shown.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) request: Vec<HeaderName>,
    pub(super) response: Vec<HeaderName>,
}

impl Fields {
    pub(super) fn of_request(&mut self, name: HeaderName) -> usize {
        place(&mut self.request, name)
    }

    /// The atom with this name, which is at a place of a format's text.
    pub(super) fn atom(&mut self, name: &str, at: usize) -> Result<Atom, FormatError> {
        if let Some((_, atom)) = NAMED.iter().find(|(known, _)| *known == name) {
            return Ok(*atom);
        }
        let unknown = || FormatError::Unknown {
            at,
            name: quoted(name),
        };
        match name {
            "u" => Ok(Atom::User(self.of_request(AUTHORIZATION))),
            "f" => Ok(Atom::RequestField(self.of_request(REFERER))),
            "a" => Ok(Atom::RequestField(self.of_request(USER_AGENT))),
            _ => {
                let (field, kind) = name
                    .strip_prefix('{')
                    .and_then(|rest| rest.split_once('}'))
                    .ok_or_else(unknown)?;
                let field = || field.parse::<HeaderName>().map_err(|_| unknown());
                match kind {
                    "i" => Ok(Atom::RequestField(self.of_request(field()?))),
                    "o" => Ok(Atom::ResponseField(place(&mut self.response, field()?))),
                    "e" => Err(FormatError::Environ {
                        at,
                        name: quoted(name),
                    }),
                    _ => Err(unknown()),
                }
            }
        }
    }
}

fn place(names: &mut Vec<HeaderName>, name: HeaderName) -> usize {
    names
        .iter()
        .position(|known| *known == name)
        .unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        })
}

fn quoted(name: &str) -> String {
    let shown = name.chars().take(QUOTE_MAX).flat_map(char::escape_debug);
    shown.collect()
}
