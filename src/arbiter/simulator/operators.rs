//! Defines what reaches the arbiter of the simulated world from outside: signals, control clients,
//! the file system, the predecessor, and late news of children that are gone.

use super::World;
use super::plans::{Held, Made};
use crate::arbiter::children::{ChildId, Place, SLOTS_MAX, WORKER};
use crate::arbiter::clients::ClientId;
use crate::arbiter::event::{Event, Order};
use crate::arbiter::exit::ExitCode;
use crate::arbiter::state::Phase;
use crate::protocol::control::What;
use crate::protocol::message::FromChild;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

/// A world of so many workers is as good as one of a thousand, and quicker.
const WORKERS_MAX: usize = 8;

/// What is going to happen outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Affair {
    /// The configuration has been read.
    Prepared,
    PredecessorGone,
}

impl World {
    /// Operators, strangers and time.
    pub(super) fn interfere(&mut self) {
        if self.is_stopping() {
            return match self.numbers.within(1, 20) {
                1 => self.signal(Signal::Term),
                2 => self.signal(Signal::Int),
                3..=5 => self.control(),
                6..=8 => self.disturb(),
                9 => self.step(Event::FilesChanged),
                10..=12 => {
                    let signals = [Signal::Hup, Signal::Usr2, Signal::Winch, Signal::Ttin];
                    let signal = self.numbers.one_of(&signals);
                    self.signal(signal);
                }
                _ => {}
            };
        }
        match self.numbers.within(1, 200) {
            1..=15 => self.signal(Signal::Ttin),
            16..=30 => self.signal(Signal::Ttou),
            31..=65 => self.signal(Signal::Hup),
            66..=90 => self.signal(Signal::Usr2),
            91..=105 => self.signal(Signal::Winch),
            106..=108 => self.signal(Signal::Usr1),
            109 => self.signal(Signal::Chld),
            110 => self.signal(Signal::Int),
            111 => self.signal(Signal::Quit),
            112..=114 => self.signal(Signal::Term),
            115..=125 => self.disturb(),
            126..=135 => {
                self.history.owes_reload = true;
                self.step(Event::FilesChanged);
            }
            136..=137 => self.attend(Affair::PredecessorGone),
            _ => self.control(),
        }
    }

    fn signal(&mut self, signal: Signal) {
        let forks = matches!(signal, Signal::Ttin | Signal::Usr2 | Signal::Winch);
        if forks && self.curse.is_some() || signal == Signal::Ttin && self.is_crowded(1) {
            return;
        }
        self.judge_stop(matches!(signal, Signal::Term | Signal::Int | Signal::Quit));
        let is_later = signal == Signal::Hup && !self.is_stopping();
        // The order is carried out within the step if it can be.
        self.history.owes_reload |= is_later;
        self.step(Event::Signal(signal));
        if self.now.ignored && is_later {
            self.check(self.held == Held::Leaving, "a reload is refused");
            self.history.owes_reload = false;
        }
        self.history.defers_reload = self.history.owes_reload;
    }

    /// A stop that is ordered is a success.
    fn judge_stop(&mut self, stops: bool) {
        if stops && !self.is_stopping() {
            self.history.verdict = Some(ExitCode::Ok);
            if matches!(self.state.phase(), Phase::Reloading) {
                self.tally.add("a stop during a reload");
            }
        }
    }

    fn is_crowded(&self, more: usize) -> bool {
        let plans = [self.serving, self.candidate];
        let mut plans = plans.into_iter().flatten();
        plans.any(|number| self.plan(number).workers + more > WORKERS_MAX)
    }

    /// A client of the control socket wants something.
    fn control(&mut self) {
        let order = self.any_order();
        self.clients += 1;
        let client = ClientId(self.clients);
        self.pending.insert(client, order);
        self.judge_stop(matches!(order, Order::Shutdown { .. }));
        if let Order::WorkerKill(id) = order {
            self.to_replace = id;
        }
        self.step(Event::Control { client, order });
        self.to_replace = None;
        let waits = matches!(order, Order::Reload | Order::Upgrade);
        let answered = !self.pending.contains_key(&client);
        self.check(waits || answered, "a client is not answered at once");
        if !answered {
            self.accepted.insert(client);
        }
    }

