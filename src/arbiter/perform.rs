//! Defines the driver of the arbiter: it waits for events and carries out what
//! [`State::step`] decides about them.
//!
//! Invariant: it decides nothing, it waits in one place only, and there it also hears signals.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::action::Action;
use super::children::{ChildId, Place};
use super::event::Event;
use super::exit::ExitCode;
use super::log::{self, Who};
use super::role::{Child, Role};
use super::state::{Settings, State};
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::protocol::message::{FromChild, ToChild};
use crate::scoreboard::Scoreboard;
use crate::sys::channel::{Channel, Recv};
use crate::sys::clock::monotonic_ms;
use crate::sys::memory_file;
use crate::sys::poll::{self, Watched};
use crate::sys::process::{self, Pid};
use crate::sys::signals::{Signal, SignalQueue};
use crate::sys::socket::Listener;

/// Messages that one child may have heard before the others have their turn.
const FRAMES_PER_TURN: usize = 64;
/// Messages of a dead child that are heard: more than its queue can hold, but not without end, as
/// it may have left a child of its own that goes on writing.
const LAST_WORDS_MAX: usize = 1024;

/// A living child, as the driver knows it.
struct Member {
    pid: Pid,
    /// Whether it is known to be gone: then its number may be another's.
    reaped: bool,
    /// `None` once nothing more is to be said or heard.
    channel: Option<Channel>,
}

/// Everything that the arbiter holds of the outside world.
pub(super) struct Driver {
    state: State,
    loader: Role,
    worker: Role,
    /// `None` in a child.
    signals: Option<SignalQueue>,
    scoreboard: Arc<Scoreboard>,
    pub(super) listeners: Vec<Listener>,
    pub(super) on_ready: Option<Box<dyn FnOnce()>>,
    family: BTreeMap<ChildId, Member>,
    /// By number of the app.
    artefacts: BTreeMap<u32, OwnedFd>,
    /// The file that came with the message that is being handled.
    arrived: Option<OwnedFd>,
    /// What carrying out actions has led to.
    events: VecDeque<Event>,
    exit: Option<ExitCode>,
}

impl fmt::Debug for Driver {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Driver")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Driver {
    pub(super) fn new(
        settings: Settings,
        loader: Role,
        worker: Role,
        signals: SignalQueue,
        scoreboard: Arc<Scoreboard>,
    ) -> Self {
        Self {
            state: State::new(settings),
            loader,
            worker,
            signals: Some(signals),
            scoreboard,
            listeners: Vec::new(),
            on_ready: None,
            family: BTreeMap::new(),
            artefacts: BTreeMap::new(),
            arrived: None,
            events: VecDeque::new(),
            exit: None,
        }
    }

