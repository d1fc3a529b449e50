//! Defines the arbiter's side of the control socket: clients that connect, say one command, and are
//! answered, all in the arbiter's own poll.
//!
//! Invariant: no client can delay the arbiter or keep others away: nothing here waits, one frame of
//! each client is read a turn and few are written, and clients, what is queued for them and how long
//! they may take are bounded.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::AsFd;

use tracing::{debug, warn};

use crate::protocol::control::{Answer, Command, PART_BYTES_MAX};
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::protocol::report::Report;
use crate::sys::channel::{Channel, ChannelListener, Recv};
use crate::sys::poll::Watched;
use crate::sys::process;

/// Clients at the same time.
const CLIENTS_MAX: usize = 16;
/// What one client more is told.
const TOO_MANY: &str = "there are too many control clients; try again";
/// A client may be silent for so long.
const SILENCE_MS: u64 = 60_000;
/// But only for so long when others want its place: whoever has a command says it at once.
const HESITATION_MS: u64 = 1000;
/// A client must take what is queued for it within so long.
const TAKING_MS: u64 = 10_000;
/// Most bytes of a document: it waits in the arbiter's memory until the client has taken it.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// Most bytes of all documents that wait.
const QUEUED_BYTES_MAX: usize = 2 * DOCUMENT_BYTES_MAX;
/// Frames that one client may take before the others have their turn.
const FRAMES_PER_TURN: usize = 16;
/// When the kernel cannot give a connection, for want of descriptors or memory, clients wait so long
/// in the socket's queue.
const BREATHER_MS: u64 = 1000;

/// The name of one client, never used again for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// What the poll found ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Somebody connects.
    Listener,
    /// This client has said something, takes more, or is gone.
    Client(ClientId),
}

/// What a client is about to do.
#[derive(Debug)]
enum Turn {
    /// Say a command, by this time.
    Speak { by_ms: u64 },
    /// Wait until what it ordered is done.
    Wait,
    /// Take these frames, by this time.
    Take {
        frames: VecDeque<Vec<u8>>,
        by_ms: u64,
    },
}

#[derive(Debug)]
struct Client {
    channel: Channel,
    turn: Turn,
}

/// Everybody who is connected to the control socket.
#[derive(Debug)]
pub(super) struct Clients {
    listener: Option<ChannelListener>,
    /// Until when nobody is let in.
    closed_until_ms: Option<u64>,
    connected: BTreeMap<ClientId, Client>,
    ids: u64,
}

impl Clients {
    /// Nobody yet; without a listener nobody ever.
    pub(super) fn new(listener: Option<ChannelListener>) -> Self {
        Self {
            listener,
            closed_until_ms: None,
            connected: BTreeMap::new(),
            ids: 0,
        }
    }

    /// Lets clients connect from now on.
    pub(super) fn listen(&mut self, listener: ChannelListener) {
        self.listener = Some(listener);
    }

    /// What to poll for, and in which order to look at what is ready: who has spoken is heard before
    /// somebody else gets its place.
    pub(super) fn watched(&self) -> impl Iterator<Item = (Token, Watched<'_>)> {
        let listener = self.listener.iter();
        let listener = listener.filter(|_| self.closed_until_ms.is_none());
        let listener =
            listener.map(|listener| (Token::Listener, Watched::readable(listener.as_fd())));
        let clients = self.connected.iter().map(|(id, client)| {
            let fd = client.channel.as_fd();
            let watched = match client.turn {
                Turn::Speak { .. } | Turn::Wait => Watched::readable(fd),
                Turn::Take { .. } => Watched::writable(fd),
            };
            (Token::Client(*id), watched)
        });
        clients.chain(listener)
    }

