//! Defines the messages between the arbiter and a child.
//!
//! Invariant: decoding is the inverse of encoding and accepts nothing else. In which state of the
//! child a message is legal is the arbiter's to judge.

use std::fmt;

use super::error::Error;
use super::frame::Frame;

/// Most bytes of a reason; encoding cuts what is longer.
pub const REASON_BYTES_MAX: usize = 2048;

const DRAIN: u8 = 1;
const RETIRE: u8 = 2;
const REOPEN_LOG: u8 = 3;
const ACCEPT: u8 = 4;
const REVOKE: u8 = 5;
const REOPEN_ACCESS_LOG: u8 = 6;
const SERVE: u8 = 7;

const READY: u8 = 129;
const ARTEFACT: u8 = 130;
const LOADED: u8 = 131;
const FAILED: u8 = 132;
const WORN: u8 = 133;
const HAS_ROOM: u8 = 134;
const ALIVE: u8 = 135;

/// What the arbiter tells a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToChild {
    /// Your generation is the current one now: take connections.
    Serve,
    /// This server accepts no more: take whoever waits already, finish what is in flight, and exit.
    Drain,
    /// Others of it go on accepting: accept nothing new, finish what is in flight, and exit.
    Retire,
    /// Write the log to the one file that comes with the frame.
    ReopenLog,
    /// Write the access log to the one file that comes with the frame.
    ReopenAccessLog,
    /// A connection waits: accept it, unless the baton is somebody else's by now.
    Accept {
        /// Where, in the order of the role's listeners, from 0.
        listener: u16,
    },
    /// A connection waited for this worker in vain, and has gone to another: say whether you live.
    Revoke,
}

/// What a child tells the arbiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromChild {
    /// A worker is linked, has made an instance, and can serve.
    Ready,
    /// The loader hands over the artefact of an app: one sealed file comes with the frame.
    Artefact {
        /// Number of the app, in the order of the configuration, from 0.
        app: u32,
    },
    /// The loader has handed over every artefact and is about to exit.
    Loaded,
    /// The child cannot do what it was started for and is about to exit.
    Failed {
        /// Exit code that the server should end with.
        code: u8,
        /// Why, for the log: at most [`REASON_BYTES_MAX`] bytes.
        reason: String,
    },
    /// A worker has answered as many requests as it may. It serves until it is told to stop.
    Retire,
    /// A worker has room again, after the arbiter had found nobody.
    Accept,
    /// A worker that was passed over lives.
    Alive {
        /// When it says so, in milliseconds of the monotonic clock.
        now_ms: u64,
    },
}

/// As the log shows it: `ACCEPT:0`.
impl fmt::Display for ToChild {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serve => formatter.write_str("SERVE"),
            Self::Drain => formatter.write_str("DRAIN"),
            Self::Retire => formatter.write_str("RETIRE"),
            Self::ReopenLog => formatter.write_str("REOPEN"),
            Self::ReopenAccessLog => formatter.write_str("REOPEN_ACCESS"),
            Self::Accept { listener } => write!(formatter, "ACCEPT:{listener}"),
            Self::Revoke => formatter.write_str("REVOKE"),
        }
    }
}

/// As the log shows it: `ALIVE:123456`. The reason of a failure has a line of its own.
impl fmt::Display for FromChild {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => formatter.write_str("READY"),
            Self::Artefact { app } => write!(formatter, "ARTEFACT:{app}"),
            Self::Loaded => formatter.write_str("LOADED"),
            Self::Failed { code, .. } => write!(formatter, "FAILED:{code}"),
            Self::Retire => formatter.write_str("RETIRE"),
            Self::Accept => formatter.write_str("ACCEPT"),
            Self::Alive { now_ms } => write!(formatter, "ALIVE:{now_ms}"),
        }
    }
}

