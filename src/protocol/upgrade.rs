//! Defines what an arbiter tells the one of the next program, which it has started.
//!
//! Invariant: everything is said before the new program runs, so it need not wait for it.

use super::error::Error;
use super::frame::Frame;
use super::message::{no_payload, wrong_payload};

/// Most bytes of a listener's key.
pub const KEY_BYTES_MAX: usize = 1024;

const LISTENER: u8 = 32;
const DONE: u8 = 33;
const CONTROL: u8 = 34;
const SECRET: u8 = 35;

/// Bytes of the secret that the programs of a server share.
pub const SECRET_BYTES: usize = 32;

/// What the predecessor says, on the channel whose other end the new program inherits. The answer is
/// a [`FromChild`](super::message::FromChild).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToSuccessor {
    /// A socket that listens; it comes with the frame.
    Listener {
        /// What it is called in the plan: at most [`KEY_BYTES_MAX`] bytes.
        key: String,
        /// Whether the server has made its socket file, and so removes it in the end.
        owned: bool,
    },
    /// The socket to which control clients connect; it comes with the frame. They are the
    /// predecessor's until it has left.
    Control,
    /// What the server's processes share and nobody else knows.
    Secret([u8; SECRET_BYTES]),
    /// There are no more.
    Done,
}

impl ToSuccessor {
    /// The message as a frame; a key that is too long is cut.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Listener { key, owned } => {
                let end = key.floor_char_boundary(KEY_BYTES_MAX);
                let mut payload = vec![u8::from(*owned)];
                payload.extend(&key.as_bytes()[..end]);
                let kind = LISTENER;
                let payload = &payload;
                Frame { kind, payload }.encode()
            }
            Self::Control => Frame {
                kind: CONTROL,
                payload: &[],
            }
            .encode(),
            Self::Secret(secret) => Frame {
                kind: SECRET,
                payload: secret,
            }
            .encode(),
            Self::Done => Frame {
                kind: DONE,
                payload: &[],
            }
            .encode(),
        }
    }

    /// Reads the one message that `bytes` must be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Frame { kind, payload } = Frame::decode(bytes)?;
        match (kind, payload) {
            (LISTENER, [owned @ (0 | 1), key @ ..]) if key.len() <= KEY_BYTES_MAX => {
                let key = str::from_utf8(key).map_err(|_| Error::Text { kind })?;
                Ok(Self::Listener {
                    key: key.to_owned(),
                    owned: *owned == 1,
                })
            }
            (LISTENER, _) => Err(wrong_payload(kind, payload)),
            (CONTROL, _) => no_payload(kind, payload).map(|()| Self::Control),
            (SECRET, payload) => match payload.try_into() {
                Ok(secret) => Ok(Self::Secret(secret)),
                Err(_) => Err(wrong_payload(kind, payload)),
            },
            (DONE, _) => no_payload(kind, payload).map(|()| Self::Done),
            (kind, _) => Err(Error::Kind { kind }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_read_back() {
        for owned in [false, true] {
            for key in ["", "127.0.0.1:8000", "unix:/run/é"] {
                let key = key.to_owned();
                let message = ToSuccessor::Listener { key, owned };
                assert_eq!(ToSuccessor::decode(&message.encode()), Ok(message));
            }
        }
        let secret = ToSuccessor::Secret([7; SECRET_BYTES]);
        for message in [ToSuccessor::Control, secret, ToSuccessor::Done] {
            assert_eq!(ToSuccessor::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn anything_else_is_an_error() {
        let check = |kind, payload: &[u8], expect| {
            let frame = Frame { kind, payload }.encode();
            assert_eq!(ToSuccessor::decode(&frame), Err(expect));
        };
        let wrong = |kind, bytes| Error::Payload { kind, bytes };
        check(LISTENER, &[], wrong(LISTENER, 0));
        check(LISTENER, &[2, b'a'], wrong(LISTENER, 2));
        check(LISTENER, &[1, 0xff], Error::Text { kind: LISTENER });
        let long = [1; KEY_BYTES_MAX + 2];
        check(LISTENER, &long, wrong(LISTENER, KEY_BYTES_MAX + 2));
        check(SECRET, &[7; 31], wrong(SECRET, 31));
        check(DONE, b"x", wrong(DONE, 1));
        check(1, &[], Error::Kind { kind: 1 });
    }

    #[test]
    fn a_long_key_is_cut_between_characters() {
        let key = format!("x{}", "é".repeat(KEY_BYTES_MAX));
        let frame = ToSuccessor::Listener { key, owned: true }.encode();
        let Ok(ToSuccessor::Listener { key, owned: true }) = ToSuccessor::decode(&frame) else {
            panic!("{frame:?}");
        };
        assert_eq!(key.len(), KEY_BYTES_MAX - 1);
    }

    fn check(bytes: &[u8]) {
        if let Ok(read) = ToSuccessor::decode(bytes) {
            assert_eq!(read.encode(), bytes);
        }
    }

    /// Whatever is accepted must encode to the very same bytes, so nothing has two spellings.
    #[test]
    fn damaged_frames_never_panic_and_are_never_read_loosely() {
        let key = "unix:/run/é".to_owned();
        for message in [
            ToSuccessor::Listener { key, owned: true },
            ToSuccessor::Done,
        ] {
            let whole = message.encode();
            for at in 0..whole.len() {
                for value in 0..=u8::MAX {
                    let mut bytes = whole.clone();
                    bytes[at] = value;
                    check(&bytes);
                    bytes.push(value);
                    check(&bytes);
                    bytes.truncate(at);
                    check(&bytes);
                }
                assert!(ToSuccessor::decode(&whole[..at]).is_err());
            }
        }
    }
}