    /// Runs until the state says to exit.
    pub(super) fn run(mut self) -> ExitCode {
        self.feed(Event::Tick);
        loop {
            if let Some(code) = self.exit {
                return code;
            }
            if let Err(error) = self.turn() {
                return self.give_up(&error);
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let speakers = self.wait()?;
        while let Some(signal) = self.signals.as_ref().map_or(Ok(None), SignalQueue::next)? {
            debug!("role=arbiter received {}", signal.name());
            if signal == Signal::Chld {
                self.reap();
            } else {
                self.feed(Event::Signal(signal));
            }
        }
        for child in speakers {
            self.hear(child, FRAMES_PER_TURN);
        }
        if self.state.wants_heartbeats(monotonic_ms()) {
            let words = self
                .state
                .watched()
                .filter_map(|child| self.heartbeat(child))
                .collect();
            self.feed(Event::Heartbeats(words));
        }
        self.feed(Event::Tick);
        Ok(())
    }

    /// Waits for a signal, a message or the next deadline. Returns who has something to say.
    fn wait(&self) -> io::Result<Vec<ChildId>> {
        let timeout = self
            .state
            .next_deadline()
            .map(|deadline_ms| Duration::from_millis(deadline_ms.saturating_sub(monotonic_ms())));
        let channels = self.family.iter();
        let channels = channels.filter_map(|(id, member)| Some((*id, member.channel.as_ref()?)));
        let (ids, mut watched): (Vec<ChildId>, Vec<Watched<'_>>) = channels
            .map(|(id, channel)| (id, Watched::readable(channel.as_fd())))
            .unzip();
        watched.extend(
            self.signals
                .as_ref()
                .map(|queue| Watched::readable(queue.as_fd())),
        );
        poll::wait(&mut watched, timeout)?;
        let ready = ids
            .into_iter()
            .zip(&watched)
            .filter(|(_, watched)| watched.is_ready());
        Ok(ready.map(|(id, _)| id).collect())
    }

    /// Lets the state decide about `event`, and about whatever follows from doing what it says.
    fn feed(&mut self, event: Event) {
        self.events.push_back(event);
        let mut actions = Vec::new();
        while let Some(event) = self.events.pop_front() {
            self.state.step(monotonic_ms(), event, &mut actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn(child) => self.spawn(child),
            Action::Send(child, message) => self.send(child, &message),
            Action::Kill(child, signal) => self.kill(child, signal),
            Action::KeepArtefact(app) => {
                self.artefacts
                    .extend(self.arrived.take().map(|file| (app, file)));
            }
            Action::Announce => {
                if let Some(on_ready) = self.on_ready.take() {
                    on_ready();
                }
            }
            Action::CloseListeners => self.close_listeners(),
            Action::Log(notice) => log::write(&notice, |id| self.who(id), &self.scoreboard),
            Action::Exit(code) => self.exit = Some(code),
        }
    }

    fn spawn(&mut self, id: ChildId) {
        match self.fork(id) {
            Ok((pid, channel)) => {
                self.family.insert(
                    id,
                    Member {
                        pid,
                        reaped: false,
                        channel: Some(channel),
                    },
                );
                info!("{} started", self.who(id));
            }
            Err(error) => {
                error!("{} cannot be started: {error}", self.who(id));
                self.events.push_back(Event::SpawnFailed { child: id });
            }
        }
    }

    fn fork(&mut self, id: ChildId) -> io::Result<(Pid, Channel)> {
        let (ours, theirs) = Channel::pair()?;
        if let Place::Slot(slot) = id.place {
            self.scoreboard.slot(slot).reset();
        }
        // In the child, closing everything that is the arbiter's comes before the child's code.
        let mut ours = Some(ours);
        let pid = process::fork(|| {
            ours = None;
            self.become_child(id, theirs)
        })?;
        let ours = ours.ok_or_else(|| io::Error::other("the channel was closed by its owner"))?;
        Ok((pid, ours))
    }

    /// The first instructions of a child.
    fn become_child(&mut self, id: ChildId, channel: Channel) -> i32 {
        self.signals = None;
        self.family.clear();
        self.arrived = None;
        let mut child = Child {
            slot: 0,
            generation: id.generation,
            channel,
            listeners: std::mem::take(&mut self.listeners),
            handed: std::mem::take(&mut self.artefacts).into_values().collect(),
            scoreboard: Arc::clone(&self.scoreboard),
        };
        match id.place {
            Place::Loader => {
                // It reads what others wrote: it gets nothing that it does not need.
                child.listeners.clear();
                child.handed.clear();
                (self.loader.main)(child)
            }
            Place::Slot(slot) => {
                child.slot = slot;
                (self.worker.main)(child)
            }
        }
    }

    fn send(&mut self, id: ChildId, message: &ToChild) {
        let channel = self
            .family
            .get(&id)
            .and_then(|member| member.channel.as_ref());
        let sent = channel.map_or(Ok(false), |channel| channel.send(&message.encode(), &[]));
        if !matches!(sent, Ok(true)) {
            debug!("{} takes no message: {sent:?}", self.who(id));
            self.events.push_back(Event::Hangup { child: id });
        }
    }

    fn kill(&mut self, id: ChildId, signal: Signal) {
        let who = self.who(id);
        let Some(member) = self.family.get_mut(&id) else {
            return;
        };
        if signal == Signal::Kill {
            member.channel = None;
        }
        if member.reaped {
            return;
        }
        if let Err(error) = process::kill(member.pid, signal) {
            warn!("{who} cannot be sent {}: {error}", signal.name());
        }
    }

    fn close_listeners(&mut self) {
        for listener in self.listeners.drain(..) {
            if let Err(error) = listener.unlink() {
                warn!(
                    "role=arbiter cannot remove {}: {error}",
                    listener.local_address()
                );
            }
        }
    }

    fn reap(&mut self) {
        while let Some((pid, reason)) = process::reap() {
            let found = self.family.iter_mut().find(|(_, member)| member.pid == pid);
            let Some((&child, member)) = found else {
                // As the first process of a container it inherits the orphans of others.
                debug!("role=arbiter reaped pid={pid}, which is no child: {reason}");
                continue;
            };
            member.reaped = true;
            // Its last words explain its end.
            self.hear(child, LAST_WORDS_MAX);
            self.feed(Event::ChildExited { child, reason });
            self.family.remove(&child);
        }
    }

    /// Receives up to `frames_max` messages of one child.
    fn hear(&mut self, child: ChildId, frames_max: usize) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        for _ in 0..frames_max {
            let Some(member) = self.family.get_mut(&child) else {
                return;
            };
            let Some(channel) = &member.channel else {
                return;
            };
            match channel.recv(&mut buffer) {
                Ok(Recv::Empty) => return,
                Ok(Recv::Eof) => {
                    member.channel = None;
                    self.feed(Event::Hangup { child });
                }
                Ok(Recv::Frame { len, fds }) => self.judge(child, &buffer[..len], fds),
                Err(error) => self.condemn(child, &error),
            }
        }
    }

    /// Passes on a frame if it is a message with the file that belongs to it.
    fn judge(&mut self, child: ChildId, frame: &[u8], mut files: Vec<OwnedFd>) {
        let message = match FromChild::decode(frame) {
            Ok(message) => message,
            Err(error) => return self.condemn(child, &error),
        };
        let expected = match message {
            FromChild::Artefact { .. } => 1,
            FromChild::Ready | FromChild::Loaded | FromChild::Failed { .. } => 0,
        };
        if files.len() != expected {
            let count = files.len();
            return self.condemn(child, &format_args!("{count} files came with {message:?}"));
        }
        if !files.iter().all(is_trustworthy) {
            return self.condemn(child, &"the artefact can be changed by others");
        }
        self.arrived = files.pop();
        self.feed(Event::FromChild { child, message });
        self.arrived = None;
    }

    fn condemn(&mut self, child: ChildId, why: &dyn fmt::Display) {
        warn!("{} is not understood: {why}", self.who(child));
        self.feed(Event::Illegal { child });
        if let Some(member) = self.family.get_mut(&child) {
            member.channel = None;
        }
    }

    fn heartbeat(&self, child: ChildId) -> Option<(ChildId, u64)> {
        match child.place {
            Place::Loader => None,
            Place::Slot(slot) => Some((child, self.scoreboard.slot(slot).alive_until())),
        }
    }

    fn who(&self, id: ChildId) -> Who {
        let role = match id.place {
            Place::Loader => self.loader.name,
            Place::Slot(_) => self.worker.name,
        };
        Who {
            role,
            id,
            pid: self.family.get(&id).map(|member| member.pid),
        }
    }

    /// Ends without the help of the state, when the kernel fails the driver itself.
    fn give_up(&mut self, error: &io::Error) -> ExitCode {
        error!("role=arbiter cannot go on: {error}");
        self.close_listeners();
        for child in self.family.keys().copied().collect::<Vec<_>>() {
            self.kill(child, Signal::Kill);
        }
        ExitCode::Failure
    }
}

/// Whether nobody but this server can change the file any more.
fn is_trustworthy(file: &OwnedFd) -> bool {
    let file = file.as_fd();
    memory_file::is_sealed(file) || memory_file::is_private_file(file).unwrap_or(false)
}

#[cfg(test)]
#[path = "perform_tests.rs"]
mod tests;
