//! Defines an app that answers with its environment, one `NAME=value` a line, then its arguments,
//! one `[argument]` a line.

use wasip2::cli::environment;
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

guests::wasi!(handle);

fn handle(_: IncomingRequest, outparam: ResponseOutparam) {
    let variables = environment::get_environment()
        .into_iter()
        .map(|(name, value)| format!("{name}={value}\n"));
    let arguments = environment::get_arguments()
        .into_iter()
        .map(|argument| format!("[{argument}]\n"));
    guests::answer(
        outparam,
        200,
        variables.chain(arguments).collect::<String>(),
    );
}
