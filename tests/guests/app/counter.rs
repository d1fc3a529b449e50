//! Defines an app that counts its requests in a global: 1 for ever as long as each request has an
//! instance of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

static REQUESTS: AtomicU32 = AtomicU32::new(0);

fn app(_: Request) -> Response {
    let count = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    Response::text(format!("{count}\n"))
}
