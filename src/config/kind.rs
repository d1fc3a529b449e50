//! Defines the kinds of settings: for each, how a value is read, kept, shown and described.
//!
//! Invariant: a kind holds the place of its value as a function to a field of the right type, so a
//! setting cannot be read as one type and kept as another; and what `show` writes, `store` reads
//! back to the same value.

use std::collections::HashSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::address::{BindAddress, socket_path};
use super::choice::Field;
use super::error::{Origin, Problem};
use super::form::Form;
use super::grammar;
use super::grant::{Dir, parse_variable};
use super::number::{
    allowance, count, deadline, duration, limit, number, parse_mode, show_count, show_duration,
    show_mode, show_seconds, show_size, size, span,
};
use super::outbound::OutboundPattern;
use super::proxies::{field, members, network_text, networks};
use super::raw::Entry;
use super::resolved::LogLevel;
use super::route::Route;
use super::text::{NONE, TITLE, account, flag, level, path, path_or, title};

/// The field of a `T` that holds a `V`.
type At<T, V> = fn(&mut T) -> &mut V;

/// The kind of a setting of `T`, with its range and the field that it fills.
pub(super) enum Kind<T: 'static> {
    /// `true` or `false`.
    Flag { at: At<T, bool> },
    /// A whole number.
    Count {
        at: At<T, u32>,
        range: RangeInclusive<u32>,
    },
    /// A whole number, or `auto` for the number of CPUs.
    CountOrCpus {
        at: At<T, u32>,
        range: RangeInclusive<u32>,
    },
    /// A whole number that may be a large one, from 0.
    Number {
        at: At<T, u64>,
        range: RangeInclusive<u64>,
    },
    /// A whole number that may be a large one, or 0 for no limit.
    Limit {
        at: At<T, Option<u64>>,
        range: RangeInclusive<u64>,
    },
    /// A length of time.
    Duration {
        at: At<T, Duration>,
        range: RangeInclusive<Duration>,
    },
    /// A length of time, or 0 for none.
    Deadline {
        at: At<T, Option<Duration>>,
        range: RangeInclusive<Duration>,
    },
    /// A number of bytes.
    Size {
        at: At<T, u64>,
        range: RangeInclusive<u64>,
    },
    /// A number of bytes, or 0 for no limit.
    Allowance { at: At<T, Option<u64>> },
    /// Permissions in octal, or `none`.
    Mode { at: At<T, Option<u32>> },
    /// A log level.
    Level { at: At<T, LogLevel> },
    /// One of a few words.
    Choice {
        at: &'static dyn Field<T>,
        placeholder: &'static str,
    },
    /// How process titles begin.
    Title { at: At<T, String> },
    /// A user or a group, or `none`.
    Account {
        at: At<T, Option<String>>,
        placeholder: &'static str,
    },
    /// A file.
    File { at: At<T, PathBuf> },
    /// A file or a folder, or the text `none` for nothing.
    PathOr {
        at: At<T, Option<PathBuf>>,
        none: &'static str,
        placeholder: &'static str,
    },
    /// A Unix socket, or `none`.
    Socket { at: At<T, Option<PathBuf>> },
    /// A folder, `auto` for the user's cache, or `none`.
    Cache { at: At<T, Option<PathBuf>> },
    /// A text with a grammar of its own.
    Text {
        at: &'static dyn grammar::Field<T>,
        placeholder: &'static str,
        values: &'static str,
    },
    /// Files.
    Paths { at: At<T, Vec<PathBuf>> },
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
    /// Addresses and networks.
    Networks { at: At<T, Vec<IpNet>> },
    /// Header fields and their values.
    Fields { at: At<T, Vec<(String, String)>> },
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

