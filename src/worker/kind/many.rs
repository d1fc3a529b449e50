//! Defines the worker that does many things at the same time: while one request waits, others go on.

use super::{Kind, Load};

/// See [`Kind`].
pub(super) struct Many {
    pub(super) connections_max: usize,
    pub(super) in_flight_max: u64,
}

impl Kind for Many {
    fn has_room(&self, load: Load) -> bool {
        load.connections < self.connections_max && load.in_flight < self.in_flight_max
    }

    fn keeps_connections(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_requests_are_bounded() {
        let kind = Many {
            connections_max: 3,
            in_flight_max: 2,
        };
        for (connections, in_flight, expect) in
            [(0, 0, true), (2, 1, true), (3, 0, false), (2, 2, false)]
        {
            let load = Load {
                connections,
                closing: connections,
                in_flight,
            };
            assert_eq!(kind.has_room(load), expect, "{load:?}");
        }
        assert!(kind.keeps_connections());
    }
}
