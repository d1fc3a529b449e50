//! A method, a target and a Host, with spaces between them: what is accepted is what was written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rgunicorn_fuzz::CEILINGS;
use rgunicorn_fuzz::http::head::Head;
use rgunicorn_fuzz::http::target::Target;
use rgunicorn_fuzz::replay::{End, replay};

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(host)) = (parts.next(), parts.next(), parts.next())
    else {
        return;
    };
    if input.contains(&b'\n') {
        // Lines are the business of the target for heads.
        return;
    }
    let line = [method, b" ", target, b" HTTP/1.1\r\nHost: ", host].concat();
    let account = replay([&line[..], b"\r\n\r\n"], &CEILINGS);
    account.check(&CEILINGS);
    let End::Idle = account.end else {
        return;
    };
    let [request] = &account.requests[..] else {
        panic!("{account:?}");
    };
    assert_eq!(request.head.method.as_str().as_bytes(), method);
    check(&request.head, target, host.trim_ascii());
});

/// Compares what was made of the target with the target, by the grammar of RFC 9112 section 3.2.
fn check(head: &Head, target: &[u8], host: &[u8]) {
    let path = head.path_and_query.as_str().as_bytes();
    let authority = head.authority_str().as_bytes();
    let named = match head.target {
        Target::Origin => {
            assert_eq!(path, target);
            host
        }
        Target::Asterisk if target == b"*" => host,
        Target::Absolute | Target::Asterisk => {
            let scheme = target.iter().position(|byte| *byte == b':');
            let rest = &target[scheme.map_or(0, |at| at + b"://".len())..];
            let end = rest.iter().position(|byte| b"/?".contains(byte));
            let (named, rest) = rest.split_at(end.unwrap_or(rest.len()));
            match rest {
                [] => assert!([&b"/"[..], b"*"].contains(&path)),
                [b'?', ..] => assert_eq!(path, [b"/", rest].concat()),
                _ => assert_eq!(path, rest),
            }
            named
        }
    };
    assert_eq!(authority, named.strip_suffix(b":").unwrap_or(named));
}
