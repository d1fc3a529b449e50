//! An app for rgunicorn in one function: `GET /` says hello, `GET /?name=X` says hello to X.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(hello);

fn hello(request: Request) -> Response {
    if request.path() != "/" {
        return Response::text("there is nothing here\n").with_status(404);
    }
    match request.method() {
        "GET" | "HEAD" => match request.parameter("name") {
            Some(name) => Response::text(format!("hello, {name}\n")),
            None => Response::text("hello\n"),
        },
        _ => Response::text("only GET and HEAD\n")
            .with_status(405)
            .with_header("allow", "GET, HEAD"),
    }
}
