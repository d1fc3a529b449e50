//! Defines the kinds of settings: for each, how a value is read, kept, shown and described.
//!
//! Invariant: a kind holds the place of its value as a function to a field of the right type, so a
//! setting cannot be read as one type and kept as another; and what `show` writes, `store` reads
//! back to the same value.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::BindAddress;
use super::error::{Origin, Problem};
use super::grant::{Dir, parse_variable};
use super::number::{parse_count, parse_duration, parse_size, show_duration, show_size};
use super::outbound::OutboundPattern;
use super::raw::Entry;
use super::resolved::LogLevel;
use super::route::Route;

const LEVEL: &str = "a log level: trace, debug, info, warn or error";
const PATH: &str = "a path";

/// The field of a `T` that holds a `V`.
type At<T, V> = fn(&mut T) -> &mut V;

/// The kind of a setting of `T`, with its range and the field that it fills.
pub(super) enum Kind<T> {
    /// A whole number.
    Count {
        at: At<T, u32>,
        least: u32,
        most: u32,
    },
    /// A whole number, or `auto` for the number of CPUs.
    CountOrCpus {
        at: At<T, u32>,
        least: u32,
        most: u32,
    },
    /// A length of time.
    Duration {
        at: At<T, Duration>,
        least: Duration,
        most: Duration,
    },
    /// A length of time, or 0 for none.
    Deadline {
        at: At<T, Option<Duration>>,
        least: Duration,
        most: Duration,
    },
    /// A number of bytes.
    Size {
        at: At<T, u64>,
        least: u64,
        most: u64,
    },
    /// A number of bytes, or 0 for no limit.
    Allowance { at: At<T, Option<u64>> },
    /// A log level.
    Level { at: At<T, LogLevel> },
    /// A file.
    File { at: At<T, PathBuf> },
    /// A folder, `auto` for the user's cache, or `none`.
    Cache { at: At<T, Option<PathBuf>> },
    /// Addresses to listen on.
    Addresses { at: At<T, Vec<BindAddress>> },
    /// Routes.
    Routes { at: At<T, Vec<Route>> },
    /// Environment variables.
    Variables { at: At<T, Vec<(String, String)>> },
    /// Directories.
    Dirs { at: At<T, Vec<Dir>> },
    /// Servers to send requests to.
    Outbound { at: At<T, Vec<OutboundPattern>> },
}

/// What the machine and the user's environment supply to settings that are `auto`.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    /// Number of CPUs that this process may use.
    pub(super) cpus: u32,
    /// The user's cache folder for this program.
    pub(super) cache: Option<PathBuf>,
}

/// What is wrong with one value, and where it was written.
pub(super) type Fault = (Origin, Problem);

impl<T> Kind<T> {
    /// Reads what `entry` wrote and keeps it in `target`, or changes nothing and tells all faults.
    pub(super) fn store(
        &self,
        target: &mut T,
        entry: &Entry,
        machine: &Machine,
    ) -> Result<(), Vec<Fault>> {
        match self {
            Self::Count { at, least, most } => {
                *at(target) = single(entry, |text| count(text, *least, *most))?;
            }
            Self::CountOrCpus { at, least, most } => {
                *at(target) = single(entry, |text| match text {
                    "auto" => Ok(machine.cpus.clamp(*least, *most)),
                    text => count(text, *least, *most),
                })?;
            }
            Self::Duration { at, least, most } => {
                *at(target) = single(entry, |text| duration(text, *least, *most))?;
            }
            Self::Deadline { at, least, most } => {
                *at(target) = single(entry, |text| deadline(text, *least, *most))?;
            }
            Self::Size { at, least, most } => {
                *at(target) = single(entry, |text| size(text, *least, *most))?;
            }
            Self::Allowance { at } => {
                *at(target) = single(entry, |text| {
                    parse_size(text).map(|size| match size {
                        0 => None,
                        size => Some(size),
                    })
                })?;
            }
            Self::Level { at } => *at(target) = single(entry, level)?,
            Self::File { at } => *at(target) = single(entry, |text| path(text, &entry.base))?,
            Self::Cache { at } => {
                *at(target) = single(entry, |text| match text {
                    "auto" => Ok(machine.cache.clone()),
                    "none" => Ok(None),
                    text => path(text, &entry.base).map(Some),
                })?;
            }
            Self::Addresses { at } => {
                let parse = |text: &str| BindAddress::parse(text, &entry.base);
                *at(target) = at_least_one("address", entry, list(entry, parse, address_name)?)?;
            }
            Self::Routes { at } => {
                let routes = list(entry, Route::parse, |route| Some(route.to_string()))?;
                *at(target) = at_least_one("route", entry, routes)?;
            }
            Self::Variables { at } => {
                *at(target) = list(entry, parse_variable, |(key, _)| Some(key.clone()))?;
            }
            Self::Dirs { at } => {
                let parse = |text: &str| Dir::parse(text, &entry.base);
                *at(target) = list(entry, parse, |dir| Some(dir.guest.clone()))?;
            }
            Self::Outbound { at } => {
                *at(target) = list(entry, OutboundPattern::parse, |rule| Some(rule.to_string()))?;
            }
        }
        Ok(())
    }

