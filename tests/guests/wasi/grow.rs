//! Defines an app that takes memory: `?mib=N` tells how much of N MiB it got; without it, it grows
//! until it is refused and traps.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    if guests::parameter(&request, "mib").is_none() {
        guests::grow_mib(u64::MAX);
        guests::trap();
    }
    let asked: u64 = guests::number(&request, "mib", 0);
    let got = guests::grow_mib(asked);
    guests::answer(outparam, 200, format_args!("{got} of {asked} MiB\n"));
}
