//! Defines an app that declares `?declare=N` bytes (10) and writes `?write=M` (5).

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let declared: u64 = guests::number(&request, "declare", 10);
    let written: u64 = guests::number(&request, "write", 5);
    let body = guests::begin(outparam, 200, &[("content-length", &declared.to_string())]);
    let bytes: Vec<u8> = (0..written).map(guests::filler).collect();
    let _ = body.write(&bytes);
    body.finish(None);
}
