//! Defines the tests of the arbiter's part in accepting with workers that do not do theirs.

use super::*;
use crate::accept::{Through, Turn};
use crate::sys::process::Pid;

/// More messages than a channel holds.
const MESSAGES: usize = 500;
/// More clients than a worker that writes nonsense has time to accept.
const CLIENTS: usize = 50;
/// How often it does.
const SCRIBBLES: usize = 200_000;
/// So many milliseconds only a failure takes.
const PATIENCE_MS: u32 = 10_000;

/// Whether it is so in time.
fn until(mut is_so: impl FnMut() -> bool) -> bool {
    (0..PATIENCE_MS).any(|_| {
        let so = is_so();
        if !so {
            poll::wait(&mut [], Some(Duration::from_millis(1))).unwrap();
        }
        so
    })
}

/// An arbiter of one worker, which is told the arbiter's process and the path of the listener.
fn with_one(
    path: &Path,
    through: Through,
    main: impl Fn(Child, Pid, &Path) -> i32 + 'static,
) -> Builder {
    let listener = Listener::bind(&BindTo::Unix(path.to_owned()), 1024).unwrap();
    let (arbiter, path) = (process::own_pid(), path.to_owned());
    let plan = with_worker(move |child| main(child, arbiter, &path));
    let plan = plan.workers(1).accept(Some(through));
    Arbiter::builder().plan(plan.listener("app", listener))
}

/// Ends the arbiter: well, if all is well.
fn end(child: &Child, arbiter: Pid, well: bool) -> i32 {
    let signals = SignalQueue::new(&[Signal::Quit]).unwrap();
    let signal = if well { Signal::Term } else { Signal::Kill };
    process::kill(arbiter, signal).unwrap();
    serve(child, &signals)
}

/// It reads no message, but does look whether it may accept; when it does not look either, its bell
/// must ring.
fn deaf(mut child: Child, arbiter: Pid, path: &Path) -> i32 {
    let seat = child.seat.take().unwrap();
    let bell = seat.bell().unwrap();
    say(&child, &FromChild::Ready, &[]);
    seat.set_room(true);
    let mut well = true;
    for _ in 0..MESSAGES {
        let _client = UnixStream::connect(path).unwrap();
        well &= until(|| seat.may_accept());
        well &= child.listeners[0].accept().unwrap().is_some();
        well &= seat.pass() == Turn::Passed;
    }
    let _client = UnixStream::connect(path).unwrap();
    let limit = Duration::from_millis(PATIENCE_MS.into());
    let rings = poll::wait(&mut [Watched::readable(bell.as_fd())], Some(limit)).unwrap() == 1;
    end(&child, arbiter, well && rings)
}

#[test]
fn a_channel_that_is_full_delays_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    check(0, || with_one(&path, Through::Arbiter, deaf));
}

/// The first child writes nonsense and dies; the next must get all who have connected meanwhile.
fn scribbler_and_heir(mut child: Child, arbiter: Pid, path: &Path) -> i32 {
    let seat = child.seat.take().unwrap();
    say(&child, &FromChild::Ready, &[]);
    if File::create_new(path.with_extension("tried")).is_ok() {
        let mut state = 1_u64;
        let mut number = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state >> 20
        };
        for count in 0..SCRIBBLES {
            seat.scribble(&mut number);
            if count % (SCRIBBLES / CLIENTS) == 0 {
                // Nobody needs to stay: a connection waits though its client has gone.
                UnixStream::connect(path).unwrap();
            }
        }
        return 7;
    }
    seat.set_room(true);
    let mut accepted = 0;
    let well = until(|| {
        while seat.may_accept() && child.listeners[0].accept().unwrap().is_some() {
            accepted += 1;
            // Whoever has fewer gets the next one, if there is somebody.
            seat.set_connections(accepted as u64);
            seat.pass();
        }
        seat.rest();
        accepted == CLIENTS
    });
    end(&child, arbiter, well)
}

#[test]
fn nonsense_in_the_shared_words_harms_nobody_when_its_writer_has_gone() {
    for through in [
        Through::WorkersOrArbiter,
        Through::Workers,
        Through::Arbiter,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        check(0, || with_one(&path, through, scribbler_and_heir));
    }
}