    fn any_order(&mut self) -> Order {
        let small = self.numbers.within(0, 3) as u32;
        let impossible = [SLOTS_MAX as u32, 5000, u32::MAX];
        let many = self.numbers.one_of(&impossible);
        match self.numbers.within(1, 100) {
            1..=8 => Order::Show(
                self.numbers
                    .one_of(&[What::All, What::Workers, What::Stats]),
            ),
            9..=18 if self.curse.is_none() && !self.is_crowded(3) => Order::WorkerAdd(small),
            19..=30 => Order::WorkerRemove(small),
            31..=33 => Order::WorkerAdd(many),
            34..=36 => Order::WorkerRemove(many),
            37..=56 if self.curse.is_none() => Order::WorkerKill(self.any_worker()),
            57..=75 => Order::Reload,
            76..=80 => Order::Reopen,
            81..=98 if self.curse.is_none() => Order::Upgrade,
            99 => Order::Shutdown {
                quick: self.numbers.percent(30),
            },
            _ => Order::Show(What::Config),
        }
    }

    /// Whom a client means by a process number.
    fn any_worker(&mut self) -> Option<ChildId> {
        let in_slot = |id: &&ChildId| matches!(id.place, Place::Slot { .. });
        let ids: Vec<_> = self.children.keys().filter(in_slot).copied().collect();
        match self.numbers.within(1, 10) {
            1 => None,
            2 => self.buried,
            _ if ids.is_empty() => None,
            _ => Some(self.numbers.one_of(&ids)),
        }
    }

    /// Late news of a child that is gone must change nothing.
    fn disturb(&mut self) {
        let Some(child) = self.buried else {
            return;
        };
        let event = match self.numbers.within(1, 6) {
            1 => Event::Hangup { child },
            2 => Event::Illegal { child },
            3 => Event::FromChild {
                child,
                message: FromChild::Ready,
            },
            4 => Event::Heartbeats(vec![(child, 0)]),
            5 => Event::SpawnFailed {
                child,
                reason: String::new(),
            },
            _ => Event::ChildExited {
                child,
                reason: ExitReason::Exited(3),
            },
        };
        self.step(event);
    }

    pub(super) fn next_affair(&mut self) -> Option<Affair> {
        let due = |(at_ms, _): &(u64, Affair)| *at_ms <= self.now_ms;
        let index = self.affairs.iter().position(due)?;
        Some(self.affairs.remove(index).1)
    }

    pub(super) fn attend(&mut self, affair: Affair) {
        match affair {
            Affair::Prepared => self.finish_preparing(),
            Affair::PredecessorGone => {
                if self.circumstances.predecessor {
                    self.circumstances.predecessor = false;
                    self.history.told_predecessor = true;
                    self.step(Event::PredecessorGone);
                    let promoted = self.history.promoted || self.history.exited.is_some();
                    self.check(promoted, "it does not follow its predecessor");
                }
            }
        }
    }

    /// Mostly the configuration is read at once, as the real driver does it.
    pub(super) fn prepare_at_once(&mut self) {
        let is_new = !self.affairs.iter().any(|(_, it)| *it == Affair::Prepared);
        if self.preparing.is_some() && is_new {
            if self.numbers.percent(70) {
                self.finish_preparing();
            } else {
                let at_ms = self.now_ms + self.numbers.within(1, 2000);
                self.affairs.push((at_ms, Affair::Prepared));
            }
        }
    }

    fn finish_preparing(&mut self) {
        let Some(number) = self.preparing.take() else {
            return;
        };
        if self.history.exited.is_some() {
            return;
        }
        if self.numbers.percent(self.trouble.min(20)) {
            self.tally.add("a bad configuration");
            self.now.reload_may_fail = true;
            let reason = "no such file".to_owned();
            return self.step(Event::Unprepared { reason });
        }
        let before = self.current().settings.clone();
        let made = Made::new(&mut self.numbers, Some(&before));
        let event = Event::Prepared {
            settings: made.settings.clone(),
            abandons: made.abandons,
        };
        self.plans.insert(number, made);
        self.candidate = Some(number);
        self.step(event);
        // Before the next child is forked, what is not needed any more is forgotten.
        let living: Vec<u32> = self.children.keys().map(|id| id.generation).collect();
        let keep = [self.serving, self.candidate, self.preparing];
        self.plans.retain(|number, _| {
            living.contains(number) || keep.contains(&Some(*number)) || *number == 1
        });
    }

    /// How much memory everybody has.
    pub(super) fn weigh(&mut self) {
        let ids: Vec<_> = self.state.weighed().collect();
        let limit = self.current().settings.memory;
        let mut samples = Vec::new();
        for id in ids {
            let now_ms = self.now_ms;
            let child = self.living(id);
            let bytes = child.memory_at(now_ms);
            samples.push((id, bytes));
            let limit = limit.expect("it is weighed");
            child.heavy = if bytes > limit.bytes {
                child.heavy + 1
            } else {
                0
            };
            child.was_heavy |= child.heavy >= limit.samples;
        }
        self.check(
            samples
                .iter()
                .all(|(id, _)| id.place.role() == Some(WORKER)),
            "somebody else is weighed",
        );
        self.step(Event::Memory(samples));
    }
}
