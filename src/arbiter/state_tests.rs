//! Defines the tests of single decisions, told as short stories; the simulator does the rest.

use std::time::Duration;

use super::super::children::Standing;
use super::super::event::Order;
use super::super::generation::{Staffing, Upgrade};
use super::super::role::BackOff;
use super::*;
use crate::protocol::message::ToChild;
use crate::sys::process::ExitReason;
use crate::sys::signals::Signal;

#[path = "state_tests/orders.rs"]
mod orders;
#[path = "state_tests/reload.rs"]
mod reload;
#[path = "state_tests/staffing.rs"]
mod staffing;
#[path = "state_tests/upgrade.rs"]
mod upgrade;

/// An arbiter in a story: what happens at which time, and what it does then.
struct Story {
    state: State,
    now_ms: u64,
}

impl Story {
    fn new(settings: Settings) -> Self {
        Self::in_circumstances(Circumstances::default(), settings)
    }

    fn in_circumstances(circumstances: Circumstances, settings: Settings) -> Self {
        Self {
            state: State::new(circumstances, settings),
            now_ms: 1000,
        }
    }

    /// A story that begins when `workers` workers are ready, which is at 1000.
    fn running(workers: usize, change: impl FnOnce(&mut Settings)) -> (Self, Vec<ChildId>) {
        Self::running_in(Circumstances::default(), workers, change)
    }

    fn running_in(
        circumstances: Circumstances,
        workers: usize,
        change: impl FnOnce(&mut Settings),
    ) -> (Self, Vec<ChildId>) {
        let mut settings = settings(workers);
        change(&mut settings);
        let mut story = Self::in_circumstances(circumstances, settings);
        let ids = story.starts();
        for id in &ids {
            story.says(*id, FromChild::Ready);
        }
        assert_eq!(story.state.phase(), Phase::Running);
        (story, ids)
    }

    /// The loader of the first generation does its work; returns the workers that are spawned then.
    fn starts(&mut self) -> Vec<ChildId> {
        let actions = self.tick();
        self.load(&actions)
    }

    /// Lets the loader that was spawned do its work, and returns the workers that are spawned then.
    fn load(&mut self, actions: &[Action]) -> Vec<ChildId> {
        let loader = spawned(actions)[0];
        assert_eq!(loader.place, Place::Loader);
        for app in 0..2 {
            assert_eq!(
                self.says(loader, FromChild::Artefact { app }),
                [Action::KeepArtefact(loader, app)]
            );
        }
        self.says(loader, FromChild::Loaded);
        spawned(&self.exits(loader, 0))
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.state.step(self.now_ms, event, &mut actions);
        actions
    }

    fn tick(&mut self) -> Vec<Action> {
        self.event(Event::Tick)
    }

    /// Time passes, with no event but the ticks that the state asks for. Returns what is done at
    /// the end, and checks that nothing was done before.
    fn tick_at(&mut self, now_ms: u64) -> Vec<Action> {
        while let Some(deadline_ms) = self.state.next_deadline().filter(|ms| *ms < now_ms) {
            self.now_ms = deadline_ms;
            assert_eq!(self.tick(), [], "at {deadline_ms}");
        }
        self.now_ms = now_ms;
        self.tick()
    }

    fn signal(&mut self, signal: Signal) -> Vec<Action> {
        self.event(Event::Signal(signal))
    }

    /// A control client, always another, gives an order.
    fn orders(&mut self, client: u64, order: Order) -> Vec<Action> {
        let client = ClientId(client);
        self.event(Event::Control { client, order })
    }

    fn prepared(&mut self, settings: Settings) -> Vec<Action> {
        self.event(Event::Prepared {
            settings,
            abandons: false,
        })
    }

    /// A reload begins that asks for as many workers; returns them when they have been spawned.
    fn reloads(&mut self, workers: usize, change: impl FnOnce(&mut Settings)) -> Vec<ChildId> {
        let number = self.state.generations + 1;
        let begun = [
            Action::Log(Notice::Reloading(number)),
            Action::Prepare(number),
        ];
        assert_eq!(self.signal(Signal::Hup), begun);
        let mut settings = settings(workers);
        change(&mut settings);
        let actions = self.prepared(settings);
        let ids = self.load(&actions);
        assert_eq!(self.state.phase(), Phase::Reloading);
        assert_eq!(ids.len(), workers);
        ids
    }