    /// The value that `target` holds, as TOML.
    pub(super) fn show(&self, target: &mut T) -> String {
        match self {
            Self::Count { at, .. } | Self::CountOrCpus { at, .. } => at(target).to_string(),
            Self::Duration { at, .. } => toml_number(&show_duration(*at(target))),
            Self::Deadline { at, .. } => {
                toml_number(&show_duration(at(target).unwrap_or_default()))
            }
            Self::Size { at, .. } => toml_number(&show_size(*at(target))),
            Self::Allowance { at } => toml_number(&show_size(at(target).unwrap_or_default())),
            Self::Level { at } => toml_string(at(target).as_str()),
            Self::File { at } => toml_string(&at(target).to_string_lossy()),
            Self::Cache { at } => match at(target) {
                Some(path) => toml_string(&path.to_string_lossy()),
                None => toml_string("none"),
            },
            Self::Addresses { at } => toml_list(at(target)),
            Self::Routes { at } => toml_list(at(target)),
            Self::Variables { at } => {
                let pairs = at(target).iter();
                let pairs = pairs.map(|(k, v)| format!("{} = {}", toml_string(k), toml_string(v)));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
            }
            Self::Dirs { at } => toml_list(at(target)),
            Self::Outbound { at } => toml_list(at(target)),
        }
    }

    /// How values are written.
    pub(super) fn form(&self) -> Form {
        match self {
            Self::Count { .. } => Form::Integer,
            Self::CountOrCpus { .. } | Self::Size { .. } | Self::Allowance { .. } => {
                Form::IntegerOrText
            }
            Self::Duration { .. } | Self::Deadline { .. } => Form::NumberOrText,
            Self::Level { .. } | Self::File { .. } | Self::Cache { .. } => Form::Text,
            Self::Addresses { .. }
            | Self::Routes { .. }
            | Self::Dirs { .. }
            | Self::Outbound { .. } => Form::List,
            Self::Variables { .. } => Form::Pairs,
        }
    }

    /// The placeholder for a value in help text.
    pub(super) fn placeholder(&self) -> &'static str {
        match self {
            Self::Count { .. } | Self::CountOrCpus { .. } => "N",
            Self::Duration { .. } | Self::Deadline { .. } => "SECS",
            Self::Size { .. } | Self::Allowance { .. } => "SIZE",
            Self::Level { .. } => "LEVEL",
            Self::File { .. } => "FILE",
            Self::Cache { .. } => "FOLDER",
            Self::Addresses { .. } => "ADDR",
            Self::Routes { .. } => "ROUTE",
            Self::Variables { .. } => "KEY=VALUE",
            Self::Dirs { .. } => "HOST::GUEST[:ro]",
            Self::Outbound { .. } => "URL-PATTERN",
        }
    }

    /// What values are allowed, for a reader.
    pub(super) fn values(&self) -> String {
        match self {
            Self::Count { least, most, .. } => format!("a whole number, {least} to {most}"),
            Self::CountOrCpus { least, most, .. } => {
                format!("a whole number, {least} to {most}, or `auto`")
            }
            Self::Duration { least, most, .. } => format!("a time, {}", span(*least, *most)),
            Self::Deadline { least, most, .. } => {
                format!("a time, {}, or 0 for none", span(*least, *most))
            }
            Self::Size { least, most, .. } => {
                format!("a size, {} to {}", show_size(*least), show_size(*most))
            }
            Self::Allowance { .. } => "a size, or 0 for no limit".into(),
            Self::Level { .. } => "`trace`, `debug`, `info`, `warn` or `error`".into(),
            Self::File { .. } => "a path".into(),
            Self::Cache { .. } => "a path, `auto` or `none`".into(),
            Self::Addresses { .. } => "a list of addresses".into(),
            Self::Routes { .. } => "a list of routes".into(),
            Self::Variables { .. } => "a table, or a list of `KEY=VALUE`".into(),
            Self::Dirs { .. } => "a list of `HOST::GUEST`, `HOST::GUEST:ro`".into(),
            Self::Outbound { .. } => "a list of URL patterns".into(),
        }
    }
}

/// How a setting's values are written in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Integer,
    IntegerOrText,
    NumberOrText,
    Text,
    List,
    Pairs,
}

impl Form {
    /// Whether the setting holds any number of values.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::List | Self::Pairs)
    }

    /// What the settings file may have there, for an error.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Integer => "a whole number",
            Self::IntegerOrText => "a whole number or a string",
            Self::NumberOrText => "a number of seconds or a string such as \"250ms\"",
            Self::Text => "a string",
            Self::List => "a list of strings",
            Self::Pairs => "a table or a list of strings such as \"KEY=VALUE\"",
        }
    }
}

