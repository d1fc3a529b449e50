//! Defines how the content of a request is taken out of the bytes of its body.
//!
//! Invariant: no byte is kept and nothing is allocated, so a body of any size costs the decoder
//! the same; what a client can make it skip (chunk extensions, trailers) is bounded.

use std::ops::Range;

use super::fields::is_token;
use super::head::Framing;
use super::limits::Limits;
use super::refusal::Refusal;
use super::scan::is_control;

/// 16 hexadecimal digits are 64 bits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Longest extension of one chunk: a signed upload puts about 90 bytes there.
const EXTENSION_BYTES_MAX: usize = 256;
/// All extensions of one body together, so that they cannot be a second, unmetered body.
const EXTENSIONS_BYTES_MAX: usize = 16 * 1024;

/// What [`BodyDecoder::decode`] found in its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Content at this range of the input. All bytes up to its end are used up.
    Data(Range<usize>),
    /// No content; this many bytes are used up, which is all there were.
    NeedMore(usize),
    /// The body has ended; this many bytes were still part of it.
    End(usize),
}

impl Step {
    /// Bytes of the input that are used up.
    pub fn consumed(&self) -> usize {
        match self {
            Self::Data(range) => range.end,
            Self::NeedMore(consumed) | Self::End(consumed) => *consumed,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Content-Length: bytes still to come.
    Length(u64),
    /// In the digits of a chunk size.
    Size,
    /// In whitespace after the digits, which only an extension may follow.
    SizeBlank,
    Extension,
    /// In a quoted string of an extension, where no line ends.
    Quoted,
    /// After a backslash in a quoted string.
    QuotedPair,
    SizeLineFeed,
    /// Chunked: bytes of this chunk still to come, more than zero.
    Data(u64),
    DataReturn,
    DataLineFeed,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLineFeed,
    LastLineFeed,
    End,
    Failed(Refusal),
}

/// Takes the content out of a body, piece by piece (RFC 9112 sections 6 and 7.1).
#[derive(Debug, Clone)]
pub struct BodyDecoder {
    state: State,
    size: u64,
    digits: u8,
    /// Bytes of the current extension or trailer line.
    line: usize,
    /// Bytes of all extensions, then of all trailers.
    section: usize,
    trailers: usize,
    limits: Limits,
}

impl BodyDecoder {
    /// A decoder for one body. The limits on fields hold for its trailer section.
    pub fn new(framing: Framing, limits: &Limits) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size,
        };
        Self {
            state,
            size: 0,
            digits: 0,
            line: 0,
            section: 0,
            trailers: 0,
            limits: *limits,
        }
    }

    /// Whether the whole body was decoded.
    pub fn is_end(&self) -> bool {
        self.state == State::End
    }

