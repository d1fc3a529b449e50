//! Defines the driver of the arbiter: it waits for events and carries out what
//! [`State::step`] decides about them.
//!
//! Invariant: it decides nothing, it waits in one place only, and there it also hears signals.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, warn};

use super::action::{Action, Notice};
use super::builder::CONTROL_MODE;
use super::children::{ChildId, Place};
use super::clients::{self, Clients};
use super::event::{Event, Order};
use super::exit::ExitCode;
use super::family::Family;
use super::generation::Settings;
use super::log::{self, Who};
use super::plan::Plan;
use super::plans::Loaded;
use super::role::Title;
use super::show::Counters;
use super::state::{Circumstances, Phase, State};
use super::systemd::ServiceManager;
use crate::protocol::control::Command;
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::protocol::message::FromChild;
use crate::scoreboard::Scoreboard;
use crate::sys::channel::{Channel, ChannelListener, Recv};
use crate::sys::clock::monotonic_ms;
use crate::sys::file_watch::FileWatch;
use crate::sys::pid_file::PidFile;
use crate::sys::poll::{self, Watched};
use crate::sys::program::Program;
use crate::sys::signals::{Signal, SignalQueue};

/// Messages that one child may have heard before the others have their turn.
const FRAMES_PER_TURN: usize = 64;

/// What the next plan is made with.
pub(super) type PlanAgain = Box<dyn Fn(&Plan) -> Result<Plan, String>>;
/// Who is told of everything that happens.
pub(super) type OnNotice = Box<dyn FnMut(&Notice, Option<Who>)>;

/// What an arbiter may have besides children. A child has none of it.
pub(super) struct Surroundings {
    /// How process titles begin.
    pub(super) name: String,
    pub(super) plan_again: Option<PlanAgain>,
    pub(super) on_ready: Option<Box<dyn FnOnce()>>,
    pub(super) on_notice: Option<OnNotice>,
    pub(super) control: Option<ChannelListener>,
    pub(super) control_path: Option<PathBuf>,
    pub(super) pid_file: Option<PidFile>,
    /// The name that the file is to have in the end.
    pub(super) pid_path: Option<PathBuf>,
    pub(super) log_path: Option<PathBuf>,
    pub(super) program: Option<Program>,
    pub(super) predecessor: Option<Channel>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            name: "rgunicorn".to_owned(),
            plan_again: None,
            on_ready: None,
            on_notice: None,
            control: None,
            control_path: None,
            pid_file: None,
            pid_path: None,
            log_path: None,
            program: None,
            predecessor: None,
        }
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Surroundings")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Everything that the arbiter holds of the outside world.
pub(super) struct Driver {
    pub(super) state: State,
    /// By generation: the one that serves, and the one that is being made.
    pub(super) plans: BTreeMap<u32, Loaded>,
    pub(super) surroundings: Surroundings,
    /// `None` in a child.
    pub(super) signals: Option<SignalQueue>,
    pub(super) scoreboard: Arc<Scoreboard>,
    pub(super) family: Family,
    pub(super) clients: Clients,
    pub(super) files: Option<FileWatch>,
    pub(super) service: ServiceManager,
    pub(super) counters: Counters,
    /// What carrying out actions has led to.
    pub(super) events: VecDeque<Event>,
    /// What the process title and the service manager were told last.
    told: Option<(Phase, u32, usize)>,
    exit: Option<ExitCode>,
}

