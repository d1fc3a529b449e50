//! Defines what can be wrong with a configuration, and where each value was written.
//!
//! Invariant: an [`Error`] displays as exactly one line that starts with its place, whatever the
//! text that caused it contained.

use std::fmt;
use std::sync::Arc;

use crate::access::FormatError;

/// Longest part of a wrong value that an error repeats, in characters.
const QUOTE_MAX: usize = 80;

/// Where a value came from, lowest precedence first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody wrote it: the settings table supplies it.
    Default,
    /// An environment variable of this name.
    Environment(String),
    /// A place in the settings file, 1-based.
    File {
        /// The file's path as the user wrote it.
        path: Arc<str>,
        /// Line of the value.
        line: usize,
        /// Column of the value, in characters.
        column: usize,
    },
    /// An argument inside `RGUNICORN_CMD_ARGS`.
    CommandArgs,
    /// An argument on the command line.
    CommandLine,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::Environment(variable) => {
                write!(formatter, "environment: {}", variable.escape_debug())
            }
            Self::File { path, line, column } => {
                write!(formatter, "{}:{line}:{column}", path.escape_debug())
            }
            Self::CommandArgs => formatter.write_str("RGUNICORN_CMD_ARGS"),
            Self::CommandLine => formatter.write_str("command line"),
        }
    }
}

/// One thing that is wrong, with its place and the setting that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where it was written, or `None` if the trouble is that nobody wrote it.
    pub origin: Option<Origin>,
    /// The setting as its source spells it (`--workers`, `apps.blog.routes`), or empty.
    pub setting: String,
    /// What is wrong.
    pub problem: Problem,
}

impl Error {
    pub(super) fn new(origin: Origin, setting: impl Into<String>, problem: Problem) -> Self {
        Self {
            origin: Some(origin),
            setting: setting.into(),
            problem,
        }
    }

    /// An error about something that no source wrote.
    pub(super) fn general(problem: Problem) -> Self {
        Self {
            origin: None,
            setting: String::new(),
            problem,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(formatter, "{origin}: ")?;
        }
        if !self.setting.is_empty() {
            write!(formatter, "{}: ", self.setting.escape_debug())?;
        }
        self.problem.fmt(formatter)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.problem)
    }
}

/// Everything that is wrong with a configuration, by place; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// Sorts the errors by place; `None` if there are none.
    pub(super) fn collect(mut errors: Vec<Error>) -> Option<Self> {
        errors.sort_by(|a, b| match (&a.origin, &b.origin) {
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        });
        errors.dedup();
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The errors, by place.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.0.iter()
    }

    /// Whether every error is on the command line itself, so that it is one of usage.
    #[must_use]
    pub fn are_usage(&self) -> bool {
        self.0
            .iter()
            .all(|error| error.origin == Some(Origin::CommandLine))
    }
}

/// One line for each error.
impl fmt::Display for Errors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            error.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