    fn says(&mut self, child: ChildId, message: FromChild) -> Vec<Action> {
        let actions = self.event(Event::FromChild { child, message });
        without_log(actions)
    }

    fn exits(&mut self, child: ChildId, status: i32) -> Vec<Action> {
        self.event(Event::ChildExited {
            child,
            reason: ExitReason::Exited(status),
        })
    }

    fn dies(&mut self, child: ChildId) -> Vec<Action> {
        self.event(Event::ChildExited {
            child,
            reason: ExitReason::Signaled(11),
        })
    }

    fn cannot_be_forked(&mut self, child: ChildId) -> Vec<Action> {
        let reason = "no processes are left".to_owned();
        self.event(Event::SpawnFailed { child, reason })
    }

    fn beats(&mut self, child: ChildId, word_ms: u64) -> Vec<Action> {
        self.event(Event::Heartbeats(vec![(child, word_ms)]))
    }

    fn standing(&self, child: ChildId) -> Option<Standing> {
        self.state.children.get(child).map(|child| child.standing)
    }
}

fn settings(workers: usize) -> Settings {
    Settings {
        roles: vec![staffing(workers)],
        apps: Some(2),
        boot_timeout_ms: 5000,
        load_timeout_ms: Some(60_000),
        heartbeat_timeout_ms: None,
        graceful_timeout_ms: 30_000,
        max_unavailable: 0,
        max_lifetime_ms: None,
        memory: None,
        upgrade: Upgrade::Auto,
        upgrade_timeout_ms: 20_000,
        loader_back_off: BackOff::default(),
        fixed_workers: false,
    }
}

fn staffing(count: usize) -> Staffing {
    Staffing {
        count,
        back_off: BackOff::default(),
    }
}

fn without_log(actions: Vec<Action>) -> Vec<Action> {
    actions
        .into_iter()
        .filter(|action| !matches!(action, Action::Log(_)))
        .collect()
}

fn spawned(actions: &[Action]) -> Vec<ChildId> {
    let spawn = |action: &Action| match action {
        Action::Spawn(id, _) => Some(*id),
        _ => None,
    };
    actions.iter().filter_map(spawn).collect()
}

/// Whom these actions answer, and with what.
fn replies(actions: &[Action]) -> Vec<(u64, Result<&str, &str>)> {
    let reply = |action| match action {
        &Action::Reply(client, ref answer) => {
            let answer = answer.as_ref().map(String::as_str);
            Some((client.0, answer.map_err(String::as_str)))
        }
        _ => None,
    };
    actions.iter().filter_map(reply).collect()
}

fn serve(id: ChildId) -> Action {
    Action::Send(id, ToChild::Serve)
}

fn retire(id: ChildId) -> Action {
    Action::Send(id, ToChild::Retire)
}

fn drain(id: ChildId) -> Action {
    Action::Send(id, ToChild::Drain)
}

fn close() -> Action {
    Action::CloseListeners { unlink: true }
}

fn ignored(signal: Signal, why: &'static str) -> [Action; 1] {
    [Action::Log(Notice::Ignored(signal.name(), why))]
}

fn stop(urgency: Urgency) -> Action {
    Action::Log(Notice::Stopping(urgency))
}

fn end(code: ExitCode) -> [Action; 2] {
    [Action::Log(Notice::Stopped(code)), Action::Exit(code)]
}

fn kill(id: ChildId) -> Action {
    Action::Kill(id, Signal::Kill)
}

#[test]
fn workers_start_when_the_loader_has_handed_over_everything_and_left() {
    let mut story = Story::new(settings(2));
    let loader = spawned(&story.tick())[0];
    assert_eq!(loader.place, Place::Loader);
    assert_eq!(story.tick(), [], "there is one loader");
    for app in [1, 0] {
        let keep = Action::KeepArtefact(loader, app);
        assert_eq!(story.says(loader, FromChild::Artefact { app }), [keep]);
    }
    assert_eq!(story.says(loader, FromChild::Loaded), []);
    let places: Vec<_> = spawned(&story.exits(loader, 0))
        .iter()
        .map(|id| id.place)
        .collect();
    assert_eq!(places, [Place::worker(0), Place::worker(1)]);
    assert_eq!(story.state.phase(), Phase::Starting);
}

