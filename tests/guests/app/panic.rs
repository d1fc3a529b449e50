//! Defines an app that panics with a message. Nothing prints it: this world has no standard error.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(request: Request) -> Response {
    panic!("{} panics on purpose", request.path());
}
