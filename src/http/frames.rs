//! Defines how the frames of HTTP/2 are counted on their way to those who read them.

use super::h2::PREFACE;

/// Bytes of a frame before its payload (RFC 9113 section 4.1).
const HEAD_BYTES: usize = 9;
/// The type of frames that carry content (RFC 9113 section 6.1).
const DATA: u8 = 0;

/// Counts the frames that a client sends, in whatever pieces they arrive.
#[derive(Debug)]
pub struct FrameCounter {
    /// The start of a head.
    head: [u8; HEAD_BYTES],
    known: usize,
    /// Bytes before the next head.
    left: usize,
}

impl Default for FrameCounter {
    fn default() -> Self {
        Self {
            head: [0; HEAD_BYTES],
            known: 0,
            left: PREFACE.len(),
        }
    }
}

/// How many frames have begun.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// All of them.
    pub frames: u32,
    /// Those without content, which no window holds back.
    pub control: u32,
}

impl FrameCounter {
    /// Counts the frames that begin in what comes next.
    pub fn count(&mut self, mut bytes: &[u8]) -> Seen {
        let mut seen = Seen::default();
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = &bytes[skipped..];
            let part = (HEAD_BYTES - self.known).min(bytes.len());
            self.head[self.known..self.known + part].copy_from_slice(&bytes[..part]);
            self.known += part;
            bytes = &bytes[part..];
            if self.known == HEAD_BYTES {
                let [high, middle, low, kind, ..] = self.head;
                self.known = 0;
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
                seen.frames += 1;
                seen.control += u32::from(kind != DATA);
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let length_bytes = u32::try_from(length).unwrap().to_be_bytes();
        let mut bytes = length_bytes[1..].to_vec();
        bytes.extend([kind, 0, 0, 0, 0, 1]);
        // What would be heads if they were not payload.
        bytes.extend(vec![0; length]);
        bytes
    }

    #[test]
    fn frames_are_counted_in_whatever_pieces_they_come() {
        let frames = [
            (6, 8),
            (DATA, 0),
            (DATA, 300),
            (4, 0),
            (8, 4),
            (DATA, 70_000),
        ];
        let frames = frames.map(|(kind, length)| frame(kind, length)).concat();
        let bytes = [PREFACE, &frames, &frame(6, 8)[..8]].concat();
        for size in [1, 2, 8, 9, 10, 100, bytes.len()] {
            let mut counter = FrameCounter::default();
            let (mut all, mut control) = (0, 0);
            for piece in bytes.chunks(size) {
                let seen = counter.count(piece);
                all += seen.frames;
                control += seen.control;
            }
            assert_eq!((all, control), (6, 3), "{size}");
        }
    }
}
