//! What other threads ask the dispatcher of deliveries for.

use crossbeam::channel::{self, Sender};
use mailrace_delivery::dispatcher::{Answer, Asked, Selection};
use mailrace_io::Waker;
use mailrace_spool::Source;

/// A way to ask the dispatcher for something, for other threads.
#[derive(Clone, Debug)]
pub(crate) struct DispatcherDoor {
    answers: Sender<Answer<Source>>,
    waker: Waker,
}

impl DispatcherDoor {
    /// A way through the dispatcher's channel.
    pub(crate) const fn new(answers: Sender<Answer<Source>>, waker: Waker) -> Self {
        Self { answers, waker }
    }

    /// Has messages tried now. Returns how many it concerns, once that is known; `None`: nothing is delivered any more.
    pub(crate) fn flush(&self, selection: Selection) -> Option<u64> {
        self.ask(|asked| Answer::Flush(selection, asked))
    }

    /// Has messages given back to their senders. Returns how many it concerns, as [`DispatcherDoor::flush`] does.
    pub(crate) fn expire(&self, selection: Selection) -> Option<u64> {
        self.ask(|asked| Answer::Expire(selection, asked))
    }

    fn ask(&self, question: impl FnOnce(Asked) -> Answer<Source>) -> Option<u64> {
        let (sender, count) = channel::bounded(1);
        self.answers.send(question(Asked(sender))).ok()?;
        self.waker.wake();
        count.recv().ok()
    }
}
