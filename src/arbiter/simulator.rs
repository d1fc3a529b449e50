//! Defines a simulated world for the arbiter's state: a seeded clock, children that misbehave in
//! every way a child can, operators who send signals, forks that fail, and time that stops.
//!
//! After each step it checks what must always hold. A failure names the seed; with
//! `SIMULATION_SEED=n` that world alone is lived again, and with `SIMULATION_STEPS=n` the search
//! goes on for longer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::action::{Action, Notice, Urgency};
use super::children::{ChildId, Place, Standing};
use super::event::Event;
use super::exit::ExitCode;
use super::role::BackOff;
use super::state::{Phase, SLOTS_MAX, Settings, State};
use crate::protocol::message::{FromChild, ToChild};
use crate::scoreboard::NEVER;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

const STEPS: u64 = 1_000_000;
/// How many kinds of [`Notice`] there are.
const NOTICES: usize = 15;
/// A world that has not ended by itself is left after so many steps.
const STEPS_PER_WORLD: u64 = 3000;
/// A killed process is gone after at most so long.
const DEATH_MS: u64 = 20;
/// Longer than any misbehaviour, and any wait that follows from it, lasts.
const CALM_MS: u64 = 300_000;
/// The longest time between two looks at the heartbeats.
const HEARTBEAT_CHECK_MS: u64 = 5000;
/// How late a child may beat before its heartbeat is missed by its own fault.
const BEAT_MS: u64 = 400;

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

    /// From `low` to `high`, both included.
    fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.within(1, 100) <= chance
    }

    fn one_of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.within(0, choices.len() as u64 - 1) as usize].clone()
    }
}

/// What a child does at some time of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    Say(FromChild),
    Garble,
    HangUp,
    /// It stops to beat, and heeds nothing but SIGKILL and, perhaps, SIGABRT.
    Freeze,
    Exit(ExitReason),
}

/// A child of the simulated world.
#[derive(Debug)]
struct Model {
    spawned_ms: u64,
    /// When it was told to drain.
    drained_ms: Option<u64>,
    /// By time; not sorted.
    agenda: Vec<(u64, Deed)>,
    heeds_drain: bool,
    heeds_quit: bool,
    heeds_abort: bool,
    frozen_ms: Option<u64>,
    /// Time that the arbiter did not see, and by which it may be late to notice.
    excused_ms: u64,
    asleep: bool,
    /// Its channel still has both ends.
    connected: bool,
    /// What it has said that the arbiter must remember.
    said_ready: bool,
    said_loaded: bool,
    failed_with: Option<u8>,
    signalled: bool,
    killed: bool,
}

/// What the world has seen the arbiter do.
#[derive(Debug, Default)]
struct History {
    announced: bool,
    closed: bool,
    loaded: bool,
    /// The apps whose artefacts are kept.
    kept: BTreeSet<u32>,
    workers: usize,
    /// Why it stops, and so with which code it must exit.
    verdict: Option<ExitCode>,
    exited: Option<ExitCode>,
    /// When the stop must be over.
    over_by_ms: u64,
    spawns: BTreeMap<Place, VecDeque<u64>>,
    /// Since a wake-up that was in time; more than three in a row are not forgiven.
    suspensions: u32,
}

/// What has been lived through: a search that never meets something proves nothing about it.
#[derive(Debug, Default)]
struct Tally {
    steps: u64,
    calms: u64,
    notices: BTreeSet<String>,
    exits: BTreeSet<u8>,
}