impl<T: 'static> Kind<T> {
    /// Reads what `entry` wrote and keeps it in `target`, or changes nothing and tells all faults.
    pub(super) fn store(
        &self,
        target: &mut T,
        entry: &Entry,
        machine: &Machine,
    ) -> Result<(), Vec<Fault>> {
        let base = &entry.base;
        match self {
            Self::Flag { at } => *at(target) = single(entry, flag)?,
            Self::Count { at, range } => {
                *at(target) = single(entry, |text| count(text, range))?;
            }
            Self::CountOrCpus { at, range } => {
                *at(target) = single(entry, |text| match text {
                    "auto" => Ok(machine.cpus.clamp(*range.start(), *range.end())),
                    text => count(text, range),
                })?;
            }
            Self::Number { at, range } => *at(target) = single(entry, |text| number(text, range))?,
            Self::Limit { at, range } => {
                *at(target) = single(entry, |text| limit(text, range))?;
            }
            Self::Duration { at, range } => {
                *at(target) = single(entry, |text| duration(text, range))?;
            }
            Self::Deadline { at, range } => {
                *at(target) = single(entry, |text| deadline(text, range))?;
            }
            Self::Size { at, range } => {
                *at(target) = single(entry, |text| size(text, range))?;
            }
            Self::Allowance { at } => *at(target) = single(entry, allowance)?,
            Self::Mode { at } => *at(target) = single(entry, mode)?,
            Self::Level { at } => *at(target) = single(entry, level)?,
            Self::Choice { at, .. } => single(entry, |text| at.store(target, text))?,
            Self::Title { at } => *at(target) = single(entry, title)?,
            Self::Account { at, .. } => *at(target) = single(entry, account)?,
            Self::File { at } => *at(target) = single(entry, |text| path(text, base))?,
            Self::PathOr { at, none, .. } => {
                *at(target) = single(entry, |text| path_or(text, none, base))?;
            }
            Self::Socket { at } => *at(target) = single(entry, |text| socket(text, base))?,
            Self::Cache { at } => *at(target) = single(entry, |text| cache(text, machine, base))?,
            Self::Text { at, .. } => single(entry, |text| at.store(target, text, base))?,
            Self::Paths { at } => *at(target) = paths(entry, base)?,
            Self::Addresses { at } => *at(target) = addresses(entry, base)?,
            Self::Routes { at } => *at(target) = routes(entry)?,
            Self::Variables { at } => {
                *at(target) = list(entry, parse_variable, |(key, _)| Some(key.clone()))?;
            }
            Self::Dirs { at } => {
                let parse = |text: &str| Dir::parse(text, base);
                *at(target) = list(entry, parse, |dir| Some(dir.guest.clone()))?;
            }
            Self::Outbound { at } => {
                *at(target) = list(entry, OutboundPattern::parse, |rule| Some(rule.to_string()))?;
            }
            Self::Networks { at } => {
                let name = |read: &Vec<IpNet>| read.first().map(network_text);
                *at(target) = list(&members(entry), networks, name)?.concat();
            }
            Self::Fields { at } => {
                let name = |(name, _): &(String, String)| Some(name.clone());
                let mut fields = list(&members(entry), field, name)?;
                fields.sort();
                *at(target) = fields;
            }
        }
        Ok(())
    }

    /// The value that `target` holds, as TOML.
    pub(super) fn show(&self, target: &mut T) -> String {
        match self {
            Self::Flag { at } => at(target).to_string(),
            Self::Count { at, .. } | Self::CountOrCpus { at, .. } => at(target).to_string(),
            Self::Number { at, .. } => at(target).to_string(),
            Self::Limit { at, .. } => at(target).unwrap_or_default().to_string(),
            Self::Duration { at, .. } => toml_number(&show_duration(*at(target))),
            Self::Deadline { at, .. } => {
                toml_number(&show_duration(at(target).unwrap_or_default()))
            }
            Self::Size { at, .. } => toml_number(&show_size(*at(target))),
            Self::Allowance { at } => toml_number(&show_size(at(target).unwrap_or_default())),
            Self::Mode { at } => toml_or(NONE, *at(target), show_mode),
            Self::Level { at } => toml_string(at(target).as_str()),
            Self::Choice { at, .. } => toml_string(at.word(target)),
            Self::Title { at } => toml_string(at(target)),
            Self::Account { at, .. } => toml_or(NONE, at(target).as_deref(), str::to_owned),
            Self::File { at } => toml_string(&at(target).to_string_lossy()),
            Self::PathOr { at, none, .. } => toml_or(none, at(target).as_deref(), path_text),
            Self::Socket { at } | Self::Cache { at } => {
                toml_or(NONE, at(target).as_deref(), path_text)
            }
            Self::Text { at, .. } => toml_string(&at.show(target)),
            Self::Paths { at } => toml_list(at(target).iter().map(|path| path.display())),
            Self::Addresses { at } => toml_list(at(target).iter()),
            Self::Routes { at } => toml_list(at(target).iter()),
            Self::Variables { at } | Self::Fields { at } => toml_table(at(target)),
            Self::Dirs { at } => toml_list(at(target).iter()),
            Self::Outbound { at } => toml_list(at(target).iter()),
            Self::Networks { at } => toml_list(at(target).iter().map(network_text)),
        }
    }

    /// How values are written.
    pub(super) fn form(&self) -> Form {
        match self {
            Self::Flag { .. } => Form::Flag,
            Self::Count { .. } | Self::Number { .. } | Self::Limit { .. } => Form::Integer,
            Self::CountOrCpus { .. }
            | Self::Size { .. }
            | Self::Allowance { .. }
            | Self::Account { .. } => Form::IntegerOrText,
            Self::Duration { .. } | Self::Deadline { .. } => Form::NumberOrText,
            Self::Mode { .. } => Form::Octal,
            Self::Level { .. }
            | Self::Choice { .. }
            | Self::Title { .. }
            | Self::File { .. }
            | Self::PathOr { .. }
            | Self::Socket { .. }
            | Self::Cache { .. }
            | Self::Text { .. } => Form::Text,
            Self::Paths { .. }
            | Self::Addresses { .. }
            | Self::Routes { .. }
            | Self::Dirs { .. }
            | Self::Outbound { .. }
            | Self::Networks { .. } => Form::List,
            Self::Variables { .. } | Self::Fields { .. } => Form::Pairs,
        }
    }

    /// The placeholder for a value in help text.
    pub(super) fn placeholder(&self) -> &'static str {
        match self {
            Self::Flag { .. } => "true|false",
            Self::Count { .. }
            | Self::CountOrCpus { .. }
            | Self::Number { .. }
            | Self::Limit { .. } => "N",
            Self::Duration { .. } | Self::Deadline { .. } => "SECS",
            Self::Size { .. } | Self::Allowance { .. } => "SIZE",
            Self::Mode { .. } => "OCTAL",
            Self::Level { .. } => "LEVEL",
            Self::Title { .. } => "NAME",
            Self::Account { placeholder, .. }
            | Self::PathOr { placeholder, .. }
            | Self::Choice { placeholder, .. }
            | Self::Text { placeholder, .. } => placeholder,
            Self::File { .. } | Self::Paths { .. } => "FILE",
            Self::Socket { .. } => "PATH",
            Self::Cache { .. } => "FOLDER",
            Self::Addresses { .. } => "ADDR",
            Self::Routes { .. } => "ROUTE",
            Self::Variables { .. } => "KEY=VALUE",
            Self::Dirs { .. } => "HOST::GUEST[:ro]",
            Self::Outbound { .. } => "URL-PATTERN",
            Self::Networks { .. } => "ADDRESS",
            Self::Fields { .. } => "NAME=VALUE",
        }
    }

    /// What values are allowed, for a reader.
    pub(super) fn values(&self) -> String {
        match self {
            Self::Flag { .. } => "`true` or `false`".into(),
            Self::Count { range, .. } => format!("a whole number, {}", span(range, show_count)),
            Self::CountOrCpus { range, .. } => {
                format!("a whole number, {}, or `auto`", span(range, show_count))
            }
            Self::Number { range, .. } => format!("a whole number, {}", span(range, show_count)),
            Self::Limit { range, .. } => {
                format!(
                    "a whole number, {}, or 0 for no limit",
                    span(range, show_count)
                )
            }
            Self::Duration { range, .. } => format!("a time, {}", span(range, show_seconds)),
            Self::Deadline { range, .. } => {
                format!("a time, {}, or 0 for none", span(range, show_seconds))
            }
            Self::Size { range, .. } => format!("a size, {}", span(range, show_size)),
            Self::Allowance { .. } => "a size, or 0 for no limit".into(),
            Self::Mode { .. } => "an octal number, `000` to `777`, or `none`".into(),
            Self::Level { .. } => "`trace`, `debug`, `info`, `warn` or `error`".into(),
            Self::Choice { at, .. } => one_of(&at.words()),
            Self::Title { .. } => TITLE.into(),
            Self::Account { .. } => "a name, a number or `none`".into(),
            Self::File { .. } => "a path".into(),
            Self::PathOr { none, .. } => format!("a path or `{none}`"),
            Self::Socket { .. } => "a path or `none`".into(),
            Self::Cache { .. } => "a path, `auto` or `none`".into(),
            Self::Text { values, .. } => (*values).into(),
            Self::Paths { .. } => "a list of paths".into(),
            Self::Addresses { .. } => "a list of addresses".into(),
            Self::Routes { .. } => "a list of routes".into(),
            Self::Variables { .. } => "a table, or a list of `KEY=VALUE`".into(),
            Self::Dirs { .. } => "a list of `HOST::GUEST`, `HOST::GUEST:ro`".into(),
            Self::Outbound { .. } => "a list of URL patterns".into(),
            Self::Networks { .. } => "a list of addresses and networks, or `*`".into(),
            Self::Fields { .. } => "a table, or a list of `NAME=VALUE`".into(),
        }
    }
}

