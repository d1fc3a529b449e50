//! Defines an app that answers with `?status=N`, or with 99, and the body `body`. Where the host
//! refuses the status it answers 200 and `refused`.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingResponse, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let status = guests::number(&request, "status", 99);
    match OutgoingResponse::new(Fields::new()).set_status_code(status) {
        Ok(()) => guests::answer(outparam, status, "body\n"),
        Err(()) => guests::answer(outparam, 200, "refused\n"),
    }
}