struct World {
    seed: u64,
    steps: u64,
    numbers: Numbers,
    now_ms: u64,
    settings: Settings,
    state: State,
    children: BTreeMap<ChildId, Model>,
    buried: Option<ChildId>,
    history: History,
    /// How often things go wrong, in percent; 0 while it is calm.
    trouble: u64,
    /// If every worker ends in this way as soon as it is ready.
    curse: Option<ExitReason>,
    tally: Tally,
    trace: VecDeque<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let workers = numbers.within(1, 6) as usize;
        let settings = Settings {
            workers,
            apps: numbers.within(0, 3) as u32,
            boot_timeout_ms: numbers.within(1000, 10_000),
            load_timeout_ms: numbers.percent(80).then_some(20_000),
            heartbeat_timeout_ms: numbers.percent(80).then(|| 2000 * (1 + seed % 15)),
            graceful_timeout_ms: numbers.one_of(&[0, 1, 3000, 30_000]),
            loader_back_off: BackOff::default(),
            worker_back_off: BackOff {
                stable: Duration::from_secs(numbers.within(1, 20)),
                ..BackOff::default()
            },
        };
        let trouble = numbers.one_of(&[2, 10, 40]);
        let curses = [
            ExitReason::Exited(0),
            ExitReason::Exited(4),
            ExitReason::Signaled(11),
        ];
        let curse = numbers.percent(10).then(|| numbers.one_of(&curses));
        let state = State::new(settings.clone());
        let now_ms = numbers.within(0, 1_000_000);
        let history = History {
            workers,
            ..History::default()
        };
        Self {
            seed,
            steps: 0,
            numbers,
            now_ms,
            settings,
            state,
            children: BTreeMap::new(),
            buried: None,
            history,
            trouble,
            curse,
            tally: Tally::default(),
            trace: VecDeque::new(),
        }
    }

    fn live(mut self) -> Tally {
        self.step(Event::Tick);
        while self.history.exited.is_none() && self.steps < STEPS_PER_WORLD {
            match self.numbers.within(1, 100) {
                1 => self.suspend(),
                2..=5 => self.interfere(),
                6 if self.curse.is_none() && self.numbers.percent(5) => self.calm_down(),
                _ => {}
            }
            self.turn();
        }
        self.tally.steps = self.steps;
        self.tally
    }

    /// One round of the driver: time passes until the next thing happens.
    fn turn(&mut self) {
        let deed = self
            .children
            .values()
            .flat_map(|child| &child.agenda)
            .map(|(at, _)| *at)
            .min();
        let deadline = self.state.next_deadline();
        let Some(next_ms) = deed.into_iter().chain(deadline).min() else {
            // Nothing will ever happen by itself: that is an idle server.
            self.now_ms += 1000;
            return self.interfere();
        };
        self.now_ms = self.now_ms.max(next_ms);
        if deadline.is_some_and(|deadline_ms| self.now_ms >= deadline_ms) {
            self.history.suspensions = 0;
        }
        self.deliver();
    }

    /// What a wake-up of the driver delivers: deeds in the order of time, heartbeats, a tick.
    fn deliver(&mut self) {
        while let Some((id, deed)) = self.next_deed() {
            self.act(id, deed);
        }
        if self.state.wants_heartbeats(self.now_ms) {
            let words: Vec<_> = self.state.watched().map(|id| (id, self.word(id))).collect();
            self.step(Event::Heartbeats(words));
        }
        self.step(Event::Tick);
        if let Some(deadline_ms) = self.state.next_deadline() {
            self.check(
                deadline_ms > self.now_ms,
                "a deadline is left after the tick",
            );
        }
        self.check_heartbeats();
    }

    /// A worker that serves and does not beat any more is noticed in time.
    fn check_heartbeats(&mut self) {
        let Some(timeout_ms) = self.settings.heartbeat_timeout_ms else {
            return;
        };
        let standing = |id: &ChildId| {
            let seat = self.state.children.seat(id.place);
            seat.child.as_ref().map(|child| child.standing)
        };
        let overdue = self.children.iter().any(|(id, child)| {
            let limit_ms = timeout_ms + HEARTBEAT_CHECK_MS + child.excused_ms;
            let silent = child
                .frozen_ms
                .is_some_and(|at_ms| self.now_ms > at_ms + limit_ms);
            silent && standing(id) == Some(Standing::Ready)
        });
        self.check(!overdue, "a silent worker is not noticed");
    }

    fn next_deed(&mut self) -> Option<(ChildId, Deed)> {
        let due = self.children.iter().flat_map(|(id, child)| {
            let agenda = child.agenda.iter().enumerate();
            agenda.map(move |(index, (at_ms, _))| (*at_ms, *id, index))
        });
        let (at_ms, id, index) = due.min()?;
        if at_ms > self.now_ms {
            return None;
        }
        Some((id, self.children.get_mut(&id)?.agenda.remove(index).1))
    }

    /// Until when the child has promised to live.
    fn word(&self, id: ChildId) -> u64 {
        let timeout_ms = self.settings.heartbeat_timeout_ms.unwrap_or(NEVER);
        match self.children.get(&id) {
            Some(Model {
                frozen_ms: Some(at_ms),
                ..
            }) => at_ms.saturating_add(timeout_ms),
            Some(Model { asleep: true, .. }) | None => NEVER,
            Some(_) => self
                .now_ms
                .saturating_sub(BEAT_MS)
                .saturating_add(timeout_ms),
        }
    }

    fn act(&mut self, id: ChildId, deed: Deed) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        match deed {
            Deed::Say(_) | Deed::Garble | Deed::HangUp if !child.connected => {}
            Deed::Say(message) => {
                match &message {
                    FromChild::Ready => child.said_ready = true,
                    FromChild::Loaded => child.said_loaded = true,
                    FromChild::Failed { code, .. } => child.failed_with = Some(*code),
                    FromChild::Artefact { .. } => {}
                }
                self.step(Event::FromChild { child: id, message });
            }
            Deed::Garble => self.step(Event::Illegal { child: id }),
            Deed::HangUp => {
                child.connected = false;
                self.step(Event::Hangup { child: id });
            }
            Deed::Freeze => {
                child.frozen_ms = Some(self.now_ms);
                child.agenda.clear();
            }
            Deed::Exit(reason) => {
                // The kernel closes the channel first, and the arbiter may see it first.
                if child.connected && self.numbers.percent(50) {
                    self.act(id, Deed::HangUp);
                }
                self.bury(id, reason);
            }
        }
    }

    fn bury(&mut self, id: ChildId, reason: ExitReason) {
        let Some(child) = self.children.remove(&id) else {
            return;
        };
        let must_stop = self.must_stop(id, &child, reason);
        self.buried = Some(id);
        if !matches!(self.state.phase(), Phase::Stopping { .. }) {
            self.history.verdict = must_stop;
        }
        self.step(Event::ChildExited { child: id, reason });
        let stops = matches!(self.state.phase(), Phase::Stopping { .. });
        self.check(
            stops || must_stop.is_none(),
            "a failure before the first Ready is survived",
        );
    }

    /// Whether the end of this child must end the server, and with which code. Found from what the
    /// child has lived through, not from what the state remembers of it.
    fn must_stop(&mut self, id: ChildId, child: &Model, reason: ExitReason) -> Option<ExitCode> {
        let standing = self
            .state
            .children
            .get_mut(id)
            .map(|record| (record.standing, record.is_leaving()));
        let (standing, leaving) = standing.expect("a living child has a record");
        let judged = matches!(standing, Standing::Killed { .. });
        let by_status = match reason {
            ExitReason::Exited(status) => ExitCode::from_child(status as u8),
            ExitReason::Signaled(_) => None,
        };
        let by_word = child.failed_with.map(ExitCode::from_child);
        match id.place {
            Place::Loader => {
                let good = child.said_loaded && reason == ExitReason::Exited(0) && !judged;
                let by_word = by_word.map(|code| code.unwrap_or(ExitCode::AppLoad));
                (!good).then_some(by_word.or(by_status).unwrap_or(ExitCode::AppLoad))
            }
            Place::Slot(_) => {
                let fatal = self.state.phase() == Phase::Starting && !leaving;
                let by_word = by_word.map(|code| code.unwrap_or(ExitCode::WorkerBoot));
                fatal.then_some(by_word.or(by_status).unwrap_or(ExitCode::WorkerBoot))
            }
        }
    }

    /// Operators, strangers and time.
    fn interfere(&mut self) {
        let signal = match self.numbers.within(1, 100) {
            1..=30 => Signal::Ttin,
            31..=60 => Signal::Ttou,
            61..=66 => Signal::Term,
            67 => Signal::Int,
            68 => Signal::Quit,
            69..=80 => self
                .numbers
                .one_of(&[Signal::Hup, Signal::Usr1, Signal::Usr2]),
            81..=90 => return self.disturb(),
            _ => Signal::Winch,
        };
        // A world of seven slots is as good as one of a thousand, and quicker.
        let changes = matches!(signal, Signal::Ttin | Signal::Ttou);
        if changes && (self.history.workers >= 7 || self.curse.is_some()) {
            return;
        }
        let phase = self.state.phase();
        match (signal, phase) {
            (Signal::Ttin, Phase::Starting | Phase::Running) => self.history.workers += 1,
            (Signal::Ttou, Phase::Starting | Phase::Running) if self.history.workers > 1 => {
                self.history.workers -= 1;
            }
            (Signal::Term | Signal::Int | Signal::Quit, Phase::Starting | Phase::Running) => {
                self.history.verdict = Some(ExitCode::Ok);
            }
            _ => {}
        }
        self.step(Event::Signal(signal));
    }

    /// Late news of a child that is gone must change nothing.
    fn disturb(&mut self) {
        let Some(child) = self.buried else {
            return;
        };
        let event = match self.numbers.within(1, 5) {
            1 => Event::Hangup { child },
            2 => Event::Illegal { child },
            3 => Event::FromChild {
                child,
                message: FromChild::Ready,
            },
            4 => Event::Heartbeats(vec![(child, 0)]),
            _ => Event::ChildExited {
                child,
                reason: ExitReason::Exited(3),
            },
        };
        self.step(event);
    }

    /// Time in which the arbiter does not run, and its children only in part of the cases.
    fn suspend(&mut self) {
        if self.history.suspensions >= 2 {
            return;
        }
        self.history.suspensions += 1;
        let lost_ms = self.numbers.within(1500, 100_000);
        let children_too = self.numbers.percent(50);
        let from_ms = self
            .state
            .next_deadline()
            .unwrap_or(self.now_ms)
            .max(self.now_ms);
        // A wake-up just before the deadline; then nothing until long after it.
        let unseen_ms = from_ms + lost_ms - self.now_ms;
        for child in self.children.values_mut() {
            child.excused_ms += unseen_ms;
        }
        // A crash that was seen late looks like one after good service.
        self.history.spawns.clear();
        if children_too {
            for child in self.children.values_mut() {
                child.spawned_ms += unseen_ms;
                child.drained_ms = child.drained_ms.map(|at_ms| at_ms + unseen_ms);
                child
                    .agenda
                    .iter_mut()
                    .for_each(|(at_ms, _)| *at_ms += unseen_ms);
            }
        }
        self.now_ms += unseen_ms;
        self.history.over_by_ms += unseen_ms + 1;
        self.note(format!(
            "suspended for {unseen_ms} ms, children too: {children_too}"
        ));
        if children_too && self.state.wants_heartbeats(self.now_ms) {
            // The arbiter runs before any child had a chance to beat.
            let timeout_ms = self.settings.heartbeat_timeout_ms.unwrap_or(NEVER);
            let old_ms = (self.now_ms - unseen_ms).saturating_add(timeout_ms);
            let words = self.state.watched().map(|id| (id, old_ms)).collect();
            self.step(Event::Heartbeats(words));
        }
        self.deliver();
    }

    /// Left alone for long enough, a server that runs must be whole.
    fn calm_down(&mut self) {
        let trouble = std::mem::take(&mut self.trouble);
        let until_ms = self.now_ms + CALM_MS;
        while self.now_ms < until_ms && self.history.exited.is_none() {
            self.turn_quietly(until_ms);
        }
        self.trouble = trouble;
        if self.state.phase() != Phase::Running {
            return;
        }
        self.tally.calms += 1;
        for slot in 0..self.history.workers {
            let seat = self.state.children.seat(Place::Slot(slot)).clone();
            let ready = seat
                .child
                .is_some_and(|child| child.standing == Standing::Ready);
            self.check(ready, "a slot is not ready after a long calm");
        }
        self.check(
            self.children.len() == self.history.workers,
            "somebody is left over",
        );
    }

    fn turn_quietly(&mut self, until_ms: u64) {
        let deeds = self
            .children
            .values()
            .flat_map(|child| &child.agenda)
            .map(|(at_ms, _)| *at_ms);
        let next_ms = deeds.chain(self.state.next_deadline()).min();
        match next_ms {
            Some(next_ms) if next_ms < until_ms => self.turn(),
            _ => self.now_ms = until_ms,
        }
    }

    fn step(&mut self, event: Event) {
        self.note(format!("{event:?}"));
        let mut actions = Vec::new();
        self.state.step(self.now_ms, event, &mut actions);
        self.steps += 1;
        let mut failed = Vec::new();
        for action in actions {
            self.note(format!("    {action:?}"));
            if let Some(id) = self.perform(action) {
                failed.push(id);
            }
        }
        self.check_all();
        for id in failed {
            self.step(Event::SpawnFailed { child: id });
        }
    }

    /// Does what the arbiter says. Returns a child that could not be forked.
    fn perform(&mut self, action: Action) -> Option<ChildId> {
        self.check(
            self.history.exited.is_none(),
            "there is an action after the exit",
        );
        match action {
            Action::Spawn(id) => return self.spawn(id),
            Action::Send(id, ToChild::Drain) => self.drain(id),
            Action::Kill(id, signal) => self.kill(id, signal),
            Action::KeepArtefact(app) => {
                let new = self.history.kept.insert(app);
                self.check(new, "an artefact is kept twice");
                self.check(app < self.settings.apps, "an artefact of no app is kept");
            }
            Action::Announce => {
                self.check(!self.history.announced, "it is announced twice");
                let ready = self.children.values().any(|child| child.said_ready);
                self.check(ready, "it is announced before a worker is ready");
                self.history.announced = true;
            }
            Action::CloseListeners => {
                self.check(!self.history.closed, "the listeners are closed twice");
                self.history.closed = true;
            }
            Action::Log(notice) => self.read(&notice),
            Action::Exit(code) => {
                self.check(self.children.is_empty(), "it exits before its children");
                self.check(self.history.verdict == Some(code), "the exit code is wrong");
                self.check(self.history.closed, "it exits with open listeners");
                self.history.exited = Some(code);
                self.tally.exits.insert(code.number());
            }
        }
        None
    }

    fn spawn(&mut self, id: ChildId) -> Option<ChildId> {
        let stopping = matches!(self.state.phase(), Phase::Stopping { .. });
        self.check(!stopping, "a child is started during the stop");
        let free = self.children.keys().all(|other| other.place != id.place);
        self.check(free, "two children are in one place");
        match id.place {
            Place::Loader => self.check(!self.history.loaded, "it loads twice"),
            Place::Slot(slot) => {
                self.history.loaded = true;
                let kept = self.history.kept.len() == self.settings.apps as usize;
                self.check(kept, "a worker is started without its artefacts");
                self.check(slot < self.history.workers, "a worker too many is started");
            }
        }
        self.check_pace(id.place);
        if self.numbers.percent(self.trouble / 5) {
            return Some(id);
        }
        let model = match id.place {
            Place::Loader => self.new_loader(),
            Place::Slot(_) => self.new_worker(),
        };
        self.children.insert(id, model);
        None
    }

    /// However its children fail, a slot does not keep the machine busy with forking.
    fn check_pace(&mut self, place: Place) {
        let spawns = self.history.spawns.entry(place).or_default();
        spawns.push_back(self.now_ms);
        if spawns.len() > 20 {
            spawns.pop_front();
        }
        let times: Vec<u64> = spawns.iter().copied().collect();
        let took = |count: usize| {
            times
                .len()
                .checked_sub(count)
                .map(|at| self.now_ms - times[at])
        };
        self.check(
            took(20).is_none_or(|ms| ms >= 1500),
            "a slot is filled too often",
        );
        // The sum of the waits from 100 ms to 12.8 s.
        let crashes = matches!(self.curse, Some(reason) if reason != ExitReason::Exited(0));
        let hurry = crashes && took(10).is_some_and(|ms| ms < 20_000);
        self.check(!hurry, "there is no back-off");
    }

    fn new_model(&mut self) -> Model {
        let bad = self.trouble;
        Model {
            spawned_ms: self.now_ms,
            drained_ms: None,
            agenda: Vec::new(),
            heeds_drain: !self.numbers.percent(bad),
            heeds_quit: !self.numbers.percent(bad),
            heeds_abort: self.numbers.percent(50),
            frozen_ms: None,
            excused_ms: 0,
            asleep: self.numbers.percent(30),
            connected: true,
            said_ready: false,
            said_loaded: false,
            failed_with: None,
            signalled: false,
            killed: false,
        }
    }

    fn any_end(&mut self) -> ExitReason {
        match self.numbers.within(1, 3) {
            1 => ExitReason::Signaled(11),
            _ => ExitReason::Exited(self.numbers.one_of(&[0, 1, 3, 4, 5, 255])),
        }
    }

    fn new_loader(&mut self) -> Model {
        let mut model = self.new_model();
        let mut at_ms = self.now_ms;
        for app in 0..self.settings.apps {
            at_ms += self.numbers.within(0, 3000);
            model
                .agenda
                .push((at_ms, Deed::Say(FromChild::Artefact { app })));
        }
        model.agenda.push((at_ms + 1, Deed::Say(FromChild::Loaded)));
        model
            .agenda
            .push((at_ms + 2, Deed::Exit(ExitReason::Exited(0))));
        // A world that ends in the loader is a short one: there must not be too many.
        if self.numbers.percent(self.trouble / 3) {
            self.spoil(&mut model, at_ms);
        }
        model
    }

    fn new_worker(&mut self) -> Model {
        let mut model = self.new_model();
        if let Some(reason) = self.curse {
            let boot_ms = self.now_ms + 1;
            let life = [Deed::Say(FromChild::Ready), Deed::Exit(reason)];
            model.agenda.extend((boot_ms..).zip(life));
            return model;
        }
        let ready_ms = self.now_ms + self.numbers.within(1, 900);
        model.agenda.push((ready_ms, Deed::Say(FromChild::Ready)));
        if self.numbers.percent(self.trouble) {
            let until_ms = ready_ms + self.numbers.one_of(&[0, 100, 5000, 60_000]);
            self.spoil(&mut model, until_ms);
        }
        model
    }

    /// Something goes wrong, at some time until `until_ms`.
    fn spoil(&mut self, model: &mut Model, until_ms: u64) {
        let at_ms = self.numbers.within(self.now_ms, until_ms);
        match self.numbers.within(1, 8) {
            1 => model.agenda.push((at_ms, Deed::Garble)),
            2 => model.agenda.push((at_ms, Deed::HangUp)),
            3 => model.agenda.push((at_ms, Deed::Freeze)),
            4 => {
                let app = self.numbers.within(0, 4) as u32;
                let failed = FromChild::Failed {
                    code: 0,
                    reason: String::new(),
                };
                let nonsense = [
                    FromChild::Ready,
                    FromChild::Loaded,
                    FromChild::Artefact { app },
                    failed,
                ];
                model
                    .agenda
                    .push((at_ms, Deed::Say(self.numbers.one_of(&nonsense))));
            }
            5 => {
                let code = self.numbers.one_of(&[0, 1, 3, 4, 5, 6, 9]);
                let reason = "no such file".to_owned();
                model.agenda.retain(|(other_ms, _)| *other_ms < at_ms);
                model
                    .agenda
                    .push((at_ms, Deed::Say(FromChild::Failed { code, reason })));
                let ends_ms = at_ms + self.numbers.one_of(&[1, 1, 1, 5000]);
                model
                    .agenda
                    .push((ends_ms, Deed::Exit(ExitReason::Exited(i32::from(code)))));
            }
            6 => model.agenda.retain(|(other_ms, _)| *other_ms < at_ms),
            _ => {
                let reason = self.any_end();
                model.agenda.retain(|(other_ms, _)| *other_ms < at_ms);
                model.agenda.push((at_ms, Deed::Exit(reason)));
            }
        }
    }

    fn drain(&mut self, id: ChildId) {
        let takes_ms = self.numbers.one_of(&[0, 1, 50, 2000, 20_000]);
        let (now_ms, slow) = (self.now_ms, self.numbers.percent(self.trouble));
        let child = self.living(id);
        let fresh = child.drained_ms.is_none() && !child.signalled;
        child.drained_ms = Some(now_ms);
        if child.heeds_drain && child.frozen_ms.is_none() {
            let booted_ms = child
                .agenda
                .iter()
                .map(|(at_ms, _)| *at_ms)
                .max()
                .unwrap_or(now_ms);
            let end_ms = now_ms.max(booted_ms) + takes_ms + if slow { 40_000 } else { 0 };
            child
                .agenda
                .push((end_ms, Deed::Exit(ExitReason::Exited(0))));
        }
        self.check(fresh, "a child that is ending is told to drain");
    }

    fn kill(&mut self, id: ChildId, signal: Signal) {
        let after_ms = self.numbers.within(0, DEATH_MS);
        let end_ms = self.now_ms + after_ms;
        let (now_ms, timeout) = (self.now_ms, self.settings.heartbeat_timeout_ms);
        let child = self.living(id);
        let was_killed = child.killed;
        child.signalled = true;
        let heeds = match signal {
            Signal::Kill => {
                child.killed = true;
                child.agenda.clear();
                true
            }
            Signal::Quit => child.heeds_quit && child.frozen_ms.is_none(),
            Signal::Abrt => child.heeds_abort,
            other => panic!("{other:?} is never sent"),
        };
        if heeds {
            let reason = match signal {
                Signal::Kill => ExitReason::Signaled(9),
                Signal::Abrt => ExitReason::Signaled(6),
                _ => ExitReason::Exited(0),
            };
            child.agenda.push((end_ms, Deed::Exit(reason)));
        }
        let silent = child
            .frozen_ms
            .zip(timeout)
            .is_some_and(|(at, timeout)| now_ms >= at + timeout);
        self.check(!was_killed, "a killed child is sent a signal");
        self.check(
            signal != Signal::Abrt || silent,
            "a worker that lives is aborted",
        );
    }

    fn living(&mut self, id: ChildId) -> &mut Model {
        let known = self.children.contains_key(&id);
        self.check(known, "an action is about a child that does not live");
        self.children.get_mut(&id).expect("it was just found")
    }

    /// Patience must not end early, whatever the clock did.
    fn read(&mut self, notice: &Notice) {
        let now_ms = self.now_ms;
        let text = format!("{notice:?}");
        let kind = text.split('(').next().unwrap_or_default();
        if !self.tally.notices.contains(kind) {
            self.tally.notices.insert(kind.to_owned());
        }
        match notice {
            Notice::TooSlow(id) => {
                let limit_ms = match id.place {
                    Place::Loader => self.settings.load_timeout_ms.unwrap_or(NEVER),
                    Place::Slot(_) => self.settings.boot_timeout_ms,
                };
                let booted_ms = now_ms - self.living(*id).spawned_ms;
                self.check(
                    booted_ms >= limit_ms,
                    "a child is killed before its boot timeout",
                );
            }
            Notice::Unfinished(id) => {
                let (graceful_ms, boot_ms) = (
                    self.settings.graceful_timeout_ms,
                    self.settings.boot_timeout_ms,
                );
                let stopping = matches!(self.state.phase(), Phase::Stopping { .. });
                let child = self.living(*id);
                // One that hung up, or failed, and was then to be drained has no such time.
                let drained = child
                    .drained_ms
                    .is_none_or(|at_ms| now_ms - at_ms >= graceful_ms);
                let booted = !child.said_ready && now_ms - child.spawned_ms >= boot_ms;
                let gone = !child.connected || child.failed_with.is_some();
                self.check(
                    drained || booted || gone || stopping,
                    "a worker is killed before the graceful timeout",
                );
            }
            Notice::Stopping(urgency) => {
                let patience_ms = match urgency {
                    // From here each child is given up within this time, or was before.
                    Urgency::Graceful => self.settings.graceful_timeout_ms.max(1000),
                    Urgency::Quick => 2000,
                    Urgency::Now => 0,
                };
                let over_ms = now_ms + patience_ms + DEATH_MS + 1000;
                let first = !self.history.closed;
                let earlier_ms = if first {
                    NEVER
                } else {
                    self.history.over_by_ms
                };
                self.history.over_by_ms = over_ms.min(earlier_ms);
            }
            _ => {}
        }
    }

    fn check_all(&mut self) {
        let records: Vec<_> = self.state.children.iter().cloned().collect();
        let stopping = matches!(self.state.phase(), Phase::Stopping { .. });
        self.check(
            self.state.children.slots() <= SLOTS_MAX,
            "there are too many slots",
        );
        let overdue = stopping && self.now_ms > self.history.over_by_ms;
        self.check(
            !overdue || self.history.exited.is_some(),
            "the stop takes too long",
        );
        self.check(
            !stopping || self.history.verdict.is_some(),
            "it stops without a reason",
        );
        self.check(
            stopping || self.history.verdict.is_none(),
            "it goes on with a reason to stop",
        );
        let running = self.state.phase() == Phase::Running;
        self.check(
            !running || self.history.announced,
            "it runs and nobody was told",
        );
        for record in &records {
            let unlimited = record.id.place == Place::Loader
                && self.settings.load_timeout_ms.is_none()
                && record.standing == Standing::Booting { deadline_ms: None };
            let killed = self
                .children
                .get(&record.id)
                .is_some_and(|child| child.killed);
            let bounded = record.deadline().is_some() || killed || unlimited;
            let serves = record.standing == Standing::Ready;
            self.check(
                serves || bounded,
                "a child that does not serve has no deadline",
            );
            if let (Place::Slot(slot), Standing::Booting { .. } | Standing::Ready) =
                (record.id.place, record.standing)
            {
                self.check(slot < self.history.workers, "a worker too many serves on");
            }
        }
    }

    fn note(&mut self, line: String) {
        if self.trace.len() == 60 {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9} {line}", self.now_ms));
    }

    #[track_caller]
    fn check(&self, holds: bool, what: &str) {
        if !holds {
            let trace: Vec<&str> = self.trace.iter().map(String::as_str).collect();
            let (seed, trace) = (self.seed, trace.join("\n"));
            panic!("{what}\nSIMULATION_SEED={seed} SIMULATION_STEPS=1 to see it again\n{trace}");
        }
    }
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a whole number"))
}

#[test]
fn what_must_hold_holds_in_every_world() {
    let steps_min = number_from("SIMULATION_STEPS").unwrap_or(STEPS);
    let mut seed = number_from("SIMULATION_SEED").unwrap_or(1);
    let mut all = Tally::default();
    while all.steps < steps_min {
        let tally = World::new(seed).live();
        all.steps += tally.steps;
        all.calms += tally.calms;
        all.notices.extend(tally.notices);
        all.exits.extend(tally.exits);
        seed += 1;
    }
    println!("up to seed {seed}: {all:?}");
    if all.steps >= STEPS {
        assert_eq!(
            all.notices.len(),
            NOTICES,
            "some things never happen: {:?}",
            all.notices
        );
        assert_eq!(all.exits, BTreeSet::from([0, 3, 4, 5, 6]));
        assert!(all.calms > 100, "{} calms", all.calms);
    }
}
