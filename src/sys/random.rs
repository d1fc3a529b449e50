//! Defines random numbers.
//!
//! Invariant: two processes get different ones, also when one is the fork of the other.

use std::io;

use nix::errno::Errno;
use nix::libc;

use super::{clock, process};

/// A random number, for jitter and seeds: it differs from process to process and need not be secret.
pub fn random() -> u64 {
    secret().map_or_else(
        |_| clock::monotonic_ms() ^ (u64::from(process::own_pid().number()) << 32),
        u64::from_ne_bytes,
    )
}

/// Bytes that nobody can guess, from getrandom(2).
///
/// # Errors
/// Where a sandbox forbids it. So few bytes are never cut short.
pub fn secret<const N: usize>() -> io::Result<[u8; N]> {
    const { assert!(N <= 256, "more may be cut short") };
    let mut bytes = [0; N];
    // SAFETY: `bytes` is valid for writes of its length.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    match Errno::result(got)? {
        got if usize::try_from(got).is_ok_and(|got| got == N) => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
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