#[test]
fn the_first_ready_worker_is_announced_and_only_it() {
    let mut story = Story::new(settings(2));
    let ids = story.starts();
    assert_eq!(story.says(ids[1], FromChild::Ready), [Action::Announce]);
    assert_eq!(story.state.phase(), Phase::Running);
    assert_eq!(story.says(ids[0], FromChild::Ready), []);
    assert_eq!(
        story.state.next_deadline(),
        None,
        "an idle arbiter does not wake up"
    );
}

#[test]
fn what_the_loader_may_not_say_costs_its_life() {
    let check = |before: &[FromChild], message: FromChild| {
        let mut story = Story::new(settings(1));
        let loader = spawned(&story.tick())[0];
        before
            .iter()
            .for_each(|message| drop(story.says(loader, message.clone())));
        assert_eq!(
            story.says(loader, message.clone()),
            [kill(loader)],
            "{message:?}"
        );
        assert_eq!(story.says(loader, message), [], "it has been punished");
        assert_eq!(
            story.dies(loader).last(),
            Some(&Action::Exit(ExitCode::AppLoad))
        );
    };
    let artefact = |app| FromChild::Artefact { app };
    check(&[], FromChild::Ready);
    check(&[], FromChild::Loaded);
    check(&[artefact(0)], FromChild::Loaded);
    check(&[artefact(0)], artefact(0));
    check(&[], artefact(2));
    check(
        &[artefact(0), artefact(1), FromChild::Loaded],
        FromChild::Loaded,
    );
    check(
        &[FromChild::Failed {
            code: 4,
            reason: String::new(),
        }],
        FromChild::Loaded,
    );
}

#[test]
fn what_a_worker_may_not_say_costs_its_life() {
    let failed = FromChild::Failed {
        code: 3,
        reason: String::new(),
    };
    for message in [
        FromChild::Ready,
        FromChild::Loaded,
        FromChild::Artefact { app: 0 },
        failed,
    ] {
        let (mut story, ids) = Story::running(1, |_| {});
        assert_eq!(
            story.says(ids[0], message.clone()),
            [kill(ids[0])],
            "{message:?}"
        );
    }
    let (mut story, ids) = Story::running(1, |_| {});
    let actions = story.event(Event::Illegal { child: ids[0] });
    assert_eq!(
        actions,
        [Action::Log(Notice::Illegal(ids[0])), kill(ids[0])]
    );
}

#[test]
fn a_loader_that_fails_ends_the_server_with_its_code() {
    let check = |word: Option<u8>, status: i32, expect: ExitCode| {
        let mut story = Story::new(settings(1));
        let loader = spawned(&story.tick())[0];
        if let Some(code) = word {
            let reason = "no such file".to_owned();
            let actions = story.event(Event::FromChild {
                child: loader,
                message: FromChild::Failed { code, reason },
            });
            assert_eq!(
                actions,
                [Action::Log(Notice::Failed(
                    loader,
                    "no such file".to_owned()
                ))]
            );
        }
        let actions = story.exits(loader, status);
        assert_eq!(
            actions.last(),
            Some(&Action::Exit(expect)),
            "{word:?} {status}"
        );
        assert!(actions.contains(&close()));
    };
    check(None, 0, ExitCode::AppLoad);
    check(None, 1, ExitCode::AppLoad);
    check(None, 5, ExitCode::Config);
    check(Some(5), 1, ExitCode::Config);
    check(Some(3), 4, ExitCode::WorkerBoot);
    check(Some(0), 0, ExitCode::AppLoad);
}

