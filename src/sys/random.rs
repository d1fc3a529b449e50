//! Defines random numbers.
//!
//! Invariant: two processes get different ones, also when one is the fork of the other.

use nix::libc;

use super::{clock, process};

/// A random number, from getrandom(2).
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: `bytes` is valid for writes of its length.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(got).is_ok_and(|got| got == bytes.len()) {
        return u64::from_ne_bytes(bytes);
    }
    // So few bytes are never cut short; it fails where a sandbox forbids it. What this is used for,
    // jitter and seeds, must differ from process to process and need not be secret.
    clock::monotonic_ms() ^ (u64::from(process::own_pid().number()) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_differ_in_every_byte_sooner_or_later() {
        let numbers: Vec<u64> = (0..64).map(|_| random()).collect();
        for byte in 0..8 {
            let of = |number: u64| number.to_ne_bytes()[byte];
            assert!(numbers.iter().any(|number| of(*number) != of(numbers[0])));
        }
    }
}
