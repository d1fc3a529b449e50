//! Defines how tests speak TLS: with which certificates, whom they trust and what they can.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use super::{Start, in_repository};

/// The certificates that servers show in tests, by their names in `tests/blackbox/tls`.
const SHOWN: [&str; 5] = ["server", "renewed", "wildcard", "both-ec", "both-rsa"];

/// The path of a file of the tests' certificates.
pub(crate) fn tls_file(name: &str) -> String {
    let path = in_repository("tests/blackbox/tls").join(name);
    path.to_str().expect("the path is text").to_owned()
}

/// The first certificate of a file.
pub(crate) fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(tls_file(&format!("{name}.pem"))).expect("it is a certificate")
}

impl Start {
    /// With the certificates of these names, for TLS.
    pub(crate) fn certificates(self, names: &[&str]) -> Self {
        names.iter().fold(self, |start, name| {
            let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
            start.args([
                "--certfile",
                &tls_file(&certificate),
                "--keyfile",
                &tls_file(&key),
            ])
        })
    }
}

/// What a client can and shows. It trusts the tests' authority alone, and remembers its sessions.
pub(crate) struct Tls {
    provider: CryptoProvider,
    versions: Vec<&'static rustls::SupportedProtocolVersion>,
    protocols: Vec<Vec<u8>>,
    shows: Option<&'static str>,
}

impl Tls {
    /// One that can do everything, offers no protocol and shows nothing.
    pub(crate) fn any() -> Self {
        Self {
            provider: ring::default_provider(),
            versions: vec![&TLS13, &TLS12],
            protocols: Vec::new(),
            shows: None,
        }
    }

    pub(crate) fn v12(mut self) -> Self {
        self.versions = vec![&TLS12];
        self
    }

    pub(crate) fn v13(mut self) -> Self {
        self.versions = vec![&TLS13];
        self
    }

    /// One that knows cipher suites of TLS 1.2 with RSA alone.
    pub(crate) fn rsa(self) -> Self {
        let mut client = self.v12();
        let suites = &mut client.provider.cipher_suites;
        suites.retain(|suite| format!("{:?}", suite.suite()).contains("_RSA_"));
        assert!(!suites.is_empty());
        client
    }

    /// Offers these protocols.
    pub(crate) fn alpn(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Shows the certificate of this name.
    pub(crate) fn shows(mut self, name: &'static str) -> Self {
        self.shows = Some(name);
        self
    }

    pub(crate) fn config(self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(certificate("authority")).expect("it is one");
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider));
        let builder = builder
            .with_protocol_versions(&self.versions)
            .expect("the provider has them")
            .with_root_certificates(roots);
        let mut config = match self.shows {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let key = tls_file(&format!("{name}.key"));
                let key = PrivateKeyDer::from_pem_file(key).expect("it is a key");
                builder
                    .with_client_auth_cert(vec![certificate(name)], key)
                    .expect("they fit")
            }
        };
        config.alpn_protocols = self.protocols;
        Arc::new(config)
    }
}

/// A client of HTTP/1.1 with everything, that remembers its sessions.
pub(crate) fn tls() -> Arc<ClientConfig> {
    Tls::any().config()
}

pub(crate) fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("it is a name")
}

/// A stream under TLS, with two handles.
pub(super) struct TlsSocket<S: Read + Write>(Arc<Mutex<StreamOwned<ClientConnection, S>>>);

impl<S: Read + Write> Clone for TlsSocket<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Read + Write> std::fmt::Debug for TlsSocket<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TlsSocket")
    }
}

impl<S: Read + Write> TlsSocket<S> {
    /// Shakes hands.
    pub(super) fn connect(socket: S, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let client = ClientConnection::new(Arc::clone(config), server_name(name));
        let mut stream = StreamOwned::new(client.map_err(io::Error::other)?, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self(Arc::new(Mutex::new(stream))))
    }

    pub(super) fn with<T>(
        &self,
        use_it: impl FnOnce(&mut StreamOwned<ClientConnection, S>) -> T,
    ) -> T {
        use_it(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was agreed on.
    pub(super) fn agreed(&self) -> Agreed {
        self.with(|stream| {
            let shown = stream.conn.peer_certificates().expect("there is one");
            let known = SHOWN.iter().find(|name| certificate(name) == shown[0]);
            Agreed {
                certificate: known.expect("it is one of the tests'"),
                version: format!(
                    "{:?}",
                    stream.conn.protocol_version().expect("there is one")
                ),
                protocol: stream
                    .conn
                    .alpn_protocol()
                    .map(|name| String::from_utf8(name.to_vec()).expect("it is text")),
                resumed: stream.conn.handshake_kind() == Some(HandshakeKind::Resumed),
            }
        })
    }
}

impl<S: Read + Write> Read for TlsSocket<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|stream| stream.read(buffer))
    }
}

impl<S: Read + Write> Write for TlsSocket<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|stream| {
            let count = stream.write(bytes)?;
            stream.flush()?;
            Ok(count)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What came of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// The name of the server's certificate.
    pub(crate) certificate: &'static str,
    /// As `TLSv1_3`.
    pub(crate) version: String,
    /// What ALPN has come to.
    pub(crate) protocol: Option<String>,
    /// Whether it goes on with an earlier session.
    pub(crate) resumed: bool,
}
