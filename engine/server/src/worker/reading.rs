//! The order in which connections are read when there are more than one turn can handle.

use mailrace_io::ConnectionId;

use super::line::Line;

/// Connections that are to be read from again.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Connections that are not read from for now.
    pub(super) paused: Line<ConnectionId>,
    /// Not all of them were handled in this turn, so the next one starts immediately.
    pub(super) has_more_paused: bool,
    /// The turn is crowded: clients wait for each other.
    pub(super) is_crowded: bool,
}

impl Reading {
    /// Starts a turn with this number of completions.
    pub(super) const fn begin_turn(&mut self, completions: usize) {
        self.is_crowded = completions >= CROWD;
    }
}

/// Number of completions from which a turn is crowded.
pub(super) const CROWD: usize = 256;
