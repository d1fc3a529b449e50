//! Defines an app that computes for `?iterations=N`, each a few nanoseconds, and answers with what
//! comes out of it.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(request: Request) -> Response {
    let iterations: u64 = request
        .parameter("iterations")
        .map_or(1_000_000, |text| text.parse().expect("a number"));
    // Each step needs the last (xorshift64), so that nothing can be folded away.
    let state = (0..iterations).fold(0x9e37_79b9_7f4a_7c15_u64, |state, _| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 7);
        state ^ (state << 17)
    });
    Response::text(format!("{iterations} {state:016x}\n"))
}
