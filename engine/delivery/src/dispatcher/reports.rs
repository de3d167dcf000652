//! Reports that are being made: the original is read, and the report with what it returns goes to the worker that has it.

use std::collections::HashMap;
use std::sync::Arc;

use mailrace_core::message::date::Zone;
use mailrace_core::{Envelope, QueueId, Timestamp};
use mailrace_io::Io;
use mailrace_spool::{Part, ReadEvent, ReadId, Reads};

use super::{Dispatcher, Observer, Queue, Report};
use crate::bounce::{
    Addressee, Kind, Notice, NoticeSettings, Report as Writer, ReportSettings, ReportedRecipient,
};
use crate::manager::{Noted, ReportOrder};

/// Most reports that are made at once; each takes as much memory as it is long.
const AT_ONCE_MAX: usize = 16;

/// The reports that are being made.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// By the tag of the read of the original.
    making: HashMap<u64, Making>,
    /// Those whose original was read, or cannot be.
    made: Vec<Made>,
    /// Number of those that a worker is taking into the queue.
    given: usize,
    /// Those that are in the queue, by the message that they are about, which is not noted as reported yet.
    unannounced: HashMap<QueueId, Vec<QueueId>>,
}

/// A report whose original is being read, for the sender and perhaps for a postmaster.
#[derive(Debug)]
struct Making {
    order: ReportOrder,
    read: ReadId,
    messages: Vec<Message>,
}

/// One message.
#[derive(Debug)]
struct Message {
    envelope: Envelope,
    writer: Writer,
    content: Vec<u8>,
}

/// A report that is ready, or could not be made.
#[derive(Debug)]
struct Made {
    making: Making,
    is_good: bool,
}

impl Reports {
    pub(super) fn is_idle(&self) -> bool {
        self.making.is_empty() && self.made.is_empty() && self.given == 0
    }

    fn is_full(&self) -> bool {
        self.making.len() + self.given >= AT_ONCE_MAX
    }

    /// A worker has taken a report into the queue, or has not.
    fn taken(&mut self, about: QueueId, ids: Vec<QueueId>) {
        self.given -= 1;
        if !ids.is_empty() {
            self.unannounced.entry(about).or_default().extend(ids);
        }
    }

    /// Whether the read of an original has this tag.
    pub(super) fn has(&self, tag: u64) -> bool {
        self.making.contains_key(&tag)
    }

    /// Takes what the read of an original gives. Returns the read if more of it is wanted.
    pub(super) fn take(&mut self, tag: u64, event: ReadEvent<'_>) -> Option<ReadId> {
        let making = self.making.get_mut(&tag)?;
        let is_good = match event {
            ReadEvent::Part(Part::Content { octets, is_last }) => {
                for Message { writer, content, .. } in &mut making.messages {
                    writer.original(octets, content);
                }
                if !is_last && making.messages.iter().any(|message| message.writer.wants_more()) {
                    return Some(making.read);
                }
                true
            }
            ReadEvent::Part(_) => return Some(making.read),
            ReadEvent::Whole => true,
            ReadEvent::Gone | ReadEvent::Damaged(_) | ReadEvent::Failed(_) => false,
        };
        self.made.extend(self.making.remove(&tag).map(|making| Made { making, is_good }));
        None
    }
}

impl<I: Io, R: Reads<I>, Q: Queue, O: Observer> Dispatcher<I, R, Q, O>
where
    R::Source: Clone,
{
    /// A worker has taken a report into the queue, or has not.
    pub(super) fn reported(&mut self, about: QueueId, kind: Kind, noted: Noted, ids: Vec<QueueId>) {
        let wall = self.wall();
        for id in &ids {
            self.observer.reported(wall, about, kind, *id);
        }
        self.reports.taken(about, ids);
        self.manager.reported(about, kind, noted, wall);
        if !self.manager.is_active(about) {
            self.announce(about);
        }
        self.ended(about, wall);
    }

    /// What was reported of a message is noted: the reports are mail like any other now.
    pub(super) fn announce(&mut self, about: QueueId) {
        let worker = self.messages.known_home(about);
        for id in self.reports.unannounced.remove(&about).into_iter().flatten() {
            if let Some(worker) = worker {
                self.messages.set_home(id, worker);
                self.manager.found(id);
            }
        }
    }

    /// Begins the reports that are due.
    pub(super) fn begin_reports(&mut self) {
        let wall = self.wall();
        while !self.reports.is_full()
            && let Some(order) = self.manager.next_report()
        {
            let held = self.messages.held.get(&order.id).expect("an active message is held");
            let (source, size) = held.source.clone().expect("a message was found before it was loaded");
            let messages = begin(&self.settings.reports, &self.settings.manager.notices, &order, size, wall);
            let tag = self.links.next_number();
            let read = self.reader.begin(source, tag);
            self.reports.making.insert(tag, Making { order, read, messages });
        }
    }

    /// Gives the reports that are ready to the workers of the messages that they are about.
    pub(super) fn send_reports(&mut self) {
        let wall = self.wall();
        for Made { making, is_good } in std::mem::take(&mut self.reports.made) {
            let Making { order, read, messages } = making;
            self.reader.forget(read);
            let about = order.id;
            if !is_good {
                self.manager.reported(about, order.kind, Noted::Failed, wall);
                self.ended(about, wall);
                continue;
            }
            let messages = messages.into_iter().map(|Message { mut envelope, writer, mut content }| {
                writer.end(&mut content);
                envelope.reports = Some(about);
                (envelope, content)
            });
            let ReportOrder { kind, before, .. } = order;
            let report = Report { about, kind, messages: messages.collect(), before };
            self.reports.given += 1;
            self.queue.report(self.messages.home(about), Box::new(report));
        }
    }
}

/// Begins the messages that a report consists of.
fn begin(
    settings: &Arc<ReportSettings>,
    notices: &NoticeSettings,
    order: &ReportOrder,
    size: u64,
    now: Timestamp,
) -> Vec<Message> {
    let ReportOrder { id, envelope: original, kind, recipients, .. } = order;
    let zone = Zone::default();
    let message = |addressee: Addressee| {
        let listed: Vec<ReportedRecipient<'_>> = recipients
            .iter()
            .filter_map(|(number, due)| {
                let recipient = original.numbered().nth(*number as usize)?;
                let reported = ReportedRecipient { recipient, action: due.action, cause: &due.cause };
                kind.lists(recipient, addressee.audience).then_some(reported)
            })
            .collect();
        if listed.is_empty() {
            return None;
        }
        let notice = Notice {
            kind: *kind,
            audience: addressee.audience,
            to: &addressee.recipient,
            original_id: *id,
            original,
            original_size: Some(size),
            recipients: &listed,
            now,
            zone: &zone,
        };
        let mut content = Vec::new();
        let writer = Writer::begin(settings, &notice, &mut content);
        let envelope = addressee.envelope(settings, *kind, original, now);
        Some(Message { envelope, writer, content })
    };
    notices.addressees(*kind, &original.sender).into_iter().filter_map(message).collect()
}
