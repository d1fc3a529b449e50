//! Defines an app that panics, and whose panic hook writes `the guest panics on purpose` to
//! standard error.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    // Where it is built for, the standard library has no standard error of its own.
    std::panic::set_hook(Box::new(|panic| guests::print_error(panic)));
    panic!("the guest panics on purpose");
}
