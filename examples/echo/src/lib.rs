//! An app for `wasi:http/incoming-handler`: it answers with the body of the request, as it comes
//! in.
//!
//! The body is never held: `splice` moves what has arrived from the incoming stream to the outgoing
//! one on the host's side, and waits while the client does not read. A body larger than the app's
//! memory passes through.

use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

/// The most that one call moves, in bytes.
const PIECE_MAX: u64 = 64 * 1024;

wasip2::http::proxy::export!(Echo);

struct Echo;

impl wasip2::exports::http::incoming_handler::Guest for Echo {
    fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
        let response = OutgoingResponse::new(fields_for(&request));
        let body = response.body().expect("a new response has a body");
        // From here on the head is the server's, which may send it before the first byte of the
        // body is there.
        ResponseOutparam::set(outparam, Ok(response));
        if copy(&request, &body).is_ok() {
            // Fails only when the client is gone, and then there is nobody to tell.
            let _ = OutgoingBody::finish(body, None);
        }
        // Without `finish` the server cuts the connection: the client can see that the body is not
        // whole.
    }
}

/// The response has the content type of the request.
fn fields_for(request: &IncomingRequest) -> Fields {
    let fields = Fields::new();
    let name = "content-type";
    let values = request.headers().get(name);
    if !values.is_empty() {
        fields
            .set(name, &values)
            .expect("a content type that came in may go out");
    }
    fields
}

fn copy(request: &IncomingRequest, body: &OutgoingBody) -> Result<(), StreamError> {
    let incoming: IncomingBody = request.consume().expect("the body is consumed once");
    let from = incoming.stream().expect("the stream is taken once");
    let to = body.write().expect("the stream is taken once");
    loop {
        match to.blocking_splice(&from, PIECE_MAX) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(failed) => return Err(failed),
        }
    }
}
