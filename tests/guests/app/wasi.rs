//! Defines an app that imports WASI beside its own world, as what is built for `wasm32-wasip2`
//! does: it answers with its environment, one `NAME=value` a line, and writes a line to standard
//! output and one to standard error.

use rgunicorn_guest::{Request, Response};
use wasip2::cli::environment;

rgunicorn_guest::serve!(app);

fn app(_: Request) -> Response {
    guests::print("a line on standard output");
    guests::print_error("a line on standard error");
    let lines: String = environment::get_environment()
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    Response::text(lines)
}
