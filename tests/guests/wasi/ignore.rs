//! Defines an app that answers at once and never looks at the body that it was sent.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    guests::answer(outparam, 200, "ignored\n");
}
