//! Defines an app that answers with 16 random bytes in hexadecimal.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};
use wasip2::random::random;

guests::wasi!(handle);

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let bytes = random::get_random_bytes(16);
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    guests::answer(outparam, 200, format_args!("{digits}\n"));
}
