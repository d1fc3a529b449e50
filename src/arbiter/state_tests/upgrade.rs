//! Defines the stories of one program that follows another, from both sides.

use super::*;

/// An upgrade that has just been ordered.
fn upgrading(mode: Upgrade) -> (Story, Vec<ChildId>, ChildId) {
    let (mut story, ids) = Story::running(2, |settings| settings.upgrade = mode);
    let actions = story.orders(7, Order::Upgrade);
    let successor = spawned(&actions)[0];
    assert_eq!(successor.place, Place::Successor);
    let begun = [
        Action::Log(Notice::Upgrading(successor)),
        Action::Spawn(successor, None),
    ];
    assert_eq!(actions, begun);
    assert_eq!(story.state.phase(), Phase::Upgrading);
    (story, ids, successor)
}

#[test]
fn a_server_leaves_to_its_successor_when_that_serves() {
    let (mut story, ids, successor) = upgrading(Upgrade::Auto);
    assert_eq!(story.tick(), []);
    let child = successor;
    let message = FromChild::Ready;
    let actions = story.event(Event::FromChild { child, message });
    let done = "the new program serves; the old one finishes and leaves";
    assert_eq!(actions[0], Action::Log(Notice::Upgraded(successor)));
    assert_eq!(actions[1], Action::Log(Notice::HandingOver(successor)));
    assert_eq!(replies(&actions), [(7, Ok(done))]);
    assert_eq!(actions[3..], [drain(ids[0]), drain(ids[1])]);
    let why = "this server is leaving to the new program";
    assert_eq!(story.signal(Signal::Hup), ignored(Signal::Hup, why));
    assert_eq!(story.signal(Signal::Ttin), ignored(Signal::Ttin, why));
    story.exits(ids[0], 0);
    assert_eq!(story.tick(), []);
    story.exits(ids[1], 0);
    assert_eq!(story.tick(), end(ExitCode::Ok), "no socket file is removed");
}

#[test]
fn a_server_does_not_leave_to_a_successor_whose_end_is_among_the_news() {
    let (mut story, ids, successor) = upgrading(Upgrade::Auto);
    story.says(successor, FromChild::Ready);
    story.now_ms = 2000;
    story.exits(ids[0], 0);
    story.exits(ids[1], 0);
    assert_eq!(spawned(&story.dies(successor)).len(), 2);
    assert_eq!(story.tick(), []);
    assert_eq!(story.state.phase(), Phase::Running);
}

#[test]
fn a_server_whose_workers_are_all_dead_does_not_leave_before_its_successor_serves() {
    let (mut story, ids, successor) = upgrading(Upgrade::Auto);
    for id in ids {
        let again = spawned(&story.dies(id))[0];
        story.cannot_be_forked(again);
    }
    assert_eq!(story.tick(), []);
    assert_eq!(story.tick_at(1100).len(), 2);
    assert!(story.standing(successor).is_some());
}

/// Lets an upgrade fail in some way, and checks that nobody else notices.
fn check_failure(reason: &str, fail: impl Fn(&mut Story, ChildId) -> Vec<Action>) {
    for mode in [Upgrade::Auto, Upgrade::Manual] {
        let (mut story, ids, successor) = upgrading(mode);
        let why = "the new program has been started already";
        assert_eq!(story.signal(Signal::Usr2), ignored(Signal::Usr2, why));
        let actions = fail(&mut story, successor);
        assert_eq!(replies(&actions), [(7, Err(reason))]);
        let notice = Notice::UpgradeFailed(successor, reason.to_owned());
        assert!(actions.contains(&Action::Log(notice)));
        assert!(spawned(&actions).is_empty());
        assert_eq!(story.state.phase(), Phase::Running);
        for id in ids {
            assert_eq!(story.standing(id), Some(Standing::Ready));
        }
        assert_eq!(spawned(&story.signal(Signal::Usr2)).len(), 1);
    }
}

#[test]
fn a_server_goes_on_when_its_successor_fails() {
    check_failure("the new program died: exit status 2", |story, successor| {
        story.exits(successor, 2)
    });
    check_failure("no such file", |story, successor| {
        let reason = "no such file".to_owned();
        let failed = FromChild::Failed { code: 4, reason };
        assert_eq!(story.says(successor, failed), []);
        story.exits(successor, 4)
    });
    check_failure(
        "the new program was not ready in time",
        |story, successor| {
            assert_eq!(story.tick_at(20_999), []);
            assert_eq!(story.tick_at(21_000)[1], kill(successor));
            story.dies(successor)
        },
    );
    check_failure(
        "the new program sent an illegal message",
        |story, successor| {
            assert_eq!(story.says(successor, FromChild::Loaded), [kill(successor)]);
            story.dies(successor)
        },
    );
    check_failure("no processes are left", Story::cannot_be_forked);
}

