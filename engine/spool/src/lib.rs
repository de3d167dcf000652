//! The spool: a cleaned message becomes durable.
//!
//! A worker appends framed, checksummed records to a segment of its own: a file that was preallocated and
//! zero-filled, so that writing it changes no metadata. What gathered while earlier writes were under way goes
//! out as one batch, one direct durable write. A message is answered for when its batch, and every batch that
//! holds a part of it, is durable. `docs/queue-format.md` has the layout, the states and the guarantees.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

#[cfg(test)]
mod conformance;
mod error;
pub mod segment;
mod settings;
mod shared;
mod usage;

use mailrace_core::record::delivery::Progress;
use mailrace_core::record::spool::Location;
use mailrace_core::{QueueId, Timestamp};
use mailrace_io::{Block, Instant, Io, Token};

pub use error::{MarkError, OpenError, Refusal, SpoolError};
pub use mailrace_core::record::spool::Mark;
pub use segment::reader;
pub use segment::{
    Damage, DamageKind, Draft, Holding, Opened, Opener, RecoveryReport, SegmentKeeper, SegmentReader,
    SegmentSpool, Source, State, Stats, Stranger, Written, acknowledge, open,
};
pub use settings::Settings;
pub use shared::Shared;
pub use usage::Usage;

/// Set in the token of every write and read of a spool, and of every read of a [`Reader`].
pub const TOKEN_SPOOL: u64 = 1 << 63;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its last record.
    pub end: Location,
    /// Its state.
    pub state: State,
    /// The mark that says what became of its recipients; `None` until one was tried.
    pub progress: Option<Location>,
}

/// The messages of one worker in a queue, and what becomes of them.
pub trait Store {
    /// Where a message is, for a [`Reader`].
    type Source: Clone + Send + std::fmt::Debug;

    /// The ids of the messages, in no order, with their states.
    fn ids(&self) -> impl Iterator<Item = (QueueId, State)>;

    /// Returns where a message is.
    fn place(&self, id: QueueId) -> Option<Place>;

    /// Returns where a message is, for those who read it, on this thread or another. `None`: there is no such message.
    fn source(&self, id: QueueId) -> Option<Self::Source>;

    /// Notes what became of a message; `tag` comes back from [`Spool::next_settled`] when that is durable.
    ///
    /// # Errors
    /// [`MarkError`].
    fn mark(&mut self, id: QueueId, mark: Mark, tag: u64) -> Result<(), MarkError>;

    /// Notes what became of a message's recipients: all of it, instead of what was noted before. `tag` comes back from
    /// [`Spool::next_settled`] when that is durable. A message whose recipients are all done is marked [`Mark::Done`].
    ///
    /// # Errors
    /// [`MarkError`]; [`Refusal::TooLarge`] where the texts have to be shortened.
    fn note(&mut self, id: QueueId, progress: &Progress, tag: u64) -> Result<(), MarkError>;

    /// What it holds and has done.
    fn stats(&self) -> Stats;
}

/// A worker's way into a queue: a cleaned message becomes durable.
///
/// A message is begun, its content appended in pieces, and committed with its envelope. When that is durable, or could not
/// be made so, its tag comes back from [`Spool::next_settled`], once.
pub trait Spool: Store {
    /// A message that is coming in. It is given back with [`Spool::commit`] or [`Spool::abandon`].
    type Draft: std::fmt::Debug;

    /// Returns an id for a message that came at `wall`; none is given out twice.
    fn next_id(&mut self, wall: Timestamp) -> QueueId;

    /// Begins a message.
    fn begin(&self, id: QueueId) -> Self::Draft;

    /// Bytes of content that [`Spool::append`] and [`Spool::commit`] take at once.
    fn piece_size_max(&self) -> usize;

    /// Whether [`Spool::commit`] takes `size` bytes of content with this envelope at once.
    fn fits(&self, envelope: &[u8], size: usize) -> bool;

    /// Adds a piece of content: all of it, or nothing with an error.
    ///
    /// # Errors
    /// [`Refusal`].
    fn append(&mut self, draft: &mut Self::Draft, content: &[&[u8]]) -> Result<(), Refusal>;

