//! Defines how the simulated world takes what the arbiter does: each action is judged by what its
//! children have lived through rather than by what the state remembers of it.

use super::child::{DEATH_MS, Model};
use super::operators::Affair;
use super::plans::Held;
use super::{World, kind};
use crate::arbiter::action::{Action, Notice, Urgency};
use crate::arbiter::children::{ChildId, Place, ROWS_MAX, SLOTS_MAX, WORKER, Wear};
use crate::arbiter::clients::ClientId;
use crate::arbiter::event::Order;
use crate::arbiter::exit::ExitCode;
use crate::arbiter::generation::Upgrade;
use crate::protocol::message::{FromChild, ToChild};
use crate::scoreboard::NEVER;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

/// Of so many workers, one at a time is replaced for wear.
const REPLACED_SHARE: usize = 8;

impl World {
    /// Does what the arbiter says. Returns a child that could not be forked.
    pub(super) fn perform(&mut self, action: Action) -> Option<ChildId> {
        self.check(
            self.history.exited.is_none(),
            "there is an action after the exit",
        );
        match action {
            Action::Spawn(id, row) => return self.spawn(id, row),
            Action::Send(id, _) | Action::Kill(id, _) if self.unborn.contains(&id) => {}
            Action::Send(id, message) => self.send(id, message),
            Action::Kill(id, signal) => {
                let stopping = self.is_stopping();
                let guilty = self.now.condemned == Some(id);
                let allowed = stopping || guilty || !self.living(id).serves();
                self.check(
                    allowed || signal == Signal::Abrt,
                    "a worker that serves is killed",
                );
                self.check(stopping || signal != Signal::Quit, "nobody stops");
                self.kill(id, signal);
            }
            Action::KeepArtefact(id, app) => self.keep_artefact(id, app),
            Action::Announce => self.announce(),
            Action::Prepare(number) => self.prepare(number),
            Action::Grant(number) => {
                let served = self.count(WORKER, |id| id.generation == number) > 0;
                let leaves = self.children.keys().any(|id| id.generation == number);
                self.check(served || leaves, "nobody of a generation is to accept");
            }
            Action::Believe(id) => {
                let lives = self.children.contains_key(&id);
                self.check(lives, "one who is gone is said to live");
            }
            Action::Adopt(number) => self.adopt(number),
            Action::Discard(number) => {
                let known = self.candidate == Some(number);
                self.check(known && self.history.announced, "what serves is discarded");
                self.candidate = None;
            }
            Action::CloseListeners { unlink } => {
                self.check(!self.history.closed, "the listeners are closed twice");
                let shared = self.successor() == Some(true) || self.circumstances.predecessor;
                self.check(unlink != shared, "others listen there too, or do not");
                self.history.closed = true;
                self.abandoned = u32::MAX;
            }
            Action::ReopenLogs(None) => {}
            Action::ReopenLogs(Some(client)) => self.reply(client, &Ok(String::new())),
            Action::TellPredecessor(message) => self.tell_predecessor(&message),
            Action::Promote => {
                let gone = !self.circumstances.predecessor && !self.history.promoted;
                self.check(gone, "it promotes itself while the predecessor lives");
                self.history.promoted = true;
            }
            Action::Reply(client, answer) => self.reply(client, &answer),
            Action::Show(client, _) => {
                let order = self.pending.remove(&client);
                let asked = matches!(order, Some(Order::Show(_)));
                self.check(asked, "a client is shown what it did not ask for");
            }
            Action::PetWatchdog => self.history.petted_ms = Some(self.now_ms),
            Action::Log(notice) => self.read(&notice),
            Action::Exit(code) => self.exit(code),
        }
        None
    }

    fn keep_artefact(&mut self, id: ChildId, app: u32) {
        let made = self.plan_mut(id.generation);
        let new = made.kept.insert(app);
        let known = made.settings.apps.is_some_and(|apps| app < apps);
        self.check(new, "an artefact is kept twice");
        self.check(known, "an artefact of no app is kept");
    }

