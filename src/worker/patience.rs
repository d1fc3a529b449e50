//! Defines how long a worker waits for a client, and which request makes way when others wait because
//! of it.
//!
//! A request that waits for its client may hold what others need: an instance, or memory. As long as
//! nobody needs that, it may be as slow as the rate allows; when somebody does, whoever has kept the
//! worker waiting for longest, measured by what came through, is ended after a grace.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::wire::STALLED;

/// How long a client may keep us waiting before anything of it counts.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// The same where memory is short, which has to be had again soon.
const SHORT_GRACE: Duration = Duration::from_secs(1);
/// Bytes in a second that nobody calls slow.
const BRISK: u64 = 16 << 10;
/// How often memory is asked for again, and for how long.
const ASK_AGAIN: Duration = Duration::from_millis(50);
const ASK_TIMES: u32 = 30;
/// How often a time limit is looked at while its request waits for the client.
const GLANCE: Duration = Duration::from_millis(200);

/// Why a client is not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It is slower than is allowed.
    TooSlow,
    /// Others need what its request holds.
    MadeWay,
}

/// What a request holds that others may need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    /// An instance of the app with this gate.
    Instance(GateId),
    /// Memory for bodies.
    Memory,
}

impl Needed {
    fn grace(self) -> Duration {
        match self {
            Self::Instance(_) => GRACE,
            Self::Memory => SHORT_GRACE,
        }
    }
}

/// Tells the gates of a worker's apps apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GateId(pub(super) usize);

/// The requests of a worker that wait for their clients now.
#[derive(Default)]
pub(super) struct Waiting {
    next: Cell<u64>,
    waits: RefCell<BTreeMap<u64, Wait>>,
}

/// One of them.
struct Wait {
    pace: Rc<Pace>,
    has_to_go: bool,
    waker: Waker,
}

impl Waiting {
    /// Ends the wait of whoever has waited for longest for its client, beyond its grace, and holds
    /// what is needed.
    pub(super) fn make_way(&self, needed: Needed) {
        let mut waits = self.waits.borrow_mut();
        let slow = waits
            .values_mut()
            .filter(|wait| !wait.has_to_go && wait.pace.holds(needed))
            .map(|wait| (wait.pace.slowness(needed), wait))
            .filter(|(time, _)| *time > needed.grace())
            .max_by_key(|(time, _)| *time);
        if let Some((_, wait)) = slow {
            wait.has_to_go = true;
            wait.waker.wake_by_ref();
        }
    }

    /// Asks for memory for a while: whoever is slow makes way. Whether there is some in the end.
    pub(super) async fn until_there_is_memory(&self, mut is_there: impl FnMut() -> bool) -> bool {
        for _ in 0..ASK_TIMES {
            if is_there() {
                return true;
            }
            self.make_way(Needed::Memory);
            tokio::time::sleep(ASK_AGAIN).await;
        }
        is_there()
    }
}

/// A wait, while it is known to others.
struct Known<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl<'a> Known<'a> {
    fn new(waiting: &'a Waiting, pace: &Rc<Pace>) -> Self {
        let id = waiting.next.replace(waiting.next.get() + 1);
        let wait = Wait {
            pace: Rc::clone(pace),
            has_to_go: false,
            waker: Waker::noop().clone(),
        };
        waiting.waits.borrow_mut().insert(id, wait);
        Self { waiting, id }
    }

    /// Waits to be told that others need what is held.
    async fn has_to_go(&self) {
        poll_fn(|cx| {
            let mut waits = self.waiting.waits.borrow_mut();
            match waits.get_mut(&self.id) {
                Some(wait) if !wait.has_to_go => {
                    wait.waker.clone_from(cx.waker());
                    Poll::Pending
                }
                Some(_) | None => Poll::Ready(()),
            }
        })
        .await;
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.waiting.waits.borrow_mut().remove(&self.id);
    }
}

/// A clock that runs while somebody lets it.
#[derive(Default)]
struct Meter {
    total: Cell<Duration>,
    running: Cell<u32>,
    since: Cell<Option<Instant>>,
}

impl Meter {
    fn time(&self) -> Duration {
        self.total.get() + self.current()
    }

    /// For how long it has run without a pause.
    fn current(&self) -> Duration {
        let since = self.since.get();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn run(&self) -> Running<'_> {
        if self.running.replace(self.running.get() + 1) == 0 {
            self.since.set(Some(Instant::now()));
        }
        Running(self)
    }
}

/// A meter, while it runs.
pub(super) struct Running<'a>(&'a Meter);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let meter = self.0;
        meter.running.set(meter.running.get() - 1);
        if meter.running.get() == 0 {
            meter.total.set(meter.time());
            meter.since.set(None);
        }
    }
}

