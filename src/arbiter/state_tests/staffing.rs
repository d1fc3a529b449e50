//! Defines nothing.