    fn announce(&mut self) {
        let first = self.candidate.take() == Some(1) && self.serving.is_none();
        self.check(
            first && !self.history.announced,
            "it is announced at a wrong time",
        );
        let ready = self.count(WORKER, |_| true) > 0;
        self.check(ready, "it is announced before a worker is ready");
        self.history.announced = true;
        self.serving = Some(1);
    }

    fn prepare(&mut self, number: u32) {
        let idle = self.candidate.is_none() && self.preparing.is_none();
        self.check(
            idle && !self.is_stopping(),
            "a reload begins at a wrong time",
        );
        self.check(
            self.successor() != Some(false),
            "two things are made at once",
        );
        let newest = self
            .plans
            .keys()
            .max()
            .is_none_or(|newest| *newest < number);
        self.check(newest, "a generation is made twice");
        if std::mem::take(&mut self.history.defers_reload) {
            self.tally.add("a reload after a reload");
        }
        self.history.owes_reload = false;
        self.preparing = Some(number);
    }

    fn adopt(&mut self, number: u32) {
        self.check(
            self.candidate == Some(number),
            "what serves was not prepared",
        );
        self.check(self.history.announced, "it reloads before it serves");
        let made = self.plan(number);
        let ready = |role| self.count(role, |id| id.generation == number);
        let others = (1..made.settings.roles.len()).all(|role| ready(role) >= made.wanted(role));
        self.check(
            others && ready(WORKER) >= made.quorum(),
            "a generation takes over that is not ready",
        );
        if made.abandons {
            self.abandoned = number - 1;
            self.tally.add("a reload that abandons a listener");
        }
        self.candidate = None;
        self.serving = Some(number);
        let now_ms = self.now_ms;
        self.plan_mut(number).adopted_ms = now_ms;
        if self.held == Held::Winch {
            self.held = Held::No;
        }
        self.now.adopted = true;
        self.tally.add("a reload that succeeds");
    }

    fn tell_predecessor(&mut self, message: &FromChild) {
        let told = std::mem::replace(&mut self.history.told_predecessor, true);
        self.check(!told, "the predecessor is told twice");
        match message {
            FromChild::Ready => {
                let ready = self.count_serving(WORKER) >= self.current().quorum();
                let serves = self.history.announced && !self.is_stopping();
                self.check(
                    ready && serves,
                    "the predecessor is told to leave too early",
                );
                self.tally
                    .add("a server that gets ready for its predecessor");
                if self.numbers.percent(80) {
                    let at_ms = self.now_ms + self.numbers.within(0, 40_000);
                    self.affairs.push((at_ms, Affair::PredecessorGone));
                }
            }
            FromChild::Failed { code, .. } => {
                let verdict = self.history.verdict.map(ExitCode::number);
                self.check(
                    self.is_stopping() && verdict == Some(*code),
                    "the predecessor is told wrongly why this server stops",
                );
                self.tally.add("a server that fails its predecessor");
            }
            other => self.check(
                false,
                &format!("the predecessor does not understand {other:?}"),
            ),
        }
    }

    fn reply(&mut self, client: ClientId, answer: &Result<String, String>) {
        let order = self.pending.remove(&client);
        self.check(order.is_some(), "an answer is given twice, or to nobody");
        let possible = if self.accepted.remove(&client) {
            self.can_have_ended(order, answer.is_ok())
        } else {
            self.can_be_answered(order, answer.is_ok())
        };
        self.check(possible, "an answer is wrong");
    }

    /// Whether what was begun for a client is over now, with that result.
    fn can_have_ended(&self, order: Option<Order>, well: bool) -> bool {
        let (done, failed) = match order {
            Some(Order::Reload) => (self.now.adopted, self.now.reload_failed),
            Some(Order::Upgrade) => (self.now.upgraded, self.now.upgrade_failed),
            _ => (false, false),
        };
        if well {
            done
        } else {
            failed || self.is_stopping()
        }
    }

