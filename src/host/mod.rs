//! Defines the host: what turns an artefact into an app that answers requests.
//!
//! Linking is done once, when an app is loaded; a request costs a store, an instance and a call.
//! Invariant: a store is made in `store` and nowhere else, so that is the one place where a guest
//! gets its rights and its limits.

mod buffered;
mod component;
mod engine;
mod error;
mod exchange;
mod guest_log;
mod linker;
mod outbound;
mod resolver;
mod store;
mod streaming;
mod usage;

pub use component::{Described, World, describe};
pub use engine::{Compiler, Pool, VERSION};
pub use error::{Failure, LoadError};
pub use exchange::{Exchange, RequestBody, ResponseBody};
pub use outbound::Client;
pub use store::TICK;
pub use usage::Usage;

use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;

use wasmtime::component::InstancePre;

use crate::config;
use store::{Guest, Rights};

/// The wasm runtime of one worker: an engine and what every component may import.
pub struct Host {
    engine: wasmtime::Engine,
    linker: wasmtime::component::Linker<Guest>,
    client: Client,
}

/// An app that is ready to answer: its component is linked, its rights and limits are known.
pub struct App {
    dispatch: Dispatch,
    engine: wasmtime::Engine,
    rights: Arc<Rights>,
}

/// How a request reaches a guest: one variant for each world.
enum Dispatch {
    Buffered(buffered::Handler),
    Streaming(streaming::Handler),
}

impl Dispatch {
    fn new(world: World, pre: InstancePre<Guest>) -> Result<Self, LoadError> {
        match world {
            World::Buffered => buffered::Handler::new(pre).map(Self::Buffered),
            World::Streaming => streaming::Handler::new(pre).map(Self::Streaming),
        }
    }
}

impl Host {
    /// Makes the runtime of this process, with room for `pool` instances.
    ///
    /// # Errors
    /// When the address space for the pool cannot be reserved or the CPU is not supported.
    pub fn new(pool: &Pool) -> Result<Self, LoadError> {
        let engine = engine::for_serving(pool)?;
        let linker = linker::everything(&engine)?;
        Ok(Self {
            engine,
            linker,
            client: Client::new(),
        })
    }

    /// The engine's clock: each call lets the running guest be looked at once more. Async-signal-safe.
    pub fn ticker(&self) -> impl Fn() + Send + Sync + 'static {
        let engine = self.engine.clone();
        move || engine.increment_epoch()
    }

    /// Makes an app of an artefact.
    ///
    /// `artefact` must have come from our loader: it is native code.
    ///
    /// # Errors
    /// When the artefact is of another build, or cannot be linked.
    pub fn load(&self, app: &config::App, artefact: BorrowedFd<'_>) -> Result<Rc<App>, LoadError> {
        let component = engine::map_artefact(&self.engine, artefact)?;
        let world = component::world_of(&self.engine, &component)?;
        let pre = linker::link(&self.linker, &component)?;
        Ok(Rc::new(App {
            dispatch: Dispatch::new(world, pre)?,
            engine: self.engine.clone(),
            rights: Rights::new(app, self.client.clone()),
        }))
    }
}

impl App {
    /// Whether the world takes the whole request body at once.
    #[must_use]
    pub fn wants_whole_body(&self) -> bool {
        matches!(self.dispatch, Dispatch::Buffered(_))
    }

    /// Starts to answer a request in a new instance; nothing runs until the exchange is polled.
    /// `held` is let go when the guest has returned and its instance is gone, however long the
    /// response then takes to reach the client. `usage` is told what the instance takes.
    #[must_use]
    pub fn answer<H: 'static>(
        self: &Rc<Self>,
        request: http::Request<RequestBody>,
        held: H,
        usage: Option<Arc<Usage>>,
    ) -> Exchange {
        let app = Rc::clone(self);
        Exchange::new(move |reply| async move {
            let _held = held;
            let mut store = store::new(&app.engine, &app.rights, usage)?;
            let result = match &app.dispatch {
                Dispatch::Buffered(handler) => handler.call(&mut store, request, reply).await,
                Dispatch::Streaming(handler) => handler.call(&mut store, request, reply).await,
            };
            result.map_err(|error| store.data().explain(error))
        })
    }

    /// Makes one instance and drops it, to show that a request could be answered.
    ///
    /// # Errors
    /// When the component does not instantiate within its limits.
    pub async fn rehearse(&self) -> Result<(), Failure> {
        let mut store = store::new(&self.engine, &self.rights, None)?;
        let result = match &self.dispatch {
            Dispatch::Buffered(handler) => handler.rehearse(&mut store).await,
            Dispatch::Streaming(handler) => handler.rehearse(&mut store).await,
        };
        result.map_err(|error| store.data().explain(error))
    }
}
