//! Defines the rules of the source that a machine can hold: which room may import which, how long files and functions
//! may be, where `unsafe` lives, and that nothing lies about unused. ARCHITECTURE.md says why they are rules.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

mod source;

use source::{ROOT, Source, files, is_word, item_end, paths, read, sources, words};

/// Who may import whom. A name with `::` is an exception: that part of the room and no more. What a child is born with
/// and what it may end with are the arbiter's words, and all that a child knows of it.
const ARROWS: [(&str, &str); 15] = [
    ("accept", "sys"),
    ("access", "sys"),
    ("arbiter", "accept access protocol scoreboard sys"),
    (
        "cli",
        "arbiter::exit compose config host loader protocol sys",
    ),
    (
        "compose",
        "accept access arbiter config loader protocol sys tls worker",
    ),
    ("config", "access"),
    ("host", "config"),
    ("http", ""),
    ("lib", ""),
    (
        "loader",
        "arbiter::exit arbiter::role config host protocol sys",
    ),
    ("protocol", ""),
    ("scoreboard", "sys"),
    ("sys", ""),
    ("tls", "config"),
    (
        "worker",
        "accept access arbiter::exit arbiter::role config host http protocol scoreboard sys tls",
    ),
];

/// Where crates may be used that are not for everybody. The error of wasi:http is the one that a body's stream carries.
const CONFINED: [(&str, &str); 22] = [
    ("clap", "src/cli/ src/config/"),
    ("h2", "src/worker/h2/ src/worker/connection.rs src/http/"),
    ("hickory_resolver", "src/host/"),
    ("httparse", "src/http/"),
    ("hyper", "src/host/"),
    ("hyper_util", "src/host/"),
    ("ipnet", "src/config/ src/http/ src/worker/"),
    ("libc", "src/sys/"),
    ("nix", "src/sys/"),
    ("ring", "src/tls/"),
    ("rustls", "src/host/ src/tls/"),
    ("sd_notify", "src/sys/"),
    ("serde", "src/protocol/"),
    ("serde_json", "src/arbiter/clients.rs src/cli/"),
    ("tokio", "src/host/ src/worker/ src/sys/watch.rs"),
    ("tokio_rustls", "src/worker/"),
    ("toml", "src/config/"),
    ("tracing_subscriber", "src/cli/"),
    ("wasmtime", "src/host/"),
    ("wasmtime_wasi", "src/host/"),
    ("wasmtime_wasi_http", "src/host/ src/worker/"),
    ("webpki", "src/tls/"),
];

/// Lines of a file, without its tests; and of a file that is tests alone, which is a list and may be longer.
const FILE_LINES_MAX: usize = 500;
const TEST_FILE_LINES_MAX: usize = 1000;
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, by file and name, and why.
const LONG_FUNCTIONS: [(&str, &str, &str); 0] = [];

/// Where threads are made: the loader is the one process that never forks and never serves.
const THREADS: [&str; 1] = ["src/loader/progress.rs"];
/// Where a test may wait by the clock: the one function that looks again until something is so.
const SLEEPS: [&str; 1] = ["tests/blackbox/harness/mod.rs"];

/// Fails with all that was found.
fn report(rule: &str, found: &[String]) {
    let mut text = String::new();
    for line in found {
        writeln!(text, "    {line}").unwrap();
    }
    assert!(found.is_empty(), "{rule}:\n{text}");
}

/// Says where code of `sources` holds one of `words`.
fn holds<'a>(
    sources: impl Iterator<Item = &'a Source>,
    code: fn(&Source) -> &str,
    which: &[&str],
) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources {
        for word in which {
            let places = words(code(source), word);
            found
                .extend(places.map(|at| format!("{}:{}: {word}", source.path, source.line_of(at))));
        }
    }
    found
}

#[test]
fn imports_follow_the_arrows() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(room) = source.room().filter(|room| *room != "main") else {
            continue;
        };
        let arrows = ARROWS.iter().find(|(name, _)| *name == room);
        let (_, allowed) =
            arrows.unwrap_or_else(|| panic!("{}: a room without arrows", source.path));
        for at in words(&source.shipped, "crate::") {
            let mut imports = Vec::new();
            paths(&source.shipped[at + "crate::".len()..], "", &mut imports);
            for import in imports {
                let mut known = allowed.split_whitespace().chain([room]);
                if !known.any(|part| import == part || import.starts_with(&format!("{part}::"))) {
                    wrong.push(format!(
                        "{}:{}: crate::{import}",
                        source.path,
                        source.line_of(at)
                    ));
                }
            }
        }
    }
    report("a room imports what it may not", &wrong);
}

