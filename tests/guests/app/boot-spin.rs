//! Defines an app that never ends being instantiated: before any request.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(_: Request) -> Response {
    Response::text("never\n")
}

/// What a reactor runs first.
#[unsafe(no_mangle)]
pub extern "C" fn _initialize() {
    guests::spin()
}
