//! Defines [`Request`]: what the client sent, whole. Field names in it are always in lower case.

use crate::bindings::rgunicorn::http::types;
use crate::query;

/// One HTTP request with its whole body.
#[derive(Clone, Debug)]
pub struct Request {
    inner: types::Request,
}

impl Request {
    /// Makes a request with no fields and no body, for `http://localhost`: what a test of an app
    /// starts with.
    pub fn new(method: &str, path_with_query: &str) -> Self {
        Self {
            inner: types::Request {
                method: method.to_owned(),
                scheme: "http".to_owned(),
                authority: "localhost".to_owned(),
                path_with_query: path_with_query.to_owned(),
                fields: Vec::new(),
                body: Vec::new(),
            },
        }
    }

    /// Adds a field after those that are there.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.inner
            .fields
            .push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.inner.body = body.into();
        self
    }

    /// The method as it was sent; methods are case-sensitive (RFC 9110, section 9.1).
    pub fn method(&self) -> &str {
        &self.inner.method
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        &self.inner.scheme
    }

    /// The host that the client named, and the port if it named one. Empty when it named none.
    pub fn authority(&self) -> &str {
        &self.inner.authority
    }

    /// The path and the query as they were sent, still percent-encoded. `*` for `OPTIONS *`.
    pub fn path_with_query(&self) -> &str {
        &self.inner.path_with_query
    }

    /// The path as it was sent, still percent-encoded, without the query.
    pub fn path(&self) -> &str {
        self.split().0
    }

    /// The query as it was sent, without its question mark, if there is one.
    pub fn query(&self) -> Option<&str> {
        self.split().1
    }

    /// The decoded value of the first query parameter of this name: `name=value&name=value`, with
    /// `%` escapes and `+` for a space. A parameter without `=` has an empty value.
    pub fn parameter(&self, name: &str) -> Option<String> {
        query::pairs(self.query()?)
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }

    /// The value of the first field of this name, in upper or lower case, if it is there and is
    /// UTF-8. [`headers`](Self::headers) has all of them, as bytes.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// All fields in the order received, names in lower case.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.inner
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The whole body, without its transfer coding. Empty when there is none.
    pub fn body(&self) -> &[u8] {
        &self.inner.body
    }

    /// The body by value, without a copy.
    pub fn into_body(self) -> Vec<u8> {
        self.inner.body
    }

    fn split(&self) -> (&str, Option<&str>) {
        match self.inner.path_with_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&self.inner.path_with_query, None),
        }
    }
}

impl From<types::Request> for Request {
    fn from(inner: types::Request) -> Self {
        Self { inner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_target(target: &str, path: &str, query: Option<&str>) {
        let request = Request::new("GET", target);
        assert_eq!((request.path(), request.query()), (path, query), "{target}");
        assert_eq!(request.path_with_query(), target);
    }

    #[test]
    fn splits_the_target() {
        check_target("/", "/", None);
        check_target("/a/b?x=1", "/a/b", Some("x=1"));
        check_target("/?", "/", Some(""));
        check_target("/a?b?c", "/a", Some("b?c"));
        check_target("*", "*", None);
    }

    #[test]
    fn finds_a_parameter() {
        let request = Request::new("GET", "/?n=1&name=J%C3%BCrgen+B.&n=2&flag");
        assert_eq!(request.parameter("n").as_deref(), Some("1"));
        assert_eq!(request.parameter("name").as_deref(), Some("Jürgen B."));
        assert_eq!(request.parameter("flag").as_deref(), Some(""));
        assert_eq!(request.parameter("N"), None);
        assert_eq!(Request::new("GET", "/n=1").parameter("n"), None);
    }

    #[test]
    fn finds_a_field_in_any_case() {
        let request = Request::new("GET", "/")
            .with_header("Accept", "text/html")
            .with_header("accept", "*/*")
            .with_header("x-bytes", [0xff, 0xfe]);
        assert_eq!(request.header("ACCEPT"), Some("text/html"));
        assert_eq!(request.header("x-bytes"), None);
        assert_eq!(request.header("x-none"), None);
        let all: Vec<_> = request.headers().collect();
        assert_eq!(all[0], ("accept", &b"text/html"[..]));
        assert_eq!(all[1], ("accept", &b"*/*"[..]));
        assert_eq!(all[2], ("x-bytes", &[0xff, 0xfe][..]));
    }

    #[test]
    fn carries_the_body() {
        let request = Request::new("PUT", "/x").with_body("four");
        assert_eq!(request.method(), "PUT");
        assert_eq!(request.body(), b"four");
        assert_eq!(request.into_body(), b"four");
    }
}
