//! Defines the dispatch of `wasi:http/incoming-handler@0.2`: both bodies are streams, and the guest
//! may work on after its response.

use wasmtime::Store;
use wasmtime::component::InstancePre;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;

use super::error::{Failure, LoadError};
use super::exchange::{Reply, RequestBody};
use super::store::Guest;

/// Stands for the host of a request that names none.
const NO_HOST: http::HeaderValue = http::HeaderValue::from_static("localhost");

/// An app of this world.
pub(super) struct Handler(ProxyPre<Guest>);

impl Handler {
    pub(super) fn new(pre: InstancePre<Guest>) -> Result<Self, LoadError> {
        ProxyPre::new(pre).map(Self).map_err(LoadError::Link)
    }

    pub(super) async fn rehearse(&self, store: &mut Store<Guest>) -> wasmtime::Result<()> {
        self.0.instantiate_async(store).await.map(drop)
    }

    pub(super) async fn call(
        &self,
        store: &mut Store<Guest>,
        mut request: http::Request<RequestBody>,
        reply: Reply,
    ) -> wasmtime::Result<()> {
        // HTTP/1.0 may name no host, and wasi:http knows no request without one.
        if request.uri().authority().is_none() {
            request
                .headers_mut()
                .entry(http::header::HOST)
                .or_insert(NO_HOST);
        }
        let scheme = match request.uri().scheme_str() {
            Some("https") => Scheme::Https,
            Some(_) | None => Scheme::Http,
        };
        let request = store
            .data_mut()
            .http()
            .new_incoming_request(scheme, request)?;
        let outparam = store
            .data_mut()
            .http()
            .new_response_outparam_from_callback(move |result| {
                let result = result.map_err(|code| Failure::ErrorCode(format!("{code:?}")));
                // A receiver that is gone belongs to a client that is gone.
                let _ = reply.send(result);
            })?;
        let proxy = self.0.instantiate_async(&mut *store).await?;
        store.data().made();
        proxy
            .wasi_http_incoming_handler()
            .call_handle(store, request, outparam)
            .await
    }
}
