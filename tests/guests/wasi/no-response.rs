//! Defines an app that returns without an answer: `?how=drop` gives the outparam back, `?how=keep`
//! holds on to it.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    match guests::parameter(&request, "how").as_deref() {
        None | Some("drop") => drop(outparam),
        Some("keep") => std::mem::forget(outparam),
        Some(other) => panic!("no such way: {other}"),
    }
}
