//! A head of HTTP/2: what is accepted is, written as HTTP/1.1, accepted with the same meaning.

#![no_main]

use http::HeaderValue;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Scheme;
use libfuzzer_sys::fuzz_target;
use rgunicorn_fuzz::http::h2::{Meaning, check};
use rgunicorn_fuzz::http::head::{Framing, parse};
use rgunicorn_fuzz::{CEILINGS, Input, request};

fuzz_target!(|input: &[u8]| {
    let input = Input::read(input);
    let Some((mut parts, has_content)) = request(input.bytes) else {
        return;
    };
    let Ok(meaning) = check(
        &mut parts,
        Scheme::HTTP,
        has_content,
        (&input.limits, usize::MAX),
    ) else {
        return;
    };
    let mut again = parts.clone();
    let once_more = check(
        &mut again,
        Scheme::HTTP,
        has_content,
        (&CEILINGS, usize::MAX),
    );
    assert_eq!(once_more.as_ref(), Ok(&meaning));
    assert_eq!((&again.uri, &again.headers), (&parts.uri, &parts.headers));
    compare(&parts, &meaning);
});

/// Compares a head with what HTTP/1.1 makes of it.
fn compare(parts: &Parts, meaning: &Meaning) {
    let mut headers = parts.headers.clone();
    // HTTP/2 needs no field to say how the end of a body is known, or that there is none.
    let framing = match meaning.framing {
        Framing::Chunked => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            Framing::Chunked
        }
        Framing::None if headers.contains_key(CONTENT_LENGTH) => Framing::Length(0),
        framing => framing,
    };
    let target = parts.uri.path_and_query().expect("there is a path");
    let mut bytes = format!("{} {target} HTTP/1.1\r\n", parts.method).into_bytes();
    for (name, value) in &headers {
        let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
        bytes.extend(line.concat());
    }
    bytes.extend(b"\r\n");
    let parsed = parse(&bytes, &CEILINGS);
    let Ok(Some((head, length))) = parsed else {
        panic!("{parsed:?} of {parts:?}");
    };
    assert_eq!(length, bytes.len());
    assert_eq!(head.method, parts.method);
    assert_eq!(head.path_and_query.as_str(), target.as_str());
    assert_eq!(head.authority_str(), meaning.authority.as_str());
    assert_eq!(head.headers, headers);
    assert_eq!(head.framing, framing);
    assert_eq!(head.expect_continue, meaning.expect_continue);
    let scheme = parts.uri.scheme().cloned().unwrap_or(Scheme::HTTP);
    assert_eq!(head.uri(scheme), parts.uri);
}