    /// Adds the last piece of content and the envelope ([`mailrace_core::record::envelope`]): with it the message
    /// exists. `tag` comes back from [`Spool::next_settled`] when everything is durable, or could not be made so.
    ///
    /// # Errors
    /// [`Refusal`], and the draft.
    fn commit(
        &mut self,
        draft: Self::Draft,
        state: State,
        envelope: &[u8],
        content: &[&[u8]],
        tag: u64,
    ) -> Result<(), (Self::Draft, Refusal)>;

    /// Forgets a message that did not come in whole.
    fn abandon(&mut self, draft: Self::Draft);

    /// Takes note that the write with this token is over.
    fn completed(&mut self, token: Token, block: Block, result: std::io::Result<()>);

    /// Takes note that the read with this token is over.
    fn read_completed(&mut self, token: Token, buffer: Vec<u8>, result: std::io::Result<usize>);

    /// The next tag whose message or mark is settled.
    fn next_settled(&mut self) -> Option<(u64, Result<(), SpoolError>)>;

    /// Whether nothing is gathered, under way or unsettled; a read is under way, too.
    fn is_idle(&self) -> bool;

    /// Whether there is memory for another piece.
    fn has_room(&self) -> bool;

    /// Whether another piece of a message that has not ended can be written soon. Messages that end come first.
    fn has_room_for_chunks(&self) -> bool;

    /// Blocks of memory that gather or are being written.
    fn blocks_in_use(&self) -> usize;

    /// What it holds. It may go through all messages: for tests.
    fn usage(&self) -> Usage;
}

/// Names a read of a [`Reader`]. No later one has the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A part of a message, whole: its checksum was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// The envelope, which comes first ([`mailrace_core::record::envelope`]).
    Envelope(&'a [u8]),
    /// What became of the recipients ([`Progress`], encoded), if one was tried.
    Progress(&'a [u8]),
    /// The next piece of content, perhaps empty.
    Content {
        /// Its bytes.
        octets: &'a [u8],
        /// None follows it.
        is_last: bool,
    },
}

/// What a read has come to. After all but a part it is over.
#[derive(Debug)]
pub enum ReadEvent<'a> {
    /// The next part.
    Part(Part<'a>),
    /// All of it was given.
    Whole,
    /// The message has left the place where it was. Its store knows where it is now, if it is in the queue.
    Gone,
    /// The record at this place, or what leads to it, is damaged.
    Damaged(Location),
    /// It could not be read. It may be possible later.
    Failed(std::io::Error),
}

/// Reads messages, a part at a time, without blocking.
///
/// A read that was begun gives its first part, and each further one after [`Reader::ask`]. So it takes memory for the part
/// that was given last, and for what was read with it.
pub trait Reader {
    /// Where a message is: [`Store::Source`] of the stores whose messages it reads.
    type Source;

    /// Begins to read a message; `tag` comes with each of its events.
    fn begin(&mut self, source: Self::Source, tag: u64) -> ReadId;

    /// Asks for what follows the part that was given last. That part is then no longer available.
    fn ask(&mut self, read: ReadId);

    /// Ends a read early. It has no further event.
    fn forget(&mut self, read: ReadId);

    /// Takes note that the read with this token is over.
    fn completed(&mut self, token: Token, buffer: Vec<u8>, result: std::io::Result<usize>);

    /// The next event, with its tag.
    fn next_event(&mut self) -> Option<(u64, ReadEvent<'_>)>;

    /// When [`Reads::advance`] has something to do even if nothing happens.
    fn deadline(&self) -> Option<Instant>;

    /// Whether none of its reads is under way.
    fn is_idle(&self) -> bool;
}

/// A reader that reads through `I`.
pub trait Reads<I: Io>: Reader {
    /// Submits the reads that are due. It is called when one was begun, asked for more or completed, when the reader's waker
    /// was called, and when [`Reader::deadline`] has passed. A read whose file could not be opened ends in it, so events are
    /// taken afterwards.
    fn advance(&mut self, io: &mut I);
}

/// A spool that writes through `I`.
pub trait Writes<I: Io>: Spool {
    /// Takes the memory that it writes from `io`, before anything is gathered.
    fn use_memory_of(&mut self, io: &mut I);

    /// Submits what has gathered, as long as fewer than the configured number of writes are under way. Batches grow
    /// with the load, while earlier ones are being written: no timer holds a lone message back.
    fn advance(&mut self, io: &mut I);

    /// Closes the files that will not be written again.
    fn detach_sealed(&mut self, io: &mut I);
}
