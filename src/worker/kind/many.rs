//! Defines the worker that does many things at the same time: while one request waits, others go on.

use super::{CLOSING_MAX, Kind, Load};

/// See [`Kind`].
pub(super) struct Many {
    pub(super) connections_max: usize,
    pub(super) in_flight_max: u64,
}

/// The places that a load takes.
fn taken(load: Load) -> usize {
    load.connections - load.closing.min(CLOSING_MAX)
}

impl Kind for Many {
    fn has_room(&self, load: Load) -> bool {
        taken(load) < self.connections_max && load.in_flight < self.in_flight_max
    }

    fn is_full(&self, load: Load) -> bool {
        taken(load) - load.leaving >= self.connections_max
    }

    fn keeps_connections(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Many = Many {
        connections_max: 3,
        in_flight_max: 2,
    };

    #[test]
    fn connections_and_requests_are_bounded() {
        for (connections, closing, in_flight, expect) in [
            (0, 0, 0, true),
            (2, 0, 1, true),
            (3, 0, 0, false),
            (3, 1, 0, true),
            (2, 0, 2, false),
            (66, 64, 0, true),
            (67, 64, 0, false),
            // There is an end to it.
            (67, 65, 0, false),
        ] {
            let load = Load {
                connections,
                closing,
                leaving: 0,
                in_flight,
            };
            assert_eq!(KIND.has_room(load), expect, "{load:?}");
        }
        assert!(KIND.keeps_connections());
    }

    #[test]
    fn no_more_are_asked_to_leave_than_are_too_many() {
        for (connections, closing, leaving, expect) in [
            (2, 0, 0, false),
            (3, 0, 0, true),
            (3, 0, 1, false),
            (3, 1, 0, false),
            (5, 1, 1, true),
        ] {
            let load = Load {
                connections,
                closing,
                leaving,
                // Those in flight leave by themselves.
                in_flight: 2,
            };
            assert_eq!(KIND.is_full(load), expect, "{load:?}");
        }
    }
}
