//! Model checks of the baton: every interleaving of accept, pass, rest, work, close, death and revocation of a few
//! processes, with a kernel that queues connections and rings bells.
//!
//! What is checked when all have finished is the invariant of `src/accept/baton.rs`: whoever could accept a waiting
//! connection has been told, or was told to do so at once; and nobody else's bell is armed.
#![cfg(test)]

mod atomic;
#[allow(dead_code, reason = "what only a real process needs")]
#[path = "../../src/accept/baton.rs"]
mod baton;
mod kernel;
#[path = "../../src/accept/terms.rs"]
mod terms;
mod tests;
#[path = "../../src/accept/words.rs"]
mod words;
