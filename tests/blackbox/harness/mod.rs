//! Defines what the tests share: a server to start, a client to ask it, a server for it to ask, and
//! patience.

mod client;
mod frames;
pub(crate) mod h2;
mod load;
mod log;
mod process;
mod server;
mod start;
mod tls;
mod upstream;

pub(crate) use self::h2::{H2, in_loop};
pub(crate) use client::{Address, Client, Head, Response};
pub(crate) use frames::{Frame, Frames, literal};
pub(crate) use load::Load;
pub(crate) use process::{Process, limited};
pub(crate) use server::Server;
pub(crate) use start::{Ended, Start};
pub(crate) use tls::{Tls, tls, tls_file};
pub(crate) use upstream::Upstream;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long anything but a start may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The default of `request-read-ahead`: an app that takes bodies as they come gets its request when so
/// much of one is there.
pub(crate) const READ_AHEAD: usize = 64 << 10;

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    until_some(what, || is_so().then_some(()));
}

/// Waits until there is a value.
pub(crate) fn until_some<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The path of a file in the repository.
pub(crate) fn in_repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The path of a guest's component.
pub(crate) fn guest(name: &str) -> String {
    let path = in_repository("tests/guests/target/components").join(format!("{name}.wasm"));
    assert!(
        path.exists(),
        "{} is not there: run tests/guests/build",
        path.display()
    );
    path.to_str().expect("the path is text").to_owned()
}

/// So many bytes in which every position can be told from its neighbours.
pub(crate) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at % 251) as u8).collect()
}
