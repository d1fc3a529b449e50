//! Defines an app that waits `?ms=N` (1000) in a call to the host and then answers `slept N ms`.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let milliseconds: u64 = guests::number(&request, "ms", 1000);
    guests::sleep_ms(milliseconds);
    guests::answer(outparam, 200, format_args!("slept {milliseconds} ms\n"));
}
