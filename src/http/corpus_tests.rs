//! Defines the run over `tests/http`: requests as bytes, each beside what must come of it.
//!
//! A file `NNN-name.http` holds what a client sends on one connection, `NNN-name.txt` the account
//! of it, as [`told`] puts it. The bytes come whole, cut in two at every place, and one at a
//! time; the account may not change. A first line `limits LINE FIELDS FIELD` in the account sets
//! other limits than the defaults.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::head::{Framing, Head, Version};
use super::limits::Limits;
use super::replay::{Account, End, replay};

/// One file of the corpus.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) limits: Limits,
    account: String,
}

/// Reads one folder of the corpus.
pub(super) fn corpus(folder: &str) -> Vec<Entry> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http")).join(folder);
    let mut pairs: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for file in fs::read_dir(&root).unwrap() {
        let path = file.unwrap().path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        assert!(
            matches!(extension, Some("http" | "txt")),
            "{}",
            path.display()
        );
        *pairs.entry(path.with_extension("")).or_default() += 1;
    }
    let read = |(stem, count): (PathBuf, usize)| {
        assert_eq!(count, 2, "{} needs a .http and a .txt", stem.display());
        let text = fs::read_to_string(stem.with_extension("txt")).unwrap();
        let (limits, account) = split_limits(&text);
        Entry {
            name: stem.strip_prefix(&root).unwrap().display().to_string(),
            bytes: fs::read(stem.with_extension("http")).unwrap(),
            limits,
            account: account.to_owned(),
        }
    };
    pairs.into_iter().map(read).collect()
}

fn split_limits(text: &str) -> (Limits, &str) {
    let Some(rest) = text.strip_prefix("limits ") else {
        return (Limits::default(), text);
    };
    let (line, account) = rest.split_once('\n').unwrap();
    let numbers: Vec<usize> = line
        .split(' ')
        .map(|number| number.parse().unwrap())
        .collect();
    let [request_line_bytes, fields, field_bytes] = numbers[..] else {
        panic!("{line}")
    };
    (
        Limits {
            request_line_bytes,
            fields,
            field_bytes,
        },
        account,
    )
}

/// An account as text, line by line.
///
/// The last line is `end` if the client may go on with another request, `more` if it stopped in
/// the middle of one, `close` after a request that ends the connection, or `refused`.
fn told(account: &Account) -> String {
    let mut text = String::new();
    for request in &account.requests {
        text.push_str(&describe(&request.head));
        if request.complete {
            writeln!(text, "content \"{}\"", request.content.escape_ascii()).unwrap();
        }
    }
    match account.end {
        End::Idle => text.push_str("end"),
        End::Unfinished => text.push_str("more"),
        End::Close => text.push_str("close"),
        End::Refused(refusal) => {
            write!(text, "refused {} {refusal}", refusal.status.as_u16()).unwrap();
        }
    }
    text.push('\n');
    text
}

fn describe(head: &Head) -> String {
    let yes_no = |yes| if yes { "yes" } else { "no" };
    let version = match head.version {
        Version::Http10 => "1.0",
        Version::Http11 => "1.1",
        Version::Http2 => "2",
    };
    let framing = match head.framing {
        Framing::None => "none".to_owned(),
        Framing::Length(length) => format!("length {length}"),
        Framing::Chunked => "chunked".to_owned(),
    };
    let mut text = format!(
        "request {} {} {version}\n",
        head.method, head.path_and_query
    );
    writeln!(text, "target {:?}", head.target).unwrap();
    writeln!(text, "authority \"{}\"", head.authority_str()).unwrap();
    for (name, value) in &head.headers {
        writeln!(text, "field {name}: {}", value.as_bytes().escape_ascii()).unwrap();
    }
    writeln!(text, "framing {framing}").unwrap();
    writeln!(text, "keep-alive {}", yes_no(head.keep_alive)).unwrap();
    writeln!(text, "expect-continue {}", yes_no(head.expect_continue)).unwrap();
    text
}

/// Replays a file in every way of cutting it.
fn check(entry: &Entry) {
    let Entry {
        name,
        bytes,
        limits,
        account,
    } = entry;
    let whole = replay([&bytes[..]], limits);
    assert_eq!(told(&whole), *account, "{name}, whole");
    for cut in 0..bytes.len() {
        let (head, tail) = bytes.split_at(cut);
        assert_eq!(replay([head, tail], limits), whole, "{name}, cut at {cut}");
    }
    let single = replay(bytes.chunks(1), limits);
    assert_eq!(single, whole, "{name}, byte by byte");
}

#[test]
fn valid() {
    let entries = corpus("valid");
    assert!(entries.len() >= 120, "{}", entries.len());
    for entry in entries {
        assert!(!entry.account.contains("refused"), "{}", entry.name);
        check(&entry);
    }
}

#[test]
fn invalid() {
    let entries = corpus("invalid");
    assert!(entries.len() >= 330, "{}", entries.len());
    for entry in entries {
        let last = entry.account.lines().last().unwrap();
        assert!(last.starts_with("refused "), "{}", entry.name);
        check(&entry);
    }
}
