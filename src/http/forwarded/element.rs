//! Defines the elements of Forwarded (RFC 7239 section 4): what each proxy adds.
//!
//! Invariant: no text is read as more or fewer elements than whoever wrote one of them meant. A
//! quote that a client opens and a proxy's element closes makes the whole field malformed.

use http::uri::{Authority, Scheme};

use super::super::fields::{is_token, trim};
use super::super::refusal::Refusal;
use super::node::Node;
use super::parse_host;

const MALFORMED: Refusal = Refusal::bad_request("malformed Forwarded");

/// What one proxy says of the connection that it took.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Element {
    /// Who made it.
    pub(super) node: Option<Node>,
    /// By which scheme.
    pub(super) scheme: Option<Scheme>,
    /// For which host.
    pub(super) host: Option<Authority>,
}

/// Adds the elements of one field line, in their order.
pub(super) fn parse(line: &[u8], elements: &mut Vec<Element>) -> Result<(), Refusal> {
    let mut rest = trim(line);
    let mut element = None;
    loop {
        match rest.first() {
            None | Some(b',') => elements.extend(element.take()),
            Some(b';') => {}
            Some(_) => {
                let (name, after) = name(rest)?;
                let (value, after) = value(after)?;
                element
                    .get_or_insert_with(Element::default)
                    .set(name, &value)?;
                rest = trim(after);
                if !matches!(rest.first(), None | Some(b',' | b';')) {
                    return Err(MALFORMED);
                }
                continue;
            }
        }
        let Some((_, after)) = rest.split_first() else {
            return Ok(());
        };
        rest = trim(after);
    }
}

impl Element {
    /// Takes one parameter; the ones that are known must not come twice.
    fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        let twice = if is(b"for") {
            self.node
                .replace(Node::parse(value).ok_or(MALFORMED)?)
                .is_some()
        } else if is(b"proto") {
            self.scheme
                .replace(scheme(value).ok_or(MALFORMED)?)
                .is_some()
        } else if is(b"host") {
            self.host.replace(parse_host(value)?).is_some()
        } else {
            false
        };
        if twice { Err(MALFORMED) } else { Ok(()) }
    }
}

fn scheme(value: &[u8]) -> Option<Scheme> {
    let known = [Scheme::HTTP, Scheme::HTTPS];
    known
        .into_iter()
        .find(|scheme| value.eq_ignore_ascii_case(scheme.as_str().as_bytes()))
}

/// Reads `token=`, and answers with the token and what follows.
fn name(text: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let (name, rest) = split(text, is_token);
    match rest.split_first() {
        Some((b'=', rest)) if !name.is_empty() => Ok((name, rest)),
        Some(_) | None => Err(MALFORMED),
    }
}

/// Reads a value, and answers with it and what follows.
fn value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Refusal> {
    if let Some((b'"', rest)) = text.split_first() {
        return quoted(rest);
    }
    // Ports and IPv6 addresses should be in quotes, but are not everywhere.
    let (value, rest) = split(text, |byte| is_token(byte) || b":[]".contains(&byte));
    if value.is_empty() {
        return Err(MALFORMED);
    }
    Ok((value.to_vec(), rest))
}

/// Reads what is left of a quoted string (RFC 9110 section 5.6.4).
fn quoted(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Refusal> {
    let mut value = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Ok((value, &text[at + 1..])),
            b'\\' => value.push(*bytes.next().ok_or(MALFORMED)?.1),
            byte => value.push(*byte),
        }
    }
    Err(MALFORMED)
}

/// Splits off the bytes at the start that are of a kind.
fn split(text: &[u8], of_kind: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !of_kind(*byte));
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<Element>, u16> {
        let mut elements = Vec::new();
        let result = parse(line.as_bytes(), &mut elements);
        result.map_err(|refusal| refusal.status.as_u16())?;
        Ok(elements)
    }

    fn element(node: &str, scheme: Option<Scheme>, host: &str) -> Element {
        Element {
            node: Node::parse(node.as_bytes()),
            scheme,
            host: host.parse().ok(),
        }
    }

    #[test]
    fn elements() {
        let https = || Some(Scheme::HTTPS);
        for (line, expect) in [
            ("", vec![]),
            (" , ,;, ", vec![]),
            ("for=192.0.2.7", vec![element("192.0.2.7", None, "")]),
            (
                "For=\"[2001:db8::7]:4711\"",
                vec![element("2001:db8::7", None, "")],
            ),
            (
                "for=192.0.2.7;proto=http;by=203.0.113.43",
                vec![element("192.0.2.7", Some(Scheme::HTTP), "")],
            ),
            (
                "for=192.0.2.7, for=198.51.100.1",
                vec![
                    element("192.0.2.7", None, ""),
                    element("198.51.100.1", None, ""),
                ],
            ),
            (
                ";for=_a;;PROTO=HTTPS ; host=\"a.example:8\";secret=\"a,b;c=\\\"d\\\\\" ,\tfor=unknown",
                vec![
                    element("_a", https(), "a.example:8"),
                    element("unknown", None, ""),
                ],
            ),
            ("host=a.example", vec![element("", None, "a.example")]),
            (
                "for=\"\\1\\27.0.0.1\"",
                vec![element("127.0.0.1", None, "")],
            ),
            ("for=192.0.2.7:80", vec![element("192.0.2.7", None, "")]),
            ("for=[::1]:80", vec![element("::1", None, "")]),
            ("x=1;x=2", vec![Element::default()]),
        ] {
            assert_eq!(read(line), Ok(expect), "{line}");
        }
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for line in [
            "for",
            "for=",
            "=192.0.2.7",
            "for =192.0.2.7",
            "for= 192.0.2.7",
            "for=192.0.2.7 proto=https",
            "for=192.0.2.7;for=192.0.2.7",
            "proto=https;proto=http",
            "host=a;host=a",
            "for=example.com",
            "for=\"\"",
            "proto=ftp",
            "host=\"a b\"",
            "host=\"\"",
            "for=\"192.0.2.7",
            "for=\"192.0.2.7\\",
            "for=\"192.0.2.7\"x",
            "for=192.0.2.7/8",
            // A client's quote that would hide what proxies add.
            "x=\", for=192.0.2.7",
            "x=\", for=\"[::1]\"",
            "x=\", for=\"[::1]\";proto=\"https\"",
        ] {
            assert_eq!(read(line), Err(400), "{line}");
        }
    }
}