    /// Whether an order may have that result at once.
    fn can_be_answered(&self, order: Option<Order>, well: bool) -> bool {
        let stopping = self.is_stopping();
        let idle = self.history.announced && self.candidate.is_none() && self.preparing.is_none();
        let idle = idle && !stopping && !self.now.reload_failed && !self.now.upgrade_failed;
        let upgrades = self.successor();
        let refuses_workers = stopping || self.is_held();
        let plans = [Some(self.serving.unwrap_or(1)), self.candidate];
        let mut plans = plans.into_iter().flatten().map(|number| self.plan(number));
        match (order, well) {
            (Some(Order::Show(_)) | None, _) => false,
            (Some(Order::Reload), true) => self.now.adopted,
            (Some(Order::Reload), false) => {
                !idle || upgrades == Some(false) || self.held == Held::Leaving
            }
            (Some(Order::Upgrade), true) => self.now.upgraded,
            (Some(Order::Upgrade), false) => {
                !idle || upgrades.is_some() || self.circumstances.predecessor
            }
            (Some(Order::WorkerAdd(count)), false) => {
                refuses_workers || plans.any(|made| made.slots() + count as usize > SLOTS_MAX)
            }
            (Some(Order::WorkerRemove(count)), false) => {
                refuses_workers || plans.any(|made| made.workers <= count as usize)
            }
            (Some(_), _) => true,
        }
    }

    fn exit(&mut self, code: ExitCode) {
        let leaves = self.held == Held::Leaving && self.successor() == Some(true);
        let alone = self
            .children
            .iter()
            .all(|(id, child)| id.place == Place::Successor && child.serves());
        self.check(alone, "it exits before its children");
        let expected = match self.history.verdict {
            None if leaves => Some(ExitCode::Ok),
            verdict => verdict,
        };
        self.check(expected == Some(code), "the exit code is wrong");
        self.check(
            self.history.closed || leaves,
            "it exits with open listeners",
        );
        self.check(self.pending.is_empty(), "a client is never answered");
        self.check(
            self.history.told_predecessor,
            "the predecessor is never told",
        );
        self.check(
            self.candidate.is_none() || !self.history.announced,
            "what was bound for a generation is forgotten",
        );
        match (self.children.is_empty(), self.history.verdict) {
            (false, None) => self.tally.add("a server that leaves to its successor"),
            (false, Some(_)) => self
                .tally
                .add("a server that is told to leave to its successor"),
            (true, _) => {}
        }
        self.history.exited = Some(code);
        self.tally.exits.insert(code.number());
    }

    fn spawn(&mut self, id: ChildId, row: Option<usize>) -> Option<ChildId> {
        self.check(!self.is_stopping(), "a child is started during the stop");
        let others = self.children.iter().filter(|(other, _)| {
            other.place == id.place
                && (other.generation == id.generation || id.place == Place::Loader)
        });
        let in_place = others.filter(|(_, child)| child.told.is_none() && !child.worn);
        self.check(in_place.count() == 0, "two children are in one place");
        match id.place {
            Place::Loader => {
                let made = self.plan(id.generation);
                self.check(!made.is_loaded, "it loads twice");
                let wanted = self.candidate == Some(id.generation);
                self.check(wanted, "something is loaded that nobody wants");
            }
            Place::Successor => {
                let idle = self.candidate.is_none() && self.preparing.is_none();
                let idle = idle && self.successor().is_none();
                self.check(
                    idle && !self.circumstances.predecessor,
                    "the new program is started at a wrong time",
                );
            }
            Place::Slot { role, slot } => self.check_slot(id, role, slot),
        }
        let free = row.is_none_or(|row| {
            row < ROWS_MAX && self.children.values().all(|child| child.row != Some(row))
        });
        let slot = matches!(id.place, Place::Slot { .. });
        self.check(free && row.is_some() == slot, "a row is shared");
        self.check_pace(id);
        if self.numbers.percent(self.trouble / 5) {
            return Some(id);
        }
        let model = match id.place {
            Place::Loader => self.new_loader(id.generation),
            Place::Successor => self.new_successor(),
            Place::Slot { .. } => self.new_worker(id),
        };
        let is_beside = self.serving.is_some_and(|serving| serving != id.generation);
        let accepts = !is_beside || id.place.role() != Some(WORKER);
        let model = Model {
            row,
            accepts,
            ..model
        };
        self.children.insert(id, model);
        None
    }

