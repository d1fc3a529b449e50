//! Defines the answer to a request that no app sees: a short line of plain text.
//!
//! Invariant: the client is told the status and no more of what was wrong, unless it is how to reach the
//! server.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::head::Version;
use super::response::{BodyLength, ResponseHead};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// An answer of the server's own.
#[derive(Debug, Clone, Copy)]
pub struct ErrorPage<'a> {
    /// A client or server error; anything else is answered as 500.
    pub status: StatusCode,
    /// What the client should do, to be told beside the status.
    pub advice: Option<&'static str>,
    /// Seconds after which the client may try again (RFC 9110 section 10.2.3).
    pub retry_after: Option<u64>,
    /// Whether the request was HEAD, so that the text is left away.
    pub head_request: bool,
    /// The value of Date.
    pub date: &'a [u8],
    /// The value of Server.
    pub server: Option<&'a str>,
}

impl ErrorPage<'_> {
    /// Appends it as HTTP/1.1 has it. The connection closes after it.
    pub fn encode(&self, out: &mut BytesMut) {
        let (headers, text) = (self.headers(), self.text());
        let head = self.head(&headers, &text, Version::Http11);
        // A known length and fields of our own: there is nothing that could not be sent.
        if head.encode(out).is_ok() && !self.head_request {
            out.extend_from_slice(text.as_bytes());
        }
    }

    /// It as HTTP/2 has it: its head and its text.
    pub fn response(&self) -> (Response<()>, Bytes) {
        let (headers, text) = (self.headers(), self.text());
        let head = self.head(&headers, &text, Version::Http2);
        let response = head.response().map(|(response, _)| response);
        let text = if self.head_request {
            Bytes::new()
        } else {
            text.into()
        };
        (response.unwrap_or_default(), text)
    }

    fn status(&self) -> StatusCode {
        let is_error = self.status.is_client_error() || self.status.is_server_error();
        if is_error {
            self.status
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }

    fn text(&self) -> String {
        let status = self.status();
        let reason = status.canonical_reason().unwrap_or("Error");
        match self.advice {
            Some(advice) => format!("{} {reason}: {advice}\n", status.as_u16()),
            None => format!("{} {reason}\n", status.as_u16()),
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, TEXT);
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        headers
    }

    fn head<'b>(
        &'b self,
        headers: &'b HeaderMap,
        text: &str,
        version: Version,
    ) -> ResponseHead<'b> {
        ResponseHead {
            status: self.status(),
            headers,
            version,
            head_request: self.head_request,
            keep_alive: false,
            body: BodyLength::Known(text.len() as u64),
            date: self.date,
            server: self.server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: ErrorPage<'_> = ErrorPage {
        status: StatusCode::NOT_FOUND,
        advice: None,
        retry_after: None,
        head_request: false,
        date: b"Sun, 06 Nov 1994 08:49:37 GMT",
        server: Some("s"),
    };

    fn encoded(page: &ErrorPage<'_>) -> String {
        let mut out = BytesMut::new();
        page.encode(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn of_http_1() {
        assert_eq!(
            encoded(&PAGE),
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: 14\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nserver: s\r\n\
             connection: close\r\n\r\n404 Not Found\n"
        );
        let busy = ErrorPage {
            status: StatusCode::SERVICE_UNAVAILABLE,
            retry_after: Some(7),
            head_request: true,
            server: None,
            ..PAGE
        };
        assert_eq!(
            encoded(&busy),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain; charset=utf-8\r\n\
             retry-after: 7\r\ncontent-length: 24\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             connection: close\r\n\r\n"
        );
        let advised = ErrorPage {
            status: StatusCode::BAD_REQUEST,
            advice: Some("try https"),
            ..PAGE
        };
        assert!(encoded(&advised).ends_with("\r\n\r\n400 Bad Request: try https\n"));
        let none = ErrorPage {
            status: StatusCode::NO_CONTENT,
            ..PAGE
        };
        assert!(encoded(&none).ends_with("\r\n\r\n500 Internal Server Error\n"));
    }

    #[test]
    fn of_http_2() {
        let (response, text) = PAGE.response();
        assert_eq!(response.status(), 404);
        let fields: Vec<_> = response
            .headers()
            .keys()
            .map(|name| name.as_str())
            .collect();
        assert_eq!(fields, ["content-type", "content-length", "date", "server"]);
        assert_eq!(text, "404 Not Found\n");
        let head = ErrorPage {
            head_request: true,
            ..PAGE
        };
        let (response, text) = head.response();
        assert_eq!(response.headers()["content-length"], "14");
        assert!(text.is_empty());
    }
}
