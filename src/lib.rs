//! rgunicorn: gunicorn for WebAssembly.
//!
//! An arbiter forks workers; each worker instantiates wasm components that answer HTTP. The rooms and
//! the arrows between them are drawn in ARCHITECTURE.md; a test keeps them.

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
pub mod worker;