#[test]
fn all_workers_come_back_when_the_successor_ends_before_they_have_left() {
    let (mut story, ids, successor) = upgrading(Upgrade::Auto);
    story.says(successor, FromChild::Ready);
    story.now_ms = 2000;
    story.exits(ids[1], 0);
    let actions = story.exits(successor, 0);
    assert_eq!(replies(&actions), [], "the client knows that it served");
    let places: Vec<_> = spawned(&actions).iter().map(|id| id.place).collect();
    assert_eq!(places, [Place::worker(0), Place::worker(1)]);
    assert_eq!(story.exits(ids[0], 0).len(), 1);
    assert_eq!(story.state.phase(), Phase::Running);
}

#[test]
fn a_successor_that_hangs_up_does_not_serve_any_more() {
    let (mut story, ids, successor) = upgrading(Upgrade::Auto);
    story.says(successor, FromChild::Ready);
    story.now_ms = 2000;
    story.exits(ids[0], 0);
    story.exits(ids[1], 0);
    let actions = story.event(Event::Hangup { child: successor });
    assert_eq!(spawned(&actions).len(), 2);
    assert_eq!(story.tick_at(3000)[1], kill(successor));
}

#[test]
fn by_hand_both_serve_and_the_old_one_retires_its_workers_when_it_is_told() {
    let (mut story, ids, successor) = upgrading(Upgrade::Manual);
    let actions = story.event(Event::FromChild {
        child: successor,
        message: FromChild::Ready,
    });
    let done = "the new program serves; the old one stays until it is told";
    assert_eq!(replies(&actions), [(7, Ok(done))]);
    assert_eq!(actions.len(), 2);
    let held = [Action::Log(Notice::Held), drain(ids[0]), drain(ids[1])];
    assert_eq!(story.signal(Signal::Winch), held);
    story.exits(ids[0], 0);
    story.exits(ids[1], 0);
    assert_eq!(story.tick_at(50_000), [], "it stays");
    // It goes back,
    let new = story.reloads(2, |settings| settings.upgrade = Upgrade::Manual);
    story.says(new[0], FromChild::Ready);
    let serve = [Action::Adopt(2), serve(new[0]), serve(new[1])];
    assert_eq!(story.says(new[1], FromChild::Ready), serve);
    assert_eq!(story.state.phase(), Phase::Upgrading);
    // and then leaves for good.
    let actions = story.signal(Signal::Term);
    let leaving = [
        stop(Urgency::Graceful),
        Action::Log(Notice::HandingOver(successor)),
        Action::CloseListeners { unlink: false },
        drain(new[0]),
        drain(new[1]),
    ];
    assert_eq!(actions, leaving);
    story.exits(new[0], 0);
    assert_eq!(story.exits(new[1], 0)[1..], end(ExitCode::Ok));
}

#[test]
fn by_hand_too_the_workers_come_back_when_the_successor_ends() {
    let (mut story, ids, successor) = upgrading(Upgrade::Manual);
    story.says(successor, FromChild::Ready);
    story.signal(Signal::Winch);
    story.now_ms = 2000;
    story.exits(ids[0], 0);
    story.exits(ids[1], 0);
    assert_eq!(spawned(&story.dies(successor)).len(), 2);
}

#[test]
fn winch_waits_until_the_successor_serves() {
    for mode in [Upgrade::Manual, Upgrade::Auto] {
        let (mut story, ids, successor) = upgrading(mode);
        assert_eq!(story.signal(Signal::Winch), [Action::Log(Notice::Held)]);
        assert_eq!(story.tick(), [], "somebody must serve");
        let more = spawned(&story.signal(Signal::Ttin))[0];
        story.signal(Signal::Ttou);
        story.exits(more, 0);
        let actions = story.says(successor, FromChild::Ready);
        assert_eq!(actions[1..], [drain(ids[0]), drain(ids[1])]);
        story.exits(ids[0], 0);
        story.exits(ids[1], 0);
        assert_eq!(story.tick(), [], "it stays until it is told");
    }
}

#[test]
fn a_daemon_whose_workers_are_held_can_be_upgraded() {
    let daemon = Circumstances {
        daemon: true,
        ..Circumstances::default()
    };
    let (mut story, ids) = Story::running_in(daemon, 1, |_| {});
    story.signal(Signal::Winch);
    story.now_ms = 2000;
    story.exits(ids[0], 0);
    let started = spawned(&story.signal(Signal::Usr2));
    assert_eq!(started[1].place, Place::worker(0), "somebody must serve");
    story.says(started[1], FromChild::Ready);
    let actions = story.says(started[0], FromChild::Ready);
    assert_eq!(actions, [drain(started[1])]);
    story.exits(started[1], 0);
    assert_eq!(story.tick(), end(ExitCode::Ok));
}

