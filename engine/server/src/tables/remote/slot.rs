//! The place where a server's answer arrives, shared by all transactions that wait for it.

use std::sync::OnceLock;

use mailrace_core::lookup::{Awaited, Outcome};

/// The outcome of a question, once it is known.
#[derive(Debug, Default)]
pub(super) struct Slot(OnceLock<End>);

#[derive(Debug)]
enum End {
    Answered(Option<Box<[u8]>>),
    Unavailable,
    GivenUp,
}

impl Slot {
    /// Sets the answer, or that there is none.
    pub(super) fn fill(&self, answer: Result<Option<Box<[u8]>>, ()>) {
        self.end(answer.map_or(End::Unavailable, End::Answered));
    }

    /// Notes that the question was dropped to make room for others.
    pub(super) fn give_up(&self) {
        self.end(End::GivenUp);
    }

    fn end(&self, end: End) {
        // A question ends once: it is answered, or dropped while it waits.
        let is_first = self.0.set(end).is_ok();
        debug_assert!(is_first, "a question has one end");
    }
}

impl Awaited for Slot {
    fn outcome(&self) -> Option<Outcome<'_>> {
        self.0.get().map(|end| match end {
            End::Answered(value) => Outcome::Answered(value.as_deref()),
            End::Unavailable => Outcome::Unavailable,
            End::GivenUp => Outcome::GivenUp,
        })
    }
}
