//! Defines outgoing HTTP: what an app may ask of whom, over connections that are kept alive.
//!
//! Invariant: every app has pools of its own, so no app gets a connection that only another one's
//! rules allow.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Sleep;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::resolver::{ResolveError, Resolver, is_public};
use crate::config::{OutboundPattern, Scheme, normal_host};

/// Longest wait for a connection, for the head of a response and between two parts of its body; a
/// guest may ask for less, and its own deadline comes first as a rule.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of one body that the host takes from a guest at once.
const CHUNK_BYTES: usize = 32 << 10;
/// Connections to one server that are kept.
const IDLE_EACH: usize = 16;

type Pooled = legacy::Client<HttpsConnector<HttpConnector<Resolver>>, WasiBody>;
type Sent = Result<
    (
        Response<WasiBody>,
        Box<dyn Future<Output = Result<(), Error>> + Send>,
    ),
    Error,
>;

/// What all apps of a worker share for outgoing requests: the trust anchors, read when first needed.
#[derive(Clone, Default)]
pub struct Client(Arc<OnceLock<Result<rustls::ClientConfig, String>>>);

impl Client {
    /// Nothing is read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tls(&self) -> Result<rustls::ClientConfig, Error> {
        self.0
            .get_or_init(|| {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let builder = rustls::ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()
                    .map_err(|error| error.to_string())?;
                let roots = builder
                    .with_native_roots()
                    .map_err(|error| error.to_string())?;
                Ok(roots.with_no_client_auth())
            })
            .clone()
            .map_err(|error| Error::InternalError(Some(error)))
    }

    fn pool(&self, public_only: bool) -> Result<Pooled, Error> {
        let mut connector = HttpConnector::new_with_resolver(Resolver { public_only });
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.tls()?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        Ok(legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_EACH)
            .pool_timer(TokioTimer::new())
            .build(connector))
    }
}

/// An app's outgoing requests.
pub(super) struct Outbound {
    allowed: Vec<OutboundPattern>,
    client: Client,
    /// Connections to hosts that a pattern names in full, so to any address.
    vouched: OnceLock<Pooled>,
    /// Connections to hosts that a starred pattern covers, so to public addresses alone.
    public: OnceLock<Pooled>,
}

impl Outbound {
    pub(super) fn new(allowed: Vec<OutboundPattern>, client: Client) -> Self {
        Self {
            allowed,
            client,
            vouched: OnceLock::new(),
            public: OnceLock::new(),
        }
    }

    /// The pool that may carry a request, or why none may.
    fn pool_for(&self, uri: &http::Uri) -> Result<Pooled, Error> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) | None => return Err(Error::HttpProtocolError),
        };
        let host = uri
            .host()
            .and_then(normal_host)
            .ok_or(Error::HttpRequestUriInvalid)?;
        let port = uri.port_u16().unwrap_or(scheme.default_port());
        let mut matching = self
            .allowed
            .iter()
            .filter(|pattern| pattern.matches(scheme, &host, port))
            .peekable();
        if matching.peek().is_none() {
            return Err(Error::HttpRequestDenied);
        }
        let public_only = !matching.any(OutboundPattern::names_host);
        let literal = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .ok();
        if public_only && literal.is_some_and(|address| !is_public(address)) {
            return Err(Error::DestinationIpProhibited);
        }
        let pool = if public_only {
            &self.public
        } else {
            &self.vouched
        };
        if let Some(pool) = pool.get() {
            return Ok(pool.clone());
        }
        let made = self.client.pool(public_only)?;
        Ok(pool.get_or_init(|| made).clone())
    }
}

/// What a store holds of its app's outgoing requests.
pub(super) struct Hooks(pub(super) Arc<Outbound>);

impl WasiHttpHooks for Hooks {
    /// A guest may hold thousands of bodies that it never sends, and `memory-limit` does not count what
    /// the host holds of them.
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let pool = self.0.pool_for(request.uri());
        Box::new(async move { send(pool?, request, options).await })
    }
}

async fn send(pool: Pooled, request: Request<WasiBody>, options: Option<RequestOptions>) -> Sent {
    let bound = |asked: Option<Duration>| asked.unwrap_or(PATIENCE).min(PATIENCE);
    let connect = bound(options.and_then(|options| options.connect_timeout));
    let first_byte = bound(options.and_then(|options| options.first_byte_timeout));
    let between = bound(options.and_then(|options| options.between_bytes_timeout));
    let response = tokio::time::timeout(connect.saturating_add(first_byte), pool.request(request))
        .await
        .map_err(|_| Error::ConnectionReadTimeout)?
        .map_err(|error| explain(&error))?;
    let body = |inner| {
        Patient {
            inner,
            between,
            sleep: Box::pin(tokio::time::sleep(between)),
        }
        .boxed_unsync()
    };
    Ok((response.map(body), Box::new(async { Ok(()) })))
}

/// Says in wasi:http's terms why there is no response.
fn explain(error: &legacy::Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    while let Some(current) = cause {
        if let Some(resolve) = current.downcast_ref::<ResolveError>() {
            return match resolve {
                ResolveError::Prohibited => Error::DestinationIpProhibited,
                ResolveError::Lookup(reason) => Error::DnsError {
                    rcode: Some(reason.clone()),
                    info_code: None,
                },
            };
        }
        if current.is::<rustls::Error>() {
            return Error::TlsCertificateError;
        }
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            if holds_tls_error(io) {
                return Error::TlsCertificateError;
            }
            if io.kind() == std::io::ErrorKind::ConnectionRefused {
                return Error::ConnectionRefused;
            }
        }
        cause = current.source();
    }
    if error.is_connect() {
        Error::DestinationUnavailable
    } else {
        Error::ConnectionTerminated
    }
}

/// A TLS error travels inside one or two I/O errors, which do not name it as their source.
fn holds_tls_error(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| {
        inner.is::<rustls::Error>()
            || inner
                .downcast_ref::<std::io::Error>()
                .is_some_and(holds_tls_error)
    })
}

/// A response body whose parts do not come too far apart.
struct Patient {
    inner: hyper::body::Incoming,
    between: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Body for Patient {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                let next = tokio::time::Instant::now() + self.between;
                self.sleep.as_mut().reset(next);
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Poll::Pending => self
                .sleep
                .as_mut()
                .poll(cx)
                .map(|()| Some(Err(Error::ConnectionReadTimeout))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
