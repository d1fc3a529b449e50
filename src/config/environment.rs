//! Defines the settings as environment variables.
//!
//! Invariant: a variable that is empty counts as absent, and a variable that no setting has is
//! ignored: platforms add ones of their own with any prefix.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Error, Origin, Problem};
use super::raw::{Entry, Written};
use super::setting::Setting;
use super::table::settings;

/// Variable with more arguments, which go before those of the command line.
pub(super) const COMMAND_ARGS: &str = "RGUNICORN_CMD_ARGS";
/// Variable that names the settings file.
pub(super) const CONFIG: &str = "RGUNICORN_CONFIG";

/// The environment of the server.
pub(super) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(
            variables
                .into_iter()
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        )
    }

    /// The text of a variable, if it is set.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        let not_utf8 = || Error::new(Origin::Environment(name.to_owned()), "", Problem::NotUtf8);
        let value = self.0.get(std::ffi::OsStr::new(name));
        value
            .map(|value| value.to_str().ok_or_else(not_utf8))
            .transpose()
    }

    /// What the environment wrote, lowest precedence first.
    pub(super) fn entries(&self, base: &Arc<Path>) -> (Vec<Entry>, Vec<Error>) {
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        for (setting, name, prefix) in variables() {
            match self.text(&name) {
                Ok(Some(text)) => {
                    entries.push(entry(setting, name, &format!("{prefix}{text}"), base));
                }
                Ok(None) => {}
                Err(error) => errors.push(error),
            }
        }
        (entries, errors)
    }

    /// Folder of the user's caches for this program (XDG Base Directory Specification 0.8).
    pub(super) fn cache(&self) -> Option<PathBuf> {
        let folder = |name: &str| {
            let value = self.0.get(std::ffi::OsStr::new(name)).map(PathBuf::from);
            value.filter(|path| path.is_absolute())
        };
        let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
        Some(cache.join("rgunicorn"))
    }
}

/// Every variable that writes a setting, with what goes before its text; those that other programs
/// know too come first, and so have the lower precedence.
fn variables() -> impl Iterator<Item = (&'static Setting, String, &'static str)> {
    settings().flat_map(|setting| {
        let shared = setting
            .variables
            .iter()
            .map(|v| (v.name.to_owned(), v.prefix));
        let own = setting.variable().map(|name| (name, ""));
        shared
            .chain(own)
            .map(move |(name, prefix)| (setting, name, prefix))
    })
}

fn entry(setting: &'static Setting, name: String, text: &str, base: &Arc<Path>) -> Entry {
    let origin = Origin::Environment(name);
    let texts: Vec<&str> = if setting.form().is_list() {
        text.split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .collect()
    } else {
        vec![text.trim()]
    };
    let written = |text: &str| Written {
        text: text.to_owned(),
        origin: origin.clone(),
    };
    Entry {
        setting,
        spelling: String::new(),
        values: texts.into_iter().map(written).collect(),
        origin: origin.clone(),
        base: Arc::clone(base),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::new(
            pairs
                .iter()
                .map(|(name, value)| (name.into(), value.into())),
        )
    }

    fn texts(pairs: &[(&str, &str)]) -> Vec<(&'static str, Vec<String>)> {
        let (entries, errors) = environment(pairs).entries(&Path::new("/").into());
        assert_eq!(errors, []);
        let text = |written: Written| written.text;
        let entry = |e: Entry| (e.setting.key, e.values.into_iter().map(text).collect());
        entries.into_iter().map(entry).collect()
    }

    #[test]
    fn variables_become_entries() {
        assert_eq!(
            texts(&[
                ("RGUNICORN_SERVICE_HOST", "10.0.0.1"),
                ("RGUNICORN_WORKERS", "")
            ]),
            []
        );
        assert_eq!(
            texts(&[("RGUNICORN_WORKERS", " 3 "), ("WEB_CONCURRENCY", "2")]),
            [
                ("workers", vec!["2".to_owned()]),
                ("workers", vec!["3".to_owned()])
            ]
        );
        assert_eq!(
            texts(&[("PORT", "5000")]),
            [("bind", vec!["0.0.0.0:5000".to_owned()])]
        );
        assert_eq!(
            texts(&[("RGUNICORN_BIND", ":1, unix:/a,")]),
            [("bind", vec![":1".to_owned(), "unix:/a".to_owned()])]
        );
        assert_eq!(
            texts(&[("RGUNICORN_ROUTES", "/"), ("RGUNICORN_COMPONENT", "a")]),
            []
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        let bytes = OsString::from_vec(vec![0xff]);
        let environment = Environment::new([("WEB_CONCURRENCY".into(), bytes)]);
        let (entries, errors) = environment.entries(&Path::new("/").into());
        assert!(entries.is_empty());
        assert_eq!(
            errors[0].to_string(),
            "environment: WEB_CONCURRENCY: is not valid UTF-8"
        );
    }

    #[test]
    fn the_cache_folder() {
        for (pairs, expect) in [
            (vec![], None),
            (vec![("HOME", "/h")], Some("/h/.cache/rgunicorn")),
            (
                vec![("HOME", "/h"), ("XDG_CACHE_HOME", "/c")],
                Some("/c/rgunicorn"),
            ),
            (
                vec![("HOME", "/h"), ("XDG_CACHE_HOME", "c")],
                Some("/h/.cache/rgunicorn"),
            ),
            (vec![("HOME", "h")], None),
        ] {
            assert_eq!(
                environment(&pairs).cache(),
                expect.map(PathBuf::from),
                "{pairs:?}"
            );
        }
    }
}
