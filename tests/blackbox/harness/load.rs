//! Defines clients that come all the time, so that a test sees whether one of them is turned away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use super::{Address, Client, until};

/// Clients that each connect, ask, and come back as soon as they have been answered.
pub(crate) struct Load {
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    /// So many clients that ask for `target`.
    pub(crate) fn on(address: &Address, target: &'static str, clients: usize) -> Self {
        let (answered, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let client = |_| {
            let (address, answered, over) =
                (address.clone(), Arc::clone(&answered), Arc::clone(&over));
            std::thread::spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    ask(&address, target)?;
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            })
        };
        Self {
            clients: (0..clients).map(client).collect(),
            answered,
            over,
        }
    }

    /// Waits until so many more requests have been answered, or one has not.
    pub(crate) fn more(&self, requests: usize) {
        let goal = self.answered() + requests;
        until("requests are answered", || {
            self.answered() >= goal || self.clients.iter().any(JoinHandle::is_finished)
        });
    }

    /// How many requests have been answered.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Ends it, checks that every request was answered, and returns how many there were.
    pub(crate) fn none_was_lost(self) -> usize {
        let answered = Arc::clone(&self.answered);
        for result in self.end() {
            assert_eq!(result, Ok(()));
        }
        answered.load(Ordering::SeqCst)
    }

    /// Ends it, however the clients fared.
    pub(crate) fn end(self) -> Vec<Result<(), String>> {
        self.over.store(true, Ordering::SeqCst);
        let clients = self.clients.into_iter();
        clients
            .map(|client| client.join().expect("responses are well-formed"))
            .collect()
    }
}

fn ask(address: &Address, target: &str) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let mut client =
        Client::try_connect(address).map_err(|error| failed("cannot connect", &error))?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client
        .try_send(request)
        .map_err(|error| failed("cannot send", &error))?;
    match client.try_response() {
        Ok(response) if response.status() == 200 => Ok(()),
        Ok(response) => Err(format!("the wrong answer: {response:?}")),
        Err(error) => Err(failed("no whole response", &error)),
    }
}
