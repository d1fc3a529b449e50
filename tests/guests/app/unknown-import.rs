//! Defines an app that imports an interface that no server offers.

use rgunicorn_guest::{Request, Response};

mod bindings {
    wit_bindgen::generate!({
        inline: "
            package acme:kv;

            interface store {
                get: func(key: string) -> option<string>;
            }

            world app {
                import store;
            }
        ",
    });
}

rgunicorn_guest::serve!(app);

fn app(request: Request) -> Response {
    match bindings::acme::kv::store::get(request.path()) {
        Some(value) => Response::text(value),
        None => Response::new(404),
    }
}
