//! Defines how a variable's text is split into arguments: as a POSIX shell does, without expansion.
//!
//! Invariant: no text loses or gains a character but for quotes, backslashes and the blanks between
//! words.

use super::error::Problem;

/// Splits `text` at blanks outside of quotes.
pub(super) fn split(text: &str) -> Result<Vec<String>, Problem> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => until(&mut characters, '\'', word.get_or_insert_default())?,
            '"' => until(&mut characters, '"', word.get_or_insert_default())?,
            '\\' => {
                let next = characters.next().ok_or_else(|| unfinished("a backslash"))?;
                word.get_or_insert_default().push(next);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// Adds what is before the closing `quote`; in double quotes a backslash escapes one of `"\$` and
/// the backquote.
fn until(
    characters: &mut std::str::Chars<'_>,
    quote: char,
    word: &mut String,
) -> Result<(), Problem> {
    loop {
        match characters.next() {
            None => return Err(unfinished("a quote")),
            Some(end) if end == quote => return Ok(()),
            Some('\\') if quote == '"' => {
                let next = characters.next().ok_or_else(|| unfinished("a quote"))?;
                if !"\"\\$`".contains(next) {
                    word.push('\\');
                }
                word.push(next);
            }
            Some(other) => word.push(other),
        }
    }
}

fn unfinished(what: &str) -> Problem {
    Problem::Syntax(format!("{what} has no end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_in_a_shell() {
        for (text, expect) in [
            ("", vec![]),
            (" \t\n", vec![]),
            ("-w 4  -b :80", vec!["-w", "4", "-b", ":80"]),
            ("-e 'A=b c'", vec!["-e", "A=b c"]),
            (r#"-e A="b \"c\" \n""#, vec!["-e", r#"A=b "c" \n"#]),
            (r"a\ b c\\", vec!["a b", r"c\"]),
            ("'' \"\"", vec!["", ""]),
            ("a'b'\"c\"", vec!["abc"]),
        ] {
            assert_eq!(split(text).unwrap(), expect, "{text}");
        }
        for text in ["'", "\"a", "\"a\\", "a\\"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
