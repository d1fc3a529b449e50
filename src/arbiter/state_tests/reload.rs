//! Defines the stories of one generation that follows another.

use super::*;

fn generation(number: u32) -> Action {
    Action::Log(Notice::Generation(number))
}

#[test]
fn a_reload_replaces_one_generation_by_the_next() {
    let (mut story, old) = Story::running(2, |_| {});
    let new = story.reloads(3, |_| {});
    let slots = new.iter().map(|id| (id.place, id.generation));
    let expect = [0, 1, 2].map(|slot| (Place::worker(slot), 2));
    assert_eq!(slots.collect::<Vec<_>>(), expect);
    assert_eq!(story.says(new[0], FromChild::Ready), []);
    assert_eq!(story.says(new[2], FromChild::Ready), []);
    assert_eq!(story.state.generation(), 1);
    let child = new[1];
    let message = FromChild::Ready;
    let actions = story.event(Event::FromChild { child, message });
    let expect = [
        Action::Adopt(2),
        generation(2),
        serve(new[0]),
        serve(new[1]),
        serve(new[2]),
        retire(old[0]),
        retire(old[1]),
    ];
    assert_eq!(actions[1..], expect);
    assert_eq!(story.state.phase(), Phase::Running);
    assert_eq!((story.state.generation(), story.state.workers()), (2, 3));
    story.exits(old[0], 0);
    story.exits(old[1], 0);
    assert_eq!(story.state.next_deadline(), None);
    story.now_ms = 60_000;
    let again = spawned(&story.dies(new[0]))[0];
    assert_eq!((again.place, again.generation), (Place::worker(0), 2));
}

#[test]
fn rows_are_not_shared_by_two_generations() {
    let (mut story, old) = Story::running(2, |_| {});
    let new = story.reloads(2, |_| {});
    let row = |id: &ChildId| story.state.children.get(*id)?.row;
    let rows: Vec<_> = old.iter().chain(&new).map(row).collect();
    assert_eq!(rows, [Some(0), Some(1), Some(2), Some(3)]);
}

#[test]
fn a_generation_that_may_lack_workers_takes_over_earlier() {
    let (mut story, old) = Story::running(3, |_| {});
    let new = story.reloads(3, |settings| settings.max_unavailable = 1);
    assert_eq!(story.says(new[0], FromChild::Ready), []);
    let actions = story.says(new[1], FromChild::Ready);
    let gone = [
        Action::Adopt(2),
        serve(new[0]),
        serve(new[1]),
        retire(old[0]),
        retire(old[1]),
        retire(old[2]),
    ];
    assert_eq!(actions, gone);
    assert_eq!(story.says(new[2], FromChild::Ready), [serve(new[2])]);
}

#[test]
fn the_old_go_when_so_many_are_ready_as_there_must_be() {
    let (mut story, old) = Story::running(2, |_| {});
    let new = story.reloads(3, |settings| settings.max_unavailable = 2);
    // One suffices to take over, and then one of the others may be missing as well.
    let actions = story.says(new[0], FromChild::Ready);
    let gone = [retire(old[0]), retire(old[1])];
    assert_eq!(actions[..2], [Action::Adopt(2), serve(new[0])]);
    assert_eq!(actions[2..], gone);

    let (mut story, old) = Story::running(2, |_| {});
    let new = story.reloads(2, |_| {});
    story.says(new[0], FromChild::Ready);
    story.event(Event::Hangup { child: old[0] });
    let fourth = spawned(&story.signal(Signal::Ttin));
    assert_eq!(fourth.len(), 2, "in both generations");
    assert_eq!(story.says(new[1], FromChild::Ready), []);
    let actions = story.says(fourth[1], FromChild::Ready);
    let gone = [retire(old[1]), retire(fourth[0])];
    assert_eq!(
        actions[..3],
        [Action::Adopt(2), serve(new[0]), serve(new[1])]
    );
    assert_eq!(actions[3], serve(fourth[1]));
    assert_eq!(actions[4..], gone);
}

