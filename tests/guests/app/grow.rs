//! Defines an app that takes memory: `?mib=N` tells how much of N MiB it got; without it, it grows
//! until it is refused and traps.

use rgunicorn_guest::{Request, Response};

rgunicorn_guest::serve!(app);

fn app(request: Request) -> Response {
    match request.parameter("mib") {
        Some(asked) => {
            let got = guests::grow_mib(asked.parse().expect("mib is a number"));
            Response::text(format!("{got} of {asked} MiB\n"))
        }
        None => {
            guests::grow_mib(u64::MAX);
            guests::trap()
        }
    }
}
