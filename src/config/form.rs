//! Defines how the values of a setting are written in its sources.
//!
//! Invariant: a form says what the settings file may have in a place, and nothing about ranges.

/// How a setting's values are written in a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `true` or `false`; on the command line the bare option means `true`.
    Flag,
    Integer,
    IntegerOrText,
    NumberOrText,
    /// An octal number: text, or a TOML number that says so itself, such as 0o22.
    Octal,
    Text,
    List,
    Pairs,
}

impl Form {
    /// Whether the setting holds any number of values.
    pub(super) fn is_list(self) -> bool {
        matches!(self, Self::List | Self::Pairs)
    }

    /// What the settings file may have there, for an error.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Flag => "true or false",
            Self::Integer => "a whole number",
            Self::IntegerOrText => "a whole number or a string",
            Self::NumberOrText => "a number of seconds or a string such as \"250ms\"",
            Self::Octal => "a string such as \"022\" or an octal number such as 0o22",
            Self::Text => "a string",
            Self::List => "a list of strings",
            Self::Pairs => "a table or a list of strings such as \"KEY=VALUE\"",
        }
    }
}
