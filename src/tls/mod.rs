//! Defines TLS as far as it is the same for all workers: certificates, what clients must show
//! themselves, and tickets.
//!
//! Invariant: files are read when a plan is made, by whoever may read them and before anybody is forked;
//! nothing here touches a socket.

mod certificates;
mod tickets;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, RootCertStore, SupportedProtocolVersion};

pub use rustls::ServerConfig;
pub use tickets::Secret;

use crate::config::{CertReqs, HttpProtocols, Tls, TlsVersion};
use certificates::{Certificates, Reason, read_certificates};
use tickets::Tickets;

/// What clients and servers call the protocols that they choose from (RFC 7301).
pub const ALPN_H1: &[u8] = b"http/1.1";
/// See [`ALPN_H1`].
pub const ALPN_H2: &[u8] = b"h2";

/// What a version is called, as in OpenSSL and so in other servers' logs.
#[must_use]
pub fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        // No other is spoken.
        _ => "TLS",
    }
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds something else.
    #[error("cannot read a certificate or key from {}: {reason}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: Reason,
    },
    /// A certificate that cannot be understood.
    #[error("cannot understand the certificate in {}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: webpki::Error,
    },
    /// A key that needs a password.
    #[error(
        "the key in {} is encrypted, and nobody is there to ask for the password: decrypt it with `openssl pkey`",
        .0.display()
    )]
    Encrypted(PathBuf),
    /// A kind of key that is not known.
    #[error(
        "cannot use the key in {}: it must be RSA of 2048 to 4096 bits, ECDSA on P-256 or P-384, or Ed25519",
        .0.display()
    )]
    Kind(PathBuf),
    /// A certificate and a key that do not belong together.
    #[error(
        "cannot use the key in {} for the certificate in {}: {source}",
        key.display(), certificate.display()
    )]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
    /// Authorities that clients' certificates cannot be checked with.
    #[error("cannot check clients with the certificates in {}: {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VerifierBuilderError,
    },
    /// What cannot be, with the provider that is built in.
    #[error("cannot speak TLS: {0}")]
    Provider(#[from] rustls::Error),
}

/// Makes what TLS connections are served with; `None` if the configuration names no certificate.
///
/// # Errors
/// The first file that cannot be used, and why.
pub fn load(config: &Tls, secret: Secret) -> Result<Option<Arc<ServerConfig>>, TlsError> {
    if !config.is_on() {
        return Ok(None);
    }
    let provider = Arc::new(ring::default_provider());
    let certificates = Certificates::load(pairs(config), &provider)?;
    let versions: &[&SupportedProtocolVersion] = match config.min_version {
        TlsVersion::Tls12 => &[&TLS13, &TLS12],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)?;
    let (builder, tickets) = match (&config.ca_certs, config.cert_reqs) {
        (Some(path), reqs @ (CertReqs::Optional | CertReqs::Required)) => {
            let authorities = read_certificates(path)?;
            let tickets = Tickets::new(secret, reqs, &authorities);
            let optional = reqs == CertReqs::Optional;
            let verifier = verifier(path, authorities, optional, &provider)?;
            (builder.with_client_cert_verifier(verifier), tickets)
        }
        (_, _) => {
            let tickets = Tickets::new(secret, CertReqs::None, &[]);
            (builder.with_no_client_auth(), tickets)
        }
    };
    let mut tls = builder.with_cert_resolver(Arc::new(certificates));
    tls.alpn_protocols = alpn(config.http_protocols);
    tls.ticketer = Arc::new(tickets);
    // What one worker remembers, another does not: tickets take its place.
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Some(Arc::new(tls)))
}

/// The files of each certificate; a key without a file of its own is in the certificate's.
fn pairs(config: &Tls) -> impl Iterator<Item = (&Path, &Path)> {
    let keys = config.keyfile.iter().map(PathBuf::as_path);
    let certificates = config.certfile.iter().map(PathBuf::as_path);
    let own = config.keyfile.is_empty();
    let keys = keys.chain(certificates.clone().filter(move |_| own));
    certificates.zip(keys)
}

fn verifier(
    path: &Path,
    authorities: Vec<CertificateDer<'static>>,
    optional: bool,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let builder = if optional {
        builder.allow_unauthenticated()
    } else {
        builder
    };
    builder.build().map_err(|source| TlsError::Authorities {
        path: path.to_owned(),
        source,
    })
}

fn alpn(protocols: HttpProtocols) -> Vec<Vec<u8>> {
    let names: &[&[u8]] = match protocols {
        HttpProtocols::H2H1 => &[ALPN_H2, ALPN_H1],
        HttpProtocols::H1H2 => &[ALPN_H1, ALPN_H2],
        HttpProtocols::H1 => &[ALPN_H1],
        HttpProtocols::H2 => &[ALPN_H2],
    };
    names.iter().map(|name| name.to_vec()).collect()
}
