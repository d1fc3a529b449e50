//! Defines why bytes are not a message.
//!
//! Invariant: an error holds numbers from the frame and no text of the sender.

/// Why bytes are not a message; the sender is broken or hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The frame is shorter than a header or longer than the limit.
    #[error("a frame of {bytes} bytes")]
    FrameLength {
        /// Its length.
        bytes: usize,
    },
    /// The frame is of another version.
    #[error("a frame of version {version}")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// The header promises another length.
    #[error("a frame that says {promised} bytes of payload and has {found}")]
    PayloadLength {
        /// What the header says.
        promised: usize,
        /// What follows the header.
        found: usize,
    },
    /// No message that may come from this side has the number.
    #[error("a message of unknown kind {kind}")]
    Kind {
        /// The kind byte.
        kind: u8,
    },
    /// The payload is too short or too long for its kind of message.
    #[error("a message of kind {kind} with {bytes} bytes of payload")]
    Payload {
        /// The kind byte.
        kind: u8,
        /// Length of the payload.
        bytes: usize,
    },
    /// Text that is not UTF-8.
    #[error("a message of kind {kind} with text that is not UTF-8")]
    Text {
        /// The kind byte.
        kind: u8,
    },
}
