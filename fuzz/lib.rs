//! What the fuzz targets share: the server's HTTP/1.1, and how an input is read.

#[allow(dead_code, reason = "what only the server uses")]
#[path = "../src/http/mod.rs"]
pub mod http;
#[cfg(not(test))]
#[path = "../src/http/replay.rs"]
pub mod replay;

use self::http::limits::Limits;
#[cfg(not(test))]
use self::http::{body, head, limits, refusal, response, target};

/// No request, chunk or target begins with it.
const MARK: u8 = 0xff;

/// What a fuzzer made, taken apart.
pub struct Input<'a> {
    /// What a client sends.
    pub bytes: &'a [u8],
    /// The limits that hold for it.
    pub limits: Limits,
    /// Where it is cut for the comparison with the whole, within its length.
    pub cut: usize,
}

impl<'a> Input<'a> {
    /// Reads an input. Most are what a client sends, as it is, so that the corpus of `tests/http`
    /// can be a seed; one that begins with 0xff has the limits and the cut in the next four bytes.
    pub fn read(input: &'a [u8]) -> Self {
        let (bytes, limits, cut) = match input {
            [MARK, line, fields, field, cut, bytes @ ..] => {
                let limits = Limits {
                    request_line_bytes: (*line).into(),
                    fields: (*fields).into(),
                    field_bytes: (*field).into(),
                };
                (bytes, limits, usize::from(*cut))
            }
            bytes => (bytes, Limits::default(), bytes.len() / 2),
        };
        Self {
            bytes,
            limits,
            cut: cut.min(bytes.len()),
        }
    }

    /// The bytes whole, in two pieces, and one by one.
    pub fn cuts(&self) -> [Vec<&'a [u8]>; 3] {
        let (before, after) = self.bytes.split_at(self.cut);
        [
            vec![self.bytes],
            vec![before, after],
            self.bytes.chunks(1).collect(),
        ]
    }
}
