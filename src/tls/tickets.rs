//! Defines session tickets that every worker accepts, whoever of them made it.
//!
//! Invariant: nothing is said between processes, and nothing is kept: the key of a period follows from
//! the secret that they share and from the clock.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::CertificateDer;
use rustls::server::ProducesTickets;

use crate::config::CertReqs;

/// For so long tickets are made with one key, in seconds; they are accepted for as long again.
const PERIOD: u64 = 6 * 3600;
/// Bytes at the start of a ticket that name the period.
const PERIOD_BYTES: usize = 8;
/// Far more than a session holds, certificates of the client included. In bytes.
const TICKET_BYTES_MAX: usize = 64 << 10;

/// What a server's processes and its programs share, and nobody else knows.
pub type Secret = [u8; 32];

/// Makes and reads tickets.
pub(super) struct Tickets {
    secret: Secret,
    /// What clients were asked to show. Whoever resumes a session is not asked again, so that a ticket is
    /// worth nothing where others are asked for, or in another way.
    demand: digest::Digest,
    random: SystemRandom,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Tickets")
    }
}

impl Tickets {
    /// Tickets for clients that were asked in this way for a certificate that one of these
    /// authorities has signed.
    pub(super) fn new(secret: Secret, reqs: CertReqs, authorities: &[CertificateDer<'_>]) -> Self {
        let mut demand = digest::Context::new(&digest::SHA256);
        demand.update(match reqs {
            CertReqs::None => b"none",
            CertReqs::Optional => b"optional",
            CertReqs::Required => b"required",
        });
        for authority in authorities {
            // Each says its own length: it is DER.
            demand.update(authority);
        }
        Self {
            secret,
            demand: demand.finish(),
            random: SystemRandom::new(),
        }
    }

    /// The key of a period: HKDF (RFC 5869) of the secret.
    fn key(&self, period: u64) -> Option<LessSafeKey> {
        let salt = Salt::new(HKDF_SHA256, b"rgunicorn session tickets");
        let secret = salt.extract(&self.secret);
        let info = [&period.to_be_bytes()[..], self.demand.as_ref()];
        let key = secret.expand(&info, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }

    fn seal(&self, content: &[u8], period: u64) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut sealed = content.to_vec();
        let aad = Aad::from(period.to_be_bytes());
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        self.key(period)?
            .seal_in_place_append_tag(nonce_used, aad, &mut sealed)
            .ok()?;
        Some([&period.to_be_bytes()[..], &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (period, rest) = ticket.split_first_chunk::<PERIOD_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let aad = Aad::from(*period);
        let period = u64::from_be_bytes(*period);
        // Clocks of programs that follow each other may differ by a little.
        if period.abs_diff(now) > 1 {
            return None;
        }
        let mut content = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self
            .key(period)?
            .open_in_place(nonce, aad, &mut content)
            .ok()?
            .len();
        content.truncate(length);
        Some(content)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(PERIOD).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, content: &[u8]) -> Option<Vec<u8>> {
        self.seal(content, now()?)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, now()?)
    }
}

/// The number of the period that it is.
fn now() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some(since.as_secs() / PERIOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(secret: Secret) -> Tickets {
        Tickets::new(secret, CertReqs::None, &[])
    }

    #[test]
    fn a_ticket_is_worth_nothing_where_clients_are_asked_for_something_else() {
        let authority = |bytes: &'static [u8]| CertificateDer::from(bytes);
        let demands = [
            (CertReqs::None, vec![]),
            (CertReqs::Optional, vec![authority(b"one")]),
            (CertReqs::Required, vec![authority(b"one")]),
            (CertReqs::Required, vec![authority(b"other")]),
            (
                CertReqs::Required,
                vec![authority(b"one"), authority(b"other")],
            ),
        ];
        let all = demands.map(|(reqs, authorities)| Tickets::new([7; 32], reqs, &authorities));
        for (number, one) in all.iter().enumerate() {
            let ticket = one.seal(b"session", 100).unwrap();
            for (other, tickets) in all.iter().enumerate() {
                assert_eq!(tickets.open(&ticket, 100).is_some(), number == other);
            }
        }
    }

    #[test]
    fn whoever_has_the_secret_reads_a_ticket_for_two_periods() {
        let (one, other) = (tickets([7; 32]), tickets([7; 32]));
        let ticket = one.seal(b"session", 100).unwrap();
        for (now, expect) in [
            (98, None),
            (99, Some(b"session".to_vec())),
            (100, Some(b"session".to_vec())),
            (101, Some(b"session".to_vec())),
            (102, None),
        ] {
            assert_eq!(other.open(&ticket, now), expect, "{now}");
        }
        assert_eq!(tickets([8; 32]).open(&ticket, 100), None);
        let again = one.seal(b"session", 100).unwrap();
        assert_ne!(ticket, again);
        assert!(!format!("{one:?}").contains('7'));
    }

    #[test]
    fn a_damaged_ticket_is_none() {
        let tickets = tickets([7; 32]);
        let ticket = tickets.seal(b"session", 100).unwrap();
        for at in 0..ticket.len() {
            let mut damaged = ticket.clone();
            damaged[at] ^= 1;
            assert_eq!(tickets.open(&damaged, 100), None, "{at}");
            assert_eq!(tickets.open(&ticket[..at], 100), None, "{at}");
        }
        assert_eq!(tickets.open(&vec![0; TICKET_BYTES_MAX + 1], 0), None);
    }
}