impl ToChild {
    /// The message as a frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Serve => frame(SERVE, &[]),
            Self::Drain => frame(DRAIN, &[]),
            Self::Retire => frame(RETIRE, &[]),
            Self::ReopenLog => frame(REOPEN_LOG, &[]),
            Self::ReopenAccessLog => frame(REOPEN_ACCESS_LOG, &[]),
            Self::Accept { listener } => frame(ACCEPT, &listener.to_le_bytes()),
            Self::Revoke => frame(REVOKE, &[]),
        }
    }

    /// Reads the one message that `bytes` must be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Frame { kind, payload } = Frame::decode(bytes)?;
        match kind {
            SERVE => no_payload(kind, payload).map(|()| Self::Serve),
            DRAIN => no_payload(kind, payload).map(|()| Self::Drain),
            RETIRE => no_payload(kind, payload).map(|()| Self::Retire),
            REOPEN_LOG => no_payload(kind, payload).map(|()| Self::ReopenLog),
            REOPEN_ACCESS_LOG => no_payload(kind, payload).map(|()| Self::ReopenAccessLog),
            ACCEPT => number(kind, payload).map(|bytes| Self::Accept {
                listener: u16::from_le_bytes(bytes),
            }),
            REVOKE => no_payload(kind, payload).map(|()| Self::Revoke),
            kind => Err(Error::Kind { kind }),
        }
    }
}

impl FromChild {
    /// The message as a frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ready => frame(READY, &[]),
            Self::Artefact { app } => frame(ARTEFACT, &app.to_le_bytes()),
            Self::Loaded => frame(LOADED, &[]),
            Self::Retire => frame(WORN, &[]),
            Self::Accept => frame(HAS_ROOM, &[]),
            Self::Alive { now_ms } => frame(ALIVE, &now_ms.to_le_bytes()),
            Self::Failed { code, reason } => {
                let end = reason.floor_char_boundary(REASON_BYTES_MAX);
                let mut payload = vec![*code];
                payload.extend(&reason.as_bytes()[..end]);
                frame(FAILED, &payload)
            }
        }
    }

    /// Reads the one message that `bytes` must be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Frame { kind, payload } = Frame::decode(bytes)?;
        match kind {
            READY => no_payload(kind, payload).map(|()| Self::Ready),
            ARTEFACT => number(kind, payload).map(|bytes| Self::Artefact {
                app: u32::from_le_bytes(bytes),
            }),
            LOADED => no_payload(kind, payload).map(|()| Self::Loaded),
            FAILED => decode_failed(payload),
            WORN => no_payload(kind, payload).map(|()| Self::Retire),
            HAS_ROOM => no_payload(kind, payload).map(|()| Self::Accept),
            ALIVE => number(kind, payload).map(|bytes| Self::Alive {
                now_ms: u64::from_le_bytes(bytes),
            }),
            kind => Err(Error::Kind { kind }),
        }
    }
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    Frame { kind, payload }.encode()
}

/// The bytes of a number, which must be all there is.
fn number<const N: usize>(kind: u8, payload: &[u8]) -> Result<[u8; N], Error> {
    payload.try_into().map_err(|_| wrong_payload(kind, payload))
}

fn decode_failed(payload: &[u8]) -> Result<FromChild, Error> {
    match payload.split_first() {
        Some((&code, reason)) if reason.len() <= REASON_BYTES_MAX => {
            let reason = str::from_utf8(reason).map_err(|_| Error::Text { kind: FAILED })?;
            Ok(FromChild::Failed {
                code,
                reason: reason.to_owned(),
            })
        }
        _ => Err(wrong_payload(FAILED, payload)),
    }
}

pub(super) fn no_payload(kind: u8, payload: &[u8]) -> Result<(), Error> {
    if payload.is_empty() {
        Ok(())
    } else {
        Err(wrong_payload(kind, payload))
    }
}

