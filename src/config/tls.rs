//! Defines the settings of TLS and HTTP/2 as the rest of the program sees them.

use std::path::PathBuf;

use super::choice::{Choice, choices};

choices! {
    /// The oldest version of TLS that is spoken.
    TlsVersion, "a version of TLS: 1.2 or 1.3" {
        /// TLS 1.2 (RFC 5246) and 1.3.
        Tls12 = "1.2",
        /// TLS 1.3 (RFC 8446) alone.
        Tls13 = "1.3",
    }
}

choices! {
    /// The protocols that clients may choose from over TLS, the preferred one first.
    HttpProtocols, "a list of protocols: h2,h1 or h1,h2 or h1 or h2" {
        /// HTTP/2, else HTTP/1.1.
        H2H1 = "h2,h1",
        /// HTTP/1.1, else HTTP/2.
        H1H2 = "h1,h2",
        /// HTTP/1.1.
        H1 = "h1",
        /// HTTP/2.
        H2 = "h2",
    }
}

choices! {
    /// Whether HTTP/2 is spoken without TLS.
    Http2Cleartext, "a way to HTTP/2 without TLS: off or prior-knowledge" {
        /// It is not.
        Off = "off",
        /// With clients that begin with it (RFC 9113 section 3.3).
        PriorKnowledge = "prior-knowledge",
    }
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertReqs {
    /// They are not asked for one.
    None,
    /// They may show one, which must then be good.
    Optional,
    /// They must.
    Required,
}

/// gunicorn has the numbers of Python's `ssl` module.
impl Choice for CertReqs {
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::None, "none"),
        (Self::Optional, "optional"),
        (Self::Required, "required"),
        (Self::None, "0"),
        (Self::Optional, "1"),
        (Self::Required, "2"),
    ];
    const EXPECTED: &'static str = "a demand: none, optional or required";
}

/// How TLS is spoken; it is if there is a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Files of certificates with their chains, absolute, the one for unknown names first.
    pub certfile: Vec<PathBuf>,
    /// Their keys, as many, or none if they are in the same files.
    pub keyfile: Vec<PathBuf>,
    /// The authorities that may have signed a client's certificate; there if clients are asked.
    pub ca_certs: Option<PathBuf>,
    /// Whether clients must show a certificate.
    pub cert_reqs: CertReqs,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// What clients may choose from.
    pub http_protocols: HttpProtocols,
}

/// How HTTP/2 is spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2 {
    /// Whether it is spoken without TLS.
    pub cleartext: Http2Cleartext,
    /// Most requests of a connection at the same time.
    pub max_concurrent_streams: u32,
    /// Bytes of a request's body that may come before they are asked for.
    pub initial_window_size: u32,
    /// Longest frame that clients may send, in bytes.
    pub max_frame_size: u32,
    /// Longest request head, in bytes as RFC 9113 section 6.5.2 counts them.
    pub max_header_list_size: u32,
}

impl Tls {
    pub(super) fn blank() -> Self {
        Self {
            certfile: Vec::new(),
            keyfile: Vec::new(),
            ca_certs: None,
            cert_reqs: CertReqs::None,
            min_version: TlsVersion::Tls12,
            http_protocols: HttpProtocols::H1,
        }
    }

    /// Whether it is spoken.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.certfile.is_empty()
    }
}

impl Http2 {
    pub(super) fn blank() -> Self {
        Self {
            cleartext: Http2Cleartext::Off,
            max_concurrent_streams: 0,
            initial_window_size: 0,
            max_frame_size: 0,
            max_header_list_size: 0,
        }
    }
}
