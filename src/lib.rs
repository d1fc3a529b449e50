//! rgunicorn: gunicorn for WebAssembly.
//!
//! An arbiter forks workers; each worker instantiates wasm components that answer HTTP. The rooms and
//! the arrows between them are drawn in ARCHITECTURE.md; a test keeps them.
//!
//! To embed the server in another program, make a [`Plan`](arbiter::Plan), with [`compose::plan`]
//! from a [`Config`](config::Config) or from roles of your own, and hand it to
//! [`Arbiter::builder`](arbiter::Arbiter::builder). `examples/embed` does both.

pub mod accept;
pub mod access;
pub mod arbiter;
pub mod cli;
pub mod compose;
pub mod config;
pub mod host;
pub mod http;
pub mod loader;
pub mod protocol;
pub mod scoreboard;
pub mod sys;
pub mod tls;
pub mod worker;
