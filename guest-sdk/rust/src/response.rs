//! Defines [`Response`]: what the client is to get, whole. Nothing is checked here: the server
//! refuses a status or a field that HTTP does not allow, with 500.

use crate::bindings::rgunicorn::http::types;

/// One HTTP response with its whole body.
///
/// Connection, Content-Length, Date, Keep-Alive, Transfer-Encoding and Upgrade are the server's to
/// say: what an app puts there is dropped.
#[derive(Clone, Debug)]
pub struct Response {
    inner: types::Response,
}

impl Response {
    /// Makes a response with no fields and no body. `status` is 200 to 599.
    pub fn new(status: u16) -> Self {
        Self {
            inner: types::Response {
                status,
                fields: Vec::new(),
                body: Vec::new(),
            },
        }
    }

    /// Makes a response of plain text, in UTF-8, with status 200.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of_type("text/plain; charset=utf-8", text.into())
    }

    /// Makes a response of HTML, in UTF-8, with status 200.
    pub fn html(html: impl Into<String>) -> Self {
        Self::of_type("text/html; charset=utf-8", html.into())
    }

    /// Makes a response of JSON, which is already written as text, with status 200.
    pub fn json(json: impl Into<String>) -> Self {
        Self::of_type("application/json", json.into())
    }

    fn of_type(content_type: &str, body: String) -> Self {
        Self::new(200)
            .with_header("content-type", content_type)
            .with_body(body)
    }

    /// Replaces the status: 200 to 599.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.inner.status = status;
        self
    }

    /// Adds a field after those that are there, also when one of this name is there already.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.inner.fields.push((name.to_owned(), value.into()));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.inner.body = body.into();
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.inner.status
    }

    /// The value of the first field of this name, in upper or lower case, if it is there and is
    /// UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// All fields in the order in which they were added.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.inner
            .fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        &self.inner.body
    }
}

impl From<Response> for types::Response {
    fn from(response: Response) -> Self {
        response.inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_says_what_it_is() {
        for (response, expected) in [
            (Response::text("x"), "text/plain; charset=utf-8"),
            (Response::html("x"), "text/html; charset=utf-8"),
            (Response::json("x"), "application/json"),
        ] {
            assert_eq!(response.status(), 200);
            assert_eq!(response.header("Content-Type"), Some(expected));
            assert_eq!(response.body(), b"x");
        }
    }

    #[test]
    fn an_empty_response_has_nothing_but_its_status() {
        let response = Response::new(204);
        assert_eq!(response.status(), 204);
        assert_eq!(response.headers().count(), 0);
        assert!(response.body().is_empty());
    }

    #[test]
    fn fields_add_up_and_the_rest_is_replaced() {
        let response = Response::text("first")
            .with_status(303)
            .with_header("set-cookie", "a=1")
            .with_header("Set-Cookie", "b=2")
            .with_body([1, 2, 3]);
        let raw = types::Response::from(response);
        assert_eq!(raw.status, 303);
        assert_eq!(raw.body, [1, 2, 3]);
        let cookies: Vec<_> = raw
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
            .collect();
        assert_eq!(cookies.len(), 2);
        assert_eq!(cookies[1].1, b"b=2");
    }
}