#[test]
fn the_other_roles_of_a_generation_must_be_ready_too() {
    let (mut story, old) = Story::running(1, |_| {});
    story.signal(Signal::Hup);
    let mut settings = settings(1);
    settings.roles.push(staffing(1));
    let actions = story.prepared(settings);
    let new = story.load(&actions);
    assert_eq!(new[1].place, Place::Slot { role: 1, slot: 0 });
    assert_eq!(story.says(new[0], FromChild::Ready), []);
    let actions = story.says(new[1], FromChild::Ready);
    assert_eq!(actions, [Action::Adopt(2), serve(new[0]), retire(old[0])]);
    // The next generation does without them.
    let next = story.reloads(1, |_| {});
    let actions = story.says(next[0], FromChild::Ready);
    let gone = [retire(new[0]), retire(new[1])];
    assert_eq!(actions[..2], [Action::Adopt(3), serve(next[0])]);
    assert_eq!(actions[2..], gone);
}

#[test]
fn who_listens_where_nobody_else_does_takes_all_who_wait_there() {
    let (mut story, old) = Story::running(1, |_| {});
    story.signal(Signal::Hup);
    let actions = story.event(Event::Prepared {
        settings: settings(1),
        abandons: true,
    });
    let new = story.load(&actions);
    let actions = story.says(new[0], FromChild::Ready);
    assert_eq!(actions, [Action::Adopt(2), serve(new[0]), drain(old[0])]);
    let next = story.reloads(1, |_| {});
    let actions = story.says(next[0], FromChild::Ready);
    assert_eq!(actions, [Action::Adopt(3), serve(next[0]), retire(new[0])]);
}

/// Ends a reload, in which a client is interested, in some way that fails, and checks that nobody
/// of the old generation notices.
fn check_failure(reason: &str, fail: impl FnOnce(&mut Story) -> Vec<Action>) {
    let (mut story, old) = Story::running(2, |_| {});
    story.now_ms = 2000;
    assert_eq!(replies(&story.orders(7, Order::Reload)), []);
    let actions = fail(&mut story);
    let notice = Notice::ReloadFailed(2, reason.to_owned());
    assert!(actions.contains(&Action::Log(notice)), "{actions:?}");
    assert_eq!(replies(&actions), [(7, Err(reason))]);
    let is_old = |action: &Action| match action {
        Action::Send(id, _) | Action::Kill(id, _) => old.contains(id),
        _ => false,
    };
    assert!(!actions.iter().any(is_old), "{actions:?}");
    let phase = (story.state.phase(), story.state.generation());
    assert_eq!(phase, (Phase::Running, 1), "{reason}");
    let others: Vec<_> = story.state.children.iter().map(|child| child.id).collect();
    for id in others.into_iter().filter(|id| !old.contains(id)) {
        assert_ne!(story.standing(id), Some(Standing::Ready));
        let actions = story.exits(id, 0);
        assert_eq!(actions.len(), 1, "nothing follows but a line: {actions:?}");
    }
    assert_eq!(story.state.next_deadline(), None);
    // The next one succeeds, and has another number.
    story.signal(Signal::Hup);
    let actions = story.prepared(settings(1));
    let new = story.load(&actions);
    assert_eq!(story.says(new[0], FromChild::Ready)[0], Action::Adopt(3));
}

#[test]
fn a_reload_that_fails_leaves_everything_as_it_was() {
    let load = |story: &mut Story| {
        let actions = story.prepared(settings(2));
        story.load(&actions)
    };
    check_failure("no such file", |story| {
        story.event(Event::Unprepared {
            reason: "no such file".to_owned(),
        })
    });
    check_failure("blog.wasm is no component", |story| {
        let loader = spawned(&story.prepared(settings(2)))[0];
        let reason = "blog.wasm is no component".to_owned();
        story.says(loader, FromChild::Failed { code: 4, reason });
        story.exits(loader, 4)
    });
    check_failure("the loader died: exit status 101", |story| {
        let loader = spawned(&story.prepared(settings(2)))[0];
        story.exits(loader, 101)
    });
    check_failure(
        "the loader cannot be started: no processes are left",
        |story| {
            let loader = spawned(&story.prepared(settings(2)))[0];
            story.cannot_be_forked(loader)
        },
    );
    check_failure("the worker in slot 1 died: exit status 0", |story| {
        let new = load(story);
        story.says(new[1], FromChild::Ready);
        let actions = story.exits(new[1], 0);
        assert!(actions.contains(&retire(new[0])) && actions.contains(&Action::Discard(2)));
        actions
    });
    check_failure("the worker in slot 0 sent an illegal message", |story| {
        let new = load(story);
        assert_eq!(story.says(new[0], FromChild::Loaded), [kill(new[0])]);
        story.dies(new[0])
    });
    check_failure("the worker in slot 0 was not ready in time", |story| {
        let new = load(story);
        story.says(new[1], FromChild::Ready);
        story.tick_at(7000);
        story.dies(new[0])
    });
    let reason = "the worker in slot 1 cannot be started: no processes are left";
    check_failure(reason, |story| {
        let new = load(story);
        story.cannot_be_forked(new[1])
    });
}

