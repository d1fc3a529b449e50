//! Defines an app that exits as a program would, in place of an answer; `?ok` says success.

use wasip2::cli::exit;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, _: ResponseOutparam) {
    let success = guests::parameter(&request, "ok").is_some();
    exit::exit(if success { Ok(()) } else { Err(()) });
    guests::trap()
}
