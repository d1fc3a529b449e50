//! Defines settings whose value is one of a few words.

use super::error::Problem;
use super::text::choice;

/// A value that has a word.
pub trait Choice: Copy + PartialEq + Sized + 'static {
    /// Every value with its word.
    const ALL: &'static [(Self, &'static str)];
    /// What the values are, and all words, for an error.
    const EXPECTED: &'static str;

    /// The word of this value.
    #[must_use]
    fn word(self) -> &'static str {
        let mut all = Self::ALL.iter();
        all.find(|(value, _)| *value == self)
            .map_or("", |(_, word)| word)
    }
}

/// Defines an enumeration whose values have words.
macro_rules! choices {
    ($(#[$meta:meta])* $name:ident, $expected:literal {
        $($(#[$value_meta:meta])* $value:ident = $word:literal),* $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$value_meta])* $value),*
        }

        impl $crate::config::choice::Choice for $name {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$value, $word)),*];
            const EXPECTED: &'static str = $expected;
        }
    };
}
pub(super) use choices;

/// A field of a `T` that holds a choice, whichever it is.
pub(super) trait Field<T>: Sync {
    /// Keeps the value that has this word, in any case.
    fn store(&self, target: &mut T, text: &str) -> Result<(), Problem>;
    /// The word of the value that is kept.
    fn word(&self, target: &mut T) -> &'static str;
    /// Every word.
    fn words(&self) -> Vec<&'static str>;
}

/// The field that this function leads to.
pub(super) struct At<T, V>(pub(super) fn(&mut T) -> &mut V);

impl<T, V: Choice> Field<T> for At<T, V> {
    fn store(&self, target: &mut T, text: &str) -> Result<(), Problem> {
        *(self.0)(target) = choice(text, V::ALL, V::EXPECTED)?;
        Ok(())
    }

    fn word(&self, target: &mut T) -> &'static str {
        (self.0)(target).word()
    }

    fn words(&self) -> Vec<&'static str> {
        V::ALL.iter().map(|(_, word)| *word).collect()
    }
}