#[test]
fn a_new_worker_that_misses_its_heartbeat_fails_the_reload() {
    let heartbeat = |settings: &mut Settings| settings.heartbeat_timeout_ms = Some(8000);
    let (mut story, old) = Story::running(2, heartbeat);
    let new = story.reloads(2, heartbeat);
    story.says(new[0], FromChild::Ready);
    story.now_ms = 3000;
    let words = vec![(old[0], 9000), (old[1], 9000), (new[0], 2500)];
    let actions = story.event(Event::Heartbeats(words));
    assert_eq!(actions[1], Action::Kill(new[0], Signal::Abrt));
    let reason = "the worker in slot 0 missed its heartbeat".to_owned();
    let failed = Action::Log(Notice::ReloadFailed(2, reason));
    assert!(story.dies(new[0]).contains(&failed));
}

#[test]
fn a_reload_that_is_ordered_during_another_follows_it() {
    let follows = [Action::Log(Notice::Reloading(3)), Action::Prepare(3)];
    let (mut story, _) = Story::running(1, |_| {});
    let new = story.reloads(1, |_| {});
    for _ in 0..3 {
        assert_eq!(story.signal(Signal::Hup), []);
    }
    let actions = story.says(new[0], FromChild::Ready);
    assert_eq!(actions[0], Action::Adopt(2));
    assert_eq!(actions.last(), Some(&follows[1]));
    story.event(Event::Unprepared {
        reason: String::new(),
    });
    assert_eq!(story.state.phase(), Phase::Running, "only once");
    // Perhaps the files are right by now.
    let (mut story, _) = Story::running(1, |_| {});
    let new = story.reloads(1, |_| {});
    story.signal(Signal::Hup);
    let actions = story.exits(new[0], 3);
    assert_eq!(actions[actions.len() - 2..], follows);
}

#[test]
fn a_reload_that_is_ordered_during_the_start_follows_it() {
    let mut story = Story::new(settings(1));
    let ids = story.starts();
    assert_eq!(story.signal(Signal::Hup), []);
    let actions = story.says(ids[0], FromChild::Ready);
    assert_eq!(actions, [Action::Announce, Action::Prepare(2)]);
}

#[test]
fn a_client_hears_how_its_reload_ended() {
    let (mut story, _) = Story::running(1, |_| {});
    assert_eq!(replies(&story.orders(1, Order::Reload)), []);
    let actions = story.orders(2, Order::Reload);
    assert_eq!(replies(&actions), [(2, Err("a reload is under way"))]);
    let actions = story.orders(3, Order::Upgrade);
    assert_eq!(replies(&actions), [(3, Err("a reload is under way"))]);
    let actions = story.prepared(settings(1));
    let new = story.load(&actions);
    let actions = story.says(new[0], FromChild::Ready);
    assert_eq!(replies(&actions), [(1, Ok("generation 2 serves"))]);
}

#[test]
fn the_number_of_workers_can_change_during_a_reload() {
    let (mut story, old) = Story::running(1, |_| {});
    let new = story.reloads(2, |_| {});
    let actions = story.signal(Signal::Ttin);
    let more = spawned(&actions);
    let places: Vec<_> = more.iter().map(|id| (id.place, id.generation)).collect();
    assert_eq!(places, [(Place::worker(1), 1), (Place::worker(2), 2)]);
    let fewer = [
        Action::Log(Notice::Workers(1)),
        retire(more[0]),
        retire(more[1]),
    ];
    assert_eq!(story.signal(Signal::Ttou), fewer);
    let least = ignored(Signal::Ttou, "one worker is the least");
    assert_eq!(story.signal(Signal::Ttou), least);
    assert_eq!(story.exits(more[1], 0).len(), 1, "that is no failure");
    story.says(new[0], FromChild::Ready);
    let actions = story.says(new[1], FromChild::Ready);
    assert_eq!(
        actions[..3],
        [Action::Adopt(2), serve(new[0]), serve(new[1])]
    );
    assert_eq!(actions[3..], [retire(old[0])]);
}

