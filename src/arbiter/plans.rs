//! Defines how the driver keeps plans: the one that is carried out, and during a reload the next.
//!
//! Invariant: a listener that two plans have in common is never closed between them, and one that
//! only a discarded plan had leaves no socket file behind.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use tracing::warn;

use super::event::Event;
use super::perform::Driver;
use super::plan::{Open, Plan};
use super::usher::Usher;
use crate::sys::file_watch::FileWatch;

/// A plan with what its loader has made for it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) plan: Plan,
    /// By number of the app.
    pub(super) artefacts: BTreeMap<u32, OwnedFd>,
    /// How its workers accept, if they agree on it.
    pub(super) usher: Option<Usher>,
}

impl Loaded {
    /// A plan whose loader has not handed over anything yet. Fails for want of memory or descriptors.
    pub(super) fn new(plan: Plan) -> io::Result<Self> {
        Ok(Self {
            usher: Usher::new(&plan)?,
            plan,
            artefacts: BTreeMap::new(),
        })
    }
}

impl Driver {
    /// Reads the configuration again.
    pub(super) fn prepare(&mut self, number: u32) {
        let current = self.plans.values().next();
        let made = match (&self.surroundings.plan_again, current) {
            (Some(plan_again), Some(current)) => plan_again(&current.plan).and_then(|plan| {
                let settings = plan.settings().map_err(|error| error.to_string())?;
                let mut before = current.plan.listeners();
                let abandons = before.any(|(key, _)| !plan.listens_on(key));
                let loaded = Loaded::new(plan).map_err(|error| error.to_string())?;
                Ok((loaded, settings, abandons))
            }),
            _ => Err("this server does not know how to read its configuration again".to_owned()),
        };
        match made {
            Ok((mut loaded, settings, abandons)) => {
                self.family
                    .access_logs
                    .keep(number, loaded.plan.access_log.take());
                self.plans.insert(number, loaded);
                self.events
                    .push_back(Event::Prepared { settings, abandons });
            }
            Err(reason) => self.events.push_back(Event::Unprepared { reason }),
        }
    }

    /// Makes `number` the only plan.
    pub(super) fn adopt(&mut self, number: u32) {
        let newer = self.plans.split_off(&number);
        let older = std::mem::replace(&mut self.plans, newer);
        for (_, before) in older {
            self.unlink_all_but(before.plan, number);
        }
        self.close_access_logs();
        self.watch_files(number);
    }

    pub(super) fn discard(&mut self, number: u32) {
        if let Some(loaded) = self.plans.remove(&number) {
            let current = self.plans.keys().next().copied().unwrap_or(0);
            self.unlink_all_but(loaded.plan, current);
        }
        self.close_access_logs();
    }

    /// Closes the listeners of `plan`; those that the plan of generation `kept` has too stay open
    /// there.
    fn unlink_all_but(&self, plan: Plan, kept: u32) {
        let kept = self.plans.get(&kept);
        for Open { key, listener, .. } in plan.listeners {
            if kept.is_none_or(|kept| !kept.plan.listens_on(&key))
                && let Err(error) = listener.unlink()
            {
                warn!(
                    "role=arbiter cannot remove {}: {error}",
                    listener.local_address()
                );
            }
        }
    }

    pub(super) fn close_listeners(&mut self, unlink: bool) {
        for loaded in self.plans.values_mut() {
            loaded.usher = None;
            for Open { listener, .. } in loaded.plan.listeners.drain(..) {
                if unlink && let Err(error) = listener.unlink() {
                    warn!(
                        "role=arbiter cannot remove {}: {error}",
                        listener.local_address()
                    );
                }
            }
        }
    }

    pub(super) fn watch_files(&mut self, number: u32) {
        let files = self
            .plans
            .get(&number)
            .map(|loaded| &loaded.plan.watched_files[..]);
        let before = self.files.take();
        self.files = match files {
            None | Some([]) => None,
            Some(files) => match FileWatch::new(files) {
                Ok(watch) => Some(watch),
                Err(error) => {
                    warn!("role=arbiter cannot watch files, so --reload does nothing: {error}");
                    None
                }
            },
        };
        // What it has seen while the next was being made.
        if let Some(Ok(true)) = before.as_ref().map(FileWatch::changed) {
            self.events.push_back(Event::FilesChanged);
        }
    }

    pub(super) fn hear_files(&mut self) {
        match self.files.as_ref().map_or(Ok(false), FileWatch::changed) {
            Ok(true) => {
                // Folders and links on the way may be others now.
                self.watch_files(self.state.generation());
                self.feed(Event::FilesChanged);
            }
            Ok(false) => {}
            Err(error) => {
                warn!("role=arbiter cannot watch files any more: {error}");
                self.files = None;
            }
        }
    }
}
