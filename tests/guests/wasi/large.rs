//! Defines an app with a body of `?bytes=N`, one MiB if it is not said, sent in pieces: the
//! alphabet in small letters over and over. `&declare` says its length in Content-Length.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

/// The length of a piece in bytes: a whole number of alphabets.
const PIECE: u64 = 26 * 2048;

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let bytes: u64 = guests::number(&request, "bytes", 1 << 20);
    let length = bytes.to_string();
    let mut fields = vec![("content-type", "application/octet-stream")];
    if guests::parameter(&request, "declare").is_some() {
        fields.push(("content-length", &length));
    }
    let body = guests::begin(outparam, 200, &fields);
    let piece: Vec<u8> = (0..PIECE).map(guests::filler).collect();
    let mut left = bytes;
    while left > 0 {
        let now = left.min(PIECE);
        if body
            .write(&piece[..usize::try_from(now).expect("at most a piece")])
            .is_err()
        {
            guests::print_error("the client has gone");
            return;
        }
        left -= now;
    }
    body.finish(None);
}
