//! Defines the stories of signals and of the control socket.

use super::super::super::children::SLOTS_MAX;
use super::*;
use crate::protocol::control::What;

#[test]
fn ttin_adds_a_worker_and_ttou_retires_the_highest_slot() {
    let (mut story, ids) = Story::running(1, |_| {});
    let least = ignored(Signal::Ttou, "one worker is the least");
    assert_eq!(story.signal(Signal::Ttou), least);
    let actions = story.signal(Signal::Ttin);
    assert_eq!(actions[0], Action::Log(Notice::Workers(2)));
    let second = spawned(&actions)[0];
    assert_eq!(second.place, Place::worker(1));
    story.says(second, FromChild::Ready);
    let fewer = [Action::Log(Notice::Workers(1)), retire(second)];
    assert_eq!(story.signal(Signal::Ttou), fewer);
    // Nobody waits for it to leave, but a storm of signals is no storm of forks.
    let more = [Action::Log(Notice::Workers(2))];
    assert_eq!(story.signal(Signal::Ttin), more);
    assert_eq!(story.tick_at(1099), []);
    let third = spawned(&story.tick_at(1100))[0];
    assert_eq!(third.place, second.place);
    assert_eq!(story.standing(ids[0]), Some(Standing::Ready));
}

#[test]
fn a_worker_too_many_serves_until_it_can_be_done_without() {
    let (mut story, ids) = Story::running(2, |_| {});
    let first = spawned(&story.dies(ids[0]))[0];
    assert_eq!(
        story.signal(Signal::Ttou),
        [Action::Log(Notice::Workers(1))]
    );
    assert_eq!(story.says(first, FromChild::Ready), [retire(ids[1])]);
}

#[test]
fn there_is_a_most_of_workers() {
    let (mut story, _) = Story::running(SLOTS_MAX, |_| {});
    let most = "there can be no more than 1024";
    assert_eq!(story.signal(Signal::Ttin), ignored(Signal::Ttin, most));
    let check = |story: &mut Story, order, expect| {
        assert_eq!(replies(&story.orders(1, order)), [(1, expect)], "{order:?}");
    };
    check(&mut story, Order::WorkerAdd(u32::MAX), Err(most));
    let least = "one worker is the least";
    check(&mut story, Order::WorkerRemove(1024), Err(least));
    check(&mut story, Order::WorkerRemove(u32::MAX), Err(least));
    check(&mut story, Order::WorkerRemove(1023), Ok("workers: 1"));
    check(&mut story, Order::WorkerAdd(1023), Ok("workers: 1024"));
}

#[test]
fn other_roles_count_among_the_most() {
    let (mut story, _) = Story::running(SLOTS_MAX - 1, |settings| {
        settings.roles.push(staffing(1));
    });
    let most = "there can be no more than 1024";
    assert_eq!(story.signal(Signal::Ttin), ignored(Signal::Ttin, most));
}

#[test]
fn signals_that_mean_nothing_do_nothing() {
    let (mut story, _) = Story::running(1, |_| {});
    for signal in [Signal::Chld, Signal::Abrt, Signal::Prof] {
        assert_eq!(story.signal(signal), []);
    }
}

#[test]
fn log_files_are_opened_again_at_any_time() {
    let mut story = Story::new(settings(1));
    assert_eq!(story.signal(Signal::Usr1)[0], Action::ReopenLogs(None));
    let (mut story, _) = Story::running(1, |_| {});
    let reopen = |id| Action::ReopenLogs(Some(ClientId(id)));
    assert_eq!(story.orders(1, Order::Reopen), [reopen(1)]);
    story.signal(Signal::Term);
    assert_eq!(story.signal(Signal::Usr1), [Action::ReopenLogs(None)]);
    assert_eq!(story.orders(2, Order::Reopen), [reopen(2)]);
}

#[test]
fn whoever_asks_is_shown() {
    let (mut story, _) = Story::running(1, |_| {});
    let show = |id| Action::Show(ClientId(id), What::Workers);
    assert_eq!(story.orders(1, Order::Show(What::Workers)), [show(1)]);
    story.signal(Signal::Term);
    assert_eq!(story.orders(2, Order::Show(What::Workers)), [show(2)]);
}

#[test]
fn an_operator_can_replace_a_worker() {
    let (mut story, ids) = Story::running(1, |_| {});
    let nobody = "no worker has that process number";
    let actions = story.orders(1, Order::WorkerKill(None));
    assert_eq!(replies(&actions), [(1, Err(nobody))]);
    story.now_ms = 2000;
    let actions = story.orders(2, Order::WorkerKill(Some(ids[0])));
    let done = "the worker finishes, and another takes its place";
    assert_eq!(actions[0], retire(ids[0]));
    assert_eq!(replies(&actions), [(2, Ok(done))]);
    let second = spawned(&actions)[0];
    assert_eq!(second.place, ids[0].place);
    let actions = story.orders(3, Order::WorkerKill(Some(ids[0])));
    let leaves = "that worker is leaving already";
    assert_eq!(replies(&actions), [(3, Err(leaves))]);
    story.exits(ids[0], 0);
    let actions = story.orders(4, Order::WorkerKill(Some(ids[0])));
    assert_eq!(replies(&actions), [(4, Err(nobody))]);
}

