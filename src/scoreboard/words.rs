//! Defines how text and addresses lie in shared memory: as words, each of which is read and written at
//! once.
//!
//! Invariant: any words are a text or an address, whoever has written them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::sys::shared::plain_struct;

pub(super) const WORD_BYTES: usize = size_of::<u64>();

plain_struct! {
    /// An IP address, or none.
    #[derive(Debug)]
    pub(super) struct Address {
        /// 4, 6, or 0 for none.
        family: AtomicU64,
        high: AtomicU64,
        low: AtomicU64,
    }
}

impl Address {
    pub(super) fn set(&self, address: Option<IpAddr>) {
        let (family, high, low) = match address {
            None => (0, 0, 0),
            Some(IpAddr::V4(address)) => (4, 0, u64::from(address.to_bits())),
            Some(IpAddr::V6(address)) => {
                let bits = address.to_bits();
                (6, (bits >> 64) as u64, bits as u64)
            }
        };
        self.family.store(family, Relaxed);
        self.high.store(high, Relaxed);
        self.low.store(low, Relaxed);
    }

    pub(super) fn get(&self) -> Option<IpAddr> {
        let (high, low) = (self.high.load(Relaxed), self.low.load(Relaxed));
        match self.family.load(Relaxed) {
            4 => Some(IpAddr::V4(Ipv4Addr::from_bits(low as u32))),
            6 => {
                let bits = u128::from(high) << 64 | u128::from(low);
                Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
            }
            _ => None,
        }
    }
}

/// Stores as much of `parts` as there is room for, and returns how many bytes that is.
pub(super) fn put<const N: usize>(words: &[AtomicU64], parts: [&[u8]; N]) -> u32 {
    let mut bytes = parts.iter().copied().flatten().copied();
    let mut count = 0;
    for word in words {
        let mut chunk = [0; WORD_BYTES];
        let filled = chunk
            .iter_mut()
            .zip(&mut bytes)
            .map(|(to, from)| *to = from)
            .count();
        word.store(u64::from_le_bytes(chunk), Relaxed);
        count += filled as u32;
        if filled < WORD_BYTES {
            break;
        }
    }
    count
}

/// Reads `count` bytes, but no more than there is room for, as text.
pub(super) fn get(words: &[AtomicU64], count: u32) -> String {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|word| word.load(Relaxed).to_le_bytes())
        .take(count as usize)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(super) fn put_word(word: &AtomicU64, text: &str) {
    put(std::slice::from_ref(word), [text.as_bytes()]);
}

pub(super) fn get_word(word: &AtomicU64) -> String {
    let text = get(std::slice::from_ref(word), u32::MAX);
    text.trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_was_set_or_none() {
        let at = Address {
            family: AtomicU64::new(u64::MAX),
            high: AtomicU64::new(u64::MAX),
            low: AtomicU64::new(u64::MAX),
        };
        assert_eq!(at.get(), None, "nobody has set it");
        for text in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"] {
            let address = text.parse().ok();
            at.set(address);
            assert_eq!(at.get(), address, "{text}");
        }
        at.set(None);
        assert_eq!(at.get(), None);
    }

    #[test]
    fn a_word_is_a_short_text() {
        let word = AtomicU64::new(u64::MAX);
        for (text, expect) in [
            ("", ""),
            ("TLSv1.3", "TLSv1.3"),
            ("HTTP/1.1", "HTTP/1.1"),
            ("longer than it", "longer t"),
        ] {
            put_word(&word, text);
            assert_eq!(get_word(&word), expect);
        }
    }
}
