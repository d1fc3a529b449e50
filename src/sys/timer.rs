//! Defines ticks of CPU time, which cost an idle process nothing.
//!
//! Invariant: between a tick's registration and its end the handler finds either the registered
//! function or none; there is one ticker in a process at a time.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction,
};
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

type Tick = &'static (dyn Fn() + Sync);

/// What the handler calls; null when no ticker is running.
static TICK: AtomicPtr<Tick> = AtomicPtr::new(ptr::null_mut());

/// A timer that calls a function each time this process has used so much more CPU time.
///
/// It ticks no more once it is dropped. Children do not inherit it.
#[derive(Debug)]
pub struct CpuTicks {
    timer: Option<Timer>,
}

impl CpuTicks {
    /// Calls `tick` after each `period` of CPU time, from a SIGPROF handler that runs on the
    /// alternate stack, if there is one, and restarts interrupted system calls.
    ///
    /// `tick` must do only what is safe in a signal handler (signal-safety(7)): atomics, no
    /// allocation, no lock, no panic. Fails with `AlreadyExists` while another ticker runs, and
    /// with `InvalidInput` for a period of zero. A period below the kernel's clock tick, 1 to 10
    /// ms, is served at that tick.
    pub fn start(period: Duration, tick: Tick) -> io::Result<Self> {
        if period.is_zero() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Leaked, since a handler may still be running when the ticker ends: two words for each
        // start, and a process starts it once.
        let registered = Box::into_raw(Box::new(tick));
        let order = (Ordering::Release, Ordering::Relaxed);
        if TICK
            .compare_exchange(ptr::null_mut(), registered, order.0, order.1)
            .is_err()
        {
            // SAFETY: it is the box from above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(registered) });
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut ticks = Self { timer: None };
        ticks.arm(period)?;
        Ok(ticks)
    }

    fn arm(&mut self, period: Duration) -> io::Result<()> {
        let flags = SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
        let action = SigAction::new(SigHandler::Handler(on_sigprof), flags, SigSet::empty());
        // SAFETY: the handler does what is safe in one: an atomic load and a call that is promised
        // to be safe too.
        unsafe { sigaction(Signal::SIGPROF, &action) }?;
        let mut set = SigSet::empty();
        set.add(Signal::SIGPROF);
        set.thread_unblock()?;
        let notify = SigevNotify::SigevSignal {
            signal: Signal::SIGPROF,
            si_value: 0,
        };
        let mut timer = Timer::new(ClockId::CLOCK_PROCESS_CPUTIME_ID, SigEvent::new(notify))?;
        timer.set(
            Expiration::Interval(period.into()),
            TimerSetTimeFlags::empty(),
        )?;
        self.timer = Some(timer);
        Ok(())
    }
}

impl Drop for CpuTicks {
    fn drop(&mut self) {
        self.timer = None;
        // A signal that is already on its way finds null and does nothing.
        TICK.store(ptr::null_mut(), Ordering::Release);
    }
}

extern "C" fn on_sigprof(_: libc::c_int) {
    let errno = Errno::last_raw();
    // SAFETY: it is null or a box that was registered and is never freed.
    if let Some(tick) = unsafe { TICK.load(Ordering::Acquire).as_ref() } {
        tick();
    }
    Errno::set_raw(errno);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Instant;

    use super::*;

    static TICKS: AtomicU64 = AtomicU64::new(0);

    fn count() {
        TICKS.fetch_add(1, Ordering::Relaxed);
    }

    fn burn_until(enough: impl Fn() -> bool) {
        let started = Instant::now();
        while !enough() {
            assert!(started.elapsed() < Duration::from_secs(20), "no tick");
            std::hint::spin_loop();
        }
    }

    /// One test, as there is one ticker in a process.
    #[test]
    fn it_ticks_while_the_process_works_until_it_is_dropped() {
        let zero = CpuTicks::start(Duration::ZERO, &count).unwrap_err();
        assert_eq!(zero.kind(), io::ErrorKind::InvalidInput);
        let ticks = CpuTicks::start(Duration::from_millis(1), &count).unwrap();
        burn_until(|| TICKS.load(Ordering::Relaxed) >= 3);
        let second = CpuTicks::start(Duration::from_millis(1), &count).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
        drop(ticks);
        let at_end = TICKS.load(Ordering::Relaxed);
        let started = Instant::now();
        burn_until(|| started.elapsed() > Duration::from_millis(30));
        // A tick may have been running in another thread at the very end.
        assert!(TICKS.load(Ordering::Relaxed) <= at_end + 1);
        drop(CpuTicks::start(Duration::from_millis(1), &count).unwrap());
    }
}
