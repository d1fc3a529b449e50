//! Defines an app that writes `?lines=N` (1) lines to standard output and as many to standard
//! error, each of `?bytes=M` bytes if that is said, and then answers `printed`.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let lines: u64 = guests::number(&request, "lines", 1);
    let bytes: usize = guests::number(&request, "bytes", 0);
    for line in 0..lines {
        guests::print(format_args!(
            "{:x<bytes$}",
            format!("standard output, line {line} ")
        ));
        guests::print_error(format_args!(
            "{:x<bytes$}",
            format!("standard error, line {line} ")
        ));
    }
    guests::answer(outparam, 200, "printed\n");
}
