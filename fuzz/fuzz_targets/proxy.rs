//! The header of the PROXY protocol: more bytes never change an answer, and an address is the same when it is written and
//! read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn_fuzz::http::proxy_protocol::{HEADER_BYTES_MAX, Header, Versions, parse};

fuzz_target!(|input: &[u8]| {
    let either = [Versions::V1, Versions::V2].map(|version| answers(input, version));
    let any = answers(input, Versions::Any);
    assert!(either.contains(&any), "{any:?}, not {either:?}");
    if let Some((header @ Header::Relayed { .. }, _)) = any {
        let line = written(&header);
        let again = parse(line.as_bytes(), Versions::V1);
        assert_eq!(again, Ok(Some((header, line.len()))), "{line}");
    }
});

/// The header, if there is one, after a look at every beginning of the input.
fn answers(input: &[u8], versions: Versions) -> Option<(Header, usize)> {
    let whole = parse(input, versions);
    let undecided = (0..=input.len()).take_while(|end| parse(&input[..*end], versions) == Ok(None));
    let decided = undecided.count();
    assert!(decided <= HEADER_BYTES_MAX);
    for end in decided..=input.len() {
        assert_eq!(parse(&input[..end], versions), whole, "{end}");
    }
    let header = whole.ok().flatten();
    assert!(header.is_none_or(|(_, used)| used == decided));
    header
}

/// The header as a line of version 1.
fn written(header: &Header) -> String {
    let Header::Relayed {
        source,
        destination,
    } = header
    else {
        return "PROXY UNKNOWN\r\n".to_owned();
    };
    let family = if source.is_ipv4() { 4 } else { 6 };
    format!(
        "PROXY TCP{family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    )
}