    fn check_slot(&self, id: ChildId, role: usize, slot: usize) {
        let number = Some(id.generation);
        let current = self.serving == number && !self.is_held();
        self.check(
            current || self.candidate == number,
            "a worker is started that nobody wants",
        );
        let made = self.plan(id.generation);
        let kept = made.settings.apps.unwrap_or(0) as usize == made.kept.len();
        self.check(
            kept && made.is_loaded,
            "a worker is started without its artefacts",
        );
        self.check(slot < made.wanted(role), "a worker too many is started");
    }

    /// However its children fail, a slot does not keep the machine busy with forking.
    fn check_pace(&mut self, id: ChildId) {
        let spawns = self.history.spawns.entry((id.place, id.generation));
        let spawns = spawns.or_default();
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
        let crashes = crashes && self.current().settings.max_lifetime_ms.is_none();
        let hurry = crashes && took(10).is_some_and(|ms| ms < 20_000);
        self.check(!hurry, "there is no back-off");
    }

    pub(super) fn living(&mut self, id: ChildId) -> &mut Model {
        let known = self.children.contains_key(&id);
        self.check(known, "an action is about a child that does not live");
        self.children.get_mut(&id).expect("it was just found")
    }

    /// A child is told to finish: there must be a reason, and enough others must serve.
    fn let_serve(&mut self, id: ChildId) {
        let current = self.serving == Some(id.generation);
        let child = self.living(id);
        let waits = child.said_ready && !std::mem::replace(&mut child.accepts, true);
        self.check(current && waits, "a worker is let in at a wrong time");
        self.tally.add("workers that are let in");
    }

    fn send(&mut self, id: ChildId, message: ToChild) {
        let Place::Slot { role, slot } = id.place else {
            return self.check(false, "nobody but who is in a slot takes orders");
        };
        if message == ToChild::Serve {
            return self.let_serve(id);
        }
        let held = self.held != Held::No && self.successor() != Some(false);
        let expected = if held || id.generation <= self.abandoned {
            ToChild::Drain
        } else {
            ToChild::Retire
        };
        self.check(message == expected, "others accept there too, or do not");
        let patience_ms = self.current().settings.graceful_timeout_ms;
        self.finish(id, message, patience_ms);
        if self.is_stopping() {
            return;
        }
        let serving = self.serving.unwrap_or(0);
        if self.to_replace == Some(id) {
            self.to_replace = None;
            return self.tally.add("a worker that an operator replaces");
        }
        let child = &self.children[&id];
        let is_outdated = id.generation < serving;
        if self.candidate == Some(id.generation) {
            let surplus = slot >= self.plan(id.generation).wanted(role);
            let failed = self.now.reload_may_fail;
            return self.check(surplus || failed, "a new worker is told to finish");
        }
        if self.is_held() && id.generation <= serving {
            return self.tally.add("workers that are held");
        }
        let surplus = slot >= self.current().wanted(role);
        let replaced = child.worn && {
            let mut others = self.children.iter();
            let in_place =
                |other: &ChildId| (other.place, other.generation) == (id.place, id.generation);
            others.any(|(other, child)| in_place(other) && child.serves() && !child.worn)
        };
        self.check(
            is_outdated || replaced || surplus,
            "a worker is told to finish for no reason",
        );
        if child.said_ready {
            let others = self.count_serving(role);
            self.check(
                others >= self.needed(role, is_outdated),
                "too few workers are left",
            );
        }
    }

