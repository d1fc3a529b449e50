//! Defines how the driver makes children, hears them, and buries them.
//!
//! Invariant: a child owns what it is handed and nothing else of the arbiter, and everything that a
//! child had said is heard before its end is reported.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tracing::{debug, error, trace, warn};

use super::action::Notice;
use super::children::{ChildId, Place};
use super::clients::Clients;
use super::event::Event;
use super::log_files::AccessLogs;
use super::perform::{Driver, Surroundings};
use super::plan::Open;
use super::role::{Child, Title};
use crate::access;
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::protocol::message::{FromChild, ToChild};
use crate::protocol::upgrade::ToSuccessor;
use crate::sys::channel::{Channel, Recv};
use crate::sys::identity::Identity;
use crate::sys::memory_file;
use crate::sys::process::{self, Pid};
use crate::sys::signals::Signal;

/// Messages of a dead child that are heard: more than its queue can hold, but not without end, as
/// it may have left a child of its own that goes on writing.
const LAST_WORDS_MAX: usize = 1024;
/// Exit status of a child that could not become who it should be.
const NOT_ITSELF: i32 = 1;

/// A living child, as the driver knows it.
#[derive(Debug)]
struct Member {
    pid: Pid,
    role: &'static str,
    row: Option<usize>,
    /// Whether it was sent a signal that ends it at once.
    killed: bool,
    /// Whether it is known to be gone: then its number may be another's.
    reaped: bool,
    /// `None` once nothing more is to be said or heard.
    channel: Option<Channel>,
}

/// The living children.
#[derive(Debug, Default)]
pub(super) struct Family {
    members: BTreeMap<ChildId, Member>,
    /// Which they write to.
    pub(super) access_logs: AccessLogs,
    /// The file that came with the message that is being handled.
    arrived: Option<OwnedFd>,
}

impl Family {
    /// Nobody yet, with the access log of the first generation.
    pub(super) fn new(access_log: Option<access::Log>) -> Self {
        let mut family = Self::default();
        family.access_logs.keep(1, access_log);
        family
    }

    pub(super) fn ids(&self) -> Vec<ChildId> {
        self.members.keys().copied().collect()
    }

    pub(super) fn pid(&self, id: ChildId) -> Option<Pid> {
        self.members.get(&id).map(|member| member.pid)
    }

    pub(super) fn row(&self, id: ChildId) -> Option<usize> {
        self.members.get(&id)?.row
    }

    pub(super) fn role(&self, id: ChildId) -> Option<&'static str> {
        self.members.get(&id).map(|member| member.role)
    }

    /// Who in a slot has this process number.
    pub(super) fn find(&self, pid: u32) -> Option<ChildId> {
        let is_it = |(id, member): &(&ChildId, &Member)| {
            matches!(id.place, Place::Slot { .. }) && member.pid.number() == pid && !member.reaped
        };
        self.members.iter().find(is_it).map(|(id, _)| *id)
    }

    pub(super) fn channels(&self) -> impl Iterator<Item = (ChildId, &Channel)> {
        self.members
            .iter()
            .filter_map(|(id, member)| Some((*id, member.channel.as_ref()?)))
    }
}

impl Driver {
    pub(super) fn spawn(&mut self, id: ChildId, row: Option<usize>) {
        let role = self.who(id).role;
        let started = match id.place {
            Place::Successor => self.start_successor(),
            Place::Loader | Place::Slot { .. } => self.fork(id, row),
        };
        match started {
            Ok((pid, channel)) => {
                let member = Member {
                    pid,
                    role,
                    row,
                    killed: false,
                    reaped: false,
                    channel: Some(channel),
                };
                self.family.members.insert(id, member);
                self.tell(&Notice::Started(id));
            }
            Err(error) => self.events.push_back(Event::SpawnFailed {
                child: id,
                reason: error.to_string(),
            }),
        }
    }

    fn fork(&mut self, id: ChildId, row: Option<usize>) -> io::Result<(Pid, Channel)> {
        let (ours, theirs) = Channel::pair()?;
        if let Some(row) = row {
            self.scoreboard.slot(row).reset();
        }
        self.admit(id)?;
        // In the child, closing everything that is the arbiter's comes before the child's code.
        let mut ours = Some(ours);
        let arbiter = process::own_pid();
        let forked = process::fork(|| {
            ours = None;
            self.become_child(id, row, theirs, arbiter)
        });
        let pid = forked.inspect_err(|_| self.dismiss(id))?;
        let ours = ours.ok_or_else(|| io::Error::other("the channel was closed by its owner"))?;
        Ok((pid, ours))
    }

