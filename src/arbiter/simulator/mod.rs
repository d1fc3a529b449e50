//! Defines a simulated world for the arbiter's state: a seeded clock, children that misbehave in
//! every way a child can, operators who send signals, forks that fail, and time that stops.
//!
//! After each step it checks what must always hold. A failure names the seed; with
//! `SIMULATION_SEED=n` that world alone is lived again, and with `SIMULATION_STEPS=n` the search
//! goes on for longer.

mod check;
mod child;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use child::{Model, Numbers};

use crate::arbiter::children::{ChildId, Place, Standing};
use crate::arbiter::event::Event;
use crate::arbiter::exit::ExitCode;
use crate::arbiter::role::BackOff;
use crate::arbiter::state::{Phase, Settings, State};
use crate::protocol::message::FromChild;
use crate::scoreboard::NEVER;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

const STEPS: u64 = 1_000_000;
/// How many kinds of [`Notice`] there are.
const NOTICES: usize = 15;
/// A world that has not ended by itself is left after so many steps.
const STEPS_PER_WORLD: u64 = 3000;
/// Longer than any misbehaviour, and any wait that follows from it, lasts.
const CALM_MS: u64 = 300_000;
/// How much of the past a failure shows.
const TRACE_LINES: usize = 60;

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
        if self.numbers.percent(20) {
            self.suspend();
        }
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
