//! Defines what a control client may order, and how it is answered.
//!
//! Invariant: decoding is the inverse of encoding and accepts nothing else. A client says one
//! command, and gets parts of a document, if it asked for one, and then one last word.

use super::error::Error;
use super::frame::{Frame, PAYLOAD_BYTES_MAX};
use super::message::{no_payload, wrong_payload};

/// Most bytes of a last word; encoding cuts what is longer.
pub const TEXT_BYTES_MAX: usize = 2048;
/// Most bytes of one part of a document.
pub const PART_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;

const SHOW: u8 = 64;
const WORKER_ADD: u8 = 65;
const WORKER_REMOVE: u8 = 66;
const WORKER_KILL: u8 = 67;
const RELOAD: u8 = 68;
const REOPEN: u8 = 69;
const UPGRADE: u8 = 70;
const SHUTDOWN: u8 = 71;

const PART: u8 = 192;
const DONE: u8 = 193;
const REFUSED: u8 = 194;

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// Everything but the configuration.
    All = 0,
    /// Every worker, and every child of the other roles.
    Workers = 1,
    /// The apps.
    Apps = 2,
    /// Where the server listens.
    Listeners = 3,
    /// The settings.
    Config = 4,
    /// The arbiter and its counters.
    Stats = 5,
}

impl What {
    /// Each of them.
    pub const EACH: [Self; 6] = [
        Self::All,
        Self::Workers,
        Self::Apps,
        Self::Listeners,
        Self::Config,
        Self::Stats,
    ];

    /// What the operator calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Workers => "workers",
            Self::Apps => "apps",
            Self::Listeners => "listeners",
            Self::Config => "config",
            Self::Stats => "stats",
        }
    }
}

/// What a control client orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Show something.
    Show(What),
    /// So many workers more.
    WorkerAdd(u32),
    /// So many workers less.
    WorkerRemove(u32),
    /// Let this worker finish, and replace it.
    WorkerKill {
        /// Its process number.
        pid: u32,
    },
    /// Make the next generation. The answer comes when that has succeeded or failed.
    Reload,
    /// Open log files again.
    Reopen,
    /// Start the new program. The answer comes when that has succeeded or failed.
    Upgrade,
    /// Stop the server.
    Shutdown {
        /// Whether to drop what is in flight.
        quick: bool,
    },
}

/// What a control client is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The next bytes of a document: at most [`PART_BYTES_MAX`].
    Part(Vec<u8>),
    /// It has been done, or shown.
    Done(String),
    /// It has not been done, for this reason.
    Refused(String),
}

impl Command {
    /// The command as a frame.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Show(what) => (SHOW, vec![*what as u8]),
            Self::WorkerAdd(count) => (WORKER_ADD, count.to_le_bytes().to_vec()),
            Self::WorkerRemove(count) => (WORKER_REMOVE, count.to_le_bytes().to_vec()),
            Self::WorkerKill { pid } => (WORKER_KILL, pid.to_le_bytes().to_vec()),
            Self::Reload => (RELOAD, Vec::new()),
            Self::Reopen => (REOPEN, Vec::new()),
            Self::Upgrade => (UPGRADE, Vec::new()),
            Self::Shutdown { quick } => (SHUTDOWN, vec![u8::from(*quick)]),
        };
        let payload = &payload;
        Frame { kind, payload }.encode()
    }

    /// Reads the one command that `bytes` must be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Frame { kind, payload } = Frame::decode(bytes)?;
        let number = || {
            let bytes = payload.try_into();
            bytes
                .map(u32::from_le_bytes)
                .map_err(|_| wrong_payload(kind, payload))
        };
        match kind {
            SHOW => {
                let mut each = What::EACH.into_iter();
                each.find(|what| payload == [*what as u8])
                    .map(Self::Show)
                    .ok_or_else(|| wrong_payload(kind, payload))
            }
            WORKER_ADD => number().map(Self::WorkerAdd),
            WORKER_REMOVE => number().map(Self::WorkerRemove),
            WORKER_KILL => number().map(|pid| Self::WorkerKill { pid }),
            RELOAD => no_payload(kind, payload).map(|()| Self::Reload),
            REOPEN => no_payload(kind, payload).map(|()| Self::Reopen),
            UPGRADE => no_payload(kind, payload).map(|()| Self::Upgrade),
            SHUTDOWN => match payload {
                [quick @ (0 | 1)] => Ok(Self::Shutdown { quick: *quick == 1 }),
                _ => Err(wrong_payload(kind, payload)),
            },
            kind => Err(Error::Kind { kind }),
        }
    }
}

impl Answer {
    /// The answer as a frame. A part must be within [`PART_BYTES_MAX`].
    pub fn encode(&self) -> Vec<u8> {
        let text = |text: &str| {
            let end = text.floor_char_boundary(TEXT_BYTES_MAX);
            text.as_bytes()[..end].to_vec()
        };
        let (kind, payload) = match self {
            Self::Part(bytes) => (PART, bytes.clone()),
            Self::Done(words) => (DONE, text(words)),
            Self::Refused(words) => (REFUSED, text(words)),
        };
        let payload = &payload;
        Frame { kind, payload }.encode()
    }

