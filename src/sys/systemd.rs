//! Defines what the server and the service manager tell each other: systemd, or whoever speaks its
//! protocol (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)).
//!
//! Invariant: without a service manager nothing happens, and nothing that one says or fails to take
//! ends the server or holds it for longer than a second.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::RawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

use super::process::{self, Pid};
use super::{environment, inherited};

/// Where the service manager listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long a notification may take: the manager's queue may be full.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// What the server may say of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State<'text> {
    /// It serves, for the first time or after a reload.
    Ready,
    /// It reads its configuration again; [`Ready`](Self::Ready) must follow, whatever comes of it.
    Reloading,
    /// It stops.
    Stopping,
    /// A line for people to read.
    Status(&'text str),
    /// That process is the server from now on.
    MainPid(Pid),
    /// It lives, see [`watchdog_interval`].
    Watchdog,
}

/// Tells the service manager all of `states` at once. Does nothing if there is none, or if it cannot
/// be reached: the server serves all the same.
pub fn notify(states: &[State<'_>]) {
    let _ = tell(states);
}

fn tell(states: &[State<'_>]) -> io::Result<()> {
    let Some(name) = std::env::var_os(SOCKET).filter(|name| !name.is_empty()) else {
        return Ok(());
    };
    send(&name, message(states)?.as_bytes())
}

fn message(states: &[State<'_>]) -> io::Result<String> {
    let mut message = String::new();
    let mut add = |state: NotifyState<'_>| {
        message.push_str(&state.to_string());
        message.push('\n');
    };
    for state in states {
        match *state {
            State::Ready => add(NotifyState::Ready),
            State::Reloading => {
                // Type=notify-reload wants to know that this is the reload it has asked for.
                add(NotifyState::Reloading);
                add(NotifyState::monotonic_usec_now()?);
            }
            State::Stopping => add(NotifyState::Stopping),
            // A second line would be another statement.
            State::Status(text) => add(NotifyState::Status(&text.replace(['\n', '\0'], " "))),
            State::MainPid(pid) => add(NotifyState::MainPid(pid.number())),
            State::Watchdog => add(NotifyState::Watchdog),
        }
    }
    Ok(message)
}

/// Not the crate's: it knows no abstract sockets, and waits for as long as the manager likes.
fn send(name: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    loop {
        match socket.send_to_addr(message, &address) {
            // A wait with a timeout is not begun again by itself after a signal (signal(7)).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            sent => return sent.map(drop),
        }
    }
}

/// The sockets that the service manager has opened for this process, with their names.
///
/// They are as they were inherited, for [`BindTo::Fd`](super::socket::BindTo::Fd) to take. The
/// variables are removed, so a second call finds nothing. To be called before the process becomes a
/// daemon, which has another number than the one that the manager means.
pub fn activated() -> Vec<(RawFd, Option<String>)> {
    let [pid, count, names] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"].map(environment::take);
    if number::<u32>(pid) != Some(process::own_pid().number()) {
        return Vec::new();
    }
    let count = number::<u16>(count).unwrap_or(0);
    let names = names.map(|names| names.to_string_lossy().into_owned());
    let mut names = names.iter().flat_map(|names| names.split(':'));
    (0..count)
        .map(|index| {
            let name = names.next().filter(|name| !name.is_empty());
            let descriptor = inherited::FIRST_DESCRIPTOR + RawFd::from(index);
            (descriptor, name.map(str::to_owned))
        })
        .collect()
}

fn number<T: std::str::FromStr>(text: Option<OsString>) -> Option<T> {
    text?.to_str()?.parse().ok()
}

/// How often to say [`State::Watchdog`]: twice in the time after which the service manager ends a
/// server that is silent. `None` if it does not watch this process.
pub fn watchdog_interval() -> Option<Duration> {
    let limit = sd_notify::watchdog_enabled()?;
    Some(limit / 2).filter(|interval| !interval.is_zero())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sys::own_process;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn set(name: &str, value: impl AsRef<OsStr>) {
        // SAFETY: `own_process` runs it in a process with one thread.
        unsafe { std::env::set_var(name, value) };
    }

    #[test]
    fn states_are_told_to_a_path_and_to_an_abstract_name() {
        own_process::run(
            &states_are_told_to_a_path_and_to_an_abstract_name,
            &[],
            || {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("notify");
                let by_path = UnixDatagram::bind(&path).unwrap();
                let name = format!("rgunicorn-test-{}", process::own_pid());
                let address = SocketAddr::from_abstract_name(&name).unwrap();
                let by_name = UnixDatagram::bind_addr(&address).unwrap();
                set(SOCKET, &path);
                notify(&[State::Ready, State::Status("2 workers\nREADY=0")]);
                assert_eq!(received(&by_path), "READY=1\nSTATUS=2 workers READY=0\n");
                set(SOCKET, format!("@{name}"));
                let pid = process::own_pid();
                notify(&[State::MainPid(pid), State::Stopping, State::Watchdog]);
                let expected = format!("MAINPID={pid}\nSTOPPING=1\nWATCHDOG=1\n");
                assert_eq!(received(&by_name), expected);
            },
        );
    }

    #[test]
    fn a_reload_is_told_with_the_time_of_the_clock_that_systemd_uses() {
        let before = super::super::clock::monotonic_ms();
        let message = message(&[State::Reloading]).unwrap();
        let after = super::super::clock::monotonic_ms();
        let time = message
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        let time: u64 = time.trim_end().parse().unwrap();
        assert!((before..=after).contains(&(time / 1000)), "{message}");
    }

    #[test]
    fn nobody_to_tell_is_no_failure_and_a_dead_manager_is_one() {
        own_process::run(
            &nobody_to_tell_is_no_failure_and_a_dead_manager_is_one,
            &[],
            || {
                // SAFETY: `own_process` runs it in a process with one thread.
                unsafe { std::env::remove_var(SOCKET) };
                tell(&[State::Ready]).unwrap();
                for (value, kind) in [
                    ("/no/such/socket", io::ErrorKind::NotFound),
                    ("vsock:2:1", io::ErrorKind::Unsupported),
                ] {
                    set(SOCKET, value);
                    assert_eq!(tell(&[State::Ready]).unwrap_err().kind(), kind);
                    notify(&[State::Ready]);
                }
            },
        );
    }

    #[test]
    fn sockets_are_taken_once_and_only_by_whom_they_are_for() {
        own_process::run(
            &sockets_are_taken_once_and_only_by_whom_they_are_for,
            &[],
            || {
                let listen = |pid: &str, count: &str, names: Option<&str>| {
                    set("LISTEN_PID", pid);
                    set("LISTEN_FDS", count);
                    if let Some(names) = names {
                        set("LISTEN_FDNAMES", names);
                    }
                    let found = activated();
                    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
                        assert_eq!(std::env::var_os(name), None);
                    }
                    assert!(activated().is_empty());
                    found
                };
                let own = process::own_pid().to_string();
                let name = |name: &str| Some(name.to_owned());
                let named = listen(&own, "3", Some("web::api"));
                assert_eq!(named, [(3, name("web")), (4, None), (5, name("api"))]);
                assert_eq!(listen(&own, "2", None), [(3, None), (4, None)]);
                assert_eq!(listen(&own, "2", Some("a")), [(3, name("a")), (4, None)]);
                for (pid, count) in [("1", "1"), ("x", "1"), (&own, "-1"), (&own, "4000000000")] {
                    assert!(listen(pid, count, None).is_empty());
                }
            },
        );
    }

    #[test]
    fn the_watchdog_watches_the_process_that_is_meant() {
        let run = |pid: Option<&str>, usec: &str, expected: Option<Duration>| {
            set("WATCHDOG_USEC", usec);
            // SAFETY: `own_process` runs it in a process with one thread.
            unsafe { std::env::remove_var("WATCHDOG_PID") };
            if let Some(pid) = pid {
                set("WATCHDOG_PID", pid);
            }
            assert_eq!(watchdog_interval(), expected);
        };
        own_process::run(&the_watchdog_watches_the_process_that_is_meant, &[], || {
            assert_eq!(watchdog_interval(), None);
            let own = process::own_pid().to_string();
            run(Some(&own), "3000000", Some(Duration::from_millis(1500)));
            run(None, "3000000", Some(Duration::from_millis(1500)));
            run(Some("1"), "3000000", None);
            run(None, "0", None);
            run(None, "soon", None);
        });
    }

    #[test]
    fn a_manager_that_does_not_listen_holds_nobody_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _silent = UnixDatagram::bind(&path).unwrap();
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to(b"x", Path::new(&path)).is_ok() {}
        let error = send(path.as_os_str(), b"READY=1\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
