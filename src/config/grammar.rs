//! Defines settings whose value is one text with a grammar of its own, known to whoever made it.

use std::path::Path;

use super::error::Problem;

/// A field of a `T` that is read from a text and shown as one.
pub(super) trait Field<T>: Sync {
    /// Keeps what the text means; paths are from `base`.
    fn store(&self, target: &mut T, text: &str, base: &Path) -> Result<(), Problem>;
    /// A text that means what is kept.
    fn show(&self, target: &mut T) -> String;
}

/// The field that a function leads to, with its grammar.
pub(super) struct In<T, V> {
    pub(super) at: fn(&mut T) -> &mut V,
    pub(super) parse: fn(&str, &Path) -> Result<V, Problem>,
    pub(super) show: fn(&V) -> String,
}

impl<T, V> Field<T> for In<T, V> {
    fn store(&self, target: &mut T, text: &str, base: &Path) -> Result<(), Problem> {
        *(self.at)(target) = (self.parse)(text, base)?;
        Ok(())
    }

    fn show(&self, target: &mut T) -> String {
        (self.show)((self.at)(target))
    }
}
