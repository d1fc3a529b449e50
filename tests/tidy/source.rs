//! Defines the reader of sources: every file of the repository that is ours, and Rust with its comments, its literals or
//! its tests taken out, which is as much of the language as the rules need to know.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

pub(super) const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What is made, or fetched, and not ours to keep tidy.
const NOT_OURS: [&str; 4] = [".git", ".tools", "node_modules", "target"];

/// A source file, three times over; a byte has the same place in each.
pub(super) struct Source {
    /// From the root of the repository.
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments and literals blanked.
    pub(super) code: String,
    /// The code with what is compiled for tests only blanked.
    pub(super) shipped: String,
}

impl Source {
    fn read(path: String) -> Self {
        let text = read(&path);
        let code = blank_literals(&text);
        let shipped = blank_tests(&code);
        Self {
            path,
            text,
            code,
            shipped,
        }
    }

    pub(super) fn line_of(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    }

    /// Whether all of it is compiled for tests only.
    pub(super) fn is_only_tests(&self) -> bool {
        self.shipped.trim().is_empty()
    }

    /// The room of a file of the server: a folder of `src`, or a file that stands alone there.
    pub(super) fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        Some(
            below
                .split_once('/')
                .map_or_else(|| below.trim_end_matches(".rs"), |(room, _)| room),
        )
    }
}

/// Everything below the root that is ours, as paths from the root, in order.
pub(super) fn files() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() && !NOT_OURS.contains(&entry.file_name().to_str().unwrap()) {
                walk(&path, found);
            } else if kind.is_file() {
                found.push(
                    path.strip_prefix(ROOT)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned(),
                );
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(ROOT), &mut found);
    found.sort();
    assert!(
        found.len() > 100,
        "the repository is not where it was: {found:?}"
    );
    found
}

/// All Rust files. Those of modules that only tests have ship nothing.
pub(super) fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(read_all);
    &SOURCES
}

fn read_all() -> Vec<Source> {
    let rust = files().into_iter().filter(|path| path.ends_with(".rs"));
    let mut sources: Vec<Source> = rust.map(Source::read).collect();
    let mut for_tests: BTreeSet<String> = sources.iter().flat_map(test_modules).collect();
    for source in &sources {
        if for_tests.contains(&source.path) {
            for_tests.extend(modules(source, &source.code));
        }
    }
    for source in sources
        .iter_mut()
        .filter(|source| for_tests.contains(&source.path))
    {
        source.shipped = blank(&source.shipped);
    }
    sources
}

/// A file of the repository, as text.
pub(super) fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files of the modules that `source` declares for tests only.
fn test_modules(source: &Source) -> Vec<String> {
    let shipped: BTreeSet<String> = modules(source, &source.shipped).into_iter().collect();
    modules(source, &source.code)
        .into_iter()
        .filter(|path| !shipped.contains(path))
        .collect()
}

/// Files that the modules declared in `code`, a form of `source`, may be in.
fn modules(source: &Source, code: &str) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let stem = file.trim_end_matches(".rs");
    let below = if ["lib", "main", "mod"].contains(&stem) {
        folder.to_owned()
    } else {
        format!("{folder}/{stem}")
    };
    let mut found = Vec::new();
    for at in words(code, "mod") {
        let rest = code[at + 3..].trim_start();
        let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
        if !rest[name.len()..].trim_start().starts_with(';') {
            continue;
        }
        found.push(format!("{below}/{name}.rs"));
        found.push(format!("{below}/{name}/mod.rs"));
        // An attribute on the line above may say where it is.
        let above = &source.text[..at].trim_end();
        if let Some((_, named)) = above
            .rsplit_once("#[path = \"")
            .filter(|(_, rest)| !rest.contains('\n'))
        {
            found.push(format!("{folder}/{}", named.trim_end_matches("\"]")));
        }
    }
    found
}

pub(super) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Where `word` stands in `code` as a word of its own.
pub(super) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let ends = word.ends_with(is_word);
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let after = code[at + word.len()..].chars().next();
            !(code[..*at].ends_with(is_word) || ends && after.is_some_and(is_word))
        })
}

/// Spaces in place of everything but line ends, byte for byte.
fn blank(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte == b'\n' { '\n' } else { ' ' })
        .collect()
}

/// Blanks comments, strings and characters, so that braces and words are the language's own.
fn blank_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside_word = code.ends_with(is_word);
        let length = match literal(rest) {
            Some(length) if !(inside_word && is_word(first)) => length,
            _ => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
                continue;
            }
        };
        code.push_str(&blank(&rest[..length]));
        rest = &rest[length..];
    }
    code
}

