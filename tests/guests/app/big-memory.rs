//! Defines an app that needs 64 MiB of memory before it has begun.

use std::sync::atomic::{AtomicU8, Ordering};

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

static BIG: [AtomicU8; 64 << 20] = [const { AtomicU8::new(0) }; 64 << 20];

fn app(request: Request) -> Response {
    let place = request.path().len();
    BIG[place].store(1, Ordering::Relaxed);
    Response::text(format!(
        "{} of {}\n",
        BIG[place].load(Ordering::Relaxed),
        BIG.len()
    ))
}
