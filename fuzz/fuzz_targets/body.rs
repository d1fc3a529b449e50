//! A body in chunks: the cut changes nothing, and the content survives the encoder of responses.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn_fuzz::Input;
use rgunicorn_fuzz::http::head::Framing;
use rgunicorn_fuzz::replay::{decode, encode_chunks};

fuzz_target!(|input: &[u8]| {
    let input = Input::read(input);
    let [whole, two, single] = input.cuts();
    let decoded = decode(Framing::Chunked, whole, &input.limits);
    let by_two = decode(Framing::Chunked, two, &input.limits);
    assert_eq!(by_two, decoded, "in two pieces");
    let by_one = decode(Framing::Chunked, single, &input.limits);
    assert_eq!(by_one, decoded, "byte by byte");
    let content = decoded.content;
    let body = encode_chunks(content.chunks(input.cut.max(1)));
    let again = decode(Framing::Chunked, [&body[..], b"GET"], &input.limits);
    assert_eq!(again.content, content);
    assert_eq!(again.end, Ok(Some(body.len())));
});
