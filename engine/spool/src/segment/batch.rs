//! One write: the records that it gathers, and what settles with it.

use mailrace_core::QueueId;
use mailrace_core::record::spool::{Location, Mark, SegmentHeader};
use mailrace_io::Block;

use super::index::Entry;

/// One write.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    /// The segment that it goes to.
    pub(super) header: SegmentHeader,
    /// Its offset in the segment.
    pub(super) offset: u64,
    /// Bytes available to it in the segment.
    pub(super) room: usize,
    pub(super) records: u32,
    /// Bytes of chunks in it.
    pub(super) chunks: usize,
    /// `None` once it is submitted.
    pub(super) block: Option<Block>,
    pub(super) pending: Vec<Pending>,
}

/// What settles with a batch.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pending {
    Message {
        tag: u64,
        id: QueueId,
        entry: Entry,
        first_batch: u64,
    },
    Mark {
        tag: u64,
        id: QueueId,
        mark: Mark,
        /// Its place among the marks of the message.
        order: u64,
    },
    /// What became of a message's recipients. Of several the one whose place is the greatest counts.
    Progress {
        /// `None`: a copy of the mark that counts, which was moved.
        tag: Option<u64>,
        id: QueueId,
        place: Location,
    },
    /// The mark for a message whose write failed.
    Undone {
        tag: u64,
    },
    /// A copy of a message that replaces the one it was made from.
    Move {
        id: QueueId,
        entry: Entry,
        first_batch: u64,
    },
}

impl Pending {
    /// The first batch with a part of the message.
    pub(super) const fn first_batch(&self) -> Option<u64> {
        match self {
            Self::Message { first_batch, .. } | Self::Move { first_batch, .. } => Some(*first_batch),
            Self::Mark { .. } | Self::Progress { .. } | Self::Undone { .. } => None,
        }
    }
}

const HAS_BLOCK: &str = "a batch has its block until it is submitted";

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.block.as_ref().map_or(0, Block::len)
    }

    pub(super) fn left(&self) -> usize {
        self.room - self.len()
    }

    /// Adds bytes of a record.
    ///
    /// # Panics
    /// If they do not fit; the caller has made room for the whole record.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.left(), "a record fits into its batch and its segment");
        self.block_mut().extend(bytes);
    }

    pub(super) fn pad(&mut self, alignment: usize) {
        self.block_mut().pad(alignment);
    }

    pub(super) fn from(&self, start: usize) -> &[u8] {
        let filled = self.block.as_ref().expect(HAS_BLOCK).filled();
        filled.get(start..).expect("what is read was written")
    }

    pub(super) fn patch(&mut self, start: usize, bytes: &[u8]) {
        let place = self.block_mut().filled_mut().get_mut(start..start + bytes.len());
        place.expect("what is patched was written").copy_from_slice(bytes);
    }

    /// Takes its memory, to submit or return it.
    pub(super) fn take_block(&mut self) -> Block {
        self.block.take().expect(HAS_BLOCK)
    }

    fn block_mut(&mut self) -> &mut Block {
        self.block.as_mut().expect(HAS_BLOCK)
    }
}
