//! Defines the server's certificates and which of them a client is shown.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use super::TlsError;

/// What stands in a file with a key that needs a password, in its new form and in its old one.
const ENCRYPTED: [&[u8]; 2] = [
    b"-----BEGIN ENCRYPTED PRIVATE KEY-----",
    b"Proc-Type: 4,ENCRYPTED",
];

/// Certificates by the names that they are valid for.
#[derive(Debug)]
pub(super) struct Certificates {
    /// The first is for whoever asks for no name, or for one that is not here.
    all: Vec<Arc<CertifiedKey>>,
    /// Positions in `all`. Names are in lower case; `*.example.org` stands as it is.
    by_name: HashMap<String, Vec<usize>>,
}

impl Certificates {
    /// Reads certificates, each with its chain, and their keys.
    pub(super) fn load<'a>(
        files: impl Iterator<Item = (&'a Path, &'a Path)>,
        provider: &CryptoProvider,
    ) -> Result<Self, TlsError> {
        let mut certificates = Self {
            all: Vec::new(),
            by_name: HashMap::new(),
        };
        for (certificate, key) in files {
            let chain = read_certificates(certificate)?;
            let names = names(certificate, &chain)?;
            let private = read_key(key)?;
            let pair = CertifiedKey::from_der(chain, private, provider);
            let pair = pair.map_err(|source| match source {
                // What it says of a key that it cannot take tells nobody what to do.
                rustls::Error::General(_) => TlsError::Kind(key.to_owned()),
                source => TlsError::Pair {
                    certificate: certificate.to_owned(),
                    key: key.to_owned(),
                    source,
                },
            })?;
            for name in names {
                let places = certificates.by_name.entry(name).or_default();
                places.push(certificates.all.len());
            }
            certificates.all.push(Arc::new(pair));
        }
        Ok(certificates)
    }

    /// Those for a name, best first.
    fn of(&self, name: &str) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let wildcard = name
            .split_once('.')
            .map(|(_, parent)| format!("*.{parent}"));
        let exact = self.by_name.get(name).into_iter().flatten();
        let wildcard = wildcard.and_then(|wildcard| self.by_name.get(&wildcard));
        let places = exact.chain(wildcard.into_iter().flatten());
        places.filter_map(|place| self.all.get(*place))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let fits = |pair: &&Arc<CertifiedKey>| pair.key.choose_scheme(schemes).is_some();
        let name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        let mut known = self.of(&name).filter(fits);
        let found = known.next().or_else(|| self.all.iter().find(fits));
        found.or(self.all.first()).cloned()
    }
}

/// The certificates of a file, of which there must be one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(failed(path))?;
    if certificates.is_empty() {
        return Err(failed(path)(pem::Error::NoItemsFound));
    }
    Ok(certificates)
}

/// The first key of a file.
fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = fs::read(path).map_err(|error| failed(path)(pem::Error::Io(error)))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let is_encrypted = ENCRYPTED
            .iter()
            .any(|mark| text.windows(mark.len()).any(|part| part == *mark));
        match is_encrypted {
            true => TlsError::Encrypted(path.to_owned()),
            false => failed(path)(error),
        }
    })
}

/// The names that the first certificate of a chain is valid for (RFC 6125; common names count no
/// more).
fn names(path: &Path, chain: &[CertificateDer<'static>]) -> Result<Vec<String>, TlsError> {
    let unreadable = |source: webpki::Error| TlsError::Certificate {
        path: path.to_owned(),
        source,
    };
    let mut names = Vec::new();
    if let Some(first) = chain.first() {
        let certificate = EndEntityCert::try_from(first).map_err(unreadable)?;
        names.extend(certificate.valid_dns_names().map(str::to_ascii_lowercase));
    }
    Ok(names)
}

fn failed(path: &Path) -> impl Fn(pem::Error) -> TlsError {
    let path = path.to_owned();
    move |source| TlsError::Pem {
        path: path.clone(),
        reason: Reason(source),
    }
}

/// Why a file holds no certificate or key, in words for whoever has to mend it.
#[derive(Debug)]
pub struct Reason(pem::Error);

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            pem::Error::NoItemsFound => out.write_str("there is none in PEM form in it"),
            pem::Error::Io(error) => error.fmt(out),
            other => other.fmt(out),
        }
    }
}
