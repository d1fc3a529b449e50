//! Defines an app that answers with an error code in place of a response.

use wasip2::http::types::{ErrorCode, IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let error = ErrorCode::InternalError(Some("the guest gives up on purpose".to_owned()));
    ResponseOutparam::set(outparam, Err(error));
}
