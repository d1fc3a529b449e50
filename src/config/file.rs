//! Defines the settings file: TOML, with an `[apps.NAME]` table for each app.
//!
//! Invariant: everything in the file is either an entry or an error, and every entry knows its line
//! and column.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::error::{Error, Origin, Problem};
use super::form::Form;
use super::raw::{Entry, Raw, RawApp, Written};
use super::setting::{Scope, Setting};
use super::suggest::closest;
use super::table::settings;
use super::text::absolute;

/// File that is read when nobody names one.
pub(super) const DEFAULT_NAME: &str = "rgunicorn.toml";
/// Key of the apps' tables.
const APPS: &str = "apps";
/// Longest name of an app in characters.
pub(super) const APP_NAME_MAX: usize = 32;

type Key<'i> = Spanned<DeString<'i>>;
type Value<'i> = Spanned<DeValue<'i>>;

/// Reads the file `path`, or the default one in `cwd`, which need not be there. What can be read is
/// told beside the errors, so that its values are checked too.
pub(super) fn load(path: Option<&str>, cwd: &Path) -> (Raw, Vec<Error>) {
    let shown = path.unwrap_or(DEFAULT_NAME);
    let file = absolute(shown, cwd);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return (Raw::default(), Vec::new());
        }
        Err(error) => {
            let mut error = Error::general(Problem::Unreadable(error.to_string()));
            shown.clone_into(&mut error.setting);
            return (Raw::default(), vec![error]);
        }
    };
    let base = file.parent().map_or_else(PathBuf::new, Path::to_path_buf);
    let (mut raw, errors) = parse(&text, shown, &base);
    raw.file = Some(file);
    (raw, errors)
}

/// Reads the text of a settings file in the folder `base`; `path` is its name for errors.
pub(super) fn parse(text: &str, path: &str, base: &Path) -> (Raw, Vec<Error>) {
    let mut reader = Reader {
        path: path.into(),
        base: base.into(),
        text,
        lines: line_starts(text),
        errors: Vec::new(),
    };
    let (document, faults) = DeTable::parse_recoverable(text);
    for fault in &faults {
        let origin = reader.origin(fault.span().unwrap_or(0..0));
        let problem = Problem::Syntax(fault.message().to_owned());
        reader.errors.push(Error::new(origin, "", problem));
    }
    // What a broken text seems to say would only add errors that are none.
    let raw = if faults.is_empty() {
        reader.document(document.get_ref())
    } else {
        Raw::default()
    };
    (raw, reader.errors)
}

/// Byte offsets at which lines start.
fn line_starts(text: &str) -> Vec<usize> {
    let ends = text.match_indices('\n').map(|(offset, _)| offset + 1);
    std::iter::once(0).chain(ends).collect()
}

