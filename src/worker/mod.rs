//! Defines the worker: one process with one thread and one event loop, which accepts connections and
//! answers their requests in instances of the apps' components.
//!
//! Invariant: nothing here starts a thread. A second one in this address space would make every
//! reset of an instance's memory interrupt the CPU that it runs on.

mod accept;
mod admission;
mod answer;
mod boot;
mod buffer;
mod client;
mod connection;
mod drain;
mod h1;
mod h2;
mod idle;
mod kind;
mod memory;
mod patience;
mod pump;
mod record;
mod respond;
mod room;
mod route;
mod serving;
mod shared;
mod side;
mod socket;
mod wire;

pub use boot::main;
