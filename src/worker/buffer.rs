//! Defines the buffer between a socket and the parser: bytes are added at the end and taken from the
//! start, and it never grows past what its user asks for.

/// Smallest room that is offered to a read, in bytes.
const READ_BYTES: usize = 8 << 10;

/// Bytes that were received and not yet used.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// What is here.
    pub(super) fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Takes bytes from the start.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Makes room for a read.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() < READ_BYTES {
            self.bytes.drain(..self.start);
            self.start = 0;
            self.bytes.reserve(READ_BYTES);
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
