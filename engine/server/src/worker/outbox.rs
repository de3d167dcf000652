//! Operations to submit at the end of a turn, and the memory of replies.

use mailrace_io::{ConnectionId, Operation, Token};

use super::connection::Connection;

/// Operations on connections, in the order in which they are to be submitted.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    operations: Vec<(Token, Operation)>,
    /// Operations that follow others of this turn; empty between uses, and kept for its memory.
    behind: Vec<(Token, Operation)>,
    /// Emptied memory of replies, for the next ones.
    spare: Vec<Vec<u8>>,
}

impl Outbox {
    /// Adds an operation.
    pub(super) fn push(&mut self, operation: Operation) {
        self.operations.push((Token::default(), operation));
    }

    /// Adds the sending of replies.
    pub(super) fn send(&mut self, id: ConnectionId, replies: Vec<u8>) {
        self.push(Operation::Send(id, replies));
    }

    /// Sends what was written, if nothing is being sent.
    pub(super) fn send_replies<D>(&mut self, connection: &mut Connection<D>) {
        if !connection.waits.for_send && !connection.replies.is_empty() {
            let replies = std::mem::take(&mut connection.replies);
            connection.waits.for_send = true;
            self.send(connection.id, replies);
        }
    }

    /// Puts operations before all earlier ones until [`Outbox::end_front`].
    pub(super) fn begin_front(&mut self) {
        std::mem::swap(&mut self.operations, &mut self.behind);
    }

    /// Ends what [`Outbox::begin_front`] began.
    pub(super) fn end_front(&mut self) {
        self.operations.append(&mut self.behind);
    }

    /// All operations of this turn.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (Token, Operation)> {
        self.operations.drain(..)
    }

    /// Memory for replies.
    pub(super) fn memory(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(REPLIES_SIZE))
    }

    /// Gives a connection that is about to be answered memory for its replies: they would else be written into a vector
    /// that grows with each of them.
    pub(super) fn lend_memory<D>(&mut self, connection: &mut Connection<D>) {
        if connection.replies.capacity() == 0 {
            connection.replies = self.memory();
        }
    }

    /// Keeps memory for other replies.
    pub(super) fn keep_memory(&mut self, mut memory: Vec<u8>) {
        if memory.capacity() > 0 && self.spare.len() < SPARE_MAX && memory.capacity() <= SPARE_SIZE_MAX {
            memory.clear();
            self.spare.push(memory);
        }
    }
}

/// Initial capacity in bytes: the replies to a group of commands, or to EHLO.
const REPLIES_SIZE: usize = 256;
/// Memory of replies that is kept.
const SPARE_MAX: usize = 256;
/// Largest kept memory in bytes; larger is freed.
const SPARE_SIZE_MAX: usize = 4096;
