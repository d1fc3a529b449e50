//! Defines an app with a body of `?bytes=N`, one MiB if it is not said: the alphabet in small
//! letters over and over.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(request: Request) -> Response {
    let bytes = request
        .parameter("bytes")
        .map_or(1 << 20, |text| text.parse().expect("a number"));
    let body: Vec<u8> = (0..bytes).map(guests::filler).collect();
    Response::new(200)
        .with_header("content-type", "application/octet-stream")
        .with_body(body)
}
