//! Defines what an app for rgunicorn is in Rust: a function from [`Request`] to [`Response`].
//!
//! ```
//! use rgunicorn_guest::{Request, Response};
//!
//! rgunicorn_guest::serve!(hello);
//!
//! fn hello(request: Request) -> Response {
//!     match request.path() {
//!         "/" => Response::text("hello\n"),
//!         _ => Response::text("not here\n").with_status(404),
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! The crate is the world `app` of the WIT package `rgunicorn:http` with plain types over it. The
//! whole request is there before the function is called, and the whole response leaves after it
//! returned; an app that wants to stream exports `wasi:http/incoming-handler` instead and does not
//! need this crate.
//!
//! A panic is a trap, and rgunicorn answers a trap with 500. Every request gets an instance of its
//! own, so nothing that one request leaves in memory is seen by the next, unless the server was
//! told to reuse instances.
//!
//! Both types can be made anywhere, so the function can be tested without wasm:
//!
//! ```
//! # use rgunicorn_guest::{Request, Response};
//! # fn hello(_: Request) -> Response { Response::text("hello\n") }
//! let response = hello(Request::new("GET", "/?lang=en"));
//! assert_eq!(response.status(), 200);
//! assert_eq!(response.body(), b"hello\n");
//! ```

mod query;
mod request;
mod response;

pub use request::Request;
pub use response::Response;

/// What `serve!` expands to; nothing here is for use by hand.
#[doc(hidden)]
pub mod bindings {
    #![allow(
        missing_docs,
        reason = "generated from the WIT, which carries the documentation"
    )]
    wit_bindgen::generate!({
        path: "../../wit",
        world: "rgunicorn:http/app",
        pub_export_macro: true,
        default_bindings_module: "rgunicorn_guest::bindings",
    });
}

/// Makes the named function the app: `serve!(hello)`, once in a crate of type `cdylib`.
///
/// The function takes a [`Request`] and returns a [`Response`]. It may be a path
/// (`serve!(pages::front)`).
#[macro_export]
macro_rules! serve {
    ($app:path) => {
        const _: () = {
            struct App;

            impl $crate::bindings::exports::rgunicorn::http::handler::Guest for App {
                fn handle(
                    request: $crate::bindings::exports::rgunicorn::http::handler::Request,
                ) -> $crate::bindings::exports::rgunicorn::http::handler::Response {
                    let app: fn($crate::Request) -> $crate::Response = $app;
                    app(request.into()).into()
                }
            }

    $crate::bindings::export!(App with_types_in $crate::bindings);
        };
    };
}
