//! Defines which requests an app answers.
//!
//! Invariant: a path starts with `/`, does not end with one unless it is `/`, has no empty, `.` or
//! `..` segment, and its percent-encoded octets are in upper case (RFC 3986 section 6.2.2).

use std::fmt;

use super::error::Problem;
use super::host::HostPattern;

const EXPECTED: &str = "a route, such as /, /api, example.com, example.com/api or *.example.com";
const EXPECTED_NO_PORT: &str = "a route: leave out the port, a route holds for every port";

/// Requests to some hosts, below a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// The host that the request names, without its port.
    pub host: HostPattern,
    /// The path itself, and with a slash after it the prefix of all paths below it.
    pub path: String,
}

impl Route {
    /// Reads `/PATH`, `HOST` or `HOST/PATH`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let invalid = || Problem::invalid(text, EXPECTED);
        let host = match host {
            "" if path.is_empty() => return Err(invalid()),
            "" => HostPattern::Any,
            host if host.contains(':') && !host.ends_with(']') => {
                return Err(Problem::invalid(text, EXPECTED_NO_PORT));
            }
            host => HostPattern::parse(host).ok_or_else(invalid)?,
        };
        let path = normal_path(path).ok_or_else(invalid)?;
        Ok(Self { host, path })
    }
}

/// The form in which it is written in a settings file.
impl fmt::Display for Route {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPattern::Any => formatter.write_str(&self.path),
            host if self.path == "/" => host.fmt(formatter),
            host => write!(formatter, "{host}{}", self.path),
        }
    }
}

/// A path without a slash at its end, or `/`; `None` if it could be written in another way.
pub(super) fn normal_path(path: &str) -> Option<String> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    if trimmed.is_empty() {
        return Some("/".into());
    }
    let segments = trimmed.strip_prefix('/')?;
    if segments
        .split('/')
        .any(|segment| ["", ".", ".."].contains(&segment))
    {
        return None;
    }
    upper_octets(trimmed)
}

/// Puts percent-encoded octets in upper case; `None` at a character that no path has.
fn upper_octets(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        normal.push(character);
        if character == '%' {
            for _ in 0..2 {
                let digit = characters.next().filter(char::is_ascii_hexdigit)?;
                normal.push(digit.to_ascii_uppercase());
            }
        } else if !is_path_character(character) {
            return None;
        }
    }
    Some(normal)
}

/// `pchar` of RFC 3986 section 3.3 and the slash.
fn is_path_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_normalised_and_written_back() {
        for (text, expect) in [
            ("/", "/"),
            ("/api", "/api"),
            ("/api/", "/api"),
            ("/a:b/c", "/a:b/c"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("Example.com", "example.com"),
            ("example.com/", "example.com"),
            ("example.com/api/v1/", "example.com/api/v1"),
            ("*.example.com/x", "*.example.com/x"),
            ("[0::1]/x", "[::1]/x"),
        ] {
            let route = Route::parse(text).unwrap();
            assert_eq!(route.to_string(), expect, "{text}");
            assert_eq!(Route::parse(expect), Ok(route), "{text}");
        }
        assert_eq!(
            Route::parse("/"),
            Ok(Route {
                host: HostPattern::Any,
                path: "/".into()
            })
        );
    }

    #[test]
    fn what_is_no_route_is_refused() {
        for text in [
            "",
            "//",
            "/a//b",
            "/a/../b",
            "/.",
            "/a b",
            "/a?q",
            "/a#f",
            "/%",
            "/%4",
            "/%zz",
            "/é",
            "*",
            "*/api",
            "a_b c.example",
            "example.com:80",
            "example.com:80/api",
            "http://a/",
        ] {
            assert!(Route::parse(text).is_err(), "{text}");
        }
        let port = Route::parse("example.com:80/api").unwrap_err().to_string();
        assert!(port.contains("leave out the port"), "{port}");
    }
}
