//! Defines the store of one request: the only place where a guest gets its rights and its limits.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime::{
    Engine, PoolConcurrencyLimitError, ResourceLimiter, Store, UpdateDeadline, WasmBacktrace,
};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::error::Failure;
use super::guest_log::{GuestLog, StreamName};
use super::outbound::{Client, Hooks, Outbound};
use super::usage::Usage;
use crate::config;

/// CPU time between two looks at a running guest. It bounds how long a guest holds up the others of
/// its worker, and is the grain of `cpu-timeout`.
pub const TICK: Duration = Duration::from_millis(10);

/// Elements that all tables of one guest may hold.
const TABLE_ELEMENTS: usize = 1 << 20;
/// Host objects (streams, files, requests ...) that one guest may hold.
const RESOURCES: usize = 4096;
/// Longest description of a trap that is logged, in bytes.
const TRAP_TEXT_BYTES: usize = 4096;

/// What the instances of an app may do and use.
pub(super) struct Rights {
    name: Arc<str>,
    env: Vec<(String, String)>,
    dirs: Vec<config::Dir>,
    outbound: Arc<Outbound>,
    memory_bytes: u64,
    cpu: Duration,
    log_bytes: u64,
}

impl Rights {
    pub(super) fn new(app: &config::App, client: Client) -> Arc<Self> {
        Arc::new(Self {
            name: app.name.as_str().into(),
            env: app.env.clone(),
            dirs: app.dirs.clone(),
            outbound: Arc::new(Outbound::new(app.outbound.clone(), client)),
            memory_bytes: app.limits.memory,
            cpu: app.limits.cpu_timeout,
            log_bytes: app.limits.guest_log,
        })
    }

    fn wasi(&self) -> Result<WasiCtx, Failure> {
        let budget = Arc::new(AtomicU64::new(self.log_bytes));
        let log = |stream| GuestLog::new(Arc::clone(&self.name), stream, Arc::clone(&budget));
        let mut builder = WasiCtxBuilder::new();
        builder
            .envs(&self.env)
            .stdout(log(StreamName::Stdout))
            .stderr(log(StreamName::Stderr))
            // A pool of threads for files would cost more than it brings: see ARCHITECTURE.md.
            .allow_blocking_current_thread(true)
            .allow_ip_name_lookup(false)
            .allow_tcp(false)
            .allow_udp(false);
        for dir in &self.dirs {
            let permissions = if dir.read_only {
                FsPerms::ReadOnly
            } else {
                FsPerms::ReadWrite
            };
            builder
                .preopened_dir(&dir.host, &dir.guest, permissions)
                .map_err(|error| {
                    Failure::Rights(format!("dir {}: {error:#}", dir.host.display()))
                })?;
        }
        Ok(builder.build())
    }
}

/// Makes the store of one request.
pub(super) fn new(
    engine: &Engine,
    rights: &Arc<Rights>,
    usage: Option<Arc<Usage>>,
) -> Result<Store<Guest>, Failure> {
    let begun = usage.as_ref().map(|_| Instant::now());
    let mut table = ResourceTable::new();
    table.set_max_capacity(RESOURCES);
    let guest = Guest {
        table,
        wasi: rights.wasi()?,
        http: WasiHttpCtx::new(),
        hooks: Hooks(Arc::clone(&rights.outbound)),
        ticks_left: ticks(rights.cpu),
        use_of: Use {
            memory_bytes: 0,
            memory_limit: rights.memory_bytes,
            elements: 0,
            denied: false,
            usage,
        },
        begun,
        rights: Arc::clone(rights),
        out_of_cpu: false,
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.use_of);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| Ok(store.data_mut().tick()));
    Ok(store)
}

/// Ticks that a guest may be found running at. One more than the time holds, since the first may
/// fall right after the start.
fn ticks(cpu: Duration) -> u64 {
    let ticks = cpu.as_millis().div_ceil(TICK.as_millis()).saturating_add(1);
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// What belongs to one guest, and goes with it.
pub(super) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    rights: Arc<Rights>,
    use_of: Use,
    /// When the store was made, if that is measured.
    begun: Option<Instant>,
    ticks_left: u64,
    out_of_cpu: bool,
}

impl Guest {
    /// Its instance is there.
    pub(super) fn made(&self) {
        if let (Some(usage), Some(begun)) = (&self.use_of.usage, self.begun) {
            usage.made(begun.elapsed());
        }
    }

    /// The guest was found running: it is charged for it, and the others get a turn.
    fn tick(&mut self) -> UpdateDeadline {
        match self.ticks_left.checked_sub(1) {
            Some(left) => {
                self.ticks_left = left;
                // Tokio's own way to yield lets the event loop look at its sockets and timers in
                // between. A plain wake-up would not: it looks only once in 61 turns of a tick each.
                UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))
            }
            None => {
                self.out_of_cpu = true;
                UpdateDeadline::Interrupt
            }
        }
    }

    /// Says why a call failed, in the terms of the limits.
    pub(super) fn explain(&self, error: wasmtime::Error) -> Failure {
        if self.out_of_cpu {
            return Failure::Cpu(self.rights.cpu);
        }
        if error.is::<PoolConcurrencyLimitError>() {
            return Failure::Exhausted;
        }
        let trap = describe(&error);
        if self.use_of.denied {
            return Failure::Memory {
                limit_bytes: self.use_of.memory_limit,
                trap,
            };
        }
        Failure::Trap(trap)
    }
}

/// The cause first, then where in the guest it was, on one line of bounded length.
fn describe(error: &wasmtime::Error) -> String {
    let backtrace = error
        .downcast_ref::<WasmBacktrace>()
        .map(ToString::to_string)
        .unwrap_or_default();
    let frames = backtrace
        .lines()
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty());
    let text = std::iter::once(error.root_cause().to_string()).chain(frames.map(str::to_owned));
    let mut text: String = text
        .collect::<Vec<_>>()
        .join("; ")
        .chars()
        .flat_map(printable)
        .collect();
    if let Some((end, _)) = text.char_indices().find(|(at, _)| *at >= TRAP_TEXT_BYTES) {
        text.truncate(end);
    }
    text
}

/// A character as it may stand in a log: a guest chooses the names of its functions.
pub(super) fn printable(character: char) -> impl Iterator<Item = char> {
    let escape = character.is_control() && character != '\t';
    let plain = (!escape).then_some(character);
    let escaped = escape
        .then(|| character.escape_default())
        .into_iter()
        .flatten();
    plain.into_iter().chain(escaped)
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.hooks,
        }
    }
}

/// What a guest has of its memory limit: the sum over all its memories.
struct Use {
    memory_bytes: u64,
    memory_limit: u64,
    elements: usize,
    denied: bool,
    usage: Option<Arc<Usage>>,
}

impl ResourceLimiter for Use {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .memory_bytes
            .saturating_add(desired.saturating_sub(current) as u64);
        if total > self.memory_limit {
            self.denied = true;
            return Ok(false);
        }
        self.memory_bytes = total;
        if let Some(usage) = &self.usage {
            usage.has_memory(total);
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .elements
            .saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS {
            return Ok(false);
        }
        self.elements = total;
        Ok(true)
    }
}
