use loom::sync::Arc;
use loom::thread;

use super::kernel::World;
use super::terms::{Route, Turn};
use super::words::ARBITER;

/// Explores every interleaving of what the threads do, with up to so many preemptions.
fn explore(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(scenario);
}

fn spawn(world: &Arc<World>, act: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || act(&world))
}

fn rest(world: &World, seat: usize) {
    let turn = match world.run(|baton| baton.rest(seat)) {
        Turn::Wait => world.run(|baton| baton.borrow(seat)),
        turn => turn,
    };
    world.follow(seat, turn);
    world.sleep(seat);
}

fn work(world: &World, seat: usize) {
    world.wake(seat);
    world.run(|baton| baton.work(seat));
}

/// What a worker does that has room again after its bell was taken from it.
fn reopen(world: &World, seat: usize) {
    if !world.run(|baton| baton.is_open(seat)) {
        let turn = world.run(|baton| baton.open(seat));
        world.follow(seat, turn);
    }
}

#[test]
fn whoever_goes_to_work_and_whoever_comes_to_rest_do_not_miss_each_other() {
    explore(4, || {
        let world = World::new(Route::Direct, 2);
        work(&world, 2);
        let other = spawn(&world, |world| rest(world, 2));
        work(&world, 1);
        other.join().unwrap();
        world.connect();
        world.go_on();
    });
}

#[test]
fn the_next_holder_may_go_to_work_at_the_same_time() {
    explore(3, || {
        let world = World::new(Route::Direct, 3);
        work(&world, 3);
        world.connect();
        let second = spawn(&world, |world| work(world, 2));
        let third = spawn(&world, |world| rest(world, 3));
        world.turn(1);
        second.join().unwrap();
        third.join().unwrap();
        world.connect();
        world.go_on();
    });
}

#[test]
fn a_connection_may_come_at_any_moment() {
    explore(3, || {
        let world = World::new(Route::Direct, 2);
        work(&world, 2);
        let client = spawn(&world, |world| world.connect());
        let second = spawn(&world, |world| rest(world, 2));
        work(&world, 1);
        rest(&world, 1);
        client.join().unwrap();
        second.join().unwrap();
        world.go_on();
    });
}

#[test]
fn two_may_take_the_baton_from_one_who_is_busy() {
    explore(3, || {
        let world = World::new(Route::Direct, 3);
        (1..=3).for_each(|seat| work(&world, seat));
        world.connect();
        let second = spawn(&world, |world| rest(world, 2));
        let third = spawn(&world, |world| rest(world, 3));
        world.turn(1);
        second.join().unwrap();
        third.join().unwrap();
        world.connect();
        world.go_on();
    });
}

#[test]
fn room_that_one_loses_while_another_gets_it_is_found() {
    explore(4, || {
        let world = World::new(Route::Direct, 1);
        world.connect();
        let other = spawn(&world, |world| {
            let turn = world.run(|baton| baton.open(2));
            world.follow(2, turn);
        });
        world.run(|baton| baton.close(1));
        other.join().unwrap();
        world.go_on();
    });
}

/// What balance costs: nobody is woken for a connection that another accepts.
#[test]
fn whoever_has_few_connections_takes_the_baton_from_nobody_who_has_been_woken() {
    explore(3, || {
        let world = World::new(Route::Direct, 2);
        world.hold(1, 9);
        work(&world, 2);
        let client = spawn(&world, |world| world.connect());
        let first = spawn(&world, |world| assert!(!world.turn(1), "woken for nothing"));
        rest(&world, 2);
        client.join().unwrap();
        first.join().unwrap();
        world.go_on();
    });
}

#[test]
fn whoever_was_silent_too_long_and_lives_is_a_holder_like_others() {
    explore(3, || {
        let world = World::new(Route::Direct, 2);
        world.connect();
        let arbiter = spawn(&world, |world| {
            let hold = world.run(|baton| baton.hold());
            world.run(|baton| baton.revoke(hold));
        });
        world.turn(1);
        arbiter.join().unwrap();
        reopen(&world, 1);
        world.connect();
        world.go_on();
    });
}

#[test]
fn whoever_borrows_the_baton_leaves_a_connection_to_the_one_that_wakes() {
    explore(4, || {
        let world = World::new(Route::Direct, 3);
        work(&world, 2);
        world.connect();
        world.connect();
        let first = spawn(&world, |world| {
            assert!(!world.turn(1), "woken for nothing");
            work(world, 1);
        });
        rest(&world, 2);
        first.join().unwrap();
        world.connect();
        assert_eq!(world.go_on(), 0, "woken for nothing");
    });
}

#[test]
fn a_loan_is_returned_whatever_happens_to_the_borrower() {
    explore(2, || {
        let world = World::new(Route::Direct, 3);
        (2..=3).for_each(|seat| work(&world, seat));
        (0..3).for_each(|_| world.connect());
        let first = spawn(&world, |world| _ = world.turn(1));
        let third = spawn(&world, |world| rest(world, 3));
        if world.run(|baton| baton.rest(2)) == Turn::Wait {
            world.run(|baton| baton.borrow(2));
        }
        // It has got something else to do.
        work(&world, 2);
        first.join().unwrap();
        third.join().unwrap();
        // A bell may be armed late, by somebody who was held up, and then wakes one for nothing.
        world.go_on();
    });
}