#[test]
fn a_loader_that_takes_too_long_is_killed() {
    let mut story = Story::new(settings(1));
    let loader = spawned(&story.tick())[0];
    assert_eq!(story.tick_at(60_999), []);
    let actions = story.tick_at(61_000);
    assert_eq!(
        actions,
        [Action::Log(Notice::TooSlow(loader)), kill(loader)]
    );
    assert_eq!(
        story.dies(loader).last(),
        Some(&Action::Exit(ExitCode::AppLoad))
    );
}

#[test]
fn a_worker_that_fails_before_any_was_ready_ends_the_server_quickly() {
    let check = |status: i32, expect: ExitCode| {
        let mut story = Story::new(settings(2));
        let ids = story.starts();
        let actions = story.exits(ids[0], status);
        let rest = [stop(Urgency::Quick), close(), kill(ids[1])];
        assert_eq!(actions[1..], rest, "{status}");
        assert_eq!(story.dies(ids[1])[1..], end(expect), "{status}");
    };
    check(3, ExitCode::WorkerBoot);
    check(4, ExitCode::AppLoad);
    check(1, ExitCode::WorkerBoot);
    check(0, ExitCode::WorkerBoot);
}

#[test]
fn a_worker_that_hangs_in_its_boot_is_killed() {
    let mut story = Story::new(settings(1));
    let ids = story.starts();
    assert_eq!(story.tick_at(5999), []);
    let actions = story.tick_at(6000);
    assert_eq!(
        actions,
        [Action::Log(Notice::TooSlow(ids[0])), kill(ids[0])]
    );
    let actions = story.dies(ids[0]);
    assert_eq!(actions.last(), Some(&Action::Exit(ExitCode::WorkerBoot)));
}

#[test]
fn failures_after_the_first_ready_are_survived_with_back_off() {
    let (mut story, ids) = Story::running(2, |_| {});
    let mut id = ids[0];
    for delay_ms in [0, 100, 200, 400, 800] {
        let actions = story.exits(id, 4);
        if delay_ms > 0 {
            assert_eq!(actions[1..], [Action::Log(Notice::BackOff(id, delay_ms))]);
            assert_eq!(story.tick_at(story.now_ms + delay_ms - 1), []);
            id = spawned(&story.tick_at(story.now_ms + 1))[0];
        } else {
            id = spawned(&actions)[0];
        }
        assert_eq!(id.place, Place::worker(0));
    }
    assert_eq!(story.state.phase(), Phase::Running);
}

#[test]
fn good_service_ends_a_row_of_failures() {
    let (mut story, ids) = Story::running(1, |_| {});
    let second = spawned(&story.dies(ids[0]))[0];
    story.says(second, FromChild::Ready);
    story.now_ms += 10_000;
    assert_eq!(
        spawned(&story.dies(second)).len(),
        1,
        "at once, as if it were the first failure"
    );
}

#[test]
fn a_worker_that_retires_is_replaced_at_once_but_not_faster_than_forking_is_cheap() {
    let (mut story, ids) = Story::running(1, |_| {});
    story.now_ms += 30;
    let actions = story.exits(ids[0], 0);
    assert_eq!(
        actions,
        [Action::Log(Notice::Left(ids[0], ExitReason::Exited(0)))]
    );
    assert_eq!(story.tick_at(1099), []);
    let second = spawned(&story.tick_at(1100))[0];
    story.says(second, FromChild::Ready);
    story.now_ms += 5000;
    assert_eq!(spawned(&story.exits(second, 0)).len(), 1);
}

#[test]
fn a_fork_that_fails_is_tried_again_later() {
    let mut story = Story::new(settings(1));
    let mut child = spawned(&story.tick())[0];
    for delay_ms in [100, 100, 200, 400] {
        let actions = story.cannot_be_forked(child);
        let notice = Notice::BackOff(child, delay_ms);
        assert_eq!(actions[1..], [Action::Log(notice)]);
        child = spawned(&story.tick_at(story.now_ms + delay_ms))[0];
    }
    assert_eq!(child.place, Place::Loader);
}

