//! Defines what the service manager is told, in the words of sd_notify(3).
//!
//! Invariant: without a service manager nothing is said, and nothing that goes wrong here concerns
//! the server.

use super::action::Notice;
use super::log::Who;
use crate::sys::systemd::{self, State};

/// What a service manager has been told so far.
#[derive(Debug, Default)]
pub(super) struct ServiceManager {
    /// The main process is another one: what this one does is no news of the service.
    handed_over: bool,
}

impl ServiceManager {
    /// The first worker is ready.
    pub(super) fn ready(&self) {
        systemd::notify(&[State::Ready]);
    }

    /// A line for `systemctl status`.
    pub(super) fn status(&self, text: &str) {
        if !self.handed_over {
            systemd::notify(&[State::Status(text)]);
        }
    }

    /// The arbiter lives.
    pub(super) fn pet_watchdog(&self) {
        systemd::notify(&[State::Watchdog]);
    }

    /// Tells what is news to a service manager.
    pub(super) fn observe(&mut self, notice: &Notice, who: Option<&Who>) {
        match notice {
            Notice::Reloading(_) => systemd::notify(&[State::Reloading]),
            Notice::Generation(_) | Notice::ReloadFailed(..) => systemd::notify(&[State::Ready]),
            Notice::HandingOver(_) => {
                if let Some(pid) = who.and_then(|who| who.pid) {
                    systemd::notify(&[State::MainPid(pid)]);
                }
                self.handed_over = true;
            }
            // The successor is lost after all.
            Notice::UpgradeFailed(..) => {
                self.handed_over = false;
                systemd::notify(&[State::MainPid(crate::sys::process::own_pid())]);
            }
            Notice::Stopping(_) if !self.handed_over => systemd::notify(&[State::Stopping]),
            _ => {}
        }
    }
}
