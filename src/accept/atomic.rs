//! Defines which atomic numbers the baton is made of. The model checker's are others, so that the
//! very same transitions run under it: see `tests/model`.

pub(super) use std::sync::atomic::AtomicU64;
