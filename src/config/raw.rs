//! Defines the settings as they were written, before their values are understood.
//!
//! Invariant: every value still knows where it was written, and a source's entry replaces that of
//! a source before it as a whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::Origin;
use super::setting::Setting;

/// One value as it was written.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) text: String,
    pub(super) origin: Origin,
}

/// What one source wrote for one setting.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    /// The setting as the source spells it, for errors.
    pub(super) spelling: String,
    /// One value, or those of a list.
    pub(super) values: Vec<Written>,
    /// Where the setting was written.
    pub(super) origin: Origin,
    /// The folder of relative paths.
    pub(super) base: Arc<Path>,
}

/// What was written for one app.
#[derive(Clone)]
pub(super) struct RawApp {
    pub(super) name: String,
    pub(super) origin: Origin,
    /// Whether a component was written, be it wrongly.
    pub(super) has_component: bool,
    pub(super) entries: Vec<Entry>,
}

/// Everything that was written, lowest precedence first.
#[derive(Default)]
pub(super) struct Raw {
    /// The settings file that was read, absolute.
    pub(super) file: Option<PathBuf>,
    pub(super) entries: Vec<Entry>,
    pub(super) apps: Vec<RawApp>,
}
