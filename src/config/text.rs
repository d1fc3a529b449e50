//! Defines how the values that are words are read: choices, names and paths.
//!
//! Invariant: a path that was read is absolute, and no value that was read holds a NUL byte, so
//! that each can be handed to the system.

use std::path::{Path, PathBuf};

use super::error::Problem;
use super::resolved::LogLevel;
use crate::access::Target;

/// What stands for no value at all.
pub(super) const NONE: &str = "none";
/// What stands for standard output.
const STDOUT: &str = "-";
/// What the beginning of a process title is, for a reader.
pub(super) const TITLE: &str = "1 to 32 printable ASCII characters without a space";

const ACCOUNT: &str = "the name or the number of a user or group";
const FLAG: &str = "true or false";
const LEVEL: &str = "a log level: trace, debug, info, warn or error";
const PATH: &str = "a path";

/// Longest beginning of a process title: the rest must have room after it.
const TITLE_MAX: usize = 32;

/// Reads `true` or `false`.
pub(super) fn flag(text: &str) -> Result<bool, Problem> {
    text.parse().map_err(|_| Problem::invalid(text, FLAG))
}

/// Reads the name of one of `all` in any case; `expected` names them for an error.
pub(super) fn choice<V: Copy>(
    text: &str,
    all: &[(V, &str)],
    expected: &'static str,
) -> Result<V, Problem> {
    all.iter()
        .find(|(_, name)| text.eq_ignore_ascii_case(name))
        .map(|(value, _)| *value)
        .ok_or_else(|| Problem::invalid(text, expected))
}

/// Reads a log level, under the names that gunicorn uses too.
pub(super) fn level(text: &str) -> Result<LogLevel, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "warning" => Ok(LogLevel::Warn),
        "critical" => Ok(LogLevel::Error),
        _ => choice(text, &LogLevel::ALL, LEVEL),
    }
}

/// Reads the beginning of a process title. ps(1) and pkill(1) split and match at spaces.
pub(super) fn title(text: &str) -> Result<String, Problem> {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || !(1..=TITLE_MAX).contains(&text.len()) {
        return Err(Problem::invalid(text, TITLE));
    }
    Ok(text.to_owned())
}

/// Reads the name or number of a user or group, which is not looked up, or `none`.
pub(super) fn account(text: &str) -> Result<Option<String>, Problem> {
    if text == NONE {
        return Ok(None);
    }
    // A colon ends a name in passwd(5).
    let well_formed = !text.is_empty()
        && !text.starts_with(['-', ' '])
        && !text.contains(|c: char| c == ':' || c.is_control());
    // The last number means "as it is" to setresuid(2): the privileges would be kept, in silence.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = text.parse().is_ok_and(|number: u32| number != u32::MAX);
    if !well_formed || (digits && !is_number) {
        return Err(Problem::invalid(text, ACCOUNT));
    }
    Ok(Some(text.to_owned()))
}

/// Reads a path; a relative one starts at `base`.
pub(super) fn path(text: &str, base: &Path) -> Result<PathBuf, Problem> {
    if text.is_empty() || text.contains('\0') {
        return Err(Problem::invalid(text, PATH));
    }
    Ok(absolute(text, base))
}

/// Reads a path, or `none` for nothing.
pub(super) fn path_or(text: &str, none: &str, base: &Path) -> Result<Option<PathBuf>, Problem> {
    if text == none {
        return Ok(None);
    }
    path(text, base).map(Some)
}

/// Reads where the access log goes.
pub(super) fn target(text: &str, base: &Path) -> Result<Option<Target>, Problem> {
    match text {
        NONE => Ok(None),
        STDOUT => Ok(Some(Target::Stdout)),
        text => path(text, base).map(|path| Some(Target::File(path))),
    }
}

/// A text that [`target`] reads back.
pub(super) fn target_text(target: &Option<Target>) -> String {
    match target {
        None => NONE.to_owned(),
        Some(Target::Stdout) => STDOUT.to_owned(),
        Some(Target::File(path)) => path.to_string_lossy().into_owned(),
    }
}

/// Makes a path absolute, and drops its `.` segments. `..` stays: with symbolic links only the
/// kernel knows where it leads.
pub(super) fn absolute(path: impl AsRef<Path>, base: &Path) -> PathBuf {
    base.join(path).components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags() {
        assert_eq!((flag("true"), flag("false")), (Ok(true), Ok(false)));
        for text in ["", "True", "yes", "1", " true"] {
            assert!(flag(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn levels_have_the_names_that_gunicorn_uses_too() {
        for (text, expect) in [
            ("INFO", LogLevel::Info),
            ("warn", LogLevel::Warn),
            ("Warning", LogLevel::Warn),
            ("critical", LogLevel::Error),
        ] {
            assert_eq!(level(text), Ok(expect), "{text}");
        }
        assert!(level("loud").is_err() && level("").is_err());
    }

    #[test]
    fn titles() {
        let longest = "a".repeat(32);
        for text in ["rgunicorn", "a", "shop/api@1[x]", &longest] {
            assert_eq!(title(text).as_deref(), Ok(text));
        }
        let too_long = "a".repeat(33);
        for text in ["", "a b", "a\t", "a\0", "é", &too_long] {
            assert!(title(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn accounts() {
        assert_eq!(account("none"), Ok(None));
        for text in [
            "www-data",
            "_www",
            "host$",
            "DOMAIN\\web user",
            "0",
            "4294967294",
            "4294967295x",
        ] {
            assert_eq!(account(text), Ok(Some(text.to_owned())));
        }
        for text in [
            "",
            "-1",
            " a",
            "root:root",
            "a\nb",
            "a\0",
            "4294967295",
            "99999999999",
        ] {
            assert!(account(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths_that_may_be_absent() {
        let base = Path::new("/srv");
        let read = |text| path_or(text, "-", base);
        assert_eq!(read("-"), Ok(None));
        for (text, expect) in [
            ("./-", "/srv/-"),
            ("/a/./b/../c", "/a/b/../c"),
            ("none", "/srv/none"),
        ] {
            assert_eq!(read(text), Ok(Some(expect.into())));
        }
        assert!(read("").is_err() && read("a\0").is_err());
    }
}
