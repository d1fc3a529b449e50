//! Defines waiting by the clock.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use nix::errno::Errno;
use nix::poll::{PollTimeout, poll};

/// Lets time go by: there are things that only the clock says.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let timeout = PollTimeout::try_from(left + Duration::from_millis(1))?;
        match poll(&mut [], timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => bail!("cannot wait: {error}"),
        }
    }
}
