//! Defines the engine's settings, once for whoever compiles and whoever serves, and the one place
//! where native code is taken from a file.

use std::hash::{Hash, Hasher};
use std::os::fd::{AsRawFd, BorrowedFd};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, ModuleVersionStrategy,
    PoolingAllocationConfig, WasmBacktraceDetails,
};

use super::error::LoadError;
use super::{Dispatch, component, linker};

/// Version of the artefacts: wasmtime's with its patch level, since a patch may mend the compiler,
/// and ours, since what the loader checks is part of what an artefact says.
pub const VERSION: &str = concat!("wasmtime-48.0.8+rgunicorn-", env!("CARGO_PKG_VERSION"));

/// Largest image of initial memory that is mapped copy-on-write although it is sparse, in bytes.
/// Interpreters carry some 10 MB of data in thousands of segments; above wasmtime's default of
/// 16 MiB they would be copied segment by segment for every instance.
const DENSE_IMAGE_BYTES: u64 = 128 << 20;

/// Elements of one table; CPython's has about 10 000.
const TABLE_ELEMENTS: usize = 32 << 10;

/// Core instances, memories and tables that one component instance may consist of. CPython's
/// component has 14 core modules.
const CORE_INSTANCES_EACH: u32 = 64;
const MEMORIES_EACH: u32 = 4;
const TABLES_EACH: u32 = 32;

/// What the instances of one worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Most instances at the same time.
    pub instances: u32,
    /// Largest linear memory of any app, in bytes.
    pub memory_bytes: u64,
}

fn settings() -> Result<Config, LoadError> {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .memory_may_move(false)
        .memory_guaranteed_dense_image_size(DENSE_IMAGE_BYTES)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .module_version(ModuleVersionStrategy::Custom(VERSION.to_owned()))
        .map_err(LoadError::Engine)?;
    Ok(config)
}

/// An engine for a worker: instances come from a pool that is reserved once.
pub(super) fn for_serving(pool: &Pool) -> Result<Engine, LoadError> {
    let instances = pool.instances;
    let memory_bytes = usize::try_from(pool.memory_bytes).unwrap_or(usize::MAX);
    let mut pooling = PoolingAllocationConfig::default();
    pooling
        .total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_EACH))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(8))
        .total_stacks(instances)
        .total_gc_heaps(instances)
        .max_core_instances_per_component(CORE_INSTANCES_EACH)
        .max_memories_per_component(MEMORIES_EACH)
        .max_tables_per_component(TABLES_EACH)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(memory_bytes)
        .max_unused_warm_slots(instances)
        // No part of a linear memory is kept and wiped (`linear_memory_keep_resident`): a guest uses a
        // few pages here and there, and wiping all between them costs more than their faults.
        .table_keep_resident(64 << 10)
        // A page of an earlier request that was swapped out escapes the scan in this release, so
        // the next tenant could see it: never, until upstream has mended it.
        .pagemap_scan(Enabled::No);
    let mut config = settings()?;
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling))
        .enable_compiler(false);
    Engine::new(&config).map_err(LoadError::Engine)
}

/// Maps an artefact of our loader: one copy of its code is shared by all who map it.
#[allow(unsafe_code, reason = "mapping native code is what a worker is for")]
pub(super) fn map_artefact(
    engine: &Engine,
    artefact: BorrowedFd<'_>,
) -> Result<Component, LoadError> {
    let path = format!("/proc/self/fd/{}", artefact.as_raw_fd());
    // SAFETY: the descriptor was handed over by our loader, which made the content with
    // `Compiler::compile` or found it in a folder that only our user can write; it is sealed, or
    // only ever replaced by rename, so the mapping does not change under us.
    unsafe { Component::deserialize_file(engine, path) }.map_err(LoadError::Artefact)
}

/// The compiler, for the loader: it never runs in a process that serves.
pub struct Compiler {
    engine: Engine,
}

impl Compiler {
    /// A compiler whose artefacts the engines of workers accept.
    ///
    /// # Errors
    /// When the CPU is not supported.
    pub fn new() -> Result<Self, LoadError> {
        Ok(Self {
            engine: Engine::new(&settings()?).map_err(LoadError::Engine)?,
        })
    }

    /// Name under which the artefact of these bytes may be kept: it differs when the component, the
    /// compiler, its settings, the CPU's features or this program differ.
    #[must_use]
    pub fn key(&self, component: &[u8]) -> String {
        let mut settings = Fingerprint(Sha256::new());
        self.engine
            .precompile_compatibility_hash()
            .hash(&mut settings);
        let digest = Sha256::new()
            .chain_update(VERSION)
            .chain_update([0])
            .chain_update(settings.0.finalize())
            .chain_update(component)
            .finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether an artefact is whole, as far as can be seen without reading its code.
    ///
    /// `artefact` must have come from our loader: it is native code.
    #[must_use]
    pub fn accepts(&self, artefact: BorrowedFd<'_>) -> bool {
        map_artefact(&self.engine, artefact).is_ok()
    }

    /// Compiles a component, and links it to see that a worker could.
    ///
    /// # Errors
    /// When it is not valid, exports no world that is served, or imports what is not offered.
    pub fn compile(&self, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
        let component = Component::from_binary(&self.engine, bytes).map_err(LoadError::Compile)?;
        let world = component::world_of(&self.engine, &component)?;
        Dispatch::new(
            world,
            linker::link(&linker::everything(&self.engine)?, &component)?,
        )?;
        component.serialize().map_err(LoadError::Compile)
    }
}

/// Feeds whatever is hashed to SHA-256, so that a key is the same in every process.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Never asked for: the digest is taken whole.
    fn finish(&self) -> u64 {
        0
    }
}