/// `super` leads from a room's own module out of it, past the table of arrows.
#[test]
fn rooms_are_left_by_name() {
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("src/"))
    {
        let folders = source.path.matches('/').count();
        let depth = if source.path.ends_with("/mod.rs") {
            folders - 1
        } else {
            folders
        };
        let way_out = "super::".repeat(depth);
        wrong.extend(
            words(&source.shipped, &way_out)
                .map(|at| format!("{}:{}", source.path, source.line_of(at))),
        );
    }
    report(
        "super:: leaves a room; say crate:: and the room's name",
        &wrong,
    );
}

#[test]
fn crates_stay_in_their_rooms() {
    let mut wrong = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("src/"))
    {
        for (name, places) in CONFINED {
            let used = format!("{name}::");
            let at =
                words(&source.shipped, &used).find(|at| !source.shipped[..*at].ends_with("::"));
            if let Some(at) = at.filter(|_| {
                !places
                    .split_whitespace()
                    .any(|place| source.path.starts_with(place))
            }) {
                wrong.push(format!("{}:{}: {name}", source.path, source.line_of(at)));
            }
        }
    }
    report("a crate is used outside its room", &wrong);
}

#[test]
fn files_and_functions_are_short() {
    let (mut wrong, mut excused) = (Vec::new(), 0);
    for source in sources() {
        let (lines, max) = if source.is_only_tests() {
            (source.text.lines().count(), TEST_FILE_LINES_MAX)
        } else {
            let kept = source
                .code
                .lines()
                .zip(source.shipped.lines())
                .filter(|(code, shipped)| code == shipped);
            (kept.count(), FILE_LINES_MAX)
        };
        if lines > max {
            wrong.push(format!("{}: {lines} lines without its tests", source.path));
        }
        for at in words(&source.code, "fn ") {
            let name: String = source.code[at + 3..]
                .chars()
                .take_while(|&c| is_word(c))
                .collect();
            let lines = source.code[at..item_end(&source.code, at)].lines().count();
            if name.is_empty() || lines <= FUNCTION_LINES_MAX {
                continue;
            }
            if LONG_FUNCTIONS
                .iter()
                .any(|(path, long, _)| *path == source.path && *long == name)
            {
                excused += 1;
            } else {
                wrong.push(format!(
                    "{}:{}: {name}: {lines} lines",
                    source.path,
                    source.line_of(at)
                ));
            }
        }
    }
    report("too long to be read at once", &wrong);
    assert_eq!(
        excused,
        LONG_FUNCTIONS.len(),
        "a function that may be long is not, or is gone"
    );
}

#[test]
fn unsafe_code_has_one_room() {
    let all = sources();
    let outside = all
        .iter()
        .filter(|source| !source.path.starts_with("src/sys/"));
    // Guests are not the server: what they do to memory is their own, and some do it to be tested.
    let outside = outside.filter(|source| !source.path.starts_with("tests/guests/"));
    let found = holds(outside, |source| &source.code, &["unsafe"]);
    let [one] = &found[..] else {
        panic!("unsafe code outside src/sys: {found:?}")
    };
    assert!(
        one.starts_with("src/host/engine.rs:"),
        "unsafe code outside src/sys: {one}"
    );
    let engine = all
        .iter()
        .find(|source| source.path == "src/host/engine.rs")
        .unwrap();
    let at = engine.code.find("unsafe {").unwrap();
    assert!(
        engine.code[at..].starts_with("unsafe { Component::deserialize_file("),
        "not the one call that may be"
    );
}

#[test]
fn nothing_is_left_undone_or_left_out() {
    let all = sources();
    let macros = [
        "todo!",
        "unimplemented!",
        "dbg!",
        "#[ignore",
        "#[should_panic",
    ];
    let mut found = holds(all.iter(), |source| &source.code, &macros);
    let others = all
        .iter()
        .filter(|source| source.path != "tests/tidy/main.rs");
    found.extend(holds(
        others,
        |source| &source.text,
        &["FIXME", "XXX", "TODO"],
    ));
    report("unfinished, or never run", &found);
}

#[test]
fn the_server_neither_prints_nor_unwraps() {
    let all = sources();
    let ours = || {
        all.iter()
            .filter(|source| !source.path.starts_with("tests/"))
    };
    let print = ["println!", "eprintln!", "print!", "eprint!"];
    let mut found = holds(ours(), |source| &source.shipped, &print);
    found.extend(holds(ours(), |source| &source.shipped, &["unwrap()"]));
    report(
        "write to standard output, or log; answer with an error",
        &found,
    );
}

