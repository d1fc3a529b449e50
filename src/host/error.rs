//! Defines what can go wrong: while an app is loaded, and while it answers a request.

use std::time::Duration;

/// Why a component cannot be served. The text goes to whoever deploys it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is no WebAssembly.
    #[error("not a WebAssembly component: {0}")]
    NotWasm(String),
    /// A core module without the metadata that would let it become a component.
    #[error(
        "a core module without component metadata, which exports {exports}; build it for a component target, \
         such as wasm32-wasip2, or with a binding generator that embeds its world"
    )]
    CoreModule {
        /// What it exports.
        exports: String,
    },
    /// No export is of a world that we serve.
    #[error(
        "exports {exports}, but rgunicorn:http/handler@0.1 or wasi:http/incoming-handler@0.2 is wanted; build it \
         for one of these worlds"
    )]
    UnknownWorld {
        /// What it exports.
        exports: String,
    },
    /// An import that nothing here offers.
    #[error(
        "imports {imports}, which is not offered; only the interfaces of WASI 0.2 and wasi:http 0.2 are"
    )]
    UnknownImport {
        /// What it imports.
        imports: String,
    },
    /// An import or export that does not have the type that is wanted.
    #[error("cannot be linked: {}", one_line(.0))]
    Link(wasmtime::Error),
    /// The component is not valid, or the compiler refused it.
    #[error("cannot be compiled: {}", one_line(.0))]
    Compile(wasmtime::Error),
    /// The runtime could not be made.
    #[error("cannot start the wasm runtime: {}", one_line(.0))]
    Engine(wasmtime::Error),
    /// The artefact was made by another build.
    #[error("cannot use the compiled artefact: {}", one_line(.0))]
    Artefact(wasmtime::Error),
}

/// An error and its causes on one line.
pub(super) fn one_line(error: &wasmtime::Error) -> String {
    format!("{error:#}")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

/// Why a request got no answer of its app. The text is for the log and never for the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The guest trapped, or a host function refused what it did.
    #[error("trap: {0}")]
    Trap(String),
    /// The guest asked for more memory than its limit, and then trapped.
    #[error("memory limit of {limit_bytes} bytes reached: {trap}")]
    Memory {
        /// The limit.
        limit_bytes: u64,
        /// The trap that followed.
        trap: String,
    },
    /// The guest used up its CPU time.
    #[error("cpu limit of {0:?} reached")]
    Cpu(Duration),
    /// The guest returned without an answer.
    #[error("the guest returned without a response")]
    NoResponse,
    /// The guest answered with a wasi:http error code.
    #[error("the guest answered with an error: {0}")]
    ErrorCode(String),
    /// The answer cannot be sent as HTTP.
    #[error("the guest's response is not valid: {0}")]
    BadResponse(&'static str),
    /// All instances of this worker are in use.
    #[error("no instance is free")]
    Exhausted,
    /// A right that the app was given cannot be given now.
    #[error("cannot set up the guest: {0}")]
    Rights(String),
}

impl Failure {
    /// The status that the client gets, if nothing was sent to it yet.
    #[must_use]
    pub fn status(&self) -> http::StatusCode {
        match self {
            Self::Cpu(_) => http::StatusCode::GATEWAY_TIMEOUT,
            Self::Exhausted => http::StatusCode::SERVICE_UNAVAILABLE,
            Self::Trap(_)
            | Self::Memory { .. }
            | Self::NoResponse
            | Self::ErrorCode(_)
            | Self::BadResponse(_)
            | Self::Rights(_) => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
