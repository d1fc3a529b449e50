//! Defines what a reload cannot change.
//!
//! Invariant: which settings these are is said in the settings table alone.

use super::resolved::Config;
use super::setting::Scope;
use super::table::settings;

impl Config {
    /// The keys of the settings that are other ones in `new` and yet take effect only at the next
    /// start, in the order of the table. A reload goes on with the values of `self`, and should say
    /// so.
    #[must_use]
    pub fn restart_only_changes(&self, new: &Self) -> Vec<&'static str> {
        let (mut old, mut new) = (self.clone(), new.clone());
        let mut changed = Vec::new();
        for setting in settings().filter(|setting| setting.at_start) {
            if let Scope::Server(kind) = &setting.scope
                // Values that are shown alike are alike: what is shown is read back as it was.
                && kind.show(&mut old) != kind.show(&mut new)
            {
                changed.push(setting.key);
            }
        }
        changed
    }
}