#[test]
fn nothing_sleeps_and_only_the_loader_has_threads() {
    let all = sources();
    let server = all.iter().filter(|source| source.path.starts_with("src/"));
    let server = server.filter(|source| !THREADS.contains(&source.path.as_str()));
    let threads = [
        "thread::spawn",
        "thread::Builder",
        "thread::scope",
        "spawn_blocking",
        "block_in_place",
    ];
    report(
        "a thread outside the loader",
        &holds(server, |source| &source.shipped, &threads),
    );
    let ours = all
        .iter()
        .filter(|source| !source.path.starts_with("tests/guests/"));
    let ours = ours.filter(|source| !SLEEPS.contains(&source.path.as_str()));
    report(
        "wait for what is to happen, not for the clock",
        &holds(ours, |source| &source.code, &["thread::sleep"]),
    );
}

#[test]
fn modules_say_what_they_define() {
    let all = sources();
    let found: Vec<String> = all
        .iter()
        .filter(|source| source.path.starts_with("src/") && !source.is_only_tests())
        .filter(|source| !["src/lib.rs", "src/main.rs"].contains(&source.path.as_str()))
        .filter(|source| !source.text.starts_with("//! Defines "))
        .map(|source| source.path.clone())
        .collect();
    report("does not open with `//! Defines `", &found);
}

#[test]
fn every_example_has_a_readme_and_a_test() {
    let files = files();
    let tests: String = files
        .iter()
        .filter(|path| {
            path.starts_with("tests/")
                && path.ends_with(".rs")
                && !path.starts_with("tests/guests/")
        })
        .map(|path| read(path))
        .collect();
    let (build, package) = (read("tests/guests/build"), read("Cargo.toml"));
    let below = files
        .iter()
        .filter_map(|path| path.strip_prefix("examples/")?.split_once('/'));
    let names: BTreeSet<&str> = below.map(|(name, _)| name).collect();
    assert!(names.contains("hello"), "{names:?}");
    for name in names {
        assert!(
            files.contains(&format!("examples/{name}/README.md")),
            "examples/{name} has no README.md"
        );
        // An app is built for wasm; a program that embeds the server is built with it.
        let program = format!("path = \"examples/{name}/main.rs\"");
        assert!(
            build.contains(&format!("examples/{name}")) || package.contains(&program),
            "examples/{name} is built neither by tests/guests/build nor by Cargo.toml"
        );
        let run = [
            format!("{name}.wasm"),
            format!("\"{name}\""),
            format!("\"examples/{name}\""),
        ];
        assert!(
            run.iter().any(|word| tests.contains(word)),
            "examples/{name} is run in no test"
        );
    }
}

/// Our world is bound by the server and by the SDK; a WASI package is there because the world that Python and
/// JavaScript are built for needs it, or one that it needs.
#[test]
fn every_wit_file_is_used() {
    assert!(read("src/host/buffered.rs").contains("wit/world.wit"));
    let mut unused: BTreeSet<String> = files()
        .iter()
        .filter_map(|path| {
            path.strip_prefix("wit/deps/")?
                .strip_suffix(".wit")
                .map(str::to_owned)
        })
        .collect();
    let mut wanted = vec!["http".to_owned()];
    while let Some(name) = wanted.pop() {
        if unused.remove(&name) {
            let text = read(&format!("wit/deps/{name}.wit"));
            let named = text
                .match_indices("wasi:")
                .map(|(at, word)| &text[at + word.len()..]);
            wanted.extend(named.map(|rest| {
                rest.chars()
                    .take_while(|&c| is_word(c) || c == '-')
                    .collect()
            }));
        }
    }
    report(
        "a package that nothing needs",
        &unused.into_iter().collect::<Vec<_>>(),
    );
}

/// What was made on one machine says nothing of it.
#[test]
fn no_file_names_a_machine() {
    let mut found = Vec::new();
    for path in files().iter().filter(|path| *path != "tests/tidy/main.rs") {
        let bytes = fs::read(Path::new(ROOT).join(path)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for name in ["/work/", "/root/", "/home/", "/tmp/tmp"] {
            if text.contains(name) {
                found.push(format!("{path}: {name}"));
            }
        }
    }
    report("a path of somebody's machine", &found);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let files = files();
    assert!(files.contains(&"docs/configuration.md".to_owned()));
    let mut broken = Vec::new();
    for path in files.iter().filter(|path| path.ends_with(".md")) {
        let text = read(path);
        let folder = Path::new(ROOT).join(path).parent().unwrap().to_owned();
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#', ' ']).next().unwrap_or("");
            let elsewhere =
                target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !elsewhere && !folder.join(target).exists() {
                broken.push(format!("{path}: {target}"));
            }
        }
    }
    report("a link to nowhere", &broken);
}