/// What is wrong with one value, key or combination of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The settings file cannot be read.
    #[error("cannot read the settings file: {}", one_line(.0))]
    Unreadable(String),
    /// The text does not follow the grammar of its source (TOML, or a command line).
    #[error("{}", one_line(.0))]
    Syntax(String),
    /// No setting has this name.
    #[error("unknown setting{}", did_you_mean(.suggestion.as_deref()))]
    Unknown {
        /// A setting with a similar name.
        suggestion: Option<String>,
    },
    /// A setting of the server in the table of an app.
    #[error("belongs to the server: write it above the first [apps.NAME]")]
    ServerOnly,
    /// A setting of an app outside of any app's table.
    #[error("belongs to one app: write it below an [apps.NAME]")]
    AppOnly,
    /// The file has a value of another type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What may be written there.
        expected: &'static str,
        /// What is written there.
        found: &'static str,
    },
    /// The text is not a value of the setting's kind.
    #[error("{} is not {expected}", quoted(.found))]
    Invalid {
        /// The text.
        found: String,
        /// What it should have been, with an example.
        expected: &'static str,
    },
    /// The text is not a format of the access log.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The value is outside of what is allowed.
    #[error("{} is outside of {range}", quoted(.found))]
    OutOfRange {
        /// The text.
        found: String,
        /// The least and the greatest value, as they would be written.
        range: String,
    },
    /// A list names one thing twice.
    #[error("{} is named twice", quoted(.0))]
    Repeated(String),
    /// A list that must name something is empty.
    #[error("is empty: name at least one {0}")]
    Empty(&'static str),
    /// The variable's bytes are no text.
    #[error("is not valid UTF-8")]
    NotUtf8,
    /// The name of an app's table cannot be used.
    #[error("{} is not a name for an app: use 1 to 32 of a-z, 0-9, - and _", quoted(.0))]
    AppName(String),
    /// An app without its component.
    #[error("has no component: add component = \"FILE.wasm\"")]
    NoComponent,
    /// Two apps have one route.
    #[error("the route {} is already that of apps.{other}", quoted(.route))]
    RouteTaken {
        /// The route, normalised.
        route: String,
        /// The app that has it.
        other: String,
    },
    /// Certificates and keys that cannot be told which belong together.
    #[error(
        "{keys} keys for {certificates} certificates: name a keyfile for each, or none if they are in the same files"
    )]
    Unpaired {
        /// How many certificates there are.
        certificates: usize,
        /// How many keys.
        keys: usize,
    },
    /// Clients are to be checked, with nothing to check them against.
    #[error(
        "needs ca-certs: a file of the authorities that clients' certificates are checked with"
    )]
    NoAuthorities,
    /// Bodies that apps take whole would not fit in the memory for bodies.
    #[error(
        "too little: {app} takes bodies of up to {buffered} bytes (buffered-body-limit), so it must be {least} bytes or more"
    )]
    BodyMemory {
        /// The app with the longest.
        app: String,
        /// How long they may be, in bytes.
        buffered: u64,
        /// How much memory is needed, in bytes.
        least: u64,
    },
    /// There is nothing to serve.
    #[error(
        "no app to serve: name a component (rgunicorn serve app.wasm), or a settings file with \
         app = \"app.wasm\" or [apps.NAME] tables (-c FILE, or ./rgunicorn.toml)"
    )]
    NoApp,
    /// One app is named beside the tables of several.
    #[error(
        "{} cannot be served beside the [apps.NAME] tables of the settings file: leave it out, or \
         give it a table of its own",
        quoted(.0)
    )]
    AppBesideApps(String),
}

impl Problem {
    pub(super) fn invalid(found: &str, expected: &'static str) -> Self {
        Self::Invalid {
            found: found.to_owned(),
            expected,
        }
    }
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |name| format!(", did you mean {name}?"))
}

/// Repeats a user's text in backquotes: bounded, on one line, without control characters.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(QUOTE_MAX).flat_map(escape).collect();
    let rest = if text.chars().nth(QUOTE_MAX).is_some() {
        "..."
    } else {
        ""
    };
    format!("`{shown}{rest}`")
}

/// Puts another parser's text on one line.
fn one_line(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ").chars().flat_map(escape).collect()
}

/// Escapes what would break the line, and leaves quotes readable.
fn escape(character: char) -> Vec<char> {
    if character.is_control() {
        character.escape_debug().collect()
    } else {
        vec![character]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_whatever_was_written() {
        let error = Error::new(
            Origin::Environment("RGUNICORN_WORKERS".into()),
            "workers",
            Problem::invalid(&"a\nb\u{1b}[0m".repeat(100), "a whole number"),
        );
        let text = error.to_string();
        assert!(text.starts_with("environment: RGUNICORN_WORKERS: workers: `a\\nb\\u{1b}[0m"));
        assert!(text.ends_with("...` is not a whole number"), "{text}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }

    #[test]
    fn errors_are_sorted_by_place_and_said_once() {
        let file = |line| Origin::File {
            path: "f.toml".into(),
            line,
            column: 1,
        };
        let list = vec![
            Error::general(Problem::NoApp),
            Error::new(Origin::CommandLine, "", Problem::NotUtf8),
            Error::new(file(10), "b", Problem::NotUtf8),
            Error::new(file(9), "a", Problem::NotUtf8),
            Error::new(file(9), "a", Problem::NotUtf8),
        ];
        let text = Errors::collect(list).unwrap().to_string();
        let starts: Vec<_> = text
            .lines()
            .map(|line| line.split(": ").next().unwrap())
            .collect();
        assert_eq!(
            starts,
            [
                "f.toml:9:1",
                "f.toml:10:1",
                "command line",
                "no app to serve"
            ]
        );
        assert_eq!(Errors::collect(Vec::new()), None);
    }

    #[test]
    fn only_the_command_line_makes_an_error_of_usage() {
        let usage = Error::new(Origin::CommandLine, "--workers", Problem::NotUtf8);
        let other = Error::new(Origin::CommandArgs, "--workers", Problem::NotUtf8);
        assert!(Errors::collect(vec![usage.clone()]).unwrap().are_usage());
        assert!(!Errors::collect(vec![usage, other]).unwrap().are_usage());
    }
}
