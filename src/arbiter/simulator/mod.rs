//! Defines a simulated world for the arbiter's state: a seeded clock, children that misbehave in
//! every way a child can, operators and control clients who give orders at any time, reloads and
//! upgrades that fail in every way, forks that fail, and time that stops.
//!
//! After each step it checks what must always hold. A failure names the seed; with
//! `SIMULATION_SEED=n` that world alone is lived again, and with `SIMULATION_STEPS=n` the search
//! goes on for longer.

mod actions;
mod check;
mod child;
mod operators;
mod plans;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::mem::{Discriminant, discriminant};

use child::{Model, Numbers};
use operators::Affair;
use plans::{Held, Made};

use crate::arbiter::action::{Action, Notice};
use crate::arbiter::children::{ChildId, Place};
use crate::arbiter::clients::ClientId;
use crate::arbiter::event::{Event, Order};
use crate::arbiter::exit::ExitCode;
use crate::arbiter::state::{Circumstances, Phase, State};
use crate::sys::process::ExitReason;

const STEPS: u64 = 1_000_000;
/// How many kinds of [`Notice`] the state tells of; `Started` is the driver's.
const NOTICES: usize = 28;
/// A world that has not ended by itself is left after so many steps.
const STEPS_PER_WORLD: u64 = 3000;
/// Longer than any misbehaviour, and any wait that follows from it, lasts.
const CALM_MS: u64 = 300_000;
/// How much of the past a failure shows.
const TRACE_LINES: usize = 120;

/// What the world has seen the arbiter do.
#[derive(Debug, Default)]
struct History {
    announced: bool,
    closed: bool,
    /// Why it stops, and so with which code it must exit.
    verdict: Option<ExitCode>,
    exited: Option<ExitCode>,
    /// When the stop must be over.
    over_by_ms: u64,
    spawns: BTreeMap<(Place, u32), VecDeque<u64>>,
    /// Since a wake-up that was in time; more than three in a row are not forgiven.
    suspensions: u32,
    petted_ms: Option<u64>,
    /// Whether the predecessor knows how the start went.
    told_predecessor: bool,
    promoted: bool,
    /// Whether a reload that was ordered has yet to begin.
    owes_reload: bool,
    /// Whether it could not begin when it was ordered.
    defers_reload: bool,
}

/// What happened since the last event from outside.
#[derive(Debug, Default)]
struct Now {
    /// Whether the candidate has lost a child, or its configuration is bad.
    reload_may_fail: bool,
    reload_failed: bool,
    adopted: bool,
    upgrade_failed: bool,
    upgraded: bool,
    ignored: bool,
    /// Whether what it did led to further events, after which no deadline has been looked at.
    went_on: bool,
    /// Who is punished.
    condemned: Option<ChildId>,
}

