//! Defines an app that reads the whole body in pieces and answers `COUNT CHECKSUM`: the number of
//! bytes, and their FNV-1a hash of 64 bits in hexadecimal. A body that breaks off is 400 and
//! `broken after COUNT`. `?delay_ms=N` waits after each piece.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};
use wasip2::io::streams::StreamError;

guests::wasi!(handle);

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let delay_ms: u64 = guests::number(&request, "delay_ms", 0);
    let incoming = request.consume().expect("the body is consumed once");
    let stream = incoming.stream().expect("the stream is taken once");
    let (mut count, mut checksum) = (0_usize, FNV_OFFSET);
    loop {
        match stream.blocking_read(guests::READ_MAX) {
            Ok(piece) => {
                count += piece.len();
                checksum = piece.iter().fold(checksum, |checksum, byte| {
                    (checksum ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
                });
            }
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => {
                return guests::answer(outparam, 400, format_args!("broken after {count}\n"));
            }
        }
        if delay_ms > 0 {
            guests::sleep_ms(delay_ms);
        }
    }
    guests::answer(outparam, 200, format_args!("{count} {checksum:016x}\n"));
}
