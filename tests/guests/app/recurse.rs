//! Defines an app that calls itself until its stack ends.

use std::hint::black_box;

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(_: Request) -> Response {
    Response::text(deeper(0).to_string())
}

fn deeper(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(true) {
        deeper(depth + 1) + frame[0]
    } else {
        frame[1]
    }
}