struct Reader<'t> {
    path: Arc<str>,
    base: Arc<Path>,
    text: &'t str,
    lines: Vec<usize>,
    errors: Vec<Error>,
}

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) -> Raw {
        let mut raw = Raw::default();
        for (key, value) in document {
            if key.get_ref() == APPS {
                raw.apps = self.apps(value);
            } else {
                raw.entries.extend(self.server_entry(key, value));
            }
        }
        raw
    }

    fn server_entry(&mut self, key: &Key<'_>, value: &Value<'_>) -> Option<Entry> {
        let name = key.get_ref();
        match settings().find(|setting| setting.key == name) {
            Some(Setting {
                scope: Scope::App(_),
                ..
            }) => self.wrong(key, name, Problem::AppOnly),
            Some(Setting {
                scope: Scope::OnlyApp,
                ..
            }) if value.get_ref().is_table() => self.wrong(
                key,
                name,
                Problem::Unknown {
                    suggestion: Some(APPS.into()),
                },
            ),
            Some(setting) => self.entry(setting, name.to_string(), value),
            None => self.unknown(key, name),
        }
    }

    fn apps(&mut self, value: &Value<'_>) -> Vec<RawApp> {
        let Some(tables) = self.table(APPS, value) else {
            return Vec::new();
        };
        let mut apps = Vec::new();
        for (key, value) in tables {
            let name = key.get_ref();
            if !is_app_name(name) {
                self.wrong::<_, ()>(key, APPS, Problem::AppName(name.to_string()));
            }
            let spelling = format!("{APPS}.{name}");
            let Some(table) = self.table(&spelling, value) else {
                continue;
            };
            let entries = table
                .iter()
                .filter_map(|(k, v)| self.app_entry(&spelling, k, v));
            let entries = entries.collect();
            apps.push(RawApp {
                name: name.to_string(),
                origin: self.origin(key.span()),
                has_component: table.contains_key("component"),
                entries,
            });
        }
        apps
    }

    fn app_entry(&mut self, app: &str, key: &Key<'_>, value: &Value<'_>) -> Option<Entry> {
        let name = key.get_ref();
        let spelling = format!("{app}.{name}");
        match settings().find(|setting| setting.key == name) {
            Some(Setting {
                scope: Scope::Server(_),
                ..
            }) => self.wrong(key, &spelling, Problem::ServerOnly),
            Some(Setting {
                scope: Scope::OnlyApp,
                ..
            }) => {
                let suggestion = Some("component".into());
                self.wrong(key, &spelling, Problem::Unknown { suggestion })
            }
            Some(setting) => self.entry(setting, spelling, value),
            None => self.unknown(key, &spelling),
        }
    }

    fn entry(
        &mut self,
        setting: &'static Setting,
        spelling: String,
        value: &Value<'_>,
    ) -> Option<Entry> {
        let errors = self.errors.len();
        let values = match (setting.form(), value.get_ref()) {
            (Form::List | Form::Pairs, DeValue::Array(items)) => items
                .iter()
                .filter_map(|item| self.scalar(Form::Text, &spelling, item))
                .collect(),
            (Form::List, DeValue::String(_)) => self
                .scalar(Form::Text, &spelling, value)
                .into_iter()
                .collect(),
            (Form::Pairs, DeValue::Table(table)) => table
                .iter()
                .filter_map(|(k, v)| self.pair(&spelling, k, v))
                .collect(),
            (form, _) => self.scalar(form, &spelling, value).into_iter().collect(),
        };
        let origin = self.origin(value.span());
        let base = Arc::clone(&self.base);
        (self.errors.len() == errors).then_some(Entry {
            setting,
            spelling,
            values,
            origin,
            base,
        })
    }

    fn scalar(&mut self, form: Form, spelling: &str, value: &Value<'_>) -> Option<Written> {
        let text = match (value.get_ref(), form) {
            (
                DeValue::String(text),
                Form::Text | Form::IntegerOrText | Form::NumberOrText | Form::Integer,
            ) => text.to_string(),
            (DeValue::String(text), Form::Octal) => text.to_string(),
            (DeValue::Integer(number), Form::Octal) if number.radix() == 8 => {
                format!("0o{}", number.as_str())
            }
            (DeValue::Boolean(truth), Form::Flag) => truth.to_string(),
            (DeValue::Integer(_), Form::Integer | Form::IntegerOrText | Form::NumberOrText)
            | (DeValue::Float(_), Form::NumberOrText) => plain(value.get_ref())?,
            (other, form) => {
                let found = other.type_str();
                let problem = Problem::WrongType {
                    expected: form.expected(),
                    found,
                };
                return self.wrong(value, spelling, problem);
            }
        };
        Some(Written {
            text,
            origin: self.origin(value.span()),
        })
    }

    /// One line of a table of pairs, where any simple value is meant as its text.
    fn pair(&mut self, spelling: &str, key: &Key<'_>, value: &Value<'_>) -> Option<Written> {
        let name = key.get_ref();
        if name.is_empty() || name.contains('=') {
            let expected = "a name to the left of `=`";
            return self.wrong(key, spelling, Problem::invalid(name, expected));
        }
        let Some(text) = plain(value.get_ref()) else {
            let (expected, found) = (
                "a string, a number, true or false",
                value.get_ref().type_str(),
            );
            let spelling = format!("{spelling}.{name}");
            return self.wrong(value, &spelling, Problem::WrongType { expected, found });
        };
        Some(Written {
            text: format!("{name}={text}"),
            origin: self.origin(value.span()),
        })
    }

    fn table<'v, 'i>(&mut self, spelling: &str, value: &'v Value<'i>) -> Option<&'v DeTable<'i>> {
        let found = value.get_ref().type_str();
        let expected = "a table for each app: [apps.NAME]";
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => self.wrong(value, spelling, Problem::WrongType { expected, found }),
        }
    }

    fn unknown<V>(&mut self, key: &Key<'_>, spelling: &str) -> Option<V> {
        let suggestion = closest(key.get_ref()).map(str::to_owned);
        self.wrong(key, spelling, Problem::Unknown { suggestion })
    }

    /// Keeps an error; the `None` stands for the value that is not there.
    fn wrong<S, V>(&mut self, at: &Spanned<S>, spelling: &str, problem: Problem) -> Option<V> {
        let origin = self.origin(at.span());
        self.errors.push(Error::new(origin, spelling, problem));
        None
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let line = self
            .lines
            .partition_point(|start| *start <= span.start)
            .max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..span.start).unwrap_or("");
        Origin::File {
            path: Arc::clone(&self.path),
            line,
            column: before.chars().count() + 1,
        }
    }
}

/// The text of a simple value, with numbers in decimal.
fn plain(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let value = i64::from_str_radix(number.as_str(), number.radix());
            Some(value.map_or_else(|_| number.to_string(), |value| value.to_string()))
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Whether an app may have this name: it is part of log lines, metrics and process titles.
pub(super) fn is_app_name(name: &str) -> bool {
    (1..=APP_NAME_MAX).contains(&name.len()) && name.chars().all(is_app_name_character)
}

/// Whether the name of an app may have this character.
pub(super) fn is_app_name_character(character: char) -> bool {
    matches!(character, 'a'..='z' | '0'..='9' | '-' | '_')
}
