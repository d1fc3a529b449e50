//! Defines an app that never returns and never calls the host: before it has answered, or after the
//! line `begun` with `?after`.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    if guests::parameter(&request, "after").is_some() {
        let body = guests::begin(outparam, 200, &[("content-type", "text/plain")]);
        let _ = body.line("begun");
        guests::spin();
    }
    guests::spin()
}
