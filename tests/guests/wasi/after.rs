//! Defines an app that answers `answered`, works on for `?ms=N` (100) when the response is whole,
//! and then writes `worked on for N ms` to standard output. `?spin` works for ever.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let milliseconds: u64 = guests::number(&request, "ms", 100);
    guests::answer(outparam, 200, "answered\n");
    if guests::parameter(&request, "spin").is_some() {
        guests::spin();
    }
    guests::sleep_ms(milliseconds);
    guests::print(format_args!("worked on for {milliseconds} ms"));
}
