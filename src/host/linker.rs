//! Defines what a component may import: the whole of WASI 0.2 and wasi:http 0.2. To import a thing
//! is not to be allowed to use it: rights are given in the store.

use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};

use super::error::LoadError;
use super::store::Guest;

/// A linker with everything that is offered.
pub(super) fn everything(engine: &Engine) -> Result<Linker<Guest>, LoadError> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)
        .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker))
        .map_err(LoadError::Engine)?;
    Ok(linker)
}

/// Resolves all imports of a component, once.
pub(super) fn link(
    linker: &Linker<Guest>,
    component: &Component,
) -> Result<InstancePre<Guest>, LoadError> {
    linker.instantiate_pre(component).map_err(|error| {
        let imported = component.component_type();
        let unknown: Vec<&str> = imported
            .imports(component.engine())
            .map(|(name, _)| name)
            .filter(|name| !is_offered(name))
            .collect();
        match unknown.is_empty() {
            true => LoadError::Link(error),
            false => LoadError::UnknownImport {
                imports: unknown.join(", "),
            },
        }
    })
}

/// Whether an import is of the interfaces that are offered, whatever it wants of them.
fn is_offered(name: &str) -> bool {
    let version = name
        .strip_prefix("wasi:")
        .and_then(|name| name.split_once('@'));
    version.is_some_and(|(_, version)| version.starts_with("0.2."))
}