    /// Bytes still to come if Content-Length told, else `None`; zero after the end.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::End => Some(0),
            State::Size
            | State::SizeBlank
            | State::Extension
            | State::Quoted
            | State::QuotedPair
            | State::SizeLineFeed
            | State::Data(_)
            | State::DataReturn
            | State::DataLineFeed
            | State::TrailerStart
            | State::TrailerName
            | State::TrailerValue
            | State::TrailerLineFeed
            | State::LastLineFeed
            | State::Failed(_) => None,
        }
    }

    /// Looks at the next bytes of the connection.
    ///
    /// The caller takes the content, drops [`Step::consumed`] bytes and calls again until
    /// [`Step::NeedMore`], when it needs new bytes, or [`Step::End`]. Bytes after the end belong
    /// to the next request and are left alone. Trailers are checked as fields are and dropped.
    ///
    /// # Errors
    ///
    /// 400 for a broken chunk, 431 for a trailer section beyond the limits; then for every later
    /// call the same.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let mut at = 0;
        loop {
            match self.state {
                State::End => return Ok(Step::End(at)),
                State::Failed(refusal) => return Err(refusal),
                State::Length(left) if at < input.len() => {
                    let (range, left) = take(at, input.len(), left);
                    self.state = if left == 0 {
                        State::End
                    } else {
                        State::Length(left)
                    };
                    return Ok(Step::Data(range));
                }
                State::Data(left) if at < input.len() => {
                    let (range, left) = take(at, input.len(), left);
                    self.state = if left == 0 {
                        State::DataReturn
                    } else {
                        State::Data(left)
                    };
                    return Ok(Step::Data(range));
                }
                state => {
                    let Some(byte) = input.get(at) else {
                        return Ok(Step::NeedMore(at));
                    };
                    self.state = match self.advance(state, *byte) {
                        Ok(next) => next,
                        Err(refusal) => State::Failed(refusal),
                    };
                    at += 1;
                }
            }
        }
    }

    /// The state after one byte that is no content.
    fn advance(&mut self, state: State, byte: u8) -> Result<State, Refusal> {
        match state {
            State::Size => self.size_byte(byte),
            State::SizeBlank | State::Extension | State::Quoted | State::QuotedPair => {
                self.extension_byte(state, byte)
            }
            State::SizeLineFeed => {
                line_feed(byte)?;
                Ok(self.start_chunk())
            }
            State::DataReturn if byte == b'\r' => Ok(State::DataLineFeed),
            State::DataReturn => Err(Refusal::bad_request("chunk longer than its size")),
            State::DataLineFeed => line_feed(byte).map(|()| State::Size),
            State::TrailerStart | State::TrailerName | State::TrailerValue => {
                self.trailer_byte(state, byte)
            }
            State::TrailerLineFeed => line_feed(byte).map(|()| State::TrailerStart),
            State::LastLineFeed => line_feed(byte).map(|()| State::End),
            State::Length(_) | State::Data(_) | State::End | State::Failed(_) => Ok(state),
        }
    }

    /// A byte where the digits of a chunk size are (RFC 9112 section 7.1).
    fn size_byte(&mut self, byte: u8) -> Result<State, Refusal> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ if self.digits == 0 => return Err(Refusal::bad_request("chunk without size")),
            b'\r' => return Ok(State::SizeLineFeed),
            b';' | b' ' | b'\t' => return self.extension_byte(State::SizeBlank, byte),
            _ => return Err(Refusal::bad_request("malformed chunk size")),
        };
        if self.digits == SIZE_DIGITS_MAX {
            return Err(Refusal::bad_request("chunk size too long"));
        }
        self.digits += 1;
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size)
    }

    /// A byte of a chunk extension, which is read over (RFC 9112 section 7.1.1). Whitespace after
    /// the size is part of one, so a size that only whitespace follows is malformed. A line end in
    /// a quoted string ends the line for some and not for others, so it is refused.
    fn extension_byte(&mut self, state: State, byte: u8) -> Result<State, Refusal> {
        if byte == b'\r' && state == State::Extension {
            return Ok(State::SizeLineFeed);
        }
        let quoted = matches!(state, State::Quoted | State::QuotedPair);
        if is_control(byte) && (quoted || byte != b'\r') {
            return Err(Refusal::bad_request(
                "control character in a chunk size line",
            ));
        }
        let next = match (state, byte) {
            (State::SizeBlank, b' ' | b'\t') => State::SizeBlank,
            (State::SizeBlank, b';') => State::Extension,
            (State::SizeBlank, _) => return Err(Refusal::bad_request("malformed chunk size")),
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted, b'"') => State::Extension,
            (State::Quoted | State::QuotedPair, _) | (_, b'"') => State::Quoted,
            _ => State::Extension,
        };
        self.line += 1;
        self.section += 1;
        if self.line > EXTENSION_BYTES_MAX || self.section > EXTENSIONS_BYTES_MAX {
            return Err(Refusal::bad_request("chunk extensions too long"));
        }
        Ok(next)
    }

    /// The state after a chunk size line.
    fn start_chunk(&mut self) -> State {
        let size = std::mem::take(&mut self.size);
        self.digits = 0;
        self.line = 0;
        if size > 0 {
            return State::Data(size);
        }
        self.section = 0;
        State::TrailerStart
    }

    /// A byte of the trailer section (RFC 9112 section 7.1.2).
    fn trailer_byte(&mut self, state: State, byte: u8) -> Result<State, Refusal> {
        if byte == b'\r' && state != State::TrailerName {
            let blank = state == State::TrailerStart;
            return Ok(if blank {
                State::LastLineFeed
            } else {
                State::TrailerLineFeed
            });
        }
        if state == State::TrailerStart {
            self.line = 0;
            self.trailers += 1;
            if self.trailers > self.limits.fields_max() {
                return Err(Refusal::fields_too_large("too many trailers"));
            }
        }
        self.line += 1;
        self.section += 1;
        if self.line > self.limits.field_bytes_max() {
            return Err(Refusal::fields_too_large("trailer too large"));
        }
        if self.section > self.limits.head_bytes_max() {
            return Err(Refusal::fields_too_large("trailers too large"));
        }
        match state {
            State::TrailerValue if is_control(byte) => {
                Err(Refusal::bad_request("control character in a trailer"))
            }
            State::TrailerValue => Ok(State::TrailerValue),
            _ if is_token(byte) => Ok(State::TrailerName),
            State::TrailerName if byte == b':' => Ok(State::TrailerValue),
            _ => Err(Refusal::bad_request("malformed trailer name")),
        }
    }
}

