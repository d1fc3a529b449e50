//! Defines how a request is refused.
//!
//! Invariant: a reason is a constant of this program, so no byte of the client reaches a log
//! through it.

use http::StatusCode;

/// A request that is not served, because of what its bytes are.
///
/// The connection cannot be used afterwards: where the next request would start is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What the client is told, and all that it is told.
    pub status: StatusCode,
    /// What was wrong, for the log.
    pub reason: &'static str,
}

impl Refusal {
    /// 400: the message breaks the grammar or can be read in two ways.
    pub(super) const fn bad_request(reason: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            reason,
        }
    }

    /// 414: the request line is longer than allowed (RFC 9110 section 15.5.15).
    pub(super) const fn line_too_long() -> Self {
        Self {
            status: StatusCode::URI_TOO_LONG,
            reason: "request line too long",
        }
    }

    /// 417: an expectation that nobody here can meet (RFC 9110 section 10.1.1).
    pub(super) const fn expectation() -> Self {
        Self {
            status: StatusCode::EXPECTATION_FAILED,
            reason: "unknown expectation",
        }
    }

    /// 421: a target that cannot be asked for on this connection (RFC 9110 section 15.5.20).
    pub(super) const fn misdirected(reason: &'static str) -> Self {
        Self {
            status: StatusCode::MISDIRECTED_REQUEST,
            reason,
        }
    }

    /// 431: a field, or all of them together, too large (RFC 6585 section 5).
    pub(super) const fn fields_too_large(reason: &'static str) -> Self {
        Self {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            reason,
        }
    }

    /// 501: a method or a transfer coding that this server lacks (RFC 9110 section 15.6.2).
    pub(super) const fn not_implemented(reason: &'static str) -> Self {
        Self {
            status: StatusCode::NOT_IMPLEMENTED,
            reason,
        }
    }

    /// 505: another protocol version (RFC 9110 section 15.6.6).
    pub(super) const fn version(reason: &'static str) -> Self {
        Self {
            status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            reason,
        }
    }
}
