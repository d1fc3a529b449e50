//! Defines an app that answers with `?status=N`, or with 99, which HTTP does not have. The body is
//! `body`.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(request: Request) -> Response {
    let status = request
        .parameter("status")
        .map_or(99, |text| text.parse().expect("a number"));
    Response::text("body\n").with_status(status)
}
