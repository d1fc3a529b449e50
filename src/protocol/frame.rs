//! Defines the envelope of a message: version, kind, length and payload.
//!
//! Invariant: a frame is at most [`FRAME_BYTES_MAX`] long, and its length is said twice: by the
//! packet that carries it and by its header.

use super::error::Error;

/// Most bytes of a frame: one page.
pub const FRAME_BYTES_MAX: usize = 4096;
/// Most bytes of a payload.
pub const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - HEADER_BYTES;

/// Version, kind, and the payload's length as two bytes, little end first.
const HEADER_BYTES: usize = 4;
/// Arbiter and children are forks of one program, so it only tells a stray sender.
const VERSION: u8 = 1;

/// The kind and the payload of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The bytes of the frame. The payload must be within [`PAYLOAD_BYTES_MAX`].
    pub(super) fn encode(self) -> Vec<u8> {
        assert!(
            self.payload.len() <= PAYLOAD_BYTES_MAX,
            "the message bounds its payload"
        );
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.payload.len());
        bytes.extend([VERSION, self.kind]);
        bytes.extend((self.payload.len() as u16).to_le_bytes());
        bytes.extend(self.payload);
        bytes
    }

    /// Takes apart a packet that must be one frame and no more.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let length = Error::FrameLength { bytes: bytes.len() };
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(length);
        }
        let Some((&[version, kind, low, high], payload)) = bytes.split_first_chunk() else {
            return Err(length);
        };
        if version != VERSION {
            return Err(Error::Version { version });
        }
        let promised = usize::from(u16::from_le_bytes([low, high]));
        if promised != payload.len() {
            return Err(Error::PayloadLength {
                promised,
                found: payload.len(),
            });
        }
        Ok(Self { kind, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_back() {
        let longest = [7; PAYLOAD_BYTES_MAX];
        for payload in [&[][..], &[1, 2, 3], &longest] {
            let frame = Frame { kind: 9, payload };
            let bytes = frame.encode();
            assert!(bytes.len() <= FRAME_BYTES_MAX);
            assert_eq!(Frame::decode(&bytes), Ok(frame));
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        let check = |bytes: &[u8], expect| assert_eq!(Frame::decode(bytes), Err(expect));
        check(&[], Error::FrameLength { bytes: 0 });
        check(&[1, 9, 0], Error::FrameLength { bytes: 3 });
        check(
            &[1; FRAME_BYTES_MAX + 1],
            Error::FrameLength {
                bytes: FRAME_BYTES_MAX + 1,
            },
        );
        check(&[2, 9, 0, 0], Error::Version { version: 2 });
        check(
            &[1, 9, 1, 0],
            Error::PayloadLength {
                promised: 1,
                found: 0,
            },
        );
        check(
            &[1, 9, 0, 0, 5],
            Error::PayloadLength {
                promised: 0,
                found: 1,
            },
        );
        check(
            &[1, 9, 0, 255],
            Error::PayloadLength {
                promised: 0xff00,
                found: 0,
            },
        );
    }
}
