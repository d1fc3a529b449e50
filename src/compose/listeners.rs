//! Defines where a plan's listeners come from: from the plan before, from the program before, from
//! the service manager, or bound anew.
//!
//! Invariant: a socket that is open under the key of an address is used again, so that nobody who
//! waits in its queue is lost.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{OwnedFd, RawFd};

use super::StartError;
use crate::arbiter::Plan;
use crate::config::{AcceptMode, BindAddress, Config};
use crate::protocol::frame::FRAME_BYTES_MAX;
use crate::protocol::upgrade::ToSuccessor;
use crate::sys::channel::{Channel, ChannelListener, Recv};
use crate::sys::socket::{Address, BindError, BindTo, Listener};
use crate::tls::Secret;

/// How the keys of sockets begin that the service manager has opened.
const ACTIVATED: &str = "systemd:";
/// How the key of the first of several sockets at one address ends.
const FIRST: &str = "@0";

/// Listeners that are open already, by key.
#[derive(Debug, Default)]
pub struct Open {
    listeners: Vec<(String, Listener)>,
    /// Where control clients connect.
    pub(super) control: Option<ChannelListener>,
    /// What the server's processes have shared so far.
    pub(super) secret: Option<Secret>,
}

impl Open {
    /// Those of a plan, for the one that follows it.
    ///
    /// # Errors
    /// When the process may open no more files.
    pub fn of_plan(plan: &Plan) -> Result<Self, StartError> {
        let copy = |(key, listener): (&str, &Listener)| {
            let listener = listener.try_clone().map_err(|error| {
                StartError::TakeOver(format!("cannot keep the listener {key}: {error}"))
            })?;
            Ok::<_, StartError>((key.to_owned(), listener))
        };
        Ok(Self {
            listeners: plan.listeners().map(copy).collect::<Result<_, _>>()?,
            control: None,
            secret: plan.shared_secret(),
        })
    }

    /// Those that the predecessor hands over.
    pub(super) fn from_predecessor(channel: &Channel, backlog: u32) -> Result<Self, StartError> {
        let failed = |what: &dyn std::fmt::Display| StartError::TakeOver(what.to_string());
        let mut open = Self::default();
        loop {
            let mut frame = [0; FRAME_BYTES_MAX];
            let (len, files) = match channel.recv(&mut frame).map_err(|error| failed(&error))? {
                Recv::Frame { len, fds } => (len, fds),
                // It sends everything before it starts this program.
                Recv::Empty | Recv::Eof => return Err(failed(&"it says too little")),
            };
            let file = || {
                let [file] = files
                    .try_into()
                    .map_err(|_| failed(&"a listener came without its socket"))?;
                Ok::<OwnedFd, StartError>(file)
            };
            match ToSuccessor::decode(&frame[..len]).map_err(|error| failed(&error))? {
                ToSuccessor::Done => return Ok(open),
                ToSuccessor::Secret(secret) => open.secret = Some(secret),
                ToSuccessor::Listener { key, owned } => {
                    let listener = Listener::inherit(file()?, owned, backlog)
                        .map_err(|reason| failed(&format_args!("{key}: {reason}")))?;
                    open.listeners.push((key, listener));
                }
                ToSuccessor::Control => {
                    // Without it another is bound when the predecessor has left.
                    open.control = ChannelListener::inherit(file()?).ok();
                }
            }
        }
    }

    /// Those that the service manager has opened: sd_listen_fds(3).
    pub(super) fn from_service_manager(
        activated: Vec<(RawFd, Option<String>)>,
        backlog: u32,
    ) -> Result<Self, StartError> {
        let mut open = Vec::new();
        for (descriptor, name) in activated {
            let listener = Listener::bind(&BindTo::Fd(descriptor), backlog)?;
            let name = name.unwrap_or_else(|| descriptor.to_string());
            let key = unique(
                open.iter().map(|(key, _)| key),
                format!("{ACTIVATED}{name}"),
            );
            open.push((key, listener));
        }
        Ok(Self {
            listeners: open,
            control: None,
            secret: None,
        })
    }

    fn find_or_bind(&self, key: &str, to: &BindTo, backlog: u32) -> Result<Listener, StartError> {
        match self.find(key) {
            Some(listener) => Ok(listener),
            None => Listener::bind(to, backlog).map_err(|error| self.explain(key, error)),
        }
    }

