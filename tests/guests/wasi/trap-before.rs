//! Defines an app that traps before it has answered.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(_: IncomingRequest, _: ResponseOutparam) {
    guests::trap()
}
