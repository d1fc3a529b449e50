//! Defines an app that reads the body and its trailers, answers with a line `name: value` for each
//! of them, and sends the trailer `x-lines` with their number.

use wasip2::http::types::{Fields, IncomingBody, IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let incoming = request.consume().expect("the body is consumed once");
    let stream = incoming.stream().expect("the stream is taken once");
    while stream.blocking_read(guests::READ_MAX).is_ok() {}
    drop(stream);
    let future = IncomingBody::finish(incoming);
    future.subscribe().block();
    let received = future
        .get()
        .expect("it is ready")
        .expect("it is taken once");
    let entries = match &received {
        Ok(Some(trailers)) => trailers.entries(),
        Ok(None) => Vec::new(),
        Err(code) => return guests::answer(outparam, 400, format_args!("{code:?}\n")),
    };
    let body = guests::begin(outparam, 200, &[("trailer", "x-lines")]);
    for (name, value) in &entries {
        let _ = body.line(format_args!("{name}: {}", String::from_utf8_lossy(value)));
    }
    let trailers = Fields::new();
    trailers
        .append("x-lines", entries.len().to_string().as_bytes())
        .expect("the field is allowed");
    body.finish(Some(trailers));
}