/// Whom the arbiter waits for.
enum Source {
    Signals,
    Child(ChildId),
    Client(clients::Token),
    Predecessor,
    Files,
    /// Those who connect, for the workers of a generation.
    Listeners(u32),
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
        circumstances: Circumstances,
        settings: Settings,
        mut first: Loaded,
        mut surroundings: Surroundings,
        signals: SignalQueue,
        scoreboard: Arc<Scoreboard>,
    ) -> Self {
        // Those who connect beside a predecessor are its clients still.
        let control = surroundings
            .control
            .take_if(|_| surroundings.predecessor.is_none());
        let clients = Clients::new(control);
        let family = Family::new(first.plan.access_log.take());
        Self {
            state: State::new(circumstances, settings),
            plans: BTreeMap::from([(1, first)]),
            surroundings,
            signals: Some(signals),
            scoreboard,
            family,
            clients,
            files: None,
            service: ServiceManager::new(circumstances.predecessor),
            counters: Counters::new(monotonic_ms()),
            events: VecDeque::new(),
            told: None,
            exit: None,
        }
    }

    /// Runs until the state says to exit.
    pub(super) fn run(mut self) -> ExitCode {
        self.watch_files(1);
        self.feed(Event::Tick);
        loop {
            if let Some(code) = self.exit {
                return self.end(code);
            }
            if let Err(error) = self.turn() {
                return self.give_up(&error);
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let sources = self.wait()?;
        // Signals first: whatever else is going on, they are obeyed.
        while let Some(signal) = self.signals.as_ref().map_or(Ok(None), SignalQueue::next)? {
            debug!("role=arbiter received {}", signal.name());
            if signal == Signal::Chld {
                self.reap();
            } else {
                self.feed(Event::Signal(signal));
            }
        }
        for source in sources {
            match source {
                Source::Signals => {}
                Source::Child(child) => self.hear(child, FRAMES_PER_TURN),
                Source::Client(token) => self.hear_client(token),
                Source::Predecessor => self.hear_predecessor(),
                Source::Files => self.hear_files(),
                Source::Listeners(generation) => self.attend(generation),
            }
        }
        self.look_at_listeners();
        let now_ms = monotonic_ms();
        self.clients.expire(now_ms);
        if self.state.wants_heartbeats(now_ms) {
            let words = self.heartbeats();
            self.feed(Event::Heartbeats(words));
        }
        if self.state.wants_memory(now_ms) {
            let samples = self.memory_samples();
            self.feed(Event::Memory(samples));
        }
        self.feed(Event::Tick);
        Ok(())
    }

    /// Waits for a signal, a message or the next deadline. Returns who has something to say.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let ushers = || {
            let plans = self.plans.iter();
            plans.filter_map(|(number, loaded)| Some((*number, loaded.usher.as_ref()?)))
        };
        let deadlines = [self.state.next_deadline(), self.clients.next_deadline()];
        let looks = ushers().filter_map(|(_, usher)| usher.next_deadline());
        let timeout = deadlines.into_iter().flatten().chain(looks).min();
        let timeout =
            timeout.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(monotonic_ms())));
        let mut sources = Vec::new();
        let mut watched: Vec<Watched<'_>> = Vec::new();
        let mut add = |source, what| {
            sources.push(source);
            watched.push(what);
        };
        if let Some(signals) = &self.signals {
            add(Source::Signals, Watched::readable(signals.as_fd()));
        }
        for (child, channel) in self.family.channels() {
            add(Source::Child(child), Watched::readable(channel.as_fd()));
        }
        for (token, client) in self.clients.watched() {
            add(Source::Client(token), client);
        }
        if let Some(predecessor) = &self.surroundings.predecessor {
            add(Source::Predecessor, Watched::readable(predecessor.as_fd()));
        }
        if let Some(files) = &self.files {
            add(Source::Files, Watched::readable(files.as_fd()));
        }
        for (number, usher) in ushers() {
            for descriptor in usher.descriptors() {
                add(Source::Listeners(number), Watched::readable(descriptor));
            }
        }
        poll::wait(&mut watched, timeout)?;
        let ready = sources.into_iter().zip(&watched);
        let ready = ready.filter(|(_, watched)| watched.is_ready());
        Ok(ready.map(|(source, _)| source).collect())
    }

    /// Lets the state decide about `event`, and about whatever follows from doing what it says.
    pub(super) fn feed(&mut self, event: Event) {
        self.events.push_back(event);
        let mut actions = Vec::new();
        while let Some(event) = self.events.pop_front() {
            self.state.step(monotonic_ms(), event, &mut actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
        }
        self.show_phase();
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn(child, row) => self.spawn(child, row),
            Action::Send(child, message) => self.send(child, &message, None),
            Action::Kill(child, signal) => self.kill(child, signal),
            Action::KeepArtefact(child, app) => self.keep_artefact(child, app),
            Action::Announce => {
                self.service.ready();
                if let Some(on_ready) = self.surroundings.on_ready.take() {
                    on_ready();
                }
                self.share_null();
            }
            Action::Prepare(number) => self.prepare(number),
            Action::Grant(number) => self.grant(number),
            Action::Believe(child) => self.believe(child),
            Action::Adopt(number) => self.adopt(number),
            Action::Discard(number) => self.discard(number),
            Action::CloseListeners { unlink } => self.close_listeners(unlink),
            Action::ReopenLogs(client) => {
                let answer = self.reopen_logs();
                if let Some(client) = client {
                    self.clients.reply(client, answer, monotonic_ms());
                }
            }
            Action::TellPredecessor(message) => self.tell_predecessor(&message),
            Action::Promote => self.promote(),
            Action::Reply(client, answer) => self.clients.reply(client, answer, monotonic_ms()),
            Action::Show(client, what) => {
                let report = self.report(what);
                self.clients.show(client, &report, monotonic_ms());
            }
            Action::PetWatchdog => self.service.pet_watchdog(),
            Action::Log(notice) => self.tell(&notice),
            Action::Exit(code) => self.exit = Some(code),
        }
    }

    /// Writes a notice to the log, and tells it to all who observe.
    pub(super) fn tell(&mut self, notice: &Notice) {
        let who = notice.child().map(|id| self.who(id));
        let row = notice.child().and_then(|id| self.family.row(id));
        log::write(
            notice,
            who.as_ref(),
            row.map(|row| self.scoreboard.slot(row)),
        );
        self.counters.count(notice, who.as_ref());
        self.service.observe(notice, who.as_ref());
        if let Some(on_notice) = &mut self.surroundings.on_notice {
            on_notice(notice, who);
        }
    }

    fn hear_client(&mut self, token: clients::Token) {
        if let Some((client, command)) = self.clients.on_ready(token, monotonic_ms()) {
            debug!("role=arbiter client={} {command:?}", client.0);
            let order = self.order(command);
            self.feed(Event::Control { client, order });
        }
    }

    fn order(&self, command: Command) -> Order {
        match command {
            Command::Show(what) => Order::Show(what),
            Command::WorkerAdd(count) => Order::WorkerAdd(count),
            Command::WorkerRemove(count) => Order::WorkerRemove(count),
            Command::WorkerKill { pid } => Order::WorkerKill(self.family.find(pid)),
            Command::Reload => Order::Reload,
            Command::Reopen => Order::Reopen,
            Command::Upgrade => Order::Upgrade,
            Command::Shutdown { quick } => Order::Shutdown { quick },
        }
    }

    fn tell_predecessor(&mut self, message: &FromChild) {
        if let Some(channel) = &self.surroundings.predecessor {
            // If it is gone, the poll tells.
            let _ = channel.send(&message.encode(), &[]);
        }
    }

    fn hear_predecessor(&mut self) {
        let mut buffer = [0; FRAME_BYTES_MAX];
        let heard = self
            .surroundings
            .predecessor
            .as_ref()
            .map(|channel| channel.recv(&mut buffer));
        match heard {
            None | Some(Ok(Recv::Empty | Recv::Frame { .. })) => {}
            Some(Ok(Recv::Eof) | Err(_)) => {
                self.surroundings.predecessor = None;
                self.feed(Event::PredecessorGone);
            }
        }
    }

    fn promote(&mut self) {
        self.service.promote();
        // It has not heard yet what this server is doing.
        self.told = None;
        self.open_control();
        let Surroundings {
            pid_file, pid_path, ..
        } = &mut self.surroundings;
        if let (Some(file), Some(path)) = (pid_file, pid_path)
            && let Err(error) = file.rename(path)
        {
            warn!(
                "role=arbiter cannot rename the pid file to {}: {error}",
                path.display()
            );
        }
    }

    /// Lets control clients connect, where the predecessor did if that is the same place.
    fn open_control(&mut self) {
        let path = self.surroundings.control_path.take();
        let inherited = self.surroundings.control.take();
        let fits =
            |listener: &ChannelListener| path.as_ref().is_some_and(|path| listener.is_at(path));
        match (inherited, &path) {
            (Some(listener), _) if fits(&listener) => return self.clients.listen(listener),
            (Some(listener), _) => {
                if let Err(error) = listener.unlink() {
                    warn!("role=arbiter cannot remove the control socket: {error}");
                }
            }
            (None, _) => {}
        }
        match path.map(|path| ChannelListener::bind(&path, CONTROL_MODE)) {
            Some(Ok(listener)) => self.clients.listen(listener),
            Some(Err(error)) => error!("role=arbiter has no control socket: {error}"),
            None => {}
        }
    }

    /// Shows in the process title and to the service manager what the server is doing.
    fn show_phase(&mut self) {
        let now = (
            self.state.phase(),
            self.state.generation(),
            self.state.workers(),
        );
        if self.told.replace(now) == Some(now) {
            return;
        }
        let (phase, generation, workers) = now;
        let name = phase_name(phase);
        let title = format!("{}: arbiter gen {generation}", self.surroundings.name);
        Title(title).set_state(name);
        self.service.status(&format!(
            "{name}: generation {generation}, {workers} workers"
        ));
    }

    pub(super) fn who(&self, id: ChildId) -> Who {
        let role = match id.place {
            Place::Loader => "loader",
            Place::Successor => "successor",
            Place::Slot { role, .. } => self.family.role(id).unwrap_or_else(|| {
                let loaded = self.plans.get(&id.generation);
                let role = loaded.and_then(|loaded| loaded.plan.slot_role(role));
                role.map_or("child", |role| role.name)
            }),
        };
        Who {
            role,
            id,
            pid: self.family.pid(id),
        }
    }

    fn end(mut self, code: ExitCode) -> ExitCode {
        self.clients
            .close_all(self.state.serving_successor().is_some());
        if let Some(file) = self.surroundings.pid_file.take() {
            let removed = file.remove();
            if let Err(error) = removed {
                warn!("role=arbiter cannot remove the pid file: {error}");
            }
        }
        code
    }

    /// Ends without the help of the state, when the kernel fails the driver itself.
    fn give_up(mut self, error: &io::Error) -> ExitCode {
        error!("role=arbiter cannot go on: {error}");
        self.close_listeners(true);
        for child in self.family.ids() {
            self.kill(child, Signal::Kill);
        }
        self.end(ExitCode::Failure)
    }

    fn heartbeats(&self) -> Vec<(ChildId, u64)> {
        let word = |child| {
            let row = self.family.row(child)?;
            Some((child, self.scoreboard.slot(row).alive_until()))
        };
        self.state.watched().filter_map(word).collect()
    }

    fn memory_samples(&self) -> Vec<(ChildId, u64)> {
        let measure = |child: ChildId| {
            let loaded = self.plans.get(&child.generation)?;
            let pid = self.family.pid(child)?;
            // It may just have ended.
            let bytes = loaded.plan.measure().of(pid).ok()?;
            Some((child, bytes))
        };
        self.state.weighed().filter_map(measure).collect()
    }
}

/// The phase, as operators call it.
pub(super) fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Reloading => "reloading",
        Phase::Upgrading => "upgrading",
        Phase::Stopping { .. } => "stopping",
    }
}

#[cfg(test)]
#[path = "perform_tests.rs"]
mod tests;