#[test]
fn a_graceful_stop_drains_and_then_kills() {
    let (mut story, ids) = Story::running(2, |_| {});
    let actions = story.signal(Signal::Term);
    let expect = [
        stop(Urgency::Graceful),
        close(),
        drain(ids[0]),
        drain(ids[1]),
    ];
    assert_eq!(actions, expect);
    assert_eq!(story.exits(ids[0], 0).len(), 1);
    assert_eq!(story.tick_at(30_999), []);
    let actions = story.tick_at(31_000);
    assert_eq!(
        actions,
        [Action::Log(Notice::Unfinished(ids[1])), kill(ids[1])]
    );
    let actions = story.dies(ids[1]);
    assert_eq!(actions[1..], end(ExitCode::Ok));
    assert_eq!(story.signal(Signal::Term), [], "it is over");
}

#[test]
fn a_quick_stop_asks_first_and_kills_soon() {
    for signal in [Signal::Int, Signal::Quit] {
        let (mut story, ids) = Story::running(1, |_| {});
        let quit = Action::Kill(ids[0], Signal::Quit);
        let expect = [stop(Urgency::Quick), close(), quit];
        assert_eq!(story.signal(signal), expect);
        assert_eq!(story.tick_at(2999), []);
        let actions = story.tick_at(3000);
        assert_eq!(
            actions,
            [Action::Log(Notice::Lingers(ids[0])), kill(ids[0])]
        );
    }
}

#[test]
fn a_second_signal_gives_no_more_time_than_the_first() {
    let (mut story, ids) = Story::running(1, |_| {});
    story.signal(Signal::Term);
    assert_eq!(story.tick_at(30_000), []);
    story.signal(Signal::Term);
    assert_eq!(
        story.tick_at(31_000),
        [Action::Log(Notice::Lingers(ids[0])), kill(ids[0])]
    );
}

#[test]
fn impatience_grows_with_each_signal() {
    for first in [Signal::Term, Signal::Int, Signal::Quit] {
        let (mut story, ids) = Story::running(1, |_| {});
        story.signal(Signal::Term);
        let quit = Action::Kill(ids[0], Signal::Quit);
        assert_eq!(story.signal(first), [stop(Urgency::Quick), quit]);
        assert_eq!(
            story.signal(Signal::Int),
            [stop(Urgency::Now), kill(ids[0])]
        );
        assert_eq!(story.signal(Signal::Int), [stop(Urgency::Now)]);
        assert_eq!(story.dies(ids[0])[1..], end(ExitCode::Ok));
    }
}

#[test]
fn a_stop_while_loading_kills_the_loader_and_is_a_success() {
    for signal in [Signal::Term, Signal::Int] {
        let mut story = Story::new(settings(1));
        let loader = spawned(&story.tick())[0];
        assert_eq!(story.signal(signal).last(), Some(&kill(loader)));
        assert_eq!(story.dies(loader)[1..], end(ExitCode::Ok));
    }
}

#[test]
fn a_booting_worker_that_is_told_to_drain_keeps_its_boot_deadline_until_it_is_ready() {
    let mut story = Story::new(settings(1));
    let ids = story.starts();
    assert_eq!(story.signal(Signal::Term).last(), Some(&drain(ids[0])));
    assert_eq!(story.state.next_deadline(), Some(6000));
    story.now_ms = 3000;
    assert_eq!(story.says(ids[0], FromChild::Ready), []);
    assert_eq!(story.state.next_deadline(), Some(31_000));
    assert_eq!(story.exits(ids[0], 0)[1..], end(ExitCode::Ok));
}

#[test]
fn a_child_that_hangs_up_must_end() {
    let (mut story, ids) = Story::running(1, |_| {});
    assert_eq!(story.event(Event::Hangup { child: ids[0] }), []);
    assert_eq!(story.tick_at(1999), []);
    let actions = story.tick_at(2000);
    assert_eq!(
        actions,
        [Action::Log(Notice::Lingers(ids[0])), kill(ids[0])]
    );
}

