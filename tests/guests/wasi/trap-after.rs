//! Defines an app that traps after the head and the line `the first of two` have left.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let body = guests::begin(outparam, 200, &[("content-type", "text/plain")]);
    let _ = body.line("the first of two");
    guests::trap()
}