/// What has been lived through: a search that never meets something proves nothing about it.
#[derive(Debug, Default)]
struct Tally {
    steps: u64,
    notices: HashSet<Discriminant<Notice>>,
    exits: BTreeSet<u8>,
    counts: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn add(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

/// A line of the past.
enum Line {
    Event(Event),
    Action(Action),
    Text(String),
}

struct World {
    seed: u64,
    steps: u64,
    numbers: Numbers,
    now_ms: u64,
    circumstances: Circumstances,
    state: State,
    children: BTreeMap<ChildId, Model>,
    /// Those who could not be forked, of which the state does not know it yet.
    unborn: BTreeSet<ChildId>,
    buried: Option<ChildId>,
    /// Every generation that the state was told of.
    plans: BTreeMap<u32, Made>,
    serving: Option<u32>,
    candidate: Option<u32>,
    preparing: Option<u32>,
    /// Generations up to this one have listened where nobody does any more.
    abandoned: u32,
    held: Held,
    /// What is going to happen outside, by time; not sorted.
    affairs: Vec<(u64, Affair)>,
    clients: u64,
    /// The orders that have not been answered.
    pending: BTreeMap<ClientId, Order>,
    /// Of those, whose order is being carried out.
    accepted: BTreeSet<ClientId>,
    history: History,
    now: Now,
    /// How deep in events that follow from actions.
    depth: u32,
    /// Whom an operator wants to be replaced.
    to_replace: Option<ChildId>,
    /// How often things go wrong, in percent; 0 while it is calm.
    trouble: u64,
    is_calm: bool,
    /// How often somebody interferes, in percent of the turns.
    bustle: u64,
    /// If every worker ends in this way as soon as it is ready.
    curse: Option<ExitReason>,
    tally: Tally,
    trace: VecDeque<(u64, Line)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut numbers = Numbers(seed);
        let circumstances = Circumstances {
            daemon: numbers.percent(50),
            predecessor: numbers.percent(30),
            watchdog_ms: numbers.percent(30).then(|| numbers.within(500, 20_000)),
        };
        let made = Made::new(&mut numbers, None);
        let trouble = numbers.one_of(&[0, 2, 5, 10, 20, 40]);
        let bustle = numbers.one_of(&[3, 10, 30, 60]);
        let curses = [
            ExitReason::Exited(0),
            ExitReason::Exited(4),
            ExitReason::Signaled(11),
        ];
        let curse = numbers.percent(8).then(|| numbers.one_of(&curses));
        // A curse costs a fork for each worker, and each is checked for its pace.
        let bustle = if curse.is_some() { 2 } else { bustle };
        let state = State::new(circumstances, made.settings.clone());
        let now_ms = numbers.within(0, 1_000_000);
        Self {
            seed,
            steps: 0,
            numbers,
            now_ms,
            circumstances,
            state,
            children: BTreeMap::new(),
            unborn: BTreeSet::new(),
            buried: None,
            plans: BTreeMap::from([(1, made)]),
            serving: None,
            candidate: Some(1),
            preparing: None,
            abandoned: 0,
            held: Held::No,
            affairs: Vec::new(),
            clients: 0,
            pending: BTreeMap::new(),
            accepted: BTreeSet::new(),
            history: History {
                told_predecessor: !circumstances.predecessor,
                promoted: !circumstances.predecessor,
                ..History::default()
            },
            now: Now::default(),
            depth: 0,
            to_replace: None,
            trouble,
            is_calm: false,
            bustle,
            curse,
            tally: Tally::default(),
            trace: VecDeque::new(),
        }
    }

    fn live(mut self) -> Tally {
        self.step(Event::Tick);
        while self.history.exited.is_none() && self.steps < STEPS_PER_WORLD {
            if self.numbers.percent(1) {
                self.suspend();
            } else if self.numbers.percent(self.bustle) {
                self.interfere();
            } else if self.curse.is_none() && self.numbers.within(1, 1000) <= 3 {
                self.calm_down();
            }
            if self.history.exited.is_none() {
                self.turn();
            }
        }
        self.tally.steps = self.steps;
        self.tally
    }

    /// When the next thing happens, unless somebody interferes.
    fn next_ms(&self) -> Option<u64> {
        let children = self.children.values();
        let deeds = children.flat_map(|child| child.agenda.iter().map(|(at_ms, _)| *at_ms));
        let affairs = self.affairs.iter().map(|(at_ms, _)| *at_ms);
        deeds.chain(affairs).chain(self.state.next_deadline()).min()
    }

    /// One round of the driver: time passes until the next thing happens.
    fn turn(&mut self) {
        let deadline = self.state.next_deadline();
        let Some(next_ms) = self.next_ms() else {
            // Nothing will ever happen by itself: that is an idle server.
            self.now_ms += 1000;
            return self.interfere();
        };
        let seen_ms = self.now_ms;
        self.now_ms = self.now_ms.max(next_ms);
        if deadline.is_some_and(|deadline_ms| (seen_ms + 1..=self.now_ms).contains(&deadline_ms)) {
            self.history.suspensions = 0;
        }
        self.deliver();
    }

    /// What a wake-up of the driver delivers: deeds in the order of time, what is outside, what is
    /// watched, a tick.
    fn deliver(&mut self) {
        while let Some((id, deed)) = self.next_deed() {
            self.act(id, deed);
        }
        while let Some(affair) = self.next_affair() {
            self.attend(affair);
        }
        if self.state.wants_heartbeats(self.now_ms) {
            let words: Vec<_> = self.state.watched().map(|id| (id, self.word(id))).collect();
            self.step(Event::Heartbeats(words));
        }
        if self.state.wants_memory(self.now_ms) {
            self.weigh();
        }
        self.step(Event::Tick);
        if self.now.went_on {
            self.step(Event::Tick);
        }
        self.check_after_tick();
    }

    fn bury(&mut self, id: ChildId, reason: ExitReason) {
        let Some(child) = self.children.remove(&id) else {
            return;
        };
        let must_stop = self.must_stop(id, &child, reason);
        let must_fail = self.must_fail(id, &child, reason);
        self.buried = Some(id);
        if !self.is_stopping() && must_stop.is_some() {
            self.history.verdict = must_stop;
        }
        if must_fail {
            self.now.reload_may_fail = true;
        }
        if id.place == Place::Loader && child.has_loaded(reason) {
            self.plan_mut(id.generation).is_loaded = true;
        }
        let upgrades = id.place == Place::Successor && !self.is_stopping();
        if upgrades {
            self.held = Held::No;
            if child.said_ready {
                self.tally.add("a successor that dies when it serves");
            }
        }
        let in_place =
            |other: &ChildId| (other.place, other.generation) == (id.place, id.generation);
        let mut others = self.children.iter();
        if others.any(|(other, worn)| in_place(other) && worn.worn && worn.serves()) {
            self.tally.add("a replacement that fails");
        }
        self.step(Event::ChildExited { child: id, reason });
        let stops = self.is_stopping();
        self.check(
            stops || must_stop.is_none(),
            "a failure before the first Ready is survived",
        );
        self.check(
            !must_fail || self.now.reload_failed,
            "a reload goes on without a child that it needs",
        );
        self.check(
            !upgrades || self.now.upgrade_failed,
            "nobody is told that the successor is gone",
        );
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
                child.sleep(unseen_ms);
            }
        }
        self.now_ms += unseen_ms;
        self.history.over_by_ms += unseen_ms + 1;
        self.note(Line::Text(format!(
            "suspended for {unseen_ms} ms, children too: {children_too}"
        )));
        if children_too && self.state.wants_heartbeats(self.now_ms) {
            // The arbiter runs before any child had a chance to beat.
            let old_ms = self.now_ms - unseen_ms;
            let promised = |id: ChildId| (id, old_ms.saturating_add(self.heartbeat_timeout_ms(id)));
            let words = self.state.watched().map(promised).collect();
            self.step(Event::Heartbeats(words));
        }
        self.deliver();
        if self.history.exited.is_none() && self.numbers.percent(20) {
            self.suspend();
        }
    }

    /// Left alone for long enough, a server that runs must be whole.
    fn calm_down(&mut self) {
        let trouble = std::mem::take(&mut self.trouble);
        self.is_calm = true;
        let until_ms = self.now_ms + CALM_MS;
        while self.now_ms < until_ms && self.history.exited.is_none() {
            match self.next_ms() {
                Some(next_ms) if next_ms < until_ms => self.turn(),
                _ => self.now_ms = until_ms,
            }
        }
        self.check_calm();
        self.is_calm = false;
        self.trouble = trouble;
    }

    /// Lets the state decide about `event`, and does what it says.
    fn step(&mut self, event: Event) {
        self.note(Line::Event(event.clone()));
        let mut actions = Vec::new();
        if self.depth == 0 {
            self.now = Now {
                reload_may_fail: self.now.reload_may_fail,
                ..Now::default()
            };
        }
        self.now.went_on = self.depth > 0;
        self.depth += 1;
        self.state.step(self.now_ms, event, &mut actions);
        self.steps += 1;
        let mut failed = Vec::new();
        for action in actions {
            self.note(Line::Action(action.clone()));
            if let Some(id) = self.perform(action) {
                self.unborn.insert(id);
                failed.push(id);
            }
        }
        self.check_all();
        for id in failed {
            self.report_unborn(id);
        }
        self.prepare_at_once();
        self.depth -= 1;
    }

    fn report_unborn(&mut self, id: ChildId) {
        self.unborn.remove(&id);
        let stops = self.is_stopping();
        let must_fail = !stops && self.history.announced && self.candidate == Some(id.generation);
        let must_fail = must_fail && id.place != Place::Successor;
        self.now.reload_may_fail = must_fail;
        if id.place == Place::Successor && !stops {
            self.held = Held::No;
        }
        self.step(Event::SpawnFailed {
            child: id,
            reason: "there are no processes left".to_owned(),
        });
        let failed = self.candidate != Some(id.generation);
        self.check(
            !must_fail || failed,
            "a reload goes on without a child that could not be forked",
        );
    }

    fn is_stopping(&self) -> bool {
        matches!(self.state.phase(), Phase::Stopping { .. })
    }

    fn note(&mut self, line: Line) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back((self.now_ms, line));
    }

    #[track_caller]
    fn check(&self, holds: bool, what: &str) {
        if !holds {
            let line = |(at_ms, line): &(u64, Line)| match line {
                Line::Event(event) => format!("{at_ms:>9} {event:?}\n"),
                Line::Action(action) => format!("{at_ms:>9}     {action:?}\n"),
                Line::Text(text) => format!("{at_ms:>9} {text}\n"),
            };
            let trace: String = self.trace.iter().map(line).collect();
            let seed = self.seed;
            panic!("{what}\nSIMULATION_SEED={seed} SIMULATION_STEPS=1 to see it again\n{trace}");
        }
    }
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().expect("a whole number"))
}

