//! Defines the buffer between a socket and the parser: bytes are added at the end and taken from the
//! start, and it never grows past what its user asks for.

/// Room for the first read, in bytes: most heads are shorter, and many clients never send more.
const FIRST_BYTES: usize = 4 << 10;
/// The same for those who send more than that.
const MORE_BYTES: usize = 8 << 10;
/// A read with less room than this is not worth its call.
const LEAST_BYTES: usize = 512;

/// Bytes that were received and not yet used.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    /// Whether it was ever full.
    was_full: bool,
}

impl Buffer {
    /// What is here.
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes bytes from the start.
    pub(super) fn consume(&mut self, count: usize) {
        self.was_full |= self.bytes.len() == self.bytes.capacity();
        self.start = (self.start + count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Makes room for a read.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        let spare = |bytes: &Vec<u8>| bytes.capacity() - bytes.len();
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(FIRST_BYTES);
        } else if self.bytes.is_empty() && self.was_full {
            self.bytes.reserve_exact(MORE_BYTES);
        } else if spare(&self.bytes) < LEAST_BYTES {
            self.bytes.drain(..self.start);
            self.start = 0;
            if spare(&self.bytes) < LEAST_BYTES {
                self.bytes.reserve(MORE_BYTES);
            }
        }
        &mut self.bytes
    }

    /// Gives the memory back while nothing is here: an idle connection should cost little.
    pub(super) fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn what_goes_in_comes_out_in_order() {
        let mut buffer = Buffer::default();
        let mut expect = Vec::new();
        for round in 0_u32..10_000 {
            let bytes = round.to_le_bytes();
            buffer.room().extend_from_slice(&bytes);
            expect.extend_from_slice(&bytes);
            let take = (round % 7) as usize;
            let take = take.min(expect.len());
            assert_eq!(&buffer.data()[..take], &expect[..take]);
            buffer.consume(take);
            expect.drain(..take);
        }
        assert_eq!(buffer.data(), expect);
    }
}
