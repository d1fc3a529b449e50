//! Defines the dispatch of `rgunicorn:http`: the whole request in, the whole response out.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::error::{Failure, LoadError};
use super::exchange::{NOT_FINAL, Reply, RequestBody, ResponseBody};
use super::store::Guest;

mod bindings {
    #![allow(
        missing_docs,
        reason = "generated from wit/world.wit, where the documentation is"
    )]
    wasmtime::component::bindgen!({
        path: "wit/world.wit",
        world: "app",
        exports: { default: async },
        require_store_data_send: true,
    });
}

use bindings::exports::rgunicorn::http::handler;

/// Fields that are between the client and us (RFC 9110 section 7.6.1).
const CONNECTION_FIELDS: [HeaderName; 6] = [
    http::header::CONNECTION,
    http::header::PROXY_AUTHORIZATION,
    http::header::TE,
    http::header::TRAILER,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
];

/// Fields that this world leaves to the server: the body is here whole, so what it says of itself
/// can only be wrong. Those of a connection are dropped where responses are written.
const OURS: [HeaderName; 2] = [CONTENT_LENGTH, DATE];

/// An app of this world.
pub(super) struct Handler(bindings::AppPre<Guest>);

impl Handler {
    pub(super) fn new(pre: InstancePre<Guest>) -> Result<Self, LoadError> {
        bindings::AppPre::new(pre)
            .map(Self)
            .map_err(LoadError::Link)
    }

    pub(super) async fn rehearse(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        self.0.instantiate_async(store).await.map(drop)
    }

    pub(super) async fn call(
        &self,
        store: &mut Store<Guest>,
        request: http::Request<RequestBody>,
        reply: Reply,
    ) -> wasmtime::Result<()> {
        let request = lower(request);
        let app = self.0.instantiate_async(&mut *store).await?;
        store.data().made();
        let response = app
            .rgunicorn_http_handler()
            .call_handle(store, &request)
            .await?;
        // A receiver that is gone belongs to a client that is gone.
        let _ = reply.send(lift(response));
        Ok(())
    }
}

fn lower(request: http::Request<RequestBody>) -> handler::Request {
    let (parts, body) = request.into_parts();
    let fields = parts
        .headers
        .iter()
        .filter(|(name, _)| !CONNECTION_FIELDS.contains(name))
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    handler::Request {
        method: parts.method.as_str().to_owned(),
        scheme: parts.uri.scheme_str().unwrap_or("http").to_owned(),
        authority: authority(&parts),
        path_with_query: parts
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
        fields,
        body: body.into_whole().into(),
    }
}

/// Of the target, or of Host for a target that has none, such as `*`.
fn authority(parts: &http::request::Parts) -> String {
    let host = || {
        parts
            .headers
            .get(http::header::HOST)
            .and_then(|host| host.to_str().ok())
    };
    parts
        .uri
        .authority()
        .map(|authority| authority.as_str())
        .or_else(host)
        .unwrap_or_default()
        .to_owned()
}

fn lift(response: handler::Response) -> Result<http::Response<ResponseBody>, Failure> {
    let status =
        http::StatusCode::from_u16(response.status).map_err(|_| Failure::BadResponse(NOT_FINAL))?;
    let body = Full::new(Bytes::from(response.body))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut answer = http::Response::new(body);
    *answer.status_mut() = status;
    for (name, value) in response.fields {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Failure::BadResponse("a field name is not a token"))?;
        if OURS.contains(&name) {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(Bytes::from(value))
            .map_err(|_| Failure::BadResponse("a field value holds a control character"))?;
        answer
            .headers_mut()
            .try_append(name, value)
            .map_err(|_| Failure::BadResponse("it has too many fields"))?;
    }
    Ok(answer)
}
