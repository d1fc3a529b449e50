//! Defines an app that answers `first` and then a second time on the same outparam, which is no
//! longer its own.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let handle = outparam.take_handle();
    // SAFETY: the handle was just taken out of the outparam, and is in no other.
    let first = unsafe { ResponseOutparam::from_handle(handle) };
    guests::answer(first, 200, "first\n");
    // SAFETY: no memory is behind a handle, only an entry in the host's table; that it is gone is
    // the point here.
    let second = unsafe { ResponseOutparam::from_handle(handle) };
    guests::answer(second, 200, "second\n");
}