/// The value of a setting that has one: the last that was written.
fn single<V>(
    entry: &Entry,
    parse: impl FnOnce(&str) -> Result<V, Problem>,
) -> Result<V, Vec<Fault>> {
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

fn paths(entry: &Entry, base: &Path) -> Result<Vec<PathBuf>, Vec<Fault>> {
    list(entry, |text| path(text, base), |path| Some(path_text(path)))
}

fn addresses(entry: &Entry, base: &Path) -> Result<Vec<BindAddress>, Vec<Fault>> {
    let name = |address: &BindAddress| match address {
        // Port 0 is another port each time.
        BindAddress::Tcp { port: 0, .. } => None,
        address => Some(address.to_string()),
    };
    let addresses = list(entry, |text| BindAddress::parse(text, base), name)?;
    at_least_one("address", entry, addresses)
}

fn routes(entry: &Entry) -> Result<Vec<Route>, Vec<Fault>> {
    let routes = list(entry, Route::parse, |route| Some(route.to_string()))?;
    at_least_one("route", entry, routes)
}

fn mode(text: &str) -> Result<Option<u32>, Problem> {
    match text {
        NONE => Ok(None),
        text => parse_mode(text).map(Some),
    }
}

/// "`a`, `b` or `c`".
fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match &quoted[..] {
        [others @ .., last] if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        words => words.concat(),
    }
}

fn socket(text: &str, base: &Path) -> Result<Option<PathBuf>, Problem> {
    match text {
        NONE => Ok(None),
        text => socket_path(text, text, base).map(Some),
    }
}

fn cache(text: &str, machine: &Machine, base: &Path) -> Result<Option<PathBuf>, Problem> {
    match text {
        "auto" => Ok(machine.cache.clone()),
        text => path_or(text, NONE, base),
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A string, or the one that stands for nothing.
fn toml_or<V>(none: &str, value: Option<V>, show: impl Fn(V) -> String) -> String {
    toml_string(&value.map_or_else(|| none.to_owned(), show))
}

fn toml_list<V: Display>(values: impl IntoIterator<Item = V>) -> String {
    let values = values
        .into_iter()
        .map(|value| toml_string(&value.to_string()));
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

fn toml_table(pairs: &[(String, String)]) -> String {
    let pairs = pairs.iter();
    let pairs = pairs.map(|(key, value)| format!("{} = {}", toml_string(key), toml_string(value)));
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
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
