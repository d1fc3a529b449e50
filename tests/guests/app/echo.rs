//! Defines an app that says what it was given: a line with method, scheme, authority and target, a
//! line for each field, an empty line and the body.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(request: Request) -> Response {
    let mut body = format!(
        "{} {} {} {}\n",
        request.method(),
        request.scheme(),
        request.authority(),
        request.path_with_query()
    )
    .into_bytes();
    for (name, value) in request.headers() {
        body.extend_from_slice(name.as_bytes());
        body.extend_from_slice(b": ");
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body.push(b'\n');
    body.extend_from_slice(request.body());
    Response::new(200)
        .with_header("content-type", "application/octet-stream")
        .with_body(body)
}
