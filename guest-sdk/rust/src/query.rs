//! Defines how a query is read: pairs of `name=value` between ampersands, percent-encoded, with `+`
//! for a space (the form encoding of the WHATWG URL standard, section 5.1).
//!
//! Nothing is ever an error here: what is not a valid escape stands for itself, and bytes that are
//! not UTF-8 become U+FFFD.

/// Returns the decoded pairs of `query` in order. A part without `=` is a name with an empty value;
/// an empty part is no pair.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        })
}

fn decode(encoded: &str) -> String {
    let bytes = encoded.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], escape(bytes, at)) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => decoded.push(b' '),
            (byte, _) => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// The byte that the two hexadecimal digits after `at` name, if two such digits are there.
fn escape(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| {
        bytes
            .get(at + offset)
            .and_then(|byte| char::from(*byte).to_digit(16))
    };
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, expected: &[(&str, &str)]) {
        let found: Vec<_> = pairs(query).collect();
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(found, expected, "{query}");
    }

    #[test]
    fn splits_pairs() {
        check("", &[]);
        check("a=1", &[("a", "1")]);
        check("a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]);
        check("a&b=", &[("a", ""), ("b", "")]);
        check("&&a=1&", &[("a", "1")]);
        check("a=b=c", &[("a", "b=c")]);
        check("=x", &[("", "x")]);
    }

    #[test]
    fn decodes_escapes() {
        check("name=J%C3%BCrgen+B.", &[("name", "Jürgen B.")]);
        check("a%3Db=c%26d", &[("a=b", "c&d")]);
        check("plus=%2B", &[("plus", "+")]);
    }

    #[test]
    fn leaves_what_is_no_escape() {
        check("a=100%", &[("a", "100%")]);
        check("a=%4", &[("a", "%4")]);
        check("a=%zz%41", &[("a", "%zzA")]);
        check("a=%+1", &[("a", "% 1")]);
        check("a=%ff", &[("a", "\u{fffd}")]);
    }
}