    /// Patience must not end early, whatever the clock did.
    fn read(&mut self, notice: &Notice) {
        let now_ms = self.now_ms;
        self.tally.notices.insert(kind(notice));
        match notice {
            Notice::TooSlow(id) => {
                let child = self.living(*id);
                let booted_ms = now_ms - child.spawned_ms;
                let late = booted_ms >= child.boot_limit_ms && !child.said_ready;
                self.check(late, "a child is killed before its boot timeout");
            }
            Notice::Unfinished(id) => self.check_unfinished(*id),
            Notice::Illegal(id) => {
                let lies = self.living(*id).lies;
                self.check(lies, "a child that does not lie is punished");
                self.now.condemned = Some(*id);
            }
            Notice::Worn(id, wear) => self.check_worn(*id, *wear),
            Notice::Stopping(urgency) => self.expect_end(*urgency),
            Notice::Workers(count) => self.change_workers(*count),
            Notice::ReloadFailed(number, _) => {
                let may_fail = std::mem::take(&mut self.now.reload_may_fail);
                self.check(may_fail, "a reload fails for no reason");
                let over = self.candidate.is_none() && self.preparing.is_none();
                let newer = Some(*number) > self.serving;
                self.check(over && newer, "a reload that failed goes on");
                self.now.reload_failed = true;
                self.tally.add("a reload that fails");
            }
            Notice::Upgrading(_) if self.current().settings.upgrade == Upgrade::Auto => {
                self.held = Held::Leaving;
            }
            Notice::Upgraded(_) => {
                self.check(self.successor() == Some(true), "the successor is not ready");
                self.now.upgraded = true;
                self.tally.add("an upgrade that succeeds");
            }
            Notice::UpgradeFailed(..) | Notice::SuccessorLeft(_) => {
                self.now.upgrade_failed = true;
                self.tally.add("an upgrade that fails");
            }
            Notice::HandingOver(_) => {
                self.check(self.successor() == Some(true), "the successor is not ready");
            }
            Notice::Held => self.held = Held::Winch,
            Notice::Ignored(..) => self.now.ignored = true,
            _ => {}
        }
    }

    fn check_unfinished(&mut self, id: ChildId) {
        let stopping = self.is_stopping();
        let now_ms = self.now_ms;
        let child = self.living(id);
        // One that hung up, or failed, and was then to be drained has no such time.
        let drained = child
            .told
            .is_none_or(|(_, at_ms, patience_ms)| now_ms - at_ms >= patience_ms);
        let booted = !child.said_ready && now_ms - child.spawned_ms >= child.boot_limit_ms;
        let gone = !child.connected || child.failed_with.is_some();
        self.check(
            drained || booted || gone || stopping,
            "a worker is killed before the graceful timeout",
        );
    }

    fn check_worn(&mut self, id: ChildId, wear: Wear) {
        let now_ms = self.now_ms;
        let settings = &self.current().settings;
        let lifetime_ms = settings.max_lifetime_ms.unwrap_or(NEVER);
        let most = (self.current().workers / REPLACED_SHARE).max(1);
        self.check(
            self.serving == Some(id.generation) && !self.is_held(),
            "a worker is replaced that is not needed",
        );
        let child = self.living(id);
        let (true_wear, what) = match wear {
            Wear::Requests => (child.said_retire, "a worker worn by requests"),
            Wear::Age => {
                let aged = now_ms - child.ready_ms >= lifetime_ms;
                (aged, "a worker worn by age")
            }
            Wear::Memory(bytes) => (child.was_heavy && bytes > 100, "a worker worn by memory"),
        };
        let fresh = child.serves() && !std::mem::replace(&mut child.worn, true);
        self.check(true_wear && fresh, "a worker is replaced for no reason");
        let under_way = |child: &&Model| child.worn && child.told.is_none();
        let under_way = self.children.values().filter(under_way).count();
        self.check(under_way <= most, "too many workers are replaced at once");
        self.tally.add(what);
    }

    /// When the stop must be over.
    fn expect_end(&mut self, urgency: Urgency) {
        let patience_ms = match urgency {
            // From here each child is given up within this time, or was before.
            Urgency::Graceful => self.current().settings.graceful_timeout_ms.max(1000),
            Urgency::Quick => 2000,
            Urgency::Now => 0,
        };
        let over_ms = self.now_ms + patience_ms + DEATH_MS + 1000;
        let earlier_ms = if self.history.closed {
            self.history.over_by_ms
        } else {
            NEVER
        };
        self.history.over_by_ms = over_ms.min(earlier_ms);
    }

    /// The operators' wish holds for what serves and for what is being made.
    fn change_workers(&mut self, count: usize) {
        let before = self.current().workers;
        let plans = [Some(self.serving.unwrap_or(1)), self.candidate];
        let plans: std::collections::BTreeSet<u32> = plans.into_iter().flatten().collect();
        for number in plans {
            let made = self.plan_mut(number);
            made.workers = (made.workers + count).saturating_sub(before);
            let possible = (1..=1024).contains(&made.workers);
            self.check(possible, "the number of workers is impossible");
        }
    }
}
