//! Defines an app that fetches `?url=`, with its own method and body, and passes on what comes
//! back, streaming in both directions. When that fails it answers 502 with the name of the error
//! code.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let url = guests::parameter(&request, "url").expect("a url");
    match fetch(request, &url) {
        Ok(response) => pass_on(&response, outparam),
        Err(code) => guests::answer(outparam, 502, format_args!("{code:?}\n")),
    }
}

fn fetch(request: IncomingRequest, url: &str) -> Result<IncomingResponse, ErrorCode> {
    let (scheme, rest) = url.split_once("://").expect("a scheme");
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let method = request.method();
    let has_body = !matches!(method, Method::Get | Method::Head);
    let outgoing = OutgoingRequest::new(Fields::new());
    outgoing
        .set_method(&method)
        .expect("a method that came in may go out");
    outgoing
        .set_scheme(Some(&scheme))
        .expect("the scheme is well-formed");
    outgoing
        .set_authority(Some(authority))
        .expect("the authority is well-formed");
    outgoing
        .set_path_with_query(Some(path))
        .expect("the path is well-formed");
    let body = outgoing.body().expect("a new request has a body");
    let future = outgoing_handler::handle(outgoing, None)?;
    if has_body {
        send(&request, &body).map_err(|_| ErrorCode::ConnectionTerminated)?;
    }
    OutgoingBody::finish(body, None)?;
    future.subscribe().block();
    future
        .get()
        .expect("it is ready")
        .expect("it is taken once")
}

fn send(request: &IncomingRequest, body: &OutgoingBody) -> Result<(), StreamError> {
    let incoming = request.consume().expect("the body is consumed once");
    let from = incoming.stream().expect("the stream is taken once");
    let to = body.write().expect("the stream is taken once");
    loop {
        match to.blocking_splice(&from, guests::READ_MAX) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(failed) => return Err(failed),
        }
    }
}

fn pass_on(response: &IncomingResponse, outparam: ResponseOutparam) {
    let body = guests::begin(outparam, response.status(), &[("x-passed-on", "yes")]);
    let incoming = response.consume().expect("the body is consumed once");
    let from = incoming.stream().expect("the stream is taken once");
    if body.copy(&from).is_ok() {
        body.finish(None);
    }
}