    /// When somebody loses patience.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let deadlines = self.connected.values().map(Client::deadline);
        deadlines.flatten().chain(self.closed_until_ms).min()
    }

    /// Closes those who took too long.
    pub(super) fn expire(&mut self, now_ms: u64) {
        self.closed_until_ms = self.closed_until_ms.filter(|until_ms| *until_ms > now_ms);
        self.connected
            .retain(|_, client| client.deadline().is_none_or(|by_ms| by_ms > now_ms));
    }

    /// Does what can be done without waiting for what the poll found, and returns the command that it
    /// led to, if it is one.
    pub(super) fn on_ready(&mut self, token: Token, now_ms: u64) -> Option<(ClientId, Command)> {
        match token {
            Token::Listener => {
                self.accept(now_ms);
                None
            }
            Token::Client(id) => match self.connected.get_mut(&id)?.advance() {
                Ok(command) => command.map(|command| (id, command)),
                Err(Gone) => {
                    self.connected.remove(&id);
                    None
                }
            },
        }
    }

    /// Answers a command with its last word. A client that has gone hears nothing.
    pub(super) fn reply(&mut self, id: ClientId, answer: Result<String, String>, now_ms: u64) {
        let last = match answer {
            Ok(text) => Answer::Done(text),
            Err(reason) => Answer::Refused(reason),
        };
        self.give(id, VecDeque::from([last.encode()]), now_ms);
    }

    /// Answers a command with a document.
    pub(super) fn show(&mut self, id: ClientId, report: &Report, now_ms: u64) {
        match serde_json::to_vec(report) {
            Ok(document) if document.len() > DOCUMENT_BYTES_MAX => {
                let reason = "it is too long to be shown at once; ask for a part of it";
                self.reply(id, Err(reason.to_owned()), now_ms);
            }
            Ok(document) if document.len() + self.queued_bytes() > QUEUED_BYTES_MAX => {
                let reason = "other clients are slow to take what they asked for; try again";
                self.reply(id, Err(reason.to_owned()), now_ms);
            }
            Ok(document) => {
                let parts = document.chunks(PART_BYTES_MAX);
                let parts = parts.map(|part| Answer::Part(part.to_vec()).encode());
                let last = Answer::Done(String::new()).encode();
                self.give(id, parts.chain([last]).collect(), now_ms);
            }
            Err(error) => self.reply(id, Err(error.to_string()), now_ms),
        }
    }

    /// What clients connect to, for whoever is to have it after this arbiter.
    pub(super) fn listener(&self) -> Option<&ChannelListener> {
        self.listener.as_ref()
    }

    /// Closes everything. The socket file is removed, unless somebody has it after this arbiter.
    pub(super) fn close_all(&mut self, has_heir: bool) {
        self.connected.clear();
        if let Some(listener) = self.listener.take()
            && !has_heir
            && let Err(error) = listener.unlink()
        {
            warn!("role=arbiter cannot remove the control socket: {error}");
        }
    }

    fn queued_bytes(&self) -> usize {
        let queued = self.connected.values().map(|client| match &client.turn {
            Turn::Speak { .. } | Turn::Wait => 0,
            Turn::Take { frames, .. } => frames.iter().map(Vec::len).sum(),
        });
        queued.sum()
    }

    fn give(&mut self, id: ClientId, frames: VecDeque<Vec<u8>>, now_ms: u64) {
        let Some(client) = self.connected.get_mut(&id) else {
            return;
        };
        client.turn = Turn::Take {
            frames,
            by_ms: now_ms + TAKING_MS,
        };
        // Most answers fit into the socket's queue, so that the client has them even if the arbiter
        // is about to end.
        if let Err(Gone) = client.advance() {
            self.connected.remove(&id);
        }
    }

    /// Lets one client in.
    fn accept(&mut self, now_ms: u64) {
        let accepted = self.listener.as_ref().map(ChannelListener::accept);
        let (channel, uid) = match accepted {
            Some(Ok(Some(accepted))) => accepted,
            None | Some(Ok(None)) => return,
            Some(Err(error)) => {
                warn!("role=arbiter cannot accept control clients, they wait: {error}");
                self.closed_until_ms = Some(now_ms + BREATHER_MS);
                return;
            }
        };
        if uid != 0 && uid != process::effective_uid() {
            return warn!("role=arbiter refused a control client of user {uid}");
        }
        if self.connected.len() >= CLIENTS_MAX && !self.make_room(now_ms) {
            let answer = Answer::Refused(TOO_MANY.to_owned());
            // If it does not fit into an empty queue, the client is gone.
            let _ = channel.send(&answer.encode(), &[]);
            return;
        }
        self.ids += 1;
        let turn = Turn::Speak {
            by_ms: now_ms + SILENCE_MS,
        };
        self.connected
            .insert(ClientId(self.ids), Client { channel, turn });
    }

    /// Closes the client that has been silent for the longest time, if that is long enough.
    fn make_room(&mut self, now_ms: u64) -> bool {
        let latest_ms = now_ms + SILENCE_MS - HESITATION_MS;
        let hesitates = |client: &Client| match client.turn {
            Turn::Speak { by_ms } => by_ms <= latest_ms,
            Turn::Wait | Turn::Take { .. } => false,
        };
        let mut clients = self.connected.iter();
        let silent = clients.find(|(_, client)| hesitates(client));
        let silent = silent.map(|(id, _)| *id);
        silent.is_some_and(|id| self.connected.remove(&id).is_some())
    }
}

/// A client is to be closed: it has what it wanted, has gone, or breaks the rules.
struct Gone;

impl Client {
    fn deadline(&self) -> Option<u64> {
        match self.turn {
            Turn::Speak { by_ms } | Turn::Take { by_ms, .. } => Some(by_ms),
            Turn::Wait => None,
        }
    }

    fn advance(&mut self) -> Result<Option<Command>, Gone> {
        match &mut self.turn {
            Turn::Speak { .. } => self.listen(),
            // It has nothing to say now, so it has gone, or does not keep to its turn.
            Turn::Wait => match self.channel.recv(&mut [0; FRAME_BYTES_MAX]) {
                Ok(Recv::Empty) => Ok(None),
                Ok(Recv::Eof | Recv::Frame { .. }) | Err(_) => Err(Gone),
            },
            Turn::Take { frames, .. } => {
                for _ in 0..FRAMES_PER_TURN {
                    let Some(frame) = frames.front() else {
                        break;
                    };
                    match self.channel.send(frame, &[]) {
                        Ok(true) => frames.pop_front(),
                        Ok(false) => return Ok(None),
                        Err(_) => return Err(Gone),
                    };
                }
                // One command is one connection.
                if frames.is_empty() {
                    return Err(Gone);
                }
                Ok(None)
            }
        }
    }

    fn listen(&mut self) -> Result<Option<Command>, Gone> {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let (len, files) = match self.channel.recv(&mut buffer) {
            Ok(Recv::Empty) => return Ok(None),
            Ok(Recv::Eof) | Err(_) => return Err(Gone),
            Ok(Recv::Frame { len, fds }) => (len, fds.len()),
        };
        match Command::decode(&buffer[..len]) {
            Ok(command) if files == 0 => {
                self.turn = Turn::Wait;
                Ok(Some(command))
            }
            Ok(_) => Err(Gone),
            Err(error) => {
                debug!("role=arbiter does not understand a control client: {error}");
                Err(Gone)
            }
        }
    }
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