/// What the search must have met, and how often in a million steps at the least.
const MET: [(&str, u64); 25] = [
    ("a calm", 100),
    ("a reload that succeeds", 1000),
    ("a reload that fails", 1000),
    ("a bad configuration", 300),
    ("a reload that abandons a listener", 100),
    ("a reload after a reload", 100),
    ("a stop during a reload", 100),
    ("an upgrade that succeeds", 300),
    ("an upgrade that fails", 300),
    ("a successor that dies when it serves", 100),
    ("a server that leaves to its successor", 50),
    ("a server that is told to leave to its successor", 20),
    ("a server that gets ready for its predecessor", 100),
    ("a server that fails its predecessor", 20),
    ("workers that are held", 100),
    ("a worker worn by requests", 300),
    ("a worker worn by age", 300),
    ("a worker worn by memory", 300),
    ("a worker that an operator replaces", 300),
    ("a replacement that fails", 100),
    ("phase starting", 1000),
    ("phase running", 1000),
    ("phase reloading", 1000),
    ("phase upgrading", 1000),
    ("phase stopping", 1000),
];

#[test]
fn what_must_hold_holds_in_every_world() {
    let steps_min = number_from("SIMULATION_STEPS").unwrap_or(STEPS);
    let mut seed = number_from("SIMULATION_SEED").unwrap_or(1);
    let mut all = Tally::default();
    while all.steps < steps_min {
        let tally = World::new(seed).live();
        all.steps += tally.steps;
        all.notices.extend(tally.notices);
        all.exits.extend(tally.exits);
        for (what, count) in tally.counts {
            *all.counts.entry(what).or_default() += count;
        }
        seed += 1;
    }
    if all.steps >= STEPS {
        for (what, least) in MET {
            let count = all.counts.get(what).copied().unwrap_or(0);
            assert!(count >= least, "{what}: {count} times in {:?}", all.counts);
        }
        assert_eq!(all.notices.len(), NOTICES, "some things never happen");
        assert_eq!(all.exits, BTreeSet::from([0, 3, 4, 5, 6]));
    }
}

fn kind(notice: &Notice) -> Discriminant<Notice> {
    discriminant(notice)
}
