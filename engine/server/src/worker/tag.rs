//! Tags that the spool returns with its answers. Nothing else packs or unpacks them.

use mailrace_io::ConnectionId;

/// Where a message comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A client's connection.
    Connection(ConnectionId),
    /// The submission on this machine that has this number.
    Submission(u64),
    /// The report that has this number.
    Report(u64),
}

/// Addressee of an answer of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// The source of a message.
    Message(Source),
    /// The mark with this number.
    Mark(u64),
    /// The note about a delivery that has this number.
    Note(u64),
}

/// Numbers of submissions, reports, marks and notes are below it.
pub(super) const NUMBER_END: u64 = 1 << KIND_SHIFT;

/// The three highest bits distinguish the kinds; a connection's generation leaves them free.
const KIND_SHIFT: u32 = 61;
const CONNECTION: u64 = 0;
const MARK: u64 = 1;
const SUBMISSION: u64 = 2;
const NOTE: u64 = 3;
const REPORT: u64 = 4;

impl Tag {
    /// Returns it as a number for the spool.
    pub(super) fn pack(self) -> u64 {
        let (kind, number) = match self {
            Self::Message(Source::Connection(id)) => {
                (CONNECTION, (u64::from(id.generation) << 32) | u64::from(id.slot))
            }
            Self::Mark(number) => (MARK, number),
            Self::Note(number) => (NOTE, number),
            Self::Message(Source::Submission(number)) => (SUBMISSION, number),
            Self::Message(Source::Report(number)) => (REPORT, number),
        };
        assert!(number < NUMBER_END, "a tag has room for what it names");
        (kind << KIND_SHIFT) | number
    }

    /// Reads the result of [`Tag::pack`].
    #[expect(clippy::cast_possible_truncation, reason = "takes apart what was put together")]
    pub(crate) fn unpack(tag: u64) -> Self {
        let number = tag & (NUMBER_END - 1);
        match tag >> KIND_SHIFT {
            CONNECTION => Self::Message(Source::Connection(ConnectionId {
                slot: number as u32,
                generation: (number >> 32) as u32,
            })),
            MARK => Self::Mark(number),
            SUBMISSION => Self::Message(Source::Submission(number)),
            NOTE => Self::Note(number),
            REPORT => Self::Message(Source::Report(number)),
            kind => unreachable!("no tag of kind {kind} is given out"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let connection =
            |slot, generation| Tag::Message(Source::Connection(ConnectionId { slot, generation }));
        for tag in [
            connection(0, 0),
            connection(u32::MAX, (1 << 24) - 1),
            Tag::Mark(0),
            Tag::Mark(NUMBER_END - 1),
            Tag::Message(Source::Submission(0)),
            Tag::Message(Source::Submission(NUMBER_END - 1)),
            Tag::Message(Source::Report(0)),
            Tag::Message(Source::Report(NUMBER_END - 1)),
            Tag::Note(0),
            Tag::Note(NUMBER_END - 1),
        ] {
            assert_eq!(Tag::unpack(tag.pack()), tag);
        }
    }

    #[test]
    #[should_panic(expected = "a tag has room")]
    fn a_number_that_does_not_fit_is_not_packed() {
        let _ = Tag::Mark(NUMBER_END).pack();
    }
}
