//! Defines how a variable is taken out of the environment.
//!
//! Invariant: the environment is never changed while a second thread could read it.

use std::ffi::OsString;

use super::process;

/// Takes a variable, so that a program started later does not inherit it.
///
/// In a process with several threads it stays where it is: what is read here is the same.
pub(super) fn take(name: &str) -> Option<OsString> {
    let value = std::env::var_os(name)?;
    if matches!(process::thread_count(), Ok(1)) {
        // SAFETY: there is no other thread that could read the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
    Some(value)
}
