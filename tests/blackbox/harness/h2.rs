//! Defines a client of HTTP/2, and an event loop to run it in.

use std::future::{Future, poll_fn};
use std::sync::Arc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use http::request::Builder as RequestBuilder;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::client::Head;
use super::tls::server_name;
use super::{Address, PATIENCE, READ_AHEAD, Response, Server, pattern};

/// Runs what a test does with several things at once.
pub(crate) fn in_loop<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("an event loop can be made");
    let result = runtime.block_on(async { tokio::time::timeout(PATIENCE, what).await });
    result.expect("waited in vain")
}

/// A connection of HTTP/2.
pub(crate) struct H2 {
    requests: SendRequest<Bytes>,
    /// What there is of it beside the requests: it ends with the connection.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

impl H2 {
    /// One without TLS.
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::over(tcp(server).await, &Builder::new()).await
    }

    /// One without TLS, with settings of the client's.
    pub(crate) async fn connect_as(server: &Server, settings: &Builder) -> Self {
        Self::over(tcp(server).await, settings).await
    }

    /// One over TLS, which must agree on it.
    pub(crate) async fn connect_tls(server: &Server, config: Arc<ClientConfig>) -> Self {
        let connector = TlsConnector::from(config);
        let stream = connector.connect(server_name("localhost"), tcp(server).await);
        let stream = stream.await.expect("the server shakes hands");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream, &Builder::new()).await
    }

    async fn over<S>(stream: S, settings: &Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (requests, connection) = settings
            .handshake(stream)
            .await
            .expect("a connection begins");
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// Begins a request; its body, if it is to have one, is sent with what is returned.
    pub(crate) async fn begin(
        &self,
        request: Request<()>,
        has_body: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        requests.send_request(request, !has_body)
    }

    /// Asks without a body.
    pub(crate) async fn ask(&self, request: RequestBuilder) -> Result<Response, h2::Error> {
        let request = request.body(()).expect("it is a request");
        let (response, _) = self.begin(request, false).await?;
        whole(response).await
    }

    /// Asks with a body.
    pub(crate) async fn ask_with(
        &self,
        request: RequestBuilder,
        body: impl Into<Bytes>,
    ) -> Result<Response, h2::Error> {
        let request = request.body(()).expect("it is a request");
        let (response, mut sender) = self.begin(request, true).await?;
        let body = body.into();
        let sending = async {
            // A server may have its answer before it has the body.
            let _ = send(&mut sender, body, true).await;
        };
        tokio::join!(whole(response), sending).0
    }

    /// Sends a GET request and reads the response.
    pub(crate) async fn get(&self, target: &str) -> Response {
        let response = self.ask(request("GET", target)).await;
        response.unwrap_or_else(|error| panic!("no whole response: {error}"))
    }

    /// Begins to ask the guest `echo`: the request is in flight until [`Echo::finish`].
    pub(crate) async fn begin_echo(&self) -> Echo {
        let request = request("POST", "/").body(()).expect("it is a request");
        let (response, mut sender) = self.begin(request, true).await.expect("it can be asked");
        let first = pattern(READ_AHEAD);
        send(&mut sender, first.clone().into(), false)
            .await
            .expect("it is taken");
        let response = response.await.expect("there is a response");
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let mut echoed = Vec::new();
        while echoed.len() < first.len() {
            let piece = body.data().await.expect("the response goes on");
            let piece = piece.expect("the response goes on");
            body.flow_control().release_capacity(piece.len()).unwrap();
            echoed.extend(piece);
        }
        assert_eq!(echoed, first);
        Echo { sender, body }
    }
}

/// A request that is in flight.
pub(crate) struct Echo {
    sender: SendStream<Bytes>,
    body: h2::RecvStream,
}

impl Echo {
    /// Sends its end, and checks that the rest of the response is whole.
    pub(crate) async fn finish(mut self) {
        let last = Bytes::from_static(b"last");
        send(&mut self.sender, last, true)
            .await
            .expect("it is taken");
        let piece = self.body.data().await.expect("the response goes on");
        assert_eq!(&piece.expect("it is whole")[..], b"last");
        while let Some(piece) = self.body.data().await {
            assert!(piece.expect("it is whole").is_empty());
        }
    }
}

async fn tcp(server: &Server) -> TcpStream {
    let Address::Tcp(address) = server.address() else {
        panic!("only for TCP")
    };
    let stream = TcpStream::connect(address)
        .await
        .expect("the server accepts connections");
    stream.set_nodelay(true).expect("the socket is open");
    stream
}

/// A request for a target of localhost.
pub(crate) fn request(method: &str, target: &str) -> RequestBuilder {
    let uri = format!("http://localhost{target}");
    Request::builder().method(method).uri(uri)
}

/// Sends a piece of a body as the server has room for it.
pub(crate) async fn send(
    sender: &mut SendStream<Bytes>,
    mut data: Bytes,
    is_last: bool,
) -> Result<(), h2::Error> {
    loop {
        sender.reserve_capacity(data.len());
        let room = match data.is_empty() {
            true => 0,
            false => poll_fn(|cx| sender.poll_capacity(cx))
                .await
                .unwrap_or(Ok(0))?,
        };
        let piece = data.split_to(room.min(data.len()));
        let ends = is_last && data.is_empty();
        sender.send_data(piece, ends)?;
        if data.is_empty() {
            return Ok(());
        }
    }
}

/// Reads a whole response.
pub(crate) async fn whole(response: ResponseFuture) -> Result<Response, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        body.extend_from_slice(&piece);
        // It fails where the stream has ended.
        let _ = stream.flow_control().release_capacity(piece.len());
    }
    assert!(stream.trailers().await?.is_none(), "trailers");
    let fields = head.headers.iter();
    let fields = fields.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    let head = Head {
        status: head.status.as_u16(),
        fields: fields.collect(),
    };
    Ok(Response { head, body })
}
