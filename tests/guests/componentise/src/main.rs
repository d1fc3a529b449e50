//! Turns core modules with an embedded component type, as cargo leaves them, into components.
//!
//! `componentise FROM TO [FROM TO]...`: FROM is a core module (`.wasm`) or text (`.wat`). Text that
//! is a component already, and a core module without a component type, is written as it is, in
//! binary. Files that are up to date are left alone.

use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::ComponentEncoder;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    if arguments.is_empty() || arguments.len() % 2 != 0 {
        bail!("usage: componentise FROM TO [FROM TO]...");
    }
    for pair in arguments.chunks_exact(2) {
        let (from, to) = (Path::new(&pair[0]), Path::new(&pair[1]));
        convert(from, to)
            .with_context(|| format!("cannot make {} from {}", to.display(), from.display()))?;
    }
    Ok(())
}

fn convert(from: &Path, to: &Path) -> Result<()> {
    let bytes = if from.extension().is_some_and(|extension| extension == "wat") {
        wat::parse_file(from)?
    } else {
        componentise(&fs::read(from)?)?
    };
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::write(to, &bytes)?;
    println!("    {} ({} bytes)", to.display(), bytes.len());
    Ok(())
}

/// The adapter serves modules that were built against preview 1 and is left out of all others.
fn componentise(module: &[u8]) -> Result<Vec<u8>> {
    let component = ComponentEncoder::default()
        .validate(true)
        .adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        )?
        .module(module)?
        .encode()?;
    Ok(component)
}