pub(super) fn wrong_payload(kind: u8, payload: &[u8]) -> Error {
    Error::Payload {
        kind,
        bytes: payload.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::FRAME_BYTES_MAX;
    use super::*;

    /// SplitMix64: a seeded stream of numbers.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn below(&mut self, limit: usize) -> usize {
            (self.next() % limit as u64) as usize
        }
    }

    fn any_message(numbers: &mut Numbers) -> FromChild {
        match numbers.below(7) {
            0 => FromChild::Ready,
            1 => FromChild::Artefact {
                app: numbers.next() as u32,
            },
            2 => FromChild::Loaded,
            3 => FromChild::Retire,
            4 => FromChild::Accept,
            5 => FromChild::Alive {
                now_ms: numbers.next(),
            },
            _ => {
                let length = numbers.below(300);
                let character = ['a', '\n', 'é', '\u{1f980}', '\0'][numbers.below(5)];
                let reason = std::iter::repeat_n(character, length).collect();
                FromChild::Failed {
                    code: numbers.next() as u8,
                    reason,
                }
            }
        }
    }

    #[test]
    fn every_message_is_read_back() {
        let accept = ToChild::Accept { listener: 0x1234 };
        for order in [
            ToChild::Serve,
            ToChild::Drain,
            ToChild::Retire,
            ToChild::ReopenLog,
            accept,
            ToChild::Revoke,
        ] {
            assert_eq!(ToChild::decode(&order.encode()), Ok(order));
        }
        let mut numbers = Numbers(1);
        for _ in 0..10_000 {
            let message = any_message(&mut numbers);
            let frame = message.encode();
            assert!(frame.len() <= FRAME_BYTES_MAX);
            assert_eq!(FromChild::decode(&frame), Ok(message));
        }
    }

    #[test]
    fn messages_are_shown_by_their_names() {
        let shown = [
            ToChild::Accept { listener: 2 }.to_string(),
            FromChild::Accept.to_string(),
            FromChild::Alive { now_ms: 1234 }.to_string(),
        ];
        assert_eq!(shown, ["ACCEPT:2", "ACCEPT", "ALIVE:1234"]);
    }

    #[test]
    fn one_side_does_not_speak_the_others_language() {
        let drain = ToChild::Drain.encode();
        assert_eq!(FromChild::decode(&drain), Err(Error::Kind { kind: DRAIN }));
        let ready = FromChild::Ready.encode();
        assert_eq!(ToChild::decode(&ready), Err(Error::Kind { kind: READY }));
    }

    #[test]
    fn malformed_payloads_are_errors() {
        let check = |kind, payload: &[u8], expect| {
            assert_eq!(
                FromChild::decode(&Frame { kind, payload }.encode()),
                Err(expect)
            );
        };
        let wrong = |kind, bytes| Error::Payload { kind, bytes };
        check(READY, b"x", wrong(READY, 1));
        check(HAS_ROOM, b"x", wrong(HAS_ROOM, 1));
        check(ALIVE, &[1; 7], wrong(ALIVE, 7));
        let accept = Frame {
            kind: ACCEPT,
            payload: &[1],
        };
        assert_eq!(ToChild::decode(&accept.encode()), Err(wrong(ACCEPT, 1)));
        check(LOADED, b"x", wrong(LOADED, 1));
        check(ARTEFACT, &[1, 2, 3], wrong(ARTEFACT, 3));
        check(ARTEFACT, &[1, 2, 3, 4, 5], wrong(ARTEFACT, 5));
        check(FAILED, &[], wrong(FAILED, 0));
        check(
            FAILED,
            &[b'a'; REASON_BYTES_MAX + 2],
            wrong(FAILED, REASON_BYTES_MAX + 2),
        );
        check(FAILED, &[3, 0xff], Error::Text { kind: FAILED });
        check(200, &[], Error::Kind { kind: 200 });
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "é".repeat(REASON_BYTES_MAX);
        let frame = FromChild::Failed {
            code: 4,
            reason: format!("x{reason}"),
        }
        .encode();
        let Ok(FromChild::Failed { code: 4, reason }) = FromChild::decode(&frame) else {
            panic!("{frame:?}");
        };
        assert_eq!(reason.len(), REASON_BYTES_MAX - 1);
        assert!(reason.ends_with('é'));
    }

    /// Whatever is accepted must encode to the very same bytes, so nothing has two spellings.
    #[test]
    fn random_and_damaged_bytes_never_panic_and_are_never_read_loosely() {
        let mut numbers = Numbers(2);
        let mut accepted = 0;
        for _ in 0..200_000 {
            let mut bytes = any_message(&mut numbers).encode();
            for _ in 0..numbers.below(4) {
                let index = numbers.below(bytes.len());
                bytes[index] = numbers.next() as u8;
            }
            match numbers.below(4) {
                0 => bytes.truncate(numbers.below(bytes.len() + 1)),
                1 => bytes.push(numbers.next() as u8),
                _ => {}
            }
            if let Ok(message) = FromChild::decode(&bytes) {
                assert_eq!(message.encode(), bytes);
                accepted += 1;
            }
            if let Ok(message) = ToChild::decode(&bytes) {
                assert_eq!(message.encode(), bytes);
            }
        }
        assert!((1000..199_000).contains(&accepted), "{accepted}");
    }

    #[test]
    fn pure_noise_never_panics() {
        let mut numbers = Numbers(3);
        for _ in 0..50_000 {
            let length = numbers.below(64);
            let noise: Vec<u8> = (0..length).map(|_| numbers.next() as u8).collect();
            let _ = (ToChild::decode(&noise), FromChild::decode(&noise));
        }
    }
}
