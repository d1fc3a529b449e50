//! Defines the stories of workers that are replaced though nothing is wrong with them.

use super::super::super::children::Wear;
use super::super::super::generation::MemoryLimit;
use super::*;

fn worn(id: ChildId, wear: Wear) -> Action {
    Action::Log(Notice::Worn(id, wear))
}

#[test]
fn a_worker_that_has_answered_its_requests_serves_until_its_replacement_is_ready() {
    let (mut story, ids) = Story::running(2, |_| {});
    story.now_ms = 5000;
    let child = ids[1];
    let message = FromChild::Retire;
    let actions = story.event(Event::FromChild { child, message });
    assert_eq!(actions[0], worn(child, Wear::Requests));
    let replacement = spawned(&actions)[0];
    assert_eq!(replacement.place, child.place);
    assert_eq!(
        story.says(child, FromChild::Retire),
        [],
        "it may say it again"
    );
    assert_eq!(story.standing(child), Some(Standing::Ready));
    assert_eq!(story.says(replacement, FromChild::Ready), [retire(child)]);
    assert_eq!(story.exits(child, 0).len(), 1);
    assert_eq!(story.state.next_deadline(), None);
}

#[test]
fn only_who_is_ready_can_be_worn() {
    let mut story = Story::new(settings(1));
    let ids = story.starts();
    assert_eq!(story.says(ids[0], FromChild::Retire), [kill(ids[0])]);
    let mut story = Story::new(settings(1));
    let loader = spawned(&story.tick())[0];
    assert_eq!(story.says(loader, FromChild::Retire), [kill(loader)]);
}

#[test]
fn workers_that_are_worn_at_once_do_not_keep_the_machine_busy() {
    let (mut story, ids) = Story::running(1, |_| {});
    let mut id = ids[0];
    for round in 1..5 {
        assert_eq!(story.says(id, FromChild::Retire), []);
        assert_eq!(story.tick_at(1000 + round * 100 - 1), []);
        let next = spawned(&story.tick_at(1000 + round * 100))[0];
        assert_eq!(story.says(next, FromChild::Ready), [retire(id)]);
        story.exits(id, 0);
        id = next;
    }
}

#[test]
fn a_worker_that_is_too_old_is_replaced() {
    let (mut story, ids) = Story::running(2, |settings| settings.max_lifetime_ms = Some(60_000));
    assert_eq!(story.state.next_deadline(), Some(61_000));
    let actions = story.tick_at(61_000);
    assert_eq!(actions[0], worn(ids[0], Wear::Age));
    let replacements = spawned(&actions);
    assert_eq!(replacements.len(), 1, "one at a time");
    assert_ne!(story.state.next_deadline(), Some(61_000));
    let actions = story.says(replacements[0], FromChild::Ready);
    assert_eq!(actions, [retire(ids[0])]);
    let actions = story.tick();
    assert_eq!(actions[0], worn(ids[1], Wear::Age));
}

#[test]
fn an_eighth_of_the_workers_is_replaced_at_a_time() {
    let (mut story, ids) = Story::running(17, |settings| settings.max_lifetime_ms = Some(1));
    story.now_ms = 5000;
    assert_eq!(spawned(&story.tick()).len(), 2);
    assert_eq!(story.tick_at(5001), []);
    assert_eq!(story.standing(ids[0]), Some(Standing::Ready));
}

#[test]
fn a_worker_with_too_much_memory_several_times_in_a_row_is_replaced() {
    let limit = MemoryLimit {
        bytes: 1000,
        samples: 3,
        interval_ms: 10_000,
    };
    let (mut story, ids) = Story::running(1, |settings| settings.memory = Some(limit));
    assert_eq!(story.state.next_deadline(), Some(11_000));
    assert_eq!(story.state.weighed().collect::<Vec<_>>(), ids);
    let weigh = |story: &mut Story, bytes| {
        story.now_ms += 10_000;
        assert!(story.state.wants_memory(story.now_ms));
        let actions = story.event(Event::Memory(vec![(ids[0], bytes)]));
        assert!(!story.state.wants_memory(story.now_ms));
        actions
    };
    for bytes in [1001, 1001, 1000, 5000, 1001] {
        assert_eq!(weigh(&mut story, bytes), [], "{bytes}");
    }
    let actions = weigh(&mut story, 1002);
    assert_eq!(actions[0], worn(ids[0], Wear::Memory(1002)));
    let replacement = spawned(&actions)[0];
    assert_eq!(story.says(replacement, FromChild::Ready), [retire(ids[0])]);
}

#[test]
fn a_replacement_that_keeps_failing_leaves_the_worn_one_serving() {
    let (mut story, ids) = Story::running(1, |_| {});
    story.now_ms = 5000;
    let message = FromChild::Retire;
    let child = ids[0];
    let actions = story.event(Event::FromChild { child, message });
    let mut replacement = spawned(&actions)[0];
    for delay_ms in [0, 100, 200, 400] {
        let now_ms = story.now_ms;
        let actions = story.exits(replacement, 3);
        let next = if delay_ms == 0 {
            actions
        } else {
            story.tick_at(now_ms + delay_ms)
        };
        replacement = spawned(&next)[0];
        assert_eq!(story.standing(child), Some(Standing::Ready));
    }
    assert_eq!(story.says(replacement, FromChild::Ready), [retire(child)]);
}

#[test]
fn a_worn_worker_that_dies_first_is_replaced_all_the_same() {
    let (mut story, ids) = Story::running(1, |_| {});
    story.now_ms = 5000;
    let message = FromChild::Retire;
    let child = ids[0];
    let replacement = spawned(&story.event(Event::FromChild { child, message }))[0];
    assert_eq!(spawned(&story.dies(child)), []);
    assert_eq!(story.says(replacement, FromChild::Ready), []);
    assert_eq!(story.state.children.iter().count(), 1);
}

#[test]
fn a_generation_that_is_being_made_does_not_count_as_a_replacement() {
    let (mut story, old) = Story::running(2, |_| {});
    let new = story.reloads(2, |_| {});
    story.says(new[0], FromChild::Ready);
    story.now_ms = 2000;
    let child = old[0];
    let message = FromChild::Retire;
    let actions = story.event(Event::FromChild { child, message });
    let replacement = spawned(&actions)[0];
    assert!(!actions.contains(&retire(child)));
    story.dies(new[1]);
    assert_eq!(story.standing(child), Some(Standing::Ready));
    assert_eq!(story.says(replacement, FromChild::Ready), [retire(child)]);
}

#[test]
fn children_of_other_roles_are_kept_and_do_not_age() {
    let (mut story, ids) = Story::running(1, |settings| {
        settings.roles.push(staffing(2));
        settings.max_lifetime_ms = Some(60_000);
    });
    story.now_ms = 30_000;
    let clock = spawned(&story.dies(ids[2]))[0];
    assert_eq!(clock.place, Place::Slot { role: 1, slot: 1 });
    story.says(clock, FromChild::Ready);
    let actions = story.tick_at(61_000);
    assert_eq!(actions[0], worn(ids[0], Wear::Age));
    assert_eq!(spawned(&actions).len(), 1);
}