/// Makes a path absolute, and drops its `.` segments. `..` stays: with symbolic links only the
/// kernel knows where it leads.
pub(super) fn absolute(path: impl AsRef<Path>, base: &Path) -> PathBuf {
    base.join(path).components().collect()
}

/// The value of a setting that has one: the last that was written.
fn single<V>(entry: &Entry, parse: impl Fn(&str) -> Result<V, Problem>) -> Result<V, Vec<Fault>> {
    let Some(written) = entry.values.last() else {
        return Err(vec![(entry.origin.clone(), Problem::Empty("value"))]);
    };
    parse(&written.text).map_err(|problem| vec![(written.origin.clone(), problem)])
}

/// The values of a list; no two may have the same `name`.
fn list<V>(
    entry: &Entry,
    parse: impl Fn(&str) -> Result<V, Problem>,
    name: impl Fn(&V) -> Option<String>,
) -> Result<Vec<V>, Vec<Fault>> {
    let mut names = HashSet::new();
    let mut values = Vec::with_capacity(entry.values.len());
    let mut faults = Vec::new();
    for written in &entry.values {
        let checked = parse(&written.text).and_then(|value| match name(&value) {
            Some(name) if !names.insert(name.clone()) => Err(Problem::Repeated(name)),
            _ => Ok(value),
        });
        match checked {
            Ok(value) => values.push(value),
            Err(problem) => faults.push((written.origin.clone(), problem)),
        }
    }
    if faults.is_empty() {
        Ok(values)
    } else {
        Err(faults)
    }
}

fn at_least_one<V>(
    what: &'static str,
    entry: &Entry,
    values: Vec<V>,
) -> Result<Vec<V>, Vec<Fault>> {
    if values.is_empty() {
        return Err(vec![(entry.origin.clone(), Problem::Empty(what))]);
    }
    Ok(values)
}

/// The name under which an address may be listed once: port 0 is another port each time.
fn address_name(address: &BindAddress) -> Option<String> {
    match address {
        BindAddress::Tcp { port: 0, .. } => None,
        address => Some(address.to_string()),
    }
}

fn count(text: &str, least: u32, most: u32) -> Result<u32, Problem> {
    let value = parse_count(text)?;
    within(text, value, (least, most), |value| value.to_string())
}

fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, Problem> {
    within(text, parse_duration(text)?, (least, most), show_seconds)
}

fn deadline(text: &str, least: Duration, most: Duration) -> Result<Option<Duration>, Problem> {
    match parse_duration(text)? {
        Duration::ZERO => Ok(None),
        value => within(text, value, (least, most), show_seconds).map(Some),
    }
}

fn size(text: &str, least: u64, most: u64) -> Result<u64, Problem> {
    within(text, parse_size(text)?, (least, most), show_size)
}

fn level(text: &str) -> Result<LogLevel, Problem> {
    let name = text.to_ascii_lowercase();
    match name.as_str() {
        // The names that gunicorn uses.
        "warning" => Ok(LogLevel::Warn),
        "critical" => Ok(LogLevel::Error),
        name => LogLevel::ALL
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(level, _)| *level)
            .ok_or_else(|| Problem::invalid(text, LEVEL)),
    }
}

fn path(text: &str, base: &Path) -> Result<PathBuf, Problem> {
    if text.is_empty() || text.contains('\0') {
        return Err(Problem::invalid(text, PATH));
    }
    Ok(absolute(text, base))
}

fn within<V: Copy + PartialOrd>(
    text: &str,
    value: V,
    (least, most): (V, V),
    show: impl Fn(V) -> String,
) -> Result<V, Problem> {
    if value < least || value > most {
        let range = format!("{} to {}", show(least), show(most));
        return Err(Problem::OutOfRange {
            found: text.to_owned(),
            range,
        });
    }
    Ok(value)
}

fn span(least: Duration, most: Duration) -> String {
    format!("{} to {}", show_seconds(least), show_seconds(most))
}

/// A length of time with its unit, for a reader.
fn show_seconds(value: Duration) -> String {
    const HOUR: u64 = 3600;
    let text = show_duration(value);
    match value.as_secs() {
        seconds if seconds >= HOUR && seconds.is_multiple_of(HOUR) => {
            format!("{}h", seconds / HOUR)
        }
        _ if text.ends_with('s') => text,
        _ => format!("{text}s"),
    }
}

fn toml_list<V: Display>(values: &[V]) -> String {
    let values = values.iter().map(|value| toml_string(&value.to_string()));
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

/// A number as it is, and a number with a unit as a string.
fn toml_number(text: &str) -> String {
    if text.ends_with(|last: char| last.is_ascii_digit()) {
        text.to_owned()
    } else {
        toml_string(text)
    }
}

/// A TOML basic string.
pub(super) fn toml_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\U{:08X}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