    /// The first instructions of a child.
    fn become_child(
        &mut self,
        id: ChildId,
        row: Option<usize>,
        channel: Channel,
        arbiter: Pid,
    ) -> i32 {
        let name = std::mem::take(&mut self.surroundings.name);
        self.surroundings = Surroundings::default();
        self.signals = None;
        self.files = None;
        // The channels to the others go: only their end tells them that the arbiter is dead.
        let access_logs = std::mem::take(&mut self.family).access_logs;
        self.clients = Clients::new(None);
        let Some(loaded) = std::mem::take(&mut self.plans).remove(&id.generation) else {
            return NOT_ITSELF;
        };
        let mut plan = loaded.plan;
        let is_its = |open: &Open| match id.place {
            Place::Slot { role, slot } => {
                open.role == role && open.slot.is_none_or(|own| own == slot)
            }
            Place::Loader | Place::Successor => false,
        };
        let listeners = plan.listeners.drain(..).filter(is_its);
        let mut child = Child {
            slot: 0,
            row: row.unwrap_or(0),
            generation: id.generation,
            serves: self.state.children().get(id).is_none_or(|it| it.serves),
            channel,
            listeners: listeners.map(|open| open.listener).collect(),
            handed: loaded.artefacts.into_values().collect(),
            scoreboard: Arc::clone(&self.scoreboard),
            access_log: access_logs.inherit(id),
            seat: loaded.usher.and_then(|usher| usher.into_seat(id)),
            title: Title(format!("{name}: loader gen {}", id.generation)),
        };
        let role = match id.place {
            Place::Slot { role, slot } => {
                child.slot = slot;
                let role = plan.slot_role(role);
                let called = role.map_or("child", |role| role.name);
                child.title = Title(format!("{name}: {called} {slot} gen {}", id.generation));
                role
            }
            Place::Loader | Place::Successor => {
                // It reads what others wrote: it gets nothing that it does not need.
                child.handed.clear();
                plan.loader.as_ref()
            }
        };
        child.title.set_state("booting");
        if let Err(error) = plan.identity.as_ref().map_or(Ok(()), Identity::become_it) {
            let reason = format!("cannot become the user or group that it should be: {error}");
            let code = super::exit::ExitCode::Config.number();
            let failed = FromChild::Failed { code, reason };
            // The status says it too.
            let _ = child.channel.send_blocking(&failed.encode(), &[]);
            return i32::from(code);
        }
        // A loader listens to nobody while it compiles, so it would outlive the arbiter. The kernel
        // forgets this order when the user changes.
        if id.place == Place::Loader
            && let Err(error) = process::die_with_parent(arbiter)
        {
            warn!("role=loader cannot be tied to the arbiter: {error}");
        }
        role.map_or(NOT_ITSELF, |role| (role.main)(child))
    }

    /// Starts the new program, and hands it the listeners.
    fn start_successor(&mut self) -> io::Result<(Pid, Channel)> {
        if process::is_first_process() {
            return Err(io::Error::other(
                "the first process of a container cannot be replaced: replace the container",
            ));
        }
        let Some(program) = &self.surroundings.program else {
            return Err(io::Error::other("this server does not know its program"));
        };
        let (ours, theirs) = Channel::pair()?;
        let plan = self.plans.values().next();
        for (key, listener) in plan.into_iter().flat_map(|loaded| loaded.plan.listeners()) {
            let owned = listener.owns_file();
            let key = key.to_owned();
            let frame = ToSuccessor::Listener { key, owned }.encode();
            if !ours.send(&frame, &[listener.as_fd()])? {
                return Err(io::Error::other(
                    "there are too many listeners to hand over",
                ));
            }
        }
        if let Some(listener) = self.clients.listener() {
            ours.send(&ToSuccessor::Control.encode(), &[listener.as_fd()])?;
        }
        if let Some(secret) = plan.and_then(|loaded| loaded.plan.secret) {
            ours.send(&ToSuccessor::Secret(secret).encode(), &[])?;
        }
        ours.send(&ToSuccessor::Done.encode(), &[])?;
        let pid = program.start(&theirs, &[])?;
        Ok((pid, ours))
    }

