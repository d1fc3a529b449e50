//! Defines formats: compiled once, when the settings are read, and then a line for each record.

use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::atom::{Atom, Fields, FormatError};
use super::record::{Record, Request, split_target};
use super::{json, line, time};

/// The word for the format that is not made of atoms.
const JSON: &str = "json";
/// Longest text of a format in bytes.
const FORMAT_BYTES_MAX: usize = 1024;
/// Stands for what is not known.
const NOTHING: &[u8] = b"-";

/// How a record becomes a line; by default an empty one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Format {
    text: String,
    layout: Layout,
    request_fields: Vec<HeaderName>,
    response_fields: Vec<HeaderName>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    Json,
    Parts(Vec<Part>),
}

impl Default for Layout {
    fn default() -> Self {
        Self::Parts(Vec::new())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Atom(Atom),
}

/// What has to be measured for a format, and costs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measures {
    /// The time in the queue.
    pub queue: bool,
    /// The time to make the instance, its memory, or which of its requests it is.
    pub instance: bool,
    /// The CPU time of the guest.
    pub cpu: bool,
}

impl Format {
    /// Compiles a format.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut fields = Fields::default();
        let layout = match text {
            JSON => {
                for name in json::REQUEST_FIELDS {
                    fields.of_request(name);
                }
                Layout::Json
            }
            text => Layout::Parts(parts(text, &mut fields)?),
        };
        Ok(Self {
            text: text.to_owned(),
            layout,
            request_fields: fields.request,
            response_fields: fields.response,
        })
    }

    /// The fields of a request that it shows.
    #[must_use]
    pub fn request_fields(&self) -> &[HeaderName] {
        &self.request_fields
    }

    /// The fields of a response that it shows.
    #[must_use]
    pub fn response_fields(&self) -> &[HeaderName] {
        &self.response_fields
    }

    /// What it shows that has to be measured.
    #[must_use]
    pub fn measures(&self) -> Measures {
        let shows = |atoms: &[Atom]| match &self.layout {
            Layout::Json => true,
            Layout::Parts(parts) => parts
                .iter()
                .any(|part| matches!(part, Part::Atom(atom) if atoms.contains(atom))),
        };
        Measures {
            queue: shows(&[Atom::Queue]),
            instance: shows(&[Atom::Instantiate, Atom::PeakMemory, Atom::Reuse]),
            cpu: shows(&[Atom::Cpu]),
        }
    }

    /// Puts the line of `record`, with its end, in the place of what `line` holds.
    pub fn write(&self, record: &Record<'_>, line: &mut Vec<u8>) {
        line.clear();
        match &self.layout {
            Layout::Json => json::write(record, line),
            Layout::Parts(parts) => {
                for part in parts {
                    match part {
                        Part::Literal(text) => line.extend_from_slice(text.as_bytes()),
                        Part::Atom(atom) => write_atom(*atom, record, line),
                    }
                }
            }
        }
        line::end(line);
    }
}

/// As it was written.
impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Splits a text as Python's `%` does with names, where gunicorn's formats are from.
fn parts(text: &str, fields: &mut Fields) -> Result<Vec<Part>, FormatError> {
    if text.is_empty() || text.len() > FORMAT_BYTES_MAX || text.contains(char::is_control) {
        return Err(FormatError::Text {
            max: FORMAT_BYTES_MAX,
        });
    }
    let (mut parts, mut literal) = (Vec::new(), String::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        literal.push_str(before);
        let start = text.len() - after.len() - 1;
        let at = text[..start].chars().count() + 1;
        if let Some(after) = after.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let named = after
            .strip_prefix('(')
            .and_then(|named| named.split_once(")s"));
        let (name, after) = named.ok_or(FormatError::Syntax { at })?;
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(&mut literal)));
        }
        parts.push(Part::Atom(fields.atom(name, at)?));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

