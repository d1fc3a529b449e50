//! Defines a bell: it rings for the process that waits for it when a connection waits on one of some
//! listeners, if it is armed; and any process that has inherited it can arm it, without waking
//! anybody.
//!
//! It is an epoll instance, which processes share when they are forked. To arm it is to ask it for
//! the listeners, and the kernel looks at once whether one is ready: no connection is missed
//! between two bells.
//!
//! Invariant: whoever arms a bell has the listeners under the same numbers as whoever has made it:
//! the kernel finds a file in an epoll instance by file and number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::socket::Listener;

/// Listeners that one call tells of.
const LISTENERS_AT_ONCE: usize = 8;

/// A bell for some listeners.
#[derive(Debug)]
pub struct Bell {
    epoll: Epoll,
    /// Whether a listener is taken out of the instance when it is disarmed.
    detaches: bool,
}

impl Bell {
    /// A bell that is not armed.
    ///
    /// A connection costs the kernel a look at every instance that has its listener, armed or not,
    /// and it allows no more than 500 that event loops watch (`path_limits` in fs/eventpoll.c). So
    /// where there are `many` bells, only the armed ones have the listeners, which makes arming
    /// dearer.
    pub fn new(many: bool) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let detaches = many;
        Ok(Self { epoll, detaches })
    }

    /// Makes it ring when a connection waits on one of `listeners`, at once if one does.
    ///
    /// Fails for want of memory, and if the kernel allows no more instances for a listener.
    pub fn arm(&self, listeners: &[Listener]) -> io::Result<()> {
        for listener in listeners {
            // Edge-triggered, so that what was heard is over: see `answer`.
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0);
            match self.epoll.modify(listener, &mut event) {
                Err(Errno::ENOENT) => match self.epoll.add(listener, event) {
                    // Another process was faster.
                    Err(Errno::EEXIST) => self.epoll.modify(listener, &mut event)?,
                    other => other?,
                },
                other => other?,
            }
        }
        Ok(())
    }

    /// Ends its ringing, for the process that waits for it; call it before accepting.
    ///
    /// The kernel keeps a listener in a list of those that are ready until it is asked for them, and
    /// as long as it is in that list, to arm the bell would not make it ring in an event loop
    /// (`ep_modify` in fs/eventpoll.c).
    pub fn answer(&self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); LISTENERS_AT_ONCE];
        loop {
            match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
                Err(Errno::EINTR) | Ok(LISTENERS_AT_ONCE) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }

    /// Makes it silent.
    pub fn disarm(&self, listeners: &[Listener]) -> io::Result<()> {
        for listener in listeners {
            let mut nothing = EpollEvent::empty();
            let done = match self.detaches {
                true => self.epoll.delete(listener),
                false => self.epoll.modify(listener, &mut nothing),
            };
            match done {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.epoll.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::sys::poll::{Watched, wait};
    use crate::sys::socket::{Address, BindTo};
    use crate::sys::{fork_lock, process};

    fn listener() -> (Listener, std::net::SocketAddr) {
        let to = BindTo::Tcp(([127, 0, 0, 1], 0).into());
        let listener = Listener::bind(&to, 16).unwrap();
        let Address::Tcp(address) = *listener.local_address() else {
            panic!("{listener:?}")
        };
        (listener, address)
    }

    fn rings(bell: &Bell) -> bool {
        wait(&mut [Watched::readable(bell.as_fd())], Some(Duration::ZERO)).unwrap() == 1
    }

    #[test]
    fn it_rings_while_it_is_armed_and_somebody_waits() {
        let _closing = fork_lock::closing();
        for many in [false, true] {
            let (one, to_one) = listener();
            let (other, to_other) = listener();
            let listeners = [one, other];
            let bell = Bell::new(many).unwrap();
            let _first = TcpStream::connect(to_one).unwrap();
            assert!(!rings(&bell), "it was never armed");
            bell.disarm(&listeners).unwrap();
            bell.arm(&listeners).unwrap();
            assert!(rings(&bell), "somebody waited before it was armed");
            let accepted = listeners[0].accept().unwrap();
            assert!(accepted.is_some() && !rings(&bell));
            let _second = TcpStream::connect(to_other).unwrap();
            assert!(rings(&bell));
            bell.arm(&listeners).unwrap();
            bell.disarm(&listeners).unwrap();
            bell.disarm(&listeners).unwrap();
            assert!(!rings(&bell));
        }
    }

    /// A worker's event loop watches its bell edge-triggered, in an instance of its own.
    #[test]
    fn an_event_loop_hears_it_each_time() {
        let _closing = fork_lock::closing();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for many in [false, true] {
            let (listener, address) = listener();
            let listeners = [listener];
            runtime.block_on(async {
                let bell = std::sync::Arc::new(Bell::new(many).unwrap());
                let watched = crate::sys::watch::watch(std::sync::Arc::clone(&bell)).unwrap();
                let heard = async || {
                    let heard = tokio::time::timeout(Duration::from_secs(5), watched.readable());
                    heard.await.unwrap().unwrap().clear_ready();
                    bell.answer().unwrap();
                };
                let connect = || TcpStream::connect(address).unwrap();
                bell.arm(&listeners).unwrap();
                let first = connect();
                heard().await;
                assert!(listeners[0].accept().unwrap().is_some());
                // Somebody else is to accept the next one, and then it is this one again.
                bell.disarm(&listeners).unwrap();
                let second = connect();
                bell.arm(&listeners).unwrap();
                heard().await;
                // It was not accepted: to arm the bell is to hear of it again.
                bell.arm(&listeners).unwrap();
                heard().await;
                assert!(listeners[0].accept().unwrap().is_some());
                assert!(!rings(&bell));
                drop((first, second));
            });
        }
    }

    #[test]
    fn another_process_arms_it() {
        let _forking = fork_lock::forking();
        for many in [false, true] {
            let (listener, address) = listener();
            let listeners = [listener];
            let bell = Bell::new(many).unwrap();
            let _client = TcpStream::connect(address).unwrap();
            let child = process::fork(|| i32::from(bell.arm(&listeners).is_err()));
            process::expect_exit(child.unwrap(), 0);
            assert!(rings(&bell));
            let child = process::fork(|| i32::from(bell.disarm(&listeners).is_err()));
            process::expect_exit(child.unwrap(), 0);
            assert!(!rings(&bell));
        }
    }
}
