//! Defines what is left to check of an HTTP/2 request's head when others have read its frames, and
//! makes of it what HTTP/1.1 would have made, so that an app cannot tell them apart.
//!
//! Invariant: as in HTTP/1.1, what could be read in two ways is refused.

use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Uri};

use super::fields::{Fields, trim};
use super::head::{Framing, Version};
use super::limits::Limits;
use super::refusal::Refusal;
use super::target::parse_host;

/// How a client of HTTP/2 begins (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `METHOD TARGET HTTP/2`, without the method and the target.
const LINE_REST: usize = " ".len() + " HTTP/2".len();

/// What a head says beside its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meaning {
    /// Whom the client wants.
    pub authority: Authority,
    /// How long the body is.
    pub framing: Framing,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
}

/// What a field costs beside its name and value in the size of a head (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// Checks a head and puts it into the form that HTTP/1.1 gives it: a target with its scheme, which is
/// `scheme` if it says none, Host, and one Cookie field (RFC 9113 sections 8.2.3 and 8.3.1).
/// `has_content` says whether more than the head came, and `size_max` how large it may be, as HTTP/2
/// counts.
///
/// # Errors
///
/// The [`Refusal`] for the first fault.
pub fn check(
    parts: &mut Parts,
    scheme: Scheme,
    has_content: bool,
    (limits, size_max): (&Limits, usize),
) -> Result<Meaning, Refusal> {
    if size(parts) > size_max {
        return Err(Refusal::fields_too_large("head too long"));
    }
    if parts.method == Method::CONNECT {
        return Err(Refusal::not_implemented("method CONNECT"));
    }
    let target = parts.uri.path_and_query().cloned();
    let target = target.ok_or(Refusal::bad_request("no path"))?;
    check_target(&parts.method, &target)?;
    // The limits are those of what it becomes.
    join_cookies(&mut parts.headers)?;
    check_limits(&parts.method, &target, &parts.headers, limits)?;
    let mut fields = Fields::default();
    for (name, value) in &parts.headers {
        fields.note(name, &Bytes::copy_from_slice(value.as_bytes()))?;
    }
    let authority = authority(parts.uri.authority(), &mut fields)?;
    let framing = match (fields.framing(Version::Http2)?, has_content) {
        (Framing::Chunked, _) => {
            return Err(Refusal::bad_request("Transfer-Encoding in HTTP/2"));
        }
        (Framing::Length(0) | Framing::None, false) => Framing::None,
        (Framing::Length(_), false) => {
            return Err(Refusal::bad_request("shorter than its Content-Length"));
        }
        (Framing::Length(length), true) => Framing::Length(length),
        // The end of the stream is its end.
        (Framing::None, true) => Framing::Chunked,
    };
    let expect_continue = fields.expect_continue(Version::Http2, framing)?;
    let host = HeaderValue::from_str(authority.as_str());
    let host = host.map_err(|_| Refusal::bad_request("malformed authority"))?;
    let added = parts.headers.try_insert(HOST, host);
    added.map_err(|_| Refusal::fields_too_large("too many fields"))?;
    let scheme = parts.uri.scheme().cloned().unwrap_or(scheme);
    parts.uri = uri(scheme, &authority, target)?;
    Ok(Meaning {
        authority,
        framing,
        expect_continue,
    })
}

/// The size of a head as HTTP/2 counts.
fn size(parts: &Parts) -> usize {
    let uri = &parts.uri;
    let target = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let authority = uri.authority().map_or("", Authority::as_str);
    let pseudo = [
        (":method", parts.method.as_str()),
        (":scheme", uri.scheme_str().unwrap_or_default()),
        (":authority", authority),
        (":path", target),
    ];
    let fields = parts.headers.iter();
    let fields = fields.map(|(name, value)| (name.as_str().len(), value.len()));
    let pseudo = pseudo.map(|(name, value)| (name.len(), value.len()));
    let all = fields.chain(pseudo);
    all.map(|(name, value)| name + value + FIELD_OVERHEAD).sum()
}

