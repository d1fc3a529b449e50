//! Defines how large a request head may be.
//!
//! Invariant: every limit has a ceiling that no setting lifts, so a reader's buffer is bounded by
//! [`Limits::head_bytes_max`] whatever was configured.

/// A target in a longer line would not fit `http::Uri`, which counts in 16 bits.
const REQUEST_LINE_CEILING: usize = 65_534;
/// Half of what `http::HeaderMap` can index.
const FIELDS_CEILING: usize = 16_384;
/// The longest name that `http::HeaderName` takes is one byte longer.
const FIELD_BYTES_CEILING: usize = 65_534;
/// No honest head comes near; the default limits multiply to four fifths of it.
const HEAD_BYTES_CEILING: usize = 1 << 20;
/// Empty lines that are skipped before a request line. RFC 9112 section 2.2 asks for one at
/// least, for clients that end a body with a line end that they did not count.
pub(super) const EMPTY_LINES_MAX: usize = 4;

/// Limits on a request head, under gunicorn's names and with its defaults.
///
/// Lines are counted without their line end. Zero means no limit but the ceiling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest request line, in bytes; a longer one is answered with 414.
    pub request_line_bytes: usize,
    /// Most fields in a head, and again in a trailer section; more are answered with 431.
    pub fields: usize,
    /// Longest field line, in bytes; a longer one is answered with 431.
    pub field_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line_bytes: 4094,
            fields: 100,
            field_bytes: 8190,
        }
    }
}

impl Limits {
    /// The longest request line that is really accepted, in bytes.
    pub fn request_line_max(&self) -> usize {
        below(self.request_line_bytes, REQUEST_LINE_CEILING)
    }

    /// The number of fields that is really accepted.
    pub fn fields_max(&self) -> usize {
        below(self.fields, FIELDS_CEILING)
    }

    /// The longest field line that is really accepted, in bytes.
    pub fn field_bytes_max(&self) -> usize {
        below(self.field_bytes, FIELD_BYTES_CEILING)
    }

    /// The most bytes that a reader ever has to hold for one head, skipped empty lines included.
    ///
    /// With this many bytes at hand, parsing answers with a head or a refusal, never with a
    /// request for more.
    pub fn head_bytes_max(&self) -> usize {
        const LINE_END: usize = 2;
        let fields = self.fields_max() * (self.field_bytes_max() + LINE_END);
        let line = self.request_line_max() + LINE_END;
        (EMPTY_LINES_MAX * LINE_END + line + fields + LINE_END).min(HEAD_BYTES_CEILING)
    }
}

/// The setting, or the ceiling if the setting is zero or above it.
fn below(setting: usize, ceiling: usize) -> usize {
    if setting == 0 {
        ceiling
    } else {
        setting.min(ceiling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_gunicorns() {
        let limits = Limits::default();
        assert_eq!(limits.request_line_max(), 4094);
        assert_eq!(limits.fields_max(), 100);
        assert_eq!(limits.field_bytes_max(), 8190);
        assert_eq!(limits.head_bytes_max(), 8 + 4096 + 100 * 8192 + 2);
    }

    #[test]
    fn zero_and_huge_mean_the_ceiling() {
        for value in [0, usize::MAX] {
            let limits = Limits {
                request_line_bytes: value,
                fields: value,
                field_bytes: value,
            };
            assert_eq!(limits.request_line_max(), REQUEST_LINE_CEILING);
            assert_eq!(limits.fields_max(), FIELDS_CEILING);
            assert_eq!(limits.field_bytes_max(), FIELD_BYTES_CEILING);
            assert_eq!(limits.head_bytes_max(), HEAD_BYTES_CEILING);
        }
    }
}