/// Length of the comment or literal that `text` begins with.
fn literal(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    let prefix = text.trim_start_matches(['b', 'c']);
    let prefixed = text.len() - prefix.len();
    if prefixed <= 1
        && let Some(raw) = prefix.strip_prefix('r')
        && let hashes = raw.len() - raw.trim_start_matches('#').len()
        && raw[hashes..].starts_with('"')
    {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = &raw[hashes + 1..];
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(prefixed + 1 + hashes + 1 + length);
    }
    if prefixed <= 1 && prefix.starts_with('"') {
        return Some(prefixed + quoted(prefix, '"'));
    }
    let mut after = text.strip_prefix('\'')?.chars();
    match (after.next(), after.next()) {
        (Some('\\'), _) => Some(quoted(text, '\'')),
        (Some(one), Some('\'')) => Some(2 + one.len_utf8()),
        _ => None,
    }
}

fn block_comment(text: &str) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < text.len() {
        let rest = &text.as_bytes()[at..];
        let step = if rest.starts_with(b"/*") {
            depth += 1;
            2
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            2
        } else {
            1
        };
        at += step;
    }
    at
}

/// Length of a quoted text with its quotes; a backslash hides what follows it.
fn quoted(text: &str, quote: char) -> usize {
    let mut hidden = false;
    for (at, character) in text.char_indices().skip(1) {
        if !hidden && character == quote {
            return at + 1;
        }
        hidden = !hidden && character == '\\';
    }
    text.len()
}

/// Blanks every item that has `#[cfg(test)]`.
fn blank_tests(code: &str) -> String {
    let mut shipped = code.to_owned();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let end = item_end(code, at + attribute.len());
        shipped.replace_range(at..end, &blank(&code[at..end]));
    }
    shipped
}

/// End of the item that begins at `at`: its closing brace, or its semicolon.
pub(super) fn item_end(code: &str, at: usize) -> usize {
    let (mut braces, mut others) = (0_usize, 0_usize);
    for (offset, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others = others.saturating_sub(1),
            b'{' => braces += 1,
            b'}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return offset + 1;
                }
            }
            b';' if braces == 0 && others == 0 => return offset + 1,
            _ => {}
        }
    }
    code.len()
}

/// The paths of the use tree, or the path, that `rest` begins with; answers with what is left of it.
pub(super) fn paths<'a>(rest: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let mut rest = rest.trim_start();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner.trim_start();
        while !rest.is_empty() && !rest.starts_with('}') {
            let before = rest.len();
            rest = paths(rest, prefix, found);
            // What stands here besides a comma is `as NAME`.
            rest = rest.trim_start_matches(|c: char| is_word(c) || c.is_whitespace());
            rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            assert!(
                rest.len() < before,
                "cannot read an import of {prefix}: {rest:.40}"
            );
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
    rest = rest[name.len()..]
        .strip_prefix('*')
        .unwrap_or(&rest[name.len()..]);
    let path = if prefix.is_empty() {
        name
    } else {
        format!("{prefix}::{name}")
    };
    match rest.strip_prefix("::") {
        Some(deeper) => paths(deeper, &path, found),
        None => {
            found.push(path);
            rest
        }
    }
}

#[test]
fn the_reader_of_sources_knows_rust() {
    for (text, expect) in [
        ("a // b\nc", "a     \nc"),
        ("/* a /* b */ c */d", "                 d"),
        (
            r#"f("a\"{", b'{', '\'', 'x')"#,
            "f(      , b   ,     ,    )",
        ),
        (r###"r#"{"}"# br"{" r"\" x"###, "                    x"),
        ("<'a> 'a: loop {} var\"{\"", "<'a> 'a: loop {} var   "),
        ("'é' é", "     é"),
    ] {
        assert_eq!(blank_literals(text), expect, "{text}");
        assert_eq!(blank_literals(text).len(), text.len(), "{text}");
    }
    let tests = "fn a() {}\n#[cfg(test)]\nmod t {\n fn b([u8; 2]) {}\n}\nfn c() {}\n#[cfg(test)]\nmod u;\nd";
    let shipped: Vec<String> = blank_tests(tests)
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(shipped.join(" "), "fn a() {} fn c() {} d");
    let mut found = Vec::new();
    let rest = paths("{a, b::{c as d, e::*}, f::g};", "", &mut found);
    assert_eq!(
        (rest, found.join(" ").as_str()),
        (";", "a b::c b::e:: f::g")
    );
}
