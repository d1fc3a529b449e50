//! Defines what the shared words of a group say.

/// The arbiter's seat.
pub(super) const ARBITER: usize = 0;
/// Stands for a holder where there is none.
pub(super) const NOBODY: usize = (1 << SEAT_BITS) - 1;
const SEAT_BITS: u32 = 16;
const SETTLED: u64 = 1 << (2 * SEAT_BITS);
const COUNT_SHIFT: u32 = 2 * SEAT_BITS + 1;

/// In the word of a seat: the worker takes connections.
pub(super) const OPEN: u64 = 1 << 32;
/// The worker runs a guest, or has since it last had nothing to do.
pub(super) const BUSY: u64 = 1 << 33;
/// The connections that it holds.
pub(super) const CONNECTIONS: u64 = OPEN - 1;

/// How suitable a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// 2: has room and nothing else to do; 1: has room; 0: takes no connections.
    pub(super) rank: u8,
    connections: u64,
}

impl Standing {
    /// Of whoever is no worker.
    pub(super) const NONE: Self = Self {
        rank: 0,
        connections: 0,
    };

    pub(super) fn of(word: u64) -> Self {
        let rank = match (word & OPEN != 0, word & BUSY != 0) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => 2,
        };
        let connections = word & CONNECTIONS;
        Self { rank, connections }
    }

    /// Whether a connection should rather go to this one: idle workers first, then, if there is a
    /// margin, those that have fewer connections by more than that.
    pub(super) fn beats(self, other: Self, margin: Option<u64>) -> bool {
        let is_emptier = |margin| self.connections + margin < other.connections;
        self.rank > other.rank || (self.rank == other.rank && margin.is_some_and(is_emptier))
    }
}

/// The holder, from whom it has borrowed the baton, if it has, and how many holders there have been
/// before; so no two values are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hold(pub(super) u64);

impl Hold {
    pub(super) fn holder(self) -> usize {
        (self.0 & NOBODY as u64) as usize
    }

    pub(super) fn lender(self) -> Option<usize> {
        let lender = (self.0 >> SEAT_BITS & NOBODY as u64) as usize;
        (lender != NOBODY).then_some(lender)
    }

    pub(super) fn next(self, holder: usize, lender: Option<usize>) -> Self {
        let count = (self.0 >> COUNT_SHIFT).wrapping_add(1);
        let lender = lender.unwrap_or(NOBODY) as u64;
        Self(count << COUNT_SHIFT | lender << SEAT_BITS | holder as u64)
    }

    /// Whether all bells have been seen to since the holder became one.
    pub(super) fn is_settled(self) -> bool {
        self.0 & SETTLED != 0
    }

    pub(super) fn settled(self) -> Self {
        Self(self.0 | SETTLED)
    }
}

/// The first value: nobody holds it.
pub(super) const NO_HOLDER: u64 = (NOBODY << SEAT_BITS | NOBODY) as u64;
