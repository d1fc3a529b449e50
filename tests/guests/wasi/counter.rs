//! Defines an app that counts its requests in a global: 1 for ever as long as each request has an
//! instance of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

static REQUESTS: AtomicU32 = AtomicU32::new(0);

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let count = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    guests::answer(outparam, 200, format_args!("{count}\n"));
}