/// Dies at its `calls`th call of the kernel; the arbiter buries it.
fn die(
    world: &World,
    calls: u32,
    act: impl FnOnce(&super::baton::Baton<'_, super::kernel::Reach<'_>>),
) {
    let _ = world.run_until(calls, super::kernel::SEATS, act);
    world.run(|baton| baton.leave(1));
}

#[test]
fn a_worker_may_die_anywhere() {
    for calls in 0..6 {
        explore(3, move || {
            let world = World::new(Route::Direct, 3);
            work(&world, 3);
            world.connect();
            let third = spawn(&world, |world| rest(world, 3));
            die(&world, calls, |baton| {
                baton.pass(1);
                baton.work(1);
                baton.rest(1);
                baton.borrow(1);
            });
            third.join().unwrap();
            world.connect();
            world.go_on();
        });
        explore(3, move || {
            let world = World::new(Route::Direct, 2);
            (1..=2).for_each(|seat| work(&world, seat));
            world.run(|baton| baton.close(1));
            let second = spawn(&world, |world| rest(world, 2));
            die(&world, calls, |baton| {
                baton.open(1);
                baton.close(1);
            });
            second.join().unwrap();
            world.connect();
            world.go_on();
        });
    }
}

#[test]
fn whom_the_holder_cannot_wake_the_arbiter_wakes() {
    explore(3, || {
        let world = World::new(Route::DirectOrArbiter, 3);
        (1..=2).for_each(|seat| work(&world, seat));
        // The first two were started before the third one's bell was made.
        work(&world, 3);
        let third = spawn(&world, |world| rest(world, 3));
        let client = spawn(&world, |world| world.connect());
        world.run_reaching(3, |baton| (baton.rest(1), baton.work(1)));
        world.arbitrate();
        third.join().unwrap();
        client.join().unwrap();
        world.go_on();
    });
}

/// The arbiter may be blocked, so for a few connections more or less nobody leaves it to the arbiter.
#[test]
fn while_one_is_idle_who_can_be_woken_the_arbiter_is_not_needed() {
    explore(3, || {
        let world = World::new(Route::DirectOrArbiter, 3);
        // Only the third one has none, and the others were started before its bell was made.
        (1..=2).for_each(|seat| world.hold(seat, 10 - seat as u64));
        work(&world, 2);
        let second = spawn(&world, |world| {
            let turn = world.run_reaching(3, |baton| baton.rest(2));
            assert_eq!(turn, Turn::Wait);
            world.sleep(2);
        });
        let turn = world.run_reaching(3, |baton| baton.pass(1));
        assert!([Turn::Wait, Turn::Passed].contains(&turn));
        second.join().unwrap();
        assert_ne!(world.run(|baton| baton.hold().holder()), ARBITER);
        world.connect();
        world.go_on();
    });
}

#[test]
fn the_arbiter_chooses_among_those_who_come_and_go() {
    explore(3, || {
        let world = World::new(Route::Arbiter, 2);
        work(&world, 2);
        world.connect();
        let second = spawn(&world, |world| rest(world, 2));
        let first = spawn(&world, |world| work(world, 1));
        world.arbitrate();
        second.join().unwrap();
        first.join().unwrap();
        world.connect();
        world.go_on();
    });
}

/// The word that it is to accept is on its way, and would find that another is.
#[test]
fn whom_the_arbiter_has_chosen_accepts_though_it_goes_to_work() {
    explore(3, || {
        let world = World::new(Route::Arbiter, 2);
        world.connect();
        let chosen = world.run(|baton| baton.grant(ARBITER)).unwrap();
        let client = spawn(&world, |world| world.connect());
        work(&world, chosen);
        assert!(world.run(|baton| baton.may_accept(chosen)));
        world.granted(chosen);
        client.join().unwrap();
        world.go_on();
    });
}

#[test]
fn the_arbiter_hears_of_whoever_has_room_again() {
    explore(4, || {
        let world = World::new(Route::Arbiter, 1);
        world.connect();
        let first = spawn(&world, |world| {
            world.run(|baton| baton.close(1));
            let turn = world.run(|baton| baton.open(1));
            assert_ne!(turn, Turn::Passed);
            world.follow(1, turn);
        });
        world.arbitrate();
        first.join().unwrap();
        world.go_on();
    });
}

#[test]
fn a_worker_that_the_arbiter_has_chosen_may_die() {
    for calls in 0..4 {
        explore(3, move || {
            let world = World::new(Route::Arbiter, 2);
            world.connect();
            let second = spawn(&world, |world| work(world, 2));
            let chosen = world.run(|baton| baton.grant(ARBITER));
            assert!(chosen.is_some() && chosen != Some(ARBITER));
            let seat = chosen.unwrap_or(1);
            let _ = world.run_until(calls, super::kernel::SEATS, |baton| baton.pass(seat));
            world.run(|baton| baton.leave(seat));
            second.join().unwrap();
            world.go_on();
        });
    }
}