#[test]
fn a_stop_ends_a_successor_that_does_not_serve_yet() {
    let (mut story, ids, successor) = upgrading(Upgrade::Auto);
    let actions = story.signal(Signal::Term);
    let stopping = [stop(Urgency::Graceful), close()];
    assert_eq!(actions[..2], stopping);
    assert_eq!(replies(&actions), [(7, Err("the server is stopping"))]);
    assert_eq!(
        actions[3..],
        [kill(successor), drain(ids[0]), drain(ids[1])]
    );
    story.exits(ids[0], 0);
    story.exits(ids[1], 0);
    assert_eq!(story.dies(successor)[1..], end(ExitCode::Ok));
}

#[test]
fn a_reload_waits_for_an_upgrade_to_end() {
    let (mut story, _, successor) = upgrading(Upgrade::Auto);
    let actions = story.orders(8, Order::Reload);
    assert_eq!(replies(&actions), [(8, Err("an upgrade is under way"))]);
    assert_eq!(story.signal(Signal::Hup), []);
    let actions = story.dies(successor);
    assert_eq!(actions.last(), Some(&Action::Prepare(2)));
}

#[test]
fn the_end_of_a_successor_does_not_end_a_reload() {
    let (mut story, _, successor) = upgrading(Upgrade::Manual);
    story.says(successor, FromChild::Ready);
    story.orders(8, Order::Reload);
    assert_eq!(replies(&story.dies(successor)), []);
    let actions = story.prepared(settings(1));
    let new = story.load(&actions);
    let actions = story.says(new[0], FromChild::Ready);
    assert_eq!(replies(&actions), [(8, Ok("generation 2 serves"))]);
}

#[test]
fn nothing_is_upgraded_before_it_serves() {
    let mut story = Story::new(settings(1));
    story.tick();
    let why = "the server is still starting";
    assert_eq!(story.signal(Signal::Usr2), ignored(Signal::Usr2, why));
}

/// A story of a successor.
fn succeeding(workers: usize) -> (Story, Vec<ChildId>) {
    let circumstances = Circumstances {
        daemon: true,
        predecessor: true,
        ..Circumstances::default()
    };
    let mut story = Story::in_circumstances(circumstances, settings(workers));
    let ids = story.starts();
    (story, ids)
}

#[test]
fn a_successor_tells_its_predecessor_when_its_workers_are_ready() {
    let (mut story, ids) = succeeding(2);
    assert_eq!(story.says(ids[0], FromChild::Ready), [Action::Announce]);
    let why = "the server that started this one waits for these workers";
    assert_eq!(story.signal(Signal::Winch), ignored(Signal::Winch, why));
    let told = Action::TellPredecessor(FromChild::Ready);
    assert_eq!(story.says(ids[1], FromChild::Ready), [told]);
    assert_eq!(story.tick(), [], "once");
    let why = "the server that started this one has not left yet";
    assert_eq!(story.signal(Signal::Usr2), ignored(Signal::Usr2, why));
    let promoted = [Action::Promote, Action::Log(Notice::Promoted)];
    assert_eq!(story.event(Event::PredecessorGone), promoted);
    assert_eq!(story.event(Event::PredecessorGone), []);
    assert_eq!(spawned(&story.signal(Signal::Usr2)).len(), 1);
}

#[test]
fn a_successor_tells_its_predecessor_why_it_fails() {
    let (mut story, ids) = succeeding(1);
    let reason = "no such import".to_owned();
    let child = ids[0];
    let message = FromChild::Failed { code: 4, reason };
    story.event(Event::FromChild {
        child,
        message: message.clone(),
    });
    let actions = story.exits(child, 4);
    assert_eq!(actions[2], Action::TellPredecessor(message));
    assert_eq!(actions[3], Action::CloseListeners { unlink: false });
    assert_eq!(actions.last(), Some(&Action::Exit(ExitCode::AppLoad)));
}

#[test]
fn a_successor_that_is_told_to_stop_leaves_the_rest_to_its_predecessor() {
    let (mut story, ids) = succeeding(2);
    story.says(ids[0], FromChild::Ready);
    let reason = "it was told to stop".to_owned();
    let stopping = [
        stop(Urgency::Graceful),
        Action::TellPredecessor(FromChild::Failed { code: 0, reason }),
        Action::CloseListeners { unlink: false },
        drain(ids[0]),
        drain(ids[1]),
    ];
    assert_eq!(story.signal(Signal::Term), stopping);
    assert_eq!(story.event(Event::PredecessorGone)[0], Action::Promote);
}

#[test]
fn a_successor_whose_predecessor_dies_goes_on() {
    let (mut story, ids) = succeeding(1);
    assert_eq!(story.event(Event::PredecessorGone)[0], Action::Promote);
    assert_eq!(story.says(ids[0], FromChild::Ready), [Action::Announce]);
    let actions = story.signal(Signal::Term);
    assert_eq!(actions[1..], [close(), drain(ids[0])]);
}