fn check_target(method: &Method, target: &PathAndQuery) -> Result<(), Refusal> {
    let is_asterisk = target.as_str() == "*";
    if is_asterisk && method != Method::OPTIONS {
        return Err(Refusal::bad_request("target * without OPTIONS"));
    }
    if !is_asterisk && !target.as_str().starts_with('/') {
        return Err(Refusal::bad_request("target in no known form"));
    }
    if !target.as_str().is_ascii() {
        return Err(Refusal::bad_request("target is not ASCII"));
    }
    Ok(())
}

fn check_limits(
    method: &Method,
    target: &PathAndQuery,
    headers: &HeaderMap,
    limits: &Limits,
) -> Result<(), Refusal> {
    let line = method.as_str().len() + target.as_str().len() + LINE_REST;
    if line > limits.request_line_max() {
        return Err(Refusal::line_too_long());
    }
    if headers.len() > limits.fields_max() {
        return Err(Refusal::fields_too_large("too many fields"));
    }
    for (name, value) in headers {
        let length = name.as_str().len() + ": ".len() + value.len();
        if length > limits.field_bytes_max() {
            return Err(Refusal::fields_too_large("field too long"));
        }
        // HTTP/1.1 has no way to write them (RFC 9113 section 8.2.1).
        let text = value.as_bytes();
        if trim(text) != text || text.iter().any(|byte| super::scan::is_control(*byte)) {
            return Err(Refusal::bad_request("malformed field value"));
        }
    }
    Ok(())
}

/// `:authority` and Host must agree, and one of them must be there (RFC 9113 section 8.3.1).
fn authority(pseudo: Option<&Authority>, fields: &mut Fields) -> Result<Authority, Refusal> {
    let parse = |text: &str| parse_host(Bytes::copy_from_slice(text.as_bytes()));
    let pseudo = pseudo
        .map(|authority| parse(authority.as_str()))
        .transpose()?;
    let host = fields.host().map(parse_host).transpose()?;
    match (pseudo, host) {
        (Some(pseudo), Some(host)) if pseudo != host => {
            Err(Refusal::bad_request("Host is not the authority"))
        }
        (Some(authority), _) | (None, Some(authority)) => Ok(authority),
        (None, None) => Err(Refusal::bad_request("no authority")),
    }
}

/// HTTP/2 may send one cookie in each of several fields; HTTP/1.1 has one field for all.
fn join_cookies(headers: &mut HeaderMap) -> Result<(), Refusal> {
    let cookies: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() > 1 {
        let joined = HeaderValue::from_maybe_shared(Bytes::from(cookies.join(&b"; "[..])));
        let joined = joined.map_err(|_| Refusal::bad_request("malformed field value"))?;
        headers.insert(COOKIE, joined);
    }
    Ok(())
}