    /// What is in use may be of this server, with one queue for all workers where there is to be one for
    /// each, or the other way about.
    fn explain(&self, key: &str, error: BindError) -> StartError {
        let all = key.strip_suffix(FIRST).map(str::to_owned);
        let other = all.unwrap_or_else(|| format!("{key}{FIRST}"));
        match error {
            BindError::InUse { address } if self.find(&other).is_some() => {
                StartError::Queues { address }
            }
            error => StartError::Bind(error),
        }
    }

    fn find(&self, key: &str) -> Option<Listener> {
        let (_, listener) = self.listeners.iter().find(|(known, _)| known == key)?;
        listener.try_clone().ok()
    }
}

/// A listener of a plan.
pub(super) struct Planned {
    pub(super) key: String,
    pub(super) listener: Listener,
    /// Whose it is, if not all workers'.
    pub(super) slot: Option<usize>,
}

/// The listeners that the configuration asks for, with queues as it asks for.
pub(super) fn listeners(config: &Config, open: &Open) -> Result<Vec<Planned>, StartError> {
    let listeners = find_or_bind_all(config, open)?;
    for Planned { key, listener, .. } in &listeners {
        let limited = listener.set_backlog(config.backlog);
        if let Err(error) = limited.and_then(|()| listener.defer(config.defer_accept)) {
            tracing::warn!("{key}: cannot change how connections wait: {error}");
        }
    }
    Ok(listeners)
}

/// Sockets of the service manager take the place of what is to be bound, as in gunicorn.
fn find_or_bind_all(config: &Config, open: &Open) -> Result<Vec<Planned>, StartError> {
    let activated = open.listeners.iter();
    let activated = activated.filter(|(key, _)| key.starts_with(ACTIVATED));
    let mut listeners: Vec<Planned> = activated
        .filter_map(|(key, _)| {
            let listener = open.find(key)?;
            let (key, slot) = (key.clone(), None);
            Some(Planned {
                key,
                listener,
                slot,
            })
        })
        .collect();
    if !listeners.is_empty() {
        return Ok(listeners);
    }
    for address in &config.bind {
        let key = unique(listeners.iter().map(|it| &it.key), address.to_string());
        match resolve(address)? {
            BindTo::Tcp(address) if config.accept == AcceptMode::Reuseport => {
                one_for_each(config, open, &key, address, &mut listeners)?;
            }
            to => {
                let listener = open.find_or_bind(&key, &to, config.backlog)?;
                let slot = None;
                listeners.push(Planned {
                    key,
                    listener,
                    slot,
                });
            }
        }
    }
    Ok(listeners)
}

/// A listener for each worker, all at one address.
fn one_for_each(
    config: &Config,
    open: &Open,
    key: &str,
    mut address: SocketAddr,
    listeners: &mut Vec<Planned>,
) -> Result<(), StartError> {
    for slot in 0..config.workers as usize {
        let key = format!("{key}@{slot}");
        let to = match slot {
            0 => BindTo::TcpBeforeOthers(address),
            _ => BindTo::TcpAmongOthers(address),
        };
        let listener = open.find_or_bind(&key, &to, config.backlog)?;
        // The kernel may have chosen the port.
        if let Address::Tcp(bound) = listener.local_address() {
            address = *bound;
        }
        listeners.push(Planned {
            key,
            listener,
            slot: Some(slot),
        });
    }
    Ok(())
}

/// Port 0 may be asked for twice.
fn unique<'a>(others: impl Iterator<Item = &'a String>, key: String) -> String {
    let is_same = |other: &&String| {
        let other = other.strip_suffix(FIRST).unwrap_or(other);
        other == key || (other.starts_with(&format!("{key}#")) && !other.contains('@'))
    };
    let same = others.filter(is_same).count();
    match same {
        0 => key,
        same => format!("{key}#{}", same + 1),
    }
}

fn resolve(address: &BindAddress) -> Result<BindTo, StartError> {
    match address {
        BindAddress::Unix(path) => Ok(BindTo::Unix(path.clone())),
        BindAddress::Descriptor(number) => Ok(BindTo::Fd(*number)),
        BindAddress::Tcp { host, port } => Ok(BindTo::Tcp(first_address(host, *port)?)),
    }
}

/// As in gunicorn, a name stands for its first address.
pub(super) fn first_address(host: &str, port: u16) -> Result<SocketAddr, StartError> {
    let failed = |source| StartError::Resolve {
        host: host.to_owned(),
        source,
    };
    let mut found = (host, port).to_socket_addrs().map_err(failed)?;
    found
        .next()
        .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}
