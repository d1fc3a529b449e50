//! Defines the one clock that the arbiter and its children share, and that of a thread's work.
//!
//! Invariant: the former is the same clock in every process of the machine, it never goes back, and it
//! stands still while the machine is suspended.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Milliseconds of `CLOCK_MONOTONIC`, rounded down.
pub fn monotonic_ms() -> u64 {
    // The call fails only for a clock that does not exist, and Linux always has this one.
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return 0;
    };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec()).unwrap_or(0);
    seconds * 1000 + nanoseconds / 1_000_000
}

/// CPU time that the calling thread has used. It costs a call of the kernel.
pub fn thread_cpu() -> Duration {
    // The call fails only for a clock that does not exist, and Linux always has this one.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_uses_cpu_time() {
        let before = thread_cpu();
        while thread_cpu() < before + Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        let (instant, before) = (std::time::Instant::now(), thread_cpu());
        let other = std::thread::spawn(thread_cpu).join().unwrap();
        assert!(other < before, "each has its own");
        assert!(thread_cpu() - before <= instant.elapsed());
    }

    #[test]
    fn it_advances_with_the_time_of_the_standard_library() {
        let (instant, before) = (std::time::Instant::now(), monotonic_ms());
        assert!(before > 0);
        while instant.elapsed().as_millis() < 5 {
            std::hint::spin_loop();
        }
        let passed = monotonic_ms() - before;
        assert!((4..5000).contains(&passed), "{passed} ms");
    }
}
