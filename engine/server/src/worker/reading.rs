//! Owns in what order connections are read from when there are more than a turn has time for.

use mailrace_io::ConnectionId;

use super::line::Line;

/// Connections that are to be read from again.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Those that are not read from for now.
    pub(super) paused: Line<ConnectionId>,
    /// Not all of them were looked at in this turn: the next one begins at once.
    pub(super) has_more_paused: bool,
    /// So many clients want something at once that each waits for the others.
    pub(super) is_crowded: bool,
}

impl Reading {
    /// A turn with so many completions begins.
    pub(super) const fn begin_turn(&mut self, completions: usize) {
        self.is_crowded = completions >= CROWD;
    }
}

/// Completions of one turn that make it a crowded one.
pub(super) const CROWD: usize = 256;