    pub(super) fn send(&mut self, id: ChildId, message: &ToChild, file: Option<&OwnedFd>) {
        let sent = self.offer(id, message, file);
        if !matches!(sent, Ok(true)) {
            debug!("{} takes no message: {sent:?}", self.who(id));
            self.events.push_back(Event::Hangup { child: id });
        }
    }

    /// Says something that a child may miss. Whether it was said.
    pub(super) fn try_send(&self, id: ChildId, message: &ToChild) -> bool {
        matches!(self.offer(id, message, None), Ok(true))
    }

    fn offer(&self, id: ChildId, message: &ToChild, file: Option<&OwnedFd>) -> io::Result<bool> {
        let member = self.family.members.get(&id);
        let Some(channel) = member.and_then(|member| member.channel.as_ref()) else {
            return Ok(false);
        };
        trace!("{} is told {message}", self.who(id));
        let files: Vec<_> = file.into_iter().map(|file| file.as_fd()).collect();
        channel.send(&message.encode(), &files)
    }

    pub(super) fn kill(&mut self, id: ChildId, signal: Signal) {
        let who = self.who(id);
        let Some(member) = self.family.members.get_mut(&id) else {
            return;
        };
        if signal == Signal::Kill {
            member.channel = None;
        }
        member.killed |= matches!(signal, Signal::Kill | Signal::Abrt);
        if member.reaped {
            return;
        }
        if let Err(error) = process::kill(member.pid, signal) {
            warn!("{who} cannot be sent {}: {error}", signal.name());
        }
    }

    pub(super) fn reap(&mut self) {
        while let Some((pid, reason)) = process::reap() {
            let mut members = self.family.members.iter_mut();
            let Some((&child, member)) = members.find(|(_, member)| member.pid == pid) else {
                // As the first process of a container it inherits the orphans of others.
                debug!("role=arbiter reaped pid={pid}, which is no child: {reason}");
                continue;
            };
            member.reaped = true;
            let (row, killed) = (member.row, member.killed);
            // Its last words explain its end.
            self.hear(child, LAST_WORDS_MAX);
            if let Some(row) = row {
                self.counters.leave(self.scoreboard.slot(row));
                self.write_left_behind(child, pid, row, killed);
            }
            self.dismiss(child);
            self.feed(Event::ChildExited { child, reason });
            self.family.members.remove(&child);
            self.close_access_logs();
        }
    }

    /// Receives up to `frames_max` messages of one child.
    pub(super) fn hear(&mut self, child: ChildId, frames_max: usize) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        for _ in 0..frames_max {
            let Some(member) = self.family.members.get_mut(&child) else {
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
            FromChild::Ready
            | FromChild::Loaded
            | FromChild::Failed { .. }
            | FromChild::Retire
            | FromChild::Accept
            | FromChild::Alive { .. } => 0,
        };
        if files.len() != expected {
            let count = files.len();
            return self.condemn(child, &format_args!("{count} files came with {message:?}"));
        }
        trace!("{} says {message}", self.who(child));
        let loaded = self.plans.get(&child.generation);
        let identity = loaded.and_then(|loaded| loaded.plan.identity.as_ref());
        if !files.iter().all(|file| is_trustworthy(file, identity)) {
            return self.condemn(child, &"the artefact can be changed by others");
        }
        self.family.arrived = files.pop();
        self.feed(Event::FromChild { child, message });
        self.family.arrived = None;
    }

    pub(super) fn keep_artefact(&mut self, child: ChildId, app: u32) {
        let loaded = self.plans.get_mut(&child.generation);
        if let (Some(loaded), Some(file)) = (loaded, self.family.arrived.take()) {
            loaded.artefacts.insert(app, file);
        }
    }

    fn condemn(&mut self, child: ChildId, why: &dyn fmt::Display) {
        error!("{} is not understood: {why}", self.who(child));
        self.feed(Event::Illegal { child });
        if let Some(member) = self.family.members.get_mut(&child) {
            member.channel = None;
        }
    }
}

/// Whether nobody but this server, as who its children are, can change the file any more.
fn is_trustworthy(file: &OwnedFd, identity: Option<&Identity>) -> bool {
    let uid = identity.map_or_else(process::effective_uid, |identity| identity.uid);
    let file = file.as_fd();
    memory_file::is_sealed(file) || memory_file::is_private_file(file, uid).unwrap_or(false)
}