#[test]
fn a_new_worker_that_an_operator_kills_does_not_fail_the_reload() {
    let (mut story, _) = Story::running(1, |_| {});
    let new = story.reloads(1, |_| {});
    story.now_ms = 2000;
    let actions = story.orders(1, Order::WorkerKill(Some(new[0])));
    let again = spawned(&actions)[0];
    assert_eq!(story.exits(new[0], 0).len(), 1);
    assert_eq!(story.says(again, FromChild::Ready)[0], Action::Adopt(2));
}

#[test]
fn a_stop_through_the_socket_is_a_stop() {
    for (quick, urgency) in [(false, Urgency::Graceful), (true, Urgency::Quick)] {
        let (mut story, ids) = Story::running(1, |_| {});
        let actions = story.orders(1, Order::Shutdown { quick });
        assert_eq!(replies(&actions), [(1, Ok("the server is stopping"))]);
        assert!(actions.contains(&stop(urgency)) && actions.contains(&close()));
        assert_eq!(story.exits(ids[0], 0)[1..], end(ExitCode::Ok));
    }
}

#[test]
fn nothing_else_is_begun_during_a_stop() {
    let (mut story, ids) = Story::running(1, |_| {});
    story.signal(Signal::Term);
    let why = "the server is stopping";
    for signal in [
        Signal::Hup,
        Signal::Usr2,
        Signal::Winch,
        Signal::Ttin,
        Signal::Ttou,
    ] {
        assert_eq!(story.signal(signal), ignored(signal, why));
    }
    let orders = [
        Order::Reload,
        Order::Upgrade,
        Order::WorkerAdd(1),
        Order::WorkerRemove(1),
        Order::WorkerKill(Some(ids[0])),
    ];
    for (client, order) in (1..).zip(orders) {
        let actions = story.orders(client, order);
        assert_eq!(actions.len(), 1, "{order:?}");
        assert_eq!(replies(&actions), [(client, Err(why))], "{order:?}");
    }
}

#[test]
fn winch_retires_the_workers_of_a_daemon_until_a_reload() {
    let why = "the server is no daemon, and no upgrade is under way";
    let (mut story, _) = Story::running(1, |_| {});
    assert_eq!(story.signal(Signal::Winch), ignored(Signal::Winch, why));
    let daemon = Circumstances {
        daemon: true,
        ..Circumstances::default()
    };
    let (mut story, ids) = Story::running_in(daemon, 2, |_| {});
    let held = [Action::Log(Notice::Held), drain(ids[0]), drain(ids[1])];
    assert_eq!(story.signal(Signal::Winch), held);
    story.exits(ids[0], 0);
    story.exits(ids[1], 0);
    assert_eq!(story.tick_at(100_000), []);
    assert_eq!(story.state.next_deadline(), None);
    let why = "the workers are held back; SIGHUP brings them back";
    assert_eq!(story.signal(Signal::Ttin), ignored(Signal::Ttin, why));
    let new = story.reloads(2, |_| {});
    story.says(new[0], FromChild::Ready);
    let serve = [Action::Adopt(2), serve(new[0]), serve(new[1])];
    assert_eq!(story.says(new[1], FromChild::Ready), serve);
    assert_eq!(story.state.phase(), Phase::Running);
    assert_eq!(
        story.signal(Signal::Ttou)[0],
        Action::Log(Notice::Workers(1))
    );
}

#[test]
fn winch_does_not_interrupt_what_is_being_made() {
    let daemon = Circumstances {
        daemon: true,
        ..Circumstances::default()
    };
    let mut story = Story::in_circumstances(daemon, settings(1));
    let winch = |why| ignored(Signal::Winch, why);
    story.tick();
    assert_eq!(
        story.signal(Signal::Winch),
        winch("the server is still starting")
    );
    let (mut story, _) = Story::running_in(daemon, 1, |_| {});
    story.reloads(1, |_| {});
    assert_eq!(story.signal(Signal::Winch), winch("a reload is under way"));
}

#[test]
fn the_watchdog_is_petted_in_every_phase() {
    let watched = Circumstances {
        watchdog_ms: Some(1000),
        ..Circumstances::default()
    };
    let mut story = Story::in_circumstances(watched, settings(1));
    assert_eq!(story.tick()[0], Action::PetWatchdog);
    assert_eq!(story.state.next_deadline(), Some(2000));
    assert_eq!(story.tick_at(2000), [Action::PetWatchdog]);
    let (mut story, _) = Story::running_in(watched, 1, |_| {});
    assert_eq!(story.tick_at(2000), [Action::PetWatchdog]);
    story.reloads(1, |_| {});
    assert_eq!(story.tick_at(3000), [Action::PetWatchdog]);
    story.signal(Signal::Term);
    assert_eq!(story.tick_at(4000), [Action::PetWatchdog]);
    // However long it could not run, it does not make up for it.
    story.now_ms = 20_500;
    assert_eq!(story.tick(), [Action::PetWatchdog]);
    assert_eq!(story.tick(), []);
}
