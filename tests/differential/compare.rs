//! What this server, hyper and nginx make of the same bytes. Where one takes what another refuses, or they find another
//! request, `classes.rs` says why; what it does not explain fails, with the seed and the bytes.
//!
//! `DIFFERENTIAL_CASES` says how many requests are made up, `DIFFERENTIAL_SEED` where to begin.

mod account;
mod classes;
mod generator;
mod hyper;
mod nginx;
#[allow(dead_code, reason = "what only the soak needs")]
#[path = "../soak/random.rs"]
mod random;
mod verdict;

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use classes::CLASSES;
use nginx::Nginx;
use random::Random;
use verdict::{Case, Peer};

const CASES: u64 = 5000;
/// As many as a person reads.
const FAILURES_MAX: usize = 10;

fn nginx(name: &str) -> Option<Nginx> {
    let nginx = Nginx::start(name);
    if nginx.is_none() {
        eprintln!("differential: nginx is not on PATH; compared with hyper alone");
    }
    nginx
}

/// What nobody can explain of a connection.
fn unexplained(name: &str, bytes: &[u8], nginx: Option<&Nginx>) -> Option<String> {
    let case = Case::run(bytes, nginx);
    let mut text = String::new();
    for (peer, found) in case.disagreements() {
        if !CLASSES
            .iter()
            .any(|class| class.explains(peer, &found, bytes))
        {
            writeln!(text, "{name}: with {peer:?}: {found:?}").unwrap();
        }
    }
    if case.is_taken_alone() {
        writeln!(text, "{name}: taken here, and nowhere else").unwrap();
    }
    (!text.is_empty()).then(|| format!("{text}{case}"))
}

fn report(failures: impl Iterator<Item = String>) {
    let failures: Vec<String> = failures.take(FAILURES_MAX).collect();
    assert!(failures.is_empty(), "unexplained:\n{}", failures.join("\n"));
}

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |text| text.parse().expect(variable))
}

#[test]
fn every_class_is_as_it_is_described() {
    let nginx = nginx("classes");
    for class in CLASSES {
        let bytes: Vec<u8> = class.example.chars().flat_map(bytes_of).collect();
        let case = Case::run(&bytes, nginx.as_ref());
        let known: Vec<Peer> = class
            .peers
            .iter()
            .copied()
            .filter(|peer| nginx.is_some() || *peer == Peer::Hyper)
            .collect();
        let found: Vec<Peer> = case.disagreements().map(|(peer, _)| peer).collect();
        assert_eq!(found, known, "{}\n{case}", class.name);
        for (peer, found) in case.disagreements() {
            assert!(
                class.explains(peer, &found, &bytes),
                "{}: {found:?}\n{case}",
                class.name
            );
        }
        assert!(class.why.contains("RFC "), "{}", class.name);
    }
}

/// Characters up to U+00FF stand for bytes, and `|` for a line end.
fn bytes_of(character: char) -> Vec<u8> {
    match character {
        '|' => b"\r\n".to_vec(),
        other => vec![u8::try_from(other).unwrap()],
    }
}

#[test]
fn the_corpus_is_read_alike_or_the_difference_is_explained() {
    let nginx = nginx("corpus");
    let mut files = Vec::new();
    for folder in ["valid", "invalid"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../http")
            .join(folder);
        files.extend(
            fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path()),
        );
    }
    // Limits are settings, and those of the peers are others.
    let about_limits = |path: &Path| {
        let account = fs::read_to_string(path.with_extension("txt")).unwrap();
        ["limits ", "refused 414 ", "refused 431 "]
            .iter()
            .any(|word| account.contains(word))
    };
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "http")
            && !about_limits(path)
    });
    assert!(files.len() > 400, "{}", files.len());
    report(files.iter().filter_map(|path| {
        let bytes = fs::read(path).unwrap();
        unexplained(&path.display().to_string(), &bytes, nginx.as_ref())
    }));
}

#[test]
fn requests_are_read_alike_or_the_difference_is_explained() {
    let nginx = nginx("requests");
    let first = number("DIFFERENTIAL_SEED", 0);
    let seeds = first..first + number("DIFFERENTIAL_CASES", CASES);
    report(seeds.filter_map(|seed| {
        let bytes = generator::generate(&mut Random::new(seed));
        unexplained(&format!("seed {seed}"), &bytes, nginx.as_ref())
    }));
}