fn uri(scheme: Scheme, authority: &Authority, target: PathAndQuery) -> Result<Uri, Refusal> {
    let mut parts = http::uri::Parts::default();
    if target.as_str() != "*" {
        parts.scheme = Some(scheme);
        parts.authority = Some(authority.clone());
    }
    parts.path_and_query = Some(target);
    Uri::from_parts(parts).map_err(|_| Refusal::bad_request("target in no known form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The head that a client sends: its method, its URI and its fields.
    fn checked(
        method: &str,
        uri: &str,
        fields: &[(&str, &str)],
        has_content: bool,
    ) -> Result<(Parts, Meaning), u16> {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let limits = (&Limits::default(), 65_536);
        check(&mut parts, Scheme::HTTPS, has_content, limits)
            .map(|meaning| (parts, meaning))
            .map_err(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn a_head_becomes_what_http_1_makes_of_it() {
        let fields = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")];
        let (parts, meaning) = checked("GET", "http://h:1/a?b", &fields, false).unwrap();
        assert_eq!(parts.uri, "http://h:1/a?b");
        assert_eq!(parts.headers["host"], "h:1");
        assert_eq!(parts.headers["cookie"], "a=1; b=2");
        assert_eq!(parts.headers.get_all("cookie").iter().count(), 1);
        assert_eq!(meaning.authority, "h:1");
        assert_eq!(meaning.framing, Framing::None);
        let (parts, meaning) = checked("GET", "/", &[("host", "h")], false).unwrap();
        assert_eq!(
            (parts.uri.to_string().as_str(), meaning.authority.as_str()),
            ("https://h/", "h")
        );
        let (parts, _) = checked("OPTIONS", "*", &[("host", "h")], false).unwrap();
        assert_eq!(parts.uri, "*");
    }

    #[test]
    fn the_size_of_a_head_is_what_http_2_says() {
        let request = http::Request::builder()
            .uri("http://h/a")
            .header("x-y", "z");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        // GET, http, h, /a and x-y: z.
        let size = 7 + 3 + 7 + 4 + 10 + 1 + 5 + 2 + 3 + 1 + 5 * 32;
        let mut checked = |size_max| {
            let limits = (&Limits::default(), size_max);
            check(&mut parts, Scheme::HTTP, false, limits)
                .map_err(|refusal| refusal.status.as_u16())
        };
        assert_eq!(checked(size - 1), Err(431));
        assert!(checked(size).is_ok());
    }

    #[test]
    fn bodies() {
        let length = |value, has_content| {
            let fields = [("content-length", value)];
            let head = checked("POST", "http://h/", &fields, has_content);
            head.map(|(_, meaning)| meaning.framing)
        };
        assert_eq!(length("5", true), Ok(Framing::Length(5)));
        assert_eq!(length("0", false), Ok(Framing::None));
        assert_eq!(length("5", false), Err(400));
        assert_eq!(length("+5", true), Err(400));
        let (_, meaning) = checked("POST", "http://h/", &[], true).unwrap();
        assert_eq!(meaning.framing, Framing::Chunked);
        let expects = [("expect", "100-continue")];
        assert!(
            checked("POST", "http://h/", &expects, true)
                .unwrap()
                .1
                .expect_continue
        );
        assert!(
            !checked("POST", "http://h/", &expects, false)
                .unwrap()
                .1
                .expect_continue
        );
    }

    #[test]
    fn refused() {
        let long = format!("http://h/{}", "a".repeat(4094));
        let value = "a".repeat(8190);
        type Fields<'a> = &'a [(&'a str, &'a str)];
        let cases: [(&str, &str, Fields<'_>, u16); 14] = [
            ("CONNECT", "h:1", &[], 501),
            ("GET", "/", &[], 400),
            ("GET", "*", &[("host", "h")], 400),
            ("GET", "http://h/", &[("host", "i")], 400),
            ("GET", "http://a@h/", &[], 400),
            ("GET", "http://h:99999/", &[], 400),
            ("GET", "http://h/", &[("host", "h"), ("host", "h")], 400),
            (
                "GET",
                "http://h/",
                &[("content-length", "0"), ("content-length", "0")],
                400,
            ),
            ("GET", "http://h/", &[("transfer-encoding", "chunked")], 400),
            ("GET", "http://h/", &[("expect", "x")], 417),
            ("GET", "http://h/", &[("x", " y")], 400),
            ("GET", "http://h/", &[("x", "y\t")], 400),
            ("GET", &long, &[], 414),
            ("GET", "http://h/", &[("x", &value)], 431),
        ];
        for (method, uri, fields, status) in cases {
            let answer = checked(method, uri, fields, false).map(|_| ());
            assert_eq!(answer, Err(status), "{method} {uri} {fields:?}");
        }
        let crumbs: Vec<(&str, &str)> = vec![("cookie", "a=1"); 200];
        assert!(checked("GET", "http://h/", &crumbs, false).is_ok());
        let crumbs: Vec<(&str, &str)> = vec![("cookie", &value[..100]); 90];
        assert_eq!(
            checked("GET", "http://h/", &crumbs, false).map(|_| ()),
            Err(431)
        );
        let many: Vec<(&str, &str)> = vec![("x", "y"); 101];
        assert_eq!(
            checked("GET", "http://h/", &many, false).map(|_| ()),
            Err(431)
        );
    }
}
