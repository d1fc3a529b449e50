//! Defines how the server's account of a connection is compared with those of its peers.

use std::fmt;

use differential::http::limits::Limits;
use differential::replay::{Account, End, Request, replay};

use crate::account::{Exchange, Seen};
use crate::hyper;
use crate::nginx::Nginx;

/// A server that is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Hyper,
    Nginx,
}

/// Where the two first part. Before it they saw the same requests.
#[derive(Debug)]
pub(crate) enum Disagreement<'a> {
    /// The server refuses, for this reason, what the peer takes.
    Stricter(&'static str),
    /// The peer refuses what the server takes.
    Laxer(&'a Request),
    /// The server sees another request after this one, the peer none, though it refuses nothing.
    Unseen(Option<&'a Request>),
    /// The peer sees another request after this one, the server none, though it refuses nothing.
    Unexpected(&'a Request),
    /// Both see a request, and not the same.
    Different(&'a Request, &'a Exchange),
}

/// What came of one connection.
pub(crate) struct Case<'a> {
    pub(crate) bytes: &'a [u8],
    account: Account,
    peers: Vec<(Peer, Seen)>,
}

impl<'a> Case<'a> {
    pub(crate) fn run(bytes: &'a [u8], nginx: Option<&Nginx>) -> Self {
        let limits = Limits::default();
        let mut account = replay([bytes], &limits);
        account.check(&limits);
        // Only what came whole can be compared: the peers tell of nothing else.
        account.requests.retain(|request| request.complete);
        let mut peers = vec![(Peer::Hyper, hyper::serve(bytes))];
        peers.extend(nginx.map(|nginx| (Peer::Nginx, nginx.serve(bytes))));
        Self {
            bytes,
            account,
            peers,
        }
    }

    /// Where the server and its peers part.
    pub(crate) fn disagreements(&self) -> impl Iterator<Item = (Peer, Disagreement<'_>)> {
        let parted = self
            .peers
            .iter()
            .map(|(peer, seen)| (*peer, self.compare(seen)));
        parted.filter_map(|(peer, found)| Some((peer, found?)))
    }

    fn compare<'b>(&'b self, seen: &'b Seen) -> Option<Disagreement<'b>> {
        let ours = &self.account.requests;
        let mut pairs = ours.iter().zip(&seen.requests);
        if let Some((ours, theirs)) =
            pairs.find(|(ours, theirs)| !Exchange::from(*ours).agrees(theirs))
        {
            return Some(Disagreement::Different(ours, theirs));
        }
        if let Some(next) = ours.get(seen.requests.len()) {
            return Some(if seen.refused {
                Disagreement::Laxer(next)
            } else {
                Disagreement::Unseen(ours[..seen.requests.len()].last())
            });
        }
        if seen.requests.len() == ours.len() {
            return None;
        }
        match (self.account.end, ours.last()) {
            (End::Refused(refusal), _) => Some(Disagreement::Stricter(refusal.reason)),
            (_, Some(last)) => Some(Disagreement::Unexpected(last)),
            (_, None) => Some(Disagreement::Stricter("nothing, without a reason")),
        }
    }

    /// Whether the server takes a request that every peer refuses, where there is more than one.
    pub(crate) fn is_taken_alone(&self) -> bool {
        let refuses = |(_, seen): &(Peer, Seen)| {
            seen.refused && seen.requests.len() < self.account.requests.len()
        };
        self.peers.len() > 1 && self.peers.iter().all(refuses)
    }
}

impl fmt::Display for Case<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "    {}", self.bytes.escape_ascii())?;
        let requests: Vec<Exchange> = self.account.requests.iter().map(Exchange::from).collect();
        writeln!(out, "    here: {requests:?}, {:?}", self.account.end)?;
        for (peer, seen) in &self.peers {
            writeln!(out, "    {peer:?}: {seen:?}")?;
        }
        Ok(())
    }
}
