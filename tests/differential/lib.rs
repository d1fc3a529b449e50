//! The server's HTTP/1.1, compiled as a library that the tests of this package link: its own tests stay at home.

#[allow(dead_code, reason = "what only the server uses")]
#[path = "../../src/http/mod.rs"]
pub mod http;
#[allow(dead_code, reason = "what only other tests use")]
#[cfg(not(test))]
#[path = "../../src/http/replay.rs"]
pub mod replay;

#[cfg(not(test))]
use self::http::{body, head, limits, refusal, response, target};
