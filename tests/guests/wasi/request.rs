//! Defines an app that says what it was given: a line with method, scheme, authority and target, a
//! line for each field, an empty line and the body, streamed.

use wasip2::http::types::{IncomingRequest, Method, ResponseOutparam, Scheme};

guests::wasi!(handle);

fn handle(request: IncomingRequest, outparam: ResponseOutparam) {
    let mut head = format!(
        "{} {} {} {}\n",
        method(&request.method()),
        request.scheme().as_ref().map_or("-", scheme),
        request.authority().as_deref().unwrap_or("-"),
        request.path_with_query().as_deref().unwrap_or("-"),
    )
    .into_bytes();
    for (name, value) in request.headers().entries() {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(&value);
        head.push(b'\n');
    }
    head.push(b'\n');
    let body = guests::begin(
        outparam,
        200,
        &[("content-type", "application/octet-stream")],
    );
    let incoming = request.consume().expect("the body is consumed once");
    let from = incoming.stream().expect("the stream is taken once");
    if body.write(&head).and_then(|()| body.copy(&from)).is_ok() {
        body.finish(None);
    }
}

fn method(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

fn scheme(scheme: &Scheme) -> &str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
        Scheme::Other(name) => name,
    }
}
