//! Defines an app that never returns and never calls the host.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(_: Request) -> Response {
    guests::spin()
}