/// As much of `left` as lies between `at` and `end`, and what is left then.
fn take(at: usize, end: usize, left: u64) -> (Range<usize>, u64) {
    let len = usize::try_from(left).map_or(end - at, |left| left.min(end - at));
    (at..at + len, left - len as u64)
}

fn line_feed(byte: u8) -> Result<(), Refusal> {
    if byte == b'\n' {
        Ok(())
    } else {
        Err(Refusal::bad_request(
            "carriage return without line feed in a chunked body",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes with every piece of input cut to at most `piece` bytes.
    fn decode(framing: Framing, bytes: &[u8], piece: usize) -> Result<(Vec<u8>, usize), Refusal> {
        let limits = Limits {
            request_line_bytes: 0,
            fields: 2,
            field_bytes: 10,
        };
        let mut decoder = BodyDecoder::new(framing, &limits);
        let (mut content, mut used) = (Vec::new(), 0);
        loop {
            let end = bytes.len().min(used + piece);
            let input = &bytes[used..end];
            let step = decoder.decode(input)?;
            used += step.consumed();
            match step {
                Step::Data(range) => content.extend_from_slice(&input[range]),
                Step::End(_) => {
                    assert!(decoder.is_end());
                    assert_eq!(decoder.decode(b"next"), Ok(Step::End(0)));
                    return Ok((content, used));
                }
                Step::NeedMore(consumed) => {
                    assert_eq!(consumed, input.len());
                    assert!(!decoder.is_end());
                    if used == bytes.len() {
                        return Ok((content, usize::MAX));
                    }
                }
            }
        }
    }

    fn check(framing: Framing, bytes: &[u8], expected: Result<(&[u8], usize), u16>) {
        for piece in [1, 2, 3, 7, usize::MAX / 2] {
            let answer = decode(framing, bytes, piece);
            let answer = answer
                .as_ref()
                .map(|(content, used)| (content.as_slice(), *used));
            let answer = answer.map_err(|refusal| refusal.status.as_u16());
            assert_eq!(answer, expected, "{} by {piece}", bytes.escape_ascii());
        }
    }

    #[test]
    fn lengths() {
        check(Framing::None, b"GET /", Ok((b"", 0)));
        check(Framing::Length(0), b"GET /", Ok((b"", 0)));
        check(Framing::Length(3), b"abcGET /", Ok((b"abc", 3)));
        check(Framing::Length(3), b"ab", Ok((b"ab", usize::MAX)));
        let mut decoder = BodyDecoder::new(Framing::Length(u64::MAX), &Limits::default());
        assert_eq!(decoder.decode(b"ab"), Ok(Step::Data(0..2)));
        assert_eq!(decoder.remaining(), Some(u64::MAX - 2));
        let mut decoder = BodyDecoder::new(Framing::Length(2), &Limits::default());
        assert_eq!(decoder.decode(b"abc"), Ok(Step::Data(0..2)));
        assert!(decoder.is_end());
        assert_eq!(decoder.remaining(), Some(0));
        assert_eq!(
            BodyDecoder::new(Framing::Chunked, &Limits::default()).remaining(),
            None
        );
    }

    #[test]
    fn good_chunks() {
        let cases: [(&[u8], &[u8]); 13] = [
            (b"0\r\n\r\n", b""),
            (b"000\r\n\r\n", b""),
            (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
            (
                b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
                b"01234567890123456789",
            ),
            (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
            (b"0000000000000001\r\na\r\n0\r\n\r\n", b"a"),
            (b"1;a\r\na\r\n0;b=\"c;d\"\r\n\r\n", b"a"),
            (b"1 \t; a = b\r\na\r\n0\r\n\r\n", b"a"),
            (b"1;a=\"\\\"\\\\\";b\r\na\r\n0\r\n\r\n", b"a"),
            (b"0\r\na: b\r\n\r\n", b""),
            (b"0\r\na:\r\nb:\t \xff\r\n\r\n", b""),
            (b"0\r\na:2345678\r\n\r\n", b""),
            (b"0\r\nhost: x\r\n\r\n", b""),
        ];
        for (bytes, content) in cases {
            let next = [bytes, b"GET"].concat();
            check(Framing::Chunked, &next, Ok((content, bytes.len())));
            for end in 0..bytes.len() {
                let answer = decode(Framing::Chunked, &bytes[..end], 4);
                assert_eq!(answer.map(|(_, used)| used), Ok(usize::MAX), "{end}");
            }
        }
    }

    #[test]
    fn bad_chunks() {
        let bad: [&[u8]; 34] = [
            b"\r\n",
            b"\n",
            b" 1\r\n",
            b"-1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"g\r\n",
            b"1g\r\n",
            b"1,1\r\n",
            b";a\r\n",
            b"1 \r\n",
            b"1 1\r\n",
            b"1\n",
            b"1\ra",
            b"1\r\r\n",
            b"1\0\r\n",
            b"00000000000000001\r\n",
            b"1;a\n",
            b"1;a\ra",
            b"1;\0\r\n",
            b"1;\x7f\r\n",
            b"1;\"\n\"\r\n",
            b"1;a=\"\r\n",
            b"1;a=\"\\\r\n",
            b"1\r\nab",
            b"1\r\na\n",
            b"1\r\na0\r\n\r\n",
            b"1\r\na\ra",
            b"0\r\n\n",
            b"0\r\n\ra",
            b"0\r\n a: b\r\n\r\n",
            b"0\r\na : b\r\n\r\n",
            b"0\r\n: b\r\n\r\n",
            b"0\r\na: b\r\n c\r\n\r\n",
        ];
        for bytes in bad {
            for piece in [1, 5, 100] {
                let answer = decode(Framing::Chunked, bytes, piece);
                let status = answer.map_err(|refusal| refusal.status.as_u16());
                assert_eq!(status, Err(400), "{} by {piece}", bytes.escape_ascii());
            }
        }
        for bytes in [
            b"0\r\na\r\n\r\n".as_slice(),
            b"0\r\na: \0\r\n",
            b"0\r\na: b\n",
            b"0\r\na: \r ",
        ] {
            check(Framing::Chunked, bytes, Err(400));
        }
    }

    #[test]
    fn bounds() {
        let ext = |len| [b"1".as_slice(), &vec![b';'; len], b"\r\n"].concat();
        check(Framing::Chunked, &ext(256), Ok((b"", usize::MAX)));
        check(Framing::Chunked, &ext(257), Err(400));
        check(
            Framing::Chunked,
            &[b"1".as_slice(), &[b' '; 257]].concat(),
            Err(400),
        );
        let chunk = [ext(256), b"a\r\n".to_vec()].concat();
        check(
            Framing::Chunked,
            &chunk.repeat(64),
            Ok((&[b'a'; 64], usize::MAX)),
        );
        check(Framing::Chunked, &chunk.repeat(65), Err(400));
        check(Framing::Chunked, b"0\r\na:\r\nb:\r\nc", Err(431));
        check(Framing::Chunked, b"0\r\na:23456789a", Err(431));
        check(Framing::Chunked, b"0\r\na123456789a", Err(431));
    }

    #[test]
    fn the_trailer_section_is_bounded_as_a_whole() {
        let limits = Limits {
            request_line_bytes: 0,
            fields: 0,
            field_bytes: 0,
        };
        let mut decoder = BodyDecoder::new(Framing::Chunked, &limits);
        assert_eq!(decoder.decode(b"0\r\n"), Ok(Step::NeedMore(3)));
        let line = [b"a:".as_slice(), &[b'x'; 65_000], b"\r\n"].concat();
        let refusal = (0..17).find_map(|_| decoder.decode(&line).err());
        assert_eq!(
            refusal.map(|refusal| refusal.reason),
            Some("trailers too large")
        );
    }

    #[test]
    fn failure_is_final() {
        let mut decoder = BodyDecoder::new(Framing::Chunked, &Limits::default());
        let refusal = decoder.decode(b"x");
        assert!(refusal.is_err());
        assert_eq!(decoder.decode(b"0\r\n\r\n"), refusal);
        assert!(!decoder.is_end());
    }
}
