//! Defines the exit codes of the server.
//!
//! Invariant: the numbers are a contract with scripts, and 3 and 4 are gunicorn's.

/// What the server's exit code tells its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// Stopped because it was asked to.
    Ok = 0,
    /// Something failed that no other code is for.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A worker failed to boot before any worker was ready.
    WorkerBoot = 3,
    /// An app failed to load before any worker was ready.
    AppLoad = 4,
    /// The configuration is wrong.
    Config = 5,
    /// An address cannot be bound.
    Bind = 6,
}

impl ExitCode {
    /// The number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The code that a child asked the server to end with, if it is one of those it may ask for:
    /// 3 to 6.
    pub fn from_child(number: u8) -> Option<Self> {
        [Self::WorkerBoot, Self::AppLoad, Self::Config, Self::Bind]
            .into_iter()
            .find(|code| code.number() == number)
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_may_ask_for_3_to_6() {
        let check = |number, expect| assert_eq!(ExitCode::from_child(number), expect);
        check(0, None);
        check(1, None);
        check(2, None);
        check(3, Some(ExitCode::WorkerBoot));
        check(4, Some(ExitCode::AppLoad));
        check(5, Some(ExitCode::Config));
        check(6, Some(ExitCode::Bind));
        check(7, None);
        check(255, None);
    }
}
