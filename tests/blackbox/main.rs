//! Tests of the real program from the outside: processes, signals, sockets, bytes and the log, and
//! nothing of what is inside.
//!
//! Every server has a free port and a process group of its own, and none of its processes outlives
//! its test. Waiting is always for something that the server does, with a deadline that only a
//! failure reaches.

mod harness;

mod boot;
mod configuration;
mod embed;
mod failures;
mod http;
mod limits;
mod outbound;
mod signals;
mod tenants;
mod worlds;