/// How much of a request's time its client takes, and what it holds meanwhile.
#[derive(Default)]
pub(super) struct Pace {
    /// Runs while something waits for the client.
    waits: Meter,
    /// Runs while the guest could not go on without the client.
    blocked: Meter,
    counts_client: bool,
    /// So much of the waiting is not slow, for what went through or is about to.
    earned: Cell<Duration>,
    gate: Cell<Option<GateId>>,
    /// Bytes of memory for bodies that it holds.
    pub(super) memory: Cell<u64>,
}

impl Pace {
    /// `counts_client` says whether the time that the client takes counts as the guest's.
    pub(super) fn new(counts_client: bool) -> Self {
        Self {
            counts_client,
            ..Self::default()
        }
    }

    /// From now on it holds an instance, until what this returns is dropped.
    pub(super) fn hold_instance(self: &Rc<Self>, gate: GateId) -> HeldInstance {
        self.gate.set(Some(gate));
        HeldInstance(Rc::clone(self))
    }

    /// So many bytes came, or are about to go. Nothing is saved up for later.
    pub(super) fn passes(&self, bytes: usize) {
        let time = Duration::from_millis(bytes as u64 * 1000 / BRISK);
        let earned = self.earned.get().min(self.waits.time());
        self.earned.set(earned + time);
    }

    /// How much longer it has waited than for a client that is not slow; where memory is short, how long
    /// it has waited since anything moved.
    fn slowness(&self, needed: Needed) -> Duration {
        match needed {
            Needed::Instance(_) => self.waits.time().saturating_sub(self.earned.get()),
            Needed::Memory => self.waits.current(),
        }
    }

    fn holds(&self, needed: Needed) -> bool {
        match needed {
            Needed::Instance(gate) => self.gate.get() == Some(gate),
            Needed::Memory => self.memory.get() > 0,
        }
    }

    /// The guest cannot go on without the client until what this returns is dropped.
    pub(super) fn block(&self) -> Running<'_> {
        self.blocked.run()
    }

    /// When the time is up of a guest that had to end at `deadline`, if it had never been blocked.
    pub(super) fn deadline(&self, deadline: Instant) -> Instant {
        if self.counts_client {
            return deadline;
        }
        deadline + self.blocked.time()
    }

    /// Waits until the guest's time is up.
    pub(super) async fn time_is_up(&self, deadline: Instant) {
        loop {
            let (due, now) = (self.deadline(deadline), Instant::now());
            if due <= now {
                return;
            }
            let is_blocked = self.blocked.since.get().is_some();
            let due = if is_blocked {
                due.max(now + GLANCE)
            } else {
                due
            };
            tokio::time::sleep_until(due).await;
        }
    }
}

/// An instance that a request holds.
pub(super) struct HeldInstance(Rc<Pace>);

impl Drop for HeldInstance {
    fn drop(&mut self) {
        self.0.gate.set(None);
    }
}

/// How long one direction of a request may still keep us waiting: bytes earn it more time.
pub(super) struct Patience {
    /// Bytes in a second; none if there is time enough.
    rate: Option<u64>,
    left: Duration,
}

impl Patience {
    /// `rate`, the least that is allowed, is in bytes a second.
    pub(super) fn new(rate: Option<u64>) -> Self {
        Self { rate, left: GRACE }
    }

    /// So many bytes came. More than a while is not saved up.
    pub(super) fn earn(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(self.time_of(bytes)).min(STALLED);
    }

    /// So many bytes are about to go.
    pub(super) fn allow(&mut self, bytes: usize) {
        self.left = self.left.min(GRACE).saturating_add(self.time_of(bytes));
    }

    fn time_of(&self, bytes: usize) -> Duration {
        self.rate.map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(bytes as f64 / rate as f64)
        })
    }

    /// Waits for something that the client must do.
    pub(super) async fn wait<T>(
        &mut self,
        (waiting, pace): (&Waiting, &Rc<Pace>),
        what: impl Future<Output = T>,
    ) -> Result<T, Ended> {
        let mut what = pin!(what);
        if let Some(done) = at_once(what.as_mut()).await {
            return Ok(done);
        }
        let known = Known::new(waiting, pace);
        let _waits = pace.waits.run();
        let before = Instant::now();
        let result = tokio::select! {
            biased;
            done = what => Ok(done),
            () = known.has_to_go() => Err(Ended::MadeWay),
            () = tokio::time::sleep(self.left), if self.rate.is_some() => Err(Ended::TooSlow),
        };
        self.left = self.left.saturating_sub(before.elapsed());
        result
    }
}

/// The value of a future if it has one now.
pub(super) async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