fn write_atom(atom: Atom, record: &Record<'_>, line: &mut Vec<u8>) {
    match atom {
        Atom::Remote => number_or_nothing(line, record.remote),
        Atom::Client => number_or_nothing(line, record.client),
        Atom::Identity => line.extend_from_slice(NOTHING),
        Atom::User(field) => {
            let user = value(record.request_fields, field).and_then(user);
            text_or_nothing(line, user.as_deref());
        }
        Atom::Time => line.extend_from_slice(time::common(record.began).as_bytes()),
        Atom::RequestLine => request_line(record.request, line),
        Atom::Method => head(record, line, |method, _, _| method),
        Atom::Path => head(record, line, |_, target, _| split_target(target).0),
        // As in gunicorn, a request without a query has an empty one.
        Atom::Query => {
            if let Request::Head { target, .. } = record.request {
                line::escape(line, split_target(target).1.as_bytes());
            }
        }
        Atom::Protocol => head(record, line, |_, _, protocol| protocol),
        Atom::Status => number(line, format_args!("{:03}", record.status)),
        Atom::Bytes => number(line, record.body_bytes),
        Atom::BytesOrDash => {
            number_or_nothing(line, Some(record.body_bytes).filter(|bytes| *bytes > 0));
        }
        Atom::RequestField(field) => text_or_nothing(line, value(record.request_fields, field)),
        Atom::ResponseField(field) => text_or_nothing(line, value(record.response_fields, field)),
        Atom::Seconds => number(line, record.took.as_secs()),
        Atom::Milliseconds => number(line, record.took.as_millis()),
        Atom::Microseconds => number(line, record.took.as_micros()),
        Atom::DecimalSeconds => {
            let (seconds, micros) = (record.took.as_secs(), record.took.subsec_micros());
            number(line, format_args!("{seconds}.{micros:06}"));
        }
        Atom::Process => number(line, format_args!("<{}>", record.worker.pid)),
        Atom::App => text_or_nothing(line, record.app.map(str::as_bytes)),
        Atom::Slot => number(line, record.worker.slot),
        Atom::Generation => number(line, record.worker.generation),
        Atom::Queue => number_or_nothing(line, record.queue.map(micros)),
        Atom::Instantiate => number_or_nothing(line, record.instantiate.map(micros)),
        Atom::Cpu => number_or_nothing(line, record.cpu.map(micros)),
        Atom::PeakMemory => number_or_nothing(line, record.peak_memory),
        Atom::Reuse => number_or_nothing(line, record.reuse),
        Atom::Reason => {
            let word = record.reason.map(|reason| reason.word().as_bytes());
            text_or_nothing(line, word);
        }
        Atom::Tls => text_or_nothing(line, record.tls.map(str::as_bytes)),
    }
}

fn request_line(request: Request<'_>, line: &mut Vec<u8>) {
    match request {
        Request::Unknown => line.extend_from_slice(NOTHING),
        Request::Line(text) => line::escape(line, text),
        Request::Head {
            method,
            target,
            protocol,
        } => {
            let mut text = String::with_capacity(method.len() + target.len() + protocol.len() + 2);
            // Writing to a string cannot fail.
            let _ = write!(text, "{method} {target} {protocol}");
            line::escape(line, text.as_bytes());
        }
    }
}

/// Adds a part of the head, if there is one.
fn head<'a>(
    record: &Record<'a>,
    line: &mut Vec<u8>,
    part: impl Fn(&'a str, &'a str, &'a str) -> &'a str,
) {
    let text = match record.request {
        Request::Unknown | Request::Line(_) => None,
        Request::Head {
            method,
            target,
            protocol,
        } => Some(part(method, target, protocol)),
    };
    text_or_nothing(line, text.map(str::as_bytes));
}

/// The value of the field at this place.
pub(super) fn value(fields: &[Option<HeaderValue>], place: usize) -> Option<&[u8]> {
    fields.get(place)?.as_ref().map(HeaderValue::as_bytes)
}

pub(super) fn micros(duration: Duration) -> u128 {
    duration.as_micros()
}

fn number(line: &mut Vec<u8>, number: impl fmt::Display) {
    // Writing to a vector cannot fail.
    let _ = write!(line, "{number}");
}

fn number_or_nothing(line: &mut Vec<u8>, value: Option<impl fmt::Display>) {
    match value {
        Some(value) => number(line, value),
        None => line.extend_from_slice(NOTHING),
    }
}

fn text_or_nothing(line: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None | Some([]) => line.extend_from_slice(NOTHING),
        Some(value) => line::escape(line, value),
    }
}

/// The user's name in a field of Basic authentication (RFC 7617 section 2).
pub(super) fn user(authorization: &[u8]) -> Option<Vec<u8>> {
    let (scheme, credentials) = authorization.split_at_checked(b"Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let mut decoded = decode(credentials.trim_ascii())?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    decoded.truncate(colon);
    Some(decoded)
}

/// Decodes base64 (RFC 4648 section 4).
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_suffix(b"==").or(text.strip_suffix(b"="));
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in digits.unwrap_or(text) {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, count) = ((bits << 6) & 0xff_ffff | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
