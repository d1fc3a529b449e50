//! Defines the worker that does one thing at a time, and so never lets a request wait for another.

use super::{CLOSING_MAX, Kind, Load};

/// See [`Kind`].
pub(super) struct One;

impl Kind for One {
    fn has_room(&self, load: Load) -> bool {
        load.connections == load.closing && load.closing < CLOSING_MAX && load.in_flight == 0
    }

    /// None is ever idle.
    fn is_full(&self, _: Load) -> bool {
        false
    }

    fn keeps_connections(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_is_all_there_is_room_for() {
        for (connections, closing, in_flight, expect) in [
            (0, 0, 0, true),
            (1, 0, 0, false),
            (1, 1, 0, true),
            (2, 1, 0, false),
            // A guest works on after its response.
            (1, 1, 1, false),
            (64, 64, 0, false),
        ] {
            let load = Load {
                connections,
                closing,
                leaving: 0,
                in_flight,
            };
            assert_eq!(One.has_room(load), expect, "{load:?}");
        }
        assert!(!One.keeps_connections());
    }
}
