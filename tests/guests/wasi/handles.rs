//! Defines an app that makes `?n=N` (1000) resources of the host and holds on to all of them, then
//! answers `N handles`.

use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let number: u64 = guests::number(&request, "n", 1000);
    for _ in 0..number {
        std::mem::forget(Fields::new());
    }
    guests::answer(outparam, 200, format_args!("{number} handles\n"));
}
