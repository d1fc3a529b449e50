//! Defines which worlds are served, how one is recognised, and what a component says of itself.

use wasmtime::Engine;
use wasmtime::component::Component;
use wit_component::DecodedWasm;
use wit_parser::{Resolve, WorldId, WorldItem, WorldKey};

use super::error::LoadError;

/// A world that is served, recognised by what the component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// `rgunicorn:http/handler@0.1`: the whole request in, the whole response out.
    Buffered,
    /// `wasi:http/incoming-handler@0.2`: both bodies are streams.
    Streaming,
}

impl World {
    /// Our own world comes first: a component that exports both is served the faster way.
    const ALL: [(Self, &'static str); 2] = [
        (Self::Buffered, "rgunicorn:http/handler@0.1."),
        (Self::Streaming, "wasi:http/incoming-handler@0.2."),
    ];

    /// The export by which it is known, without the patch version.
    #[must_use]
    pub fn export(self) -> &'static str {
        match self {
            Self::Buffered => "rgunicorn:http/handler@0.1",
            Self::Streaming => "wasi:http/incoming-handler@0.2",
        }
    }

    fn among<'a>(exports: impl Iterator<Item = &'a str> + Clone) -> Result<Self, LoadError> {
        Self::ALL
            .into_iter()
            .find(|(_, prefix)| exports.clone().any(|name| name.starts_with(prefix)))
            .map(|(world, _)| world)
            .ok_or_else(|| LoadError::UnknownWorld {
                exports: list(exports),
            })
    }
}

/// The world that a compiled component is served by.
pub(super) fn world_of(engine: &Engine, component: &Component) -> Result<World, LoadError> {
    let exported = component.component_type();
    let names: Vec<&str> = exported.exports(engine).map(|(name, _)| name).collect();
    World::among(names.iter().copied())
}

/// A component as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The component's bytes: the file's, or what was made of a core module.
    pub bytes: Vec<u8>,
    /// What it exports, by name and version.
    pub exports: Vec<String>,
    /// What it imports, by name and version.
    pub imports: Vec<String>,
}

impl Described {
    /// The world that it is served by.
    ///
    /// # Errors
    /// When it exports none that is served.
    pub fn world(&self) -> Result<World, LoadError> {
        World::among(self.exports.iter().map(String::as_str))
    }
}

/// Reads what a file says of itself, without compiling it. A core module that carries its world is
/// made a component first.
///
/// # Errors
/// When it is no WebAssembly, not valid, or a core module that does not say its world.
pub fn describe(file: Vec<u8>) -> Result<Described, LoadError> {
    let bytes = match file.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => file,
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => componentize(&file)?,
        Some([0, b'a', b's', b'm', ..]) => {
            return Err(LoadError::NotWasm("unknown version".to_owned()));
        }
        Some(_) | None => {
            return Err(LoadError::NotWasm(
                "it does not start with the wasm magic number".to_owned(),
            ));
        }
    };
    let decoded =
        wit_component::decode(&bytes).map_err(|error| LoadError::NotWasm(format!("{error:#}")))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(LoadError::NotWasm(
            "it is a package of interfaces, which holds no code".to_owned(),
        ));
    };
    let (exports, imports) = names(&resolve, world);
    Ok(Described {
        bytes,
        exports,
        imports,
    })
}

fn names(resolve: &Resolve, world: WorldId) -> (Vec<String>, Vec<String>) {
    let world = &resolve.worlds[world];
    let all = |items: &mut dyn Iterator<Item = (&WorldKey, &WorldItem)>| {
        items.map(|(key, _)| resolve.name_world_key(key)).collect()
    };
    (
        all(&mut world.exports.iter()),
        all(&mut world.imports.iter()),
    )
}

/// Makes a component of a core module that carries component-type metadata.
fn componentize(module: &[u8]) -> Result<Vec<u8>, LoadError> {
    let exports = core_exports(module)?;
    if !exports
        .iter()
        .any(|name| name.contains('#') || name.starts_with("cm32p2|"))
    {
        return Err(LoadError::CoreModule {
            exports: list(exports.iter().map(String::as_str)),
        });
    }
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| {
            LoadError::NotWasm(format!(
                "the core module cannot be made a component: {error:#}"
            ))
        })
}

fn core_exports(module: &[u8]) -> Result<Vec<String>, LoadError> {
    let mut names = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(module) {
        let payload = payload.map_err(|error| LoadError::NotWasm(error.to_string()))?;
        if let wasmparser::Payload::ExportSection(section) = payload {
            for export in section {
                names.push(
                    export
                        .map_err(|error| LoadError::NotWasm(error.to_string()))?
                        .name
                        .to_owned(),
                );
            }
        }
    }
    Ok(names)
}

/// Names for a message: few enough to read.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 8;
    let names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(SHOWN);
    match (names.is_empty(), more) {
        (true, _) => "nothing".to_owned(),
        (false, 0) => names.join(", "),
        (false, _) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}