#[test]
fn a_silent_worker_is_aborted_and_then_killed() {
    let heartbeat = |settings: &mut Settings| settings.heartbeat_timeout_ms = Some(8000);
    let (mut story, ids) = Story::running(1, heartbeat);
    assert_eq!(
        story.state.next_deadline(),
        Some(2000),
        "eight checks within the timeout"
    );
    assert!(!story.state.wants_heartbeats(1999) && story.state.wants_heartbeats(2000));
    story.now_ms = 2000;
    assert_eq!(story.beats(ids[0], 2001), []);
    assert_eq!(story.tick(), []);
    story.now_ms = 3000;
    let actions = story.beats(ids[0], 2001);
    let abort = Action::Kill(ids[0], Signal::Abrt);
    assert_eq!(actions, [Action::Log(Notice::Silent(ids[0])), abort]);
    assert_eq!(story.state.next_deadline(), Some(4000));
    let actions = story.tick_at(4000);
    assert_eq!(
        actions,
        [Action::Log(Notice::Lingers(ids[0])), kill(ids[0])]
    );
    assert_eq!(spawned(&story.dies(ids[0])).len(), 1, "and replaced");
}

#[test]
fn nobody_is_murdered_after_the_arbiter_was_stopped() {
    let heartbeat = |settings: &mut Settings| settings.heartbeat_timeout_ms = Some(8000);
    let (mut story, ids) = Story::running(2, heartbeat);
    let third = spawned(&story.signal(Signal::Ttin))[0];
    story.now_ms = 2000;
    assert_eq!(story.beats(ids[0], 9000), []);
    assert_eq!(story.tick(), []);
    // Asked for at 3000; it had been 1000 ms since the last event when time stopped, at the most.
    story.now_ms = 103_000;
    assert_eq!(story.beats(ids[0], 9000), []);
    assert_eq!(story.tick(), [], "the boot deadline has moved too");
    story.now_ms = 104_000;
    assert_eq!(story.beats(ids[0], 9000), []);
    assert_eq!(story.tick(), []);
    // The word of 9000 holds until 110000: by the 101 s in which the arbiter saw nothing.
    story.now_ms = 105_000;
    assert_eq!(story.beats(ids[0], 9000), []);
    assert_eq!(story.tick(), []);
    story.now_ms = 106_000;
    assert_eq!(
        story.beats(ids[0], 9001).len(),
        2,
        "another word is not pardoned"
    );
    let _ = third;
}

#[test]
fn a_machine_that_is_always_too_slow_is_not_an_excuse_for_ever() {
    let (mut story, ids) = Story::running(1, |settings| settings.graceful_timeout_ms = 1000);
    story.signal(Signal::Term);
    let mut wakes = 0;
    while story.tick().is_empty() {
        let asked_ms = story.state.next_deadline().unwrap();
        story.now_ms = asked_ms + 5000;
        wakes += 1;
        assert!(wakes < 10);
    }
    assert_eq!(wakes, 4);
    assert_eq!(story.dies(ids[0])[1..], end(ExitCode::Ok));
}

#[test]
fn names_of_the_dead_mean_nobody() {
    let (mut story, ids) = Story::running(1, |_| {});
    story.now_ms += 1000;
    let second = spawned(&story.dies(ids[0]))[0];
    assert_eq!(story.says(ids[0], FromChild::Ready), []);
    assert_eq!(story.event(Event::Illegal { child: ids[0] }), []);
    assert_eq!(story.event(Event::Hangup { child: ids[0] }), []);
    assert_eq!(story.dies(ids[0]), []);
    assert_eq!(story.beats(ids[0], 0), []);
    assert_eq!(story.says(second, FromChild::Ready), []);
}

#[test]
fn a_graceful_timeout_of_zero_is_a_kill() {
    let (mut story, ids) = Story::running(1, |settings| settings.graceful_timeout_ms = 0);
    story.signal(Signal::Term);
    assert_eq!(
        story.tick(),
        [Action::Log(Notice::Unfinished(ids[0])), kill(ids[0])]
    );
}

#[test]
fn the_wait_has_the_length_of_the_roles_policy() {
    let (mut story, ids) = Story::running(1, |settings| {
        settings.roles[0].back_off.first = Duration::from_secs(7);
    });
    let second = spawned(&story.dies(ids[0]))[0];
    assert_eq!(
        story.dies(second).last(),
        Some(&Action::Log(Notice::BackOff(second, 7000)))
    );
}
