//! Defines the format in JSON: one object a line, always with the same keys.

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;

use http::HeaderName;
use http::header::{AUTHORIZATION, HOST, REFERER, USER_AGENT};

use super::format::{micros, user, value};
use super::line::{VALUE_BYTES_MAX, json_string};
use super::record::{Record, Request, split_target};
use super::time;

/// The fields that it shows.
pub(super) const REQUEST_FIELDS: [HeaderName; 4] = [HOST, REFERER, USER_AGENT, AUTHORIZATION];

/// Most bytes of values that are longer only where somebody means no good. All together fit into a
/// line: a test adds them up.
const SHORT_BYTES_MAX: usize = 256;
const LONG_BYTES_MAX: usize = 640;

/// Adds the object of `record`.
pub(super) fn write(record: &Record<'_>, line: &mut Vec<u8>) {
    let (request_line, head) = match record.request {
        Request::Unknown => (None, None),
        Request::Line(text) => (Some(text), None),
        Request::Head {
            method,
            target,
            protocol,
        } => (None, Some((method, split_target(target), protocol))),
    };
    let field = |place| value(record.request_fields, place);
    let mut object = Object { line, first: true };
    object.text("time", Some(time::rfc3339(record.began).as_bytes()), 64);
    object.address("remote", record.remote);
    object.address("client", record.client);
    let user = field(3).and_then(user);
    object.text("user", user.as_deref(), SHORT_BYTES_MAX);
    let method = head.map(|(method, ..)| method.as_bytes());
    object.text("method", method, 64);
    let path = head.map(|(_, (path, _), _)| path.as_bytes());
    object.text("path", path, LONG_BYTES_MAX);
    let query = head.map(|(_, (_, query), _)| query.as_bytes());
    object.text("query", query, LONG_BYTES_MAX);
    let protocol = head.map(|(_, _, protocol)| protocol.as_bytes());
    object.text("protocol", protocol, 64);
    // It is there for heads that could not be read, which have none of the parts.
    object.text("request_line", request_line, VALUE_BYTES_MAX);
    object.text("tls", record.tls.map(str::as_bytes), 64);
    object.text("host", field(0), SHORT_BYTES_MAX);
    object.text("referer", field(1), LONG_BYTES_MAX);
    object.text("user_agent", field(2), LONG_BYTES_MAX);
    object.number("status", Some(record.status));
    object.number("body_bytes", Some(record.body_bytes));
    object.number("duration_us", Some(micros(record.took)));
    object.text("app", record.app.map(str::as_bytes), 64);
    object.number("pid", Some(record.worker.pid));
    object.number("slot", Some(record.worker.slot));
    object.number("generation", Some(record.worker.generation));
    object.number("queue_us", record.queue.map(micros));
    object.number("instantiate_us", record.instantiate.map(micros));
    object.number("cpu_us", record.cpu.map(micros));
    object.number("peak_memory", record.peak_memory);
    object.number("reuse", record.reuse);
    let reason = record.reason.map(|reason| reason.word().as_bytes());
    object.text("reason", reason, 64);
    object.line.push(b'}');
}

/// An object that is being written.
struct Object<'a> {
    line: &'a mut Vec<u8>,
    first: bool,
}

impl Object<'_> {
    fn key(&mut self, key: &str) {
        let before = if std::mem::take(&mut self.first) {
            '{'
        } else {
            ','
        };
        // Writing to a vector cannot fail.
        let _ = write!(self.line, "{before}\"{key}\":");
    }

    fn text(&mut self, key: &str, value: Option<&[u8]>, bytes_max: usize) {
        self.key(key);
        match value {
            Some(value) => json_string(self.line, value, bytes_max),
            None => self.line.extend_from_slice(b"null"),
        }
    }

    fn address(&mut self, key: &str, address: Option<IpAddr>) {
        let text = address.map(|address| address.to_string());
        self.text(key, text.as_deref().map(str::as_bytes), 64);
    }

    fn number(&mut self, key: &str, value: Option<impl fmt::Display>) {
        self.key(key);
        let _ = match value {
            Some(value) => write!(self.line, "{value}"),
            None => self.line.write_all(b"null"),
        };
    }
}
