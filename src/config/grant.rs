//! Defines the directories and the environment that an app is given.
//!
//! Invariant: the host's side of a directory is absolute, and the guest's side is an absolute path
//! without `.` and `..`, so that no grant means another than it shows.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::Problem;
use super::text::absolute;

const EXPECTED_DIRECTORY: &str = "a directory, such as ./data::/data or ./data::/data:ro (the \
                                  host's path, then the guest's absolute path)";
const EXPECTED_VARIABLE: &str = "an environment variable, such as KEY=VALUE";

/// A directory of the host that an app can reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Dir {
    /// Where it is on the host, absolute.
    pub host: PathBuf,
    /// Where the guest sees it, such as `/data`.
    pub guest: String,
    /// Whether the guest may only read.
    pub read_only: bool,
}

impl Dir {
    /// Reads `HOST::GUEST`, `HOST::GUEST:ro` or `HOST::GUEST:rw`.
    pub(super) fn parse(text: &str, base: &Path) -> Result<Self, Problem> {
        parse_directory(text, base).ok_or_else(|| Problem::invalid(text, EXPECTED_DIRECTORY))
    }
}

fn parse_directory(text: &str, base: &Path) -> Option<Dir> {
    let (host, guest) = text.split_once("::")?;
    let (guest, read_only) = match guest.rsplit_once(':') {
        Some((guest, "ro")) => (guest, true),
        Some((guest, "rw")) => (guest, false),
        Some(_) => return None,
        None => (guest, false),
    };
    let segments = guest.strip_prefix('/')?;
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    let plain = guest == "/"
        || segments
            .split('/')
            .all(|part| !["", ".", ".."].contains(&part));
    if host.is_empty() || !plain || text.contains('\0') || guest.contains(':') {
        return None;
    }
    Some(Dir {
        host: absolute(host, base),
        guest: format!("/{segments}"),
        read_only,
    })
}

/// The form in which it is written in a settings file.
impl fmt::Display for Dir {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.read_only { ":ro" } else { "" };
        write!(formatter, "{}::{}{mode}", self.host.display(), self.guest)
    }
}

/// Reads `KEY=VALUE`.
pub(super) fn parse_variable(text: &str) -> Result<(String, String), Problem> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !text.contains('\0') => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(Problem::invalid(text, EXPECTED_VARIABLE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_and_written_back() {
        let base = Path::new("/srv");
        for (text, expect) in [
            ("/data::/", "/data::/"),
            ("data::/data", "/srv/data::/data"),
            ("./data/::/data/:ro", "/srv/data::/data:ro"),
            ("/a:b::/x:rw", "/a:b::/x"),
            ("/data::/x y", "/data::/x y"),
        ] {
            let directory = Dir::parse(text, base).unwrap();
            assert_eq!(directory.to_string(), expect, "{text}");
            assert_eq!(Dir::parse(expect, base), Ok(directory), "{text}");
        }
        for text in [
            "",
            "data",
            "/data:/data",
            "::/data",
            "/data::",
            "/data::data",
            "/data::/a/../b",
            "/data::/./a",
            "/data::/a//b",
            "/data:://",
            "/data::/a:rx",
            "/data::/a:ro:ro",
            "/data::/a\0",
        ] {
            assert!(Dir::parse(text, base).is_err(), "{text:?}");
        }
    }

    #[test]
    fn variables_are_read() {
        let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
        assert_eq!(parse_variable("A=b=c"), pair("A", "b=c"));
        assert_eq!(parse_variable("A="), pair("A", ""));
        for text in ["", "A", "=b", "A=\0"] {
            assert!(parse_variable(text).is_err(), "{text:?}");
        }
    }
}
