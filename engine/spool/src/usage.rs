//! What a spool holds at a moment, so that a test can tell whether all of it is needed.

/// What a spool holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Blocks that gather records or are being written; an empty one that gathers does not count.
    pub blocks: usize,
    /// Messages and marks that are not settled.
    pub unsettled: usize,
    /// Segments that are held for the parts of messages that are not in the queue: those that are coming in or being moved.
    pub parts_of_drafts: usize,
    /// A message is being moved.
    pub is_moving: bool,
}