#[test]
fn a_stop_during_a_reload_is_obeyed_at_once() {
    // While the configuration is read.
    let (mut story, old) = Story::running(1, |_| {});
    story.orders(1, Order::Reload);
    let actions = story.signal(Signal::Term);
    assert_eq!(replies(&actions), [(1, Err("the server is stopping"))]);
    assert_eq!(actions.last(), Some(&drain(old[0])));
    assert_eq!(story.prepared(settings(1)), [Action::Discard(2)]);
    assert_eq!(story.exits(old[0], 0)[1..], end(ExitCode::Ok));
    // While the loader works.
    let (mut story, old) = Story::running(1, |_| {});
    story.signal(Signal::Hup);
    let loader = spawned(&story.prepared(settings(1)))[0];
    let stopping = [
        stop(Urgency::Graceful),
        Action::Discard(2),
        close(),
        kill(loader),
        drain(old[0]),
    ];
    assert_eq!(story.signal(Signal::Term), stopping);
    story.dies(loader);
    assert_eq!(story.exits(old[0], 0)[1..], end(ExitCode::Ok));
    // While the new workers boot.
    let (mut story, old) = Story::running(1, |_| {});
    let new = story.reloads(1, |_| {});
    let actions = story.signal(Signal::Int);
    let quit = Action::Kill(old[0], Signal::Quit);
    assert_eq!(actions[3..], [quit, kill(new[0])]);
    story.dies(new[0]);
    assert_eq!(story.exits(old[0], 0)[1..], end(ExitCode::Ok));
}

#[test]
fn changed_files_begin_a_reload_when_they_have_settled() {
    let (mut story, _) = Story::running(1, |_| {});
    for now_ms in [2000, 2200, 2400] {
        story.now_ms = now_ms;
        assert_eq!(story.event(Event::FilesChanged), []);
        assert_eq!(story.tick(), []);
    }
    assert_eq!(story.tick_at(2699), []);
    let begun = [Action::Log(Notice::Reloading(2)), Action::Prepare(2)];
    assert_eq!(story.tick_at(2700), begun);
    // They are written again while it goes on.
    story.event(Event::FilesChanged);
    assert_eq!(story.tick_at(4000), []);
    let actions = story.event(Event::Unprepared {
        reason: "half a file".to_owned(),
    });
    assert_eq!(
        actions[1..],
        [Action::Log(Notice::Reloading(3)), Action::Prepare(3)]
    );
}

#[test]
fn news_of_a_reload_that_nobody_began_are_ignored() {
    let (mut story, _) = Story::running(1, |_| {});
    assert_eq!(story.prepared(settings(1)), []);
    let reason = String::new();
    assert_eq!(story.event(Event::Unprepared { reason }), []);
    assert_eq!(story.state.phase(), Phase::Running);
}

#[test]
fn a_new_generation_is_looked_at_as_often_as_it_asks_for() {
    let heartbeat = |timeout_ms| move |it: &mut Settings| it.heartbeat_timeout_ms = timeout_ms;
    let (mut story, old) = Story::running(1, heartbeat(Some(40_000)));
    assert_eq!(story.state.next_deadline(), Some(6000));
    let new = story.reloads(1, heartbeat(Some(2000)));
    story.says(new[0], FromChild::Ready);
    story.exits(old[0], 0);
    assert_eq!(story.state.next_deadline(), Some(1250));
    let next = story.reloads(1, heartbeat(None));
    story.says(next[0], FromChild::Ready);
    story.exits(new[0], 0);
    assert_eq!(story.state.next_deadline(), None);
    let last = story.reloads(1, heartbeat(Some(8000)));
    story.now_ms = 5000;
    story.says(last[0], FromChild::Ready);
    story.exits(next[0], 0);
    assert_eq!(story.state.next_deadline(), Some(6000));
}

#[test]
fn a_second_order_to_a_worker_that_boots_gives_it_no_more_time() {
    let (mut story, _) = Story::running(1, |settings| settings.graceful_timeout_ms = 2000);
    let new = story.reloads(2, |_| {});
    story.dies(new[0]);
    assert_eq!(
        story.standing(new[1]),
        Some(Standing::Draining { deadline_ms: 3000 })
    );
    story.now_ms = 2500;
    story.signal(Signal::Term);
    story.says(new[1], FromChild::Ready);
    assert_eq!(
        story.standing(new[1]),
        Some(Standing::Draining { deadline_ms: 3000 })
    );
}
