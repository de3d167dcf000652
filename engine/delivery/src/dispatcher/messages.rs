//! The messages that a dispatcher knows, and those that it reads.

use std::collections::HashMap;
use std::sync::Arc;

use mailrace_core::record::delivery::Progress;
use mailrace_core::record::envelope;
use mailrace_core::{Envelope, QueueId, Timestamp};
use mailrace_spool::{Part, ReadEvent, ReadId};

use crate::bounce::Kind;
use crate::manager::Loaded;

/// What is kept of messages.
#[derive(Debug)]
pub(super) struct Messages<S> {
    /// The worker that has each message that the manager knows.
    homes: HashMap<QueueId, u16>,
    /// The messages of the active queue.
    pub(super) held: HashMap<QueueId, Held<S>>,
    /// The messages whose envelope is being read, by the tag of the read.
    pub(super) loads: HashMap<u64, QueueId>,
    /// Messages that were read and wait for a table to be routed.
    pub(super) pending_routes: Vec<QueueId>,
    /// Notes that are not answered yet.
    pub(super) noting: usize,
}

impl<S> Messages<S> {
    pub(super) fn new() -> Self {
        Self {
            homes: HashMap::new(),
            held: HashMap::new(),
            loads: HashMap::new(),
            pending_routes: Vec::new(),
            noting: 0,
        }
    }

    /// A worker has a message.
    pub(super) fn set_home(&mut self, id: QueueId, worker: u16) {
        self.homes.insert(id, worker);
    }

    /// The worker that has a message.
    ///
    /// # Panics
    /// When the manager does not know the message.
    pub(super) fn home(&self, id: QueueId) -> u16 {
        *self.homes.get(&id).expect("what the manager knows has a home")
    }

    /// The worker that has a message, if it is known.
    pub(super) fn known_home(&self, id: QueueId) -> Option<u16> {
        self.homes.get(&id).copied()
    }

    /// The message is known no longer.
    pub(super) fn forget(&mut self, id: QueueId) {
        self.homes.remove(&id);
    }

    /// Takes what the read of an envelope gives; `None`: it was given up.
    pub(super) fn take_envelope(&mut self, tag: u64, event: ReadEvent<'_>) -> Option<(QueueId, Load)> {
        let id = *self.loads.get(&tag)?;
        let held = self.held.get_mut(&id).expect("a message is held while it is being read");
        let loading = held.loading.as_mut().expect("it is loading while its envelope is being read");
        Some((id, take_envelope(loading, event)))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.homes.is_empty() && self.held.is_empty() && self.loads.is_empty()
    }
}

/// A message of the active queue.
#[derive(Debug)]
pub(super) struct Held<S> {
    /// Where it is, and bytes of its content; `None` until its worker has said so.
    pub(super) source: Option<(S, u64)>,
    /// `None` once its envelope was read.
    pub(super) loading: Option<Loading>,
    /// When it came to the active queue.
    pub(super) active: Timestamp,
}

/// An envelope that is being read, or what waits for something else once it was read.
#[derive(Debug, Default)]
pub(super) struct Loading {
    pub(super) read: Option<ReadId>,
    pub(super) envelope: Option<Envelope>,
    /// How often the message had moved before it was read.
    pub(super) moves: u32,
    /// It was read. It may wait for a table that routes depend on.
    pub(super) loaded: Option<Loaded>,
    /// Workers that are still to say whether there is a report about it, and the kind of that.
    pub(super) asked: Option<(usize, Kind)>,
}

/// What a part of a message that is being loaded means.
pub(super) enum Load {
    /// Another part is needed.
    GoesOn,
    Moved,
    Failed,
    Read(Arc<Envelope>, Progress),
}

fn take_envelope(loading: &mut Loading, event: ReadEvent<'_>) -> Load {
    let progress = match event {
        ReadEvent::Gone => return Load::Moved,
        ReadEvent::Damaged(_) | ReadEvent::Failed(_) | ReadEvent::Whole => return Load::Failed,
        ReadEvent::Part(Part::Envelope(bytes)) => {
            let Some((_, envelope)) = envelope::decode(bytes) else { return Load::Failed };
            loading.envelope = Some(envelope);
            return Load::GoesOn;
        }
        ReadEvent::Part(Part::Progress(bytes)) => Progress::decode(bytes),
        ReadEvent::Part(Part::Content { .. }) => Some(Progress::default()),
    };
    let Some(mut envelope) = loading.envelope.take() else { return Load::Failed };
    redirect(&mut envelope);
    match progress.filter(|progress| progress.states(envelope.numbered().count()).is_some()) {
        Some(progress) => Load::Read(Arc::new(envelope), progress),
        None => Load::Failed,
    }
}

/// Carries out a check's REDIRECT: one recipient takes the place of all, as in Postfix.
fn redirect(envelope: &mut Envelope) {
    let Some(address) = envelope.redirect.take() else { return };
    envelope.recipients.truncate(1);
    if let Some(recipient) = envelope.recipients.first_mut() {
        let given = std::mem::replace(&mut recipient.address, address.into_vec());
        recipient.original.get_or_insert_with(|| given.into_boxed_slice());
    }
}
