//! Defines an app that writes `a part` and returns without finishing the body.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let body = guests::begin(outparam, 200, &[("content-type", "text/plain")]);
    let _ = body.line("a part");
}