    /// Reads the one answer that `bytes` must be.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Frame { kind, payload } = Frame::decode(bytes)?;
        let text = || match str::from_utf8(payload) {
            Ok(_) if payload.len() > TEXT_BYTES_MAX => Err(wrong_payload(kind, payload)),
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Error::Text { kind }),
        };
        match kind {
            PART => Ok(Self::Part(payload.to_vec())),
            DONE => text().map(Self::Done),
            REFUSED => text().map(Self::Refused),
            kind => Err(Error::Kind { kind }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::FRAME_BYTES_MAX;
    use super::*;

    fn commands() -> Vec<Command> {
        let mut commands: Vec<Command> = What::EACH.map(Command::Show).into();
        commands.extend([
            Command::WorkerAdd(0),
            Command::WorkerAdd(u32::MAX),
            Command::WorkerRemove(3),
            Command::WorkerKill { pid: 4_194_304 },
            Command::Reload,
            Command::Reopen,
            Command::Upgrade,
            Command::Shutdown { quick: false },
            Command::Shutdown { quick: true },
        ]);
        commands
    }

    fn answers() -> Vec<Answer> {
        vec![
            Answer::Part(Vec::new()),
            Answer::Part(vec![0xff, 0, 7]),
            Answer::Done(String::new()),
            Answer::Done("workers: 3".to_owned()),
            Answer::Refused("é".to_owned()),
        ]
    }

    #[test]
    fn every_command_and_answer_is_read_back() {
        for command in commands() {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
        let longest = [
            Answer::Part(vec![0xff; PART_BYTES_MAX]),
            Answer::Done("x".repeat(TEXT_BYTES_MAX)),
        ];
        for answer in answers().into_iter().chain(longest) {
            let frame = answer.encode();
            assert!(frame.len() <= FRAME_BYTES_MAX);
            assert_eq!(Answer::decode(&frame), Ok(answer));
        }
    }

    #[test]
    fn what_can_be_shown_has_a_name_and_a_number_of_its_own() {
        for (one, other) in What::EACH.iter().zip(&What::EACH[1..]) {
            assert_eq!(*one as u8 + 1, *other as u8);
            assert_ne!(one.name(), other.name());
        }
    }

    #[test]
    fn a_long_last_word_is_cut_between_characters() {
        let frame = Answer::Refused(format!("x{}", "é".repeat(TEXT_BYTES_MAX))).encode();
        let Ok(Answer::Refused(text)) = Answer::decode(&frame) else {
            panic!("{frame:?}");
        };
        assert_eq!(text.len(), TEXT_BYTES_MAX - 1);
    }

    #[test]
    fn one_side_does_not_speak_the_others_language() {
        for command in commands() {
            assert!(matches!(
                Answer::decode(&command.encode()),
                Err(Error::Kind { .. })
            ));
        }
        for answer in answers() {
            assert!(matches!(
                Command::decode(&answer.encode()),
                Err(Error::Kind { .. })
            ));
        }
    }

    #[test]
    fn malformed_payloads_are_errors() {
        let frame = |kind, payload: &[u8]| Frame { kind, payload }.encode();
        let command = |kind, payload: &[u8]| {
            let bytes = payload.len();
            let read = Command::decode(&frame(kind, payload));
            assert_eq!(read, Err(Error::Payload { kind, bytes }));
        };
        command(SHOW, &[]);
        command(SHOW, &[What::EACH.len() as u8]);
        command(SHOW, &[0, 0]);
        command(WORKER_ADD, &[1, 0, 0]);
        command(WORKER_REMOVE, &[1, 0, 0, 0, 0]);
        command(WORKER_KILL, &[]);
        command(RELOAD, &[0]);
        command(REOPEN, &[0]);
        command(UPGRADE, &[0]);
        command(SHUTDOWN, &[]);
        command(SHUTDOWN, &[2]);
        let answer = |kind, payload: &[u8], expect| {
            assert_eq!(Answer::decode(&frame(kind, payload)), Err(expect));
        };
        let bytes = TEXT_BYTES_MAX + 1;
        answer(
            DONE,
            &[b'a'; TEXT_BYTES_MAX + 1],
            Error::Payload { kind: DONE, bytes },
        );
        answer(REFUSED, &[0xff], Error::Text { kind: REFUSED });
    }

    /// Whatever is accepted must encode to the very same bytes, so nothing has two spellings.
    #[test]
    fn damaged_frames_never_panic_and_are_never_read_loosely() {
        let commands = commands().into_iter().map(|command| command.encode());
        let answers = answers().into_iter().map(|answer| answer.encode());
        for whole in commands.chain(answers) {
            for at in 0..whole.len() {
                for value in 0..=u8::MAX {
                    let mut bytes = whole.clone();
                    bytes[at] = value;
                    check(&bytes);
                    bytes.push(value);
                    check(&bytes);
                }
                assert!(Command::decode(&whole[..at]).is_err());
                assert!(Answer::decode(&whole[..at]).is_err());
            }
        }
    }

    #[test]
    fn noise_never_panics_and_is_never_read_loosely() {
        let mut seed = 1_u64;
        let mut below = |limit: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % limit
        };
        for length in 0..20_000 {
            let mut noise: Vec<u8> = (0..length % 64).map(|_| below(256) as u8).collect();
            check(&noise);
            // With a header that is right, so that the payload is looked at.
            let kind = [SHOW, WORKER_ADD, WORKER_KILL, SHUTDOWN, PART, DONE, REFUSED][below(7)];
            noise.truncate(below(8));
            let payload = &noise;
            check(&Frame { kind, payload }.encode());
        }
    }

    fn check(bytes: &[u8]) {
        if let Ok(read) = Command::decode(bytes) {
            assert_eq!(read.encode(), bytes);
        }
        if let Ok(read) = Answer::decode(bytes) {
            assert_eq!(read.encode(), bytes);
        }
    }
}
