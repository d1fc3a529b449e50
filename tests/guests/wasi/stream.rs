//! Defines an app that sends `?n=N` lines (5) with `?interval_ms=M` (100) between one and the next:
//! `chunk 0` to `chunk N-1`, each flushed before it waits. It stops when the client has gone.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let lines: u64 = guests::number(&request, "n", 5);
    let interval_ms: u64 = guests::number(&request, "interval_ms", 100);
    let body = guests::begin(outparam, 200, &[("content-type", "text/plain")]);
    for line in 0..lines {
        if line > 0 {
            guests::sleep_ms(interval_ms);
        }
        if body.line(format_args!("chunk {line}")).is_err() {
            guests::print_error("the client has gone");
            return;
        }
    }
    body.finish(None);
}
