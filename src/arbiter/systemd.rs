//! Defines what the service manager is told, in the words of sd_notify(3).
//!
//! Invariant: only the server that is the service speaks, so of an upgrade's two servers never both;
//! and without a service manager nothing is said.

use super::action::Notice;
use super::log::Who;
use crate::sys::process::Pid;
use crate::sys::systemd::{self, State};

/// What a service manager has been told so far.
#[derive(Debug)]
pub(super) struct ServiceManager {
    /// Whether the server that started this one is the service still.
    beside_predecessor: bool,
    /// Who is the service when this server has left.
    heir: Option<Pid>,
}

impl ServiceManager {
    /// Nothing has been told yet.
    pub(super) fn new(beside_predecessor: bool) -> Self {
        Self {
            beside_predecessor,
            heir: None,
        }
    }

    /// The server serves: its first worker is ready, or it is the service from now on.
    pub(super) fn ready(&self) {
        self.tell(State::Ready);
    }

    /// The server that started this one has left.
    pub(super) fn promote(&mut self) {
        self.beside_predecessor = false;
        self.ready();
    }

    /// A line for `systemctl status`.
    pub(super) fn status(&self, text: &str) {
        self.tell(State::Status(text));
    }

    /// The arbiter lives.
    pub(super) fn pet_watchdog(&self) {
        self.tell(State::Watchdog);
    }

    /// Tells what is news to a service manager.
    pub(super) fn observe(&mut self, notice: &Notice, who: Option<&Who>) {
        if let Notice::HandingOver(_) = notice {
            self.heir = who.and_then(|who| who.pid);
        } else if let Notice::UpgradeFailed(..) | Notice::SuccessorLeft(_) = notice {
            self.heir = None;
        } else if let Notice::Reloading(_) = notice {
            self.tell(State::Reloading);
        } else if let Notice::Generation(_) | Notice::ReloadFailed(..) = notice {
            self.tell(State::Ready);
        } else if let Notice::Stopping(_) = notice
            && self.heir.is_none()
        {
            self.tell(State::Stopping);
        } else if let (Notice::Stopped(_), Some(heir)) = (notice, self.heir) {
            // Not before: until now this server might have had to go on.
            self.tell(State::MainPid(heir));
        }
    }

    fn tell(&self, state: State<'_>) {
        if !self.beside_predecessor {
            systemd::notify(&[state]);
        }
    }
}
