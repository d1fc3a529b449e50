//! Defines an app that traps.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(_: Request) -> Response {
    guests::trap()
}
