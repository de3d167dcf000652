//! The cleanup passes, which every message goes through between its session and the queue.
//!
//! The passes run in this order, as in Postfix. Each is in the file of its name.
//!
//! | pass | over | does |
//! |---|---|---|
//! | `received` | the beginning | adds our trace field |
//! | `mailbox_line` | lines before the first field | turns mailbox lines into fields |
//! | `characters` | all content | removes bytes, or refuses the message because of them |
//! | `structure` | MIME fields | finds parts, and refuses improper structure |
//! | `hop_count` | each Received field | refuses a message that loops |
//! | `header_checks` | each field | refuses, drops, replaces, or decides about the message |
//! | `encoding` | each field | detects non-ASCII content |
//! | `message_id` | the Message-Id field | records it for the log |
//! | `drop_headers` | each field | removes the fields of `message_drop_headers` |
//! | `header_rewrite` | each field with addresses | completes and maps them |
//! | `missing_headers` | end of the header section | adds missing fields |
//! | `body` | each line of the body | applies body_checks, finds parts |
//! | `envelope_sender` | reverse-path | completes and maps it |
//! | `envelope_recipient` | each recipient | completes and maps it, keeps the original |
//! | `virtual_alias` | each recipient | expands aliases, keeps those whose expansion is to be reported |
//! | `recipient_dedupe` | all recipients | removes duplicates |
//! | `auto_bcc` | all recipients | adds recipients of blind copies |
//!
//! `field_passes`, `end_passes` and `envelope_passes` are these lists as code, and `content` finds the next item. Passes map
//! addresses with `canonical` and apply the actions of tables with `checks`.
//!
//! The content is scanned once, field by field and then, if a pass needs it, line by line. Unchanged content is output as
//! slices of the input, with adjacent slices merged; text that a pass writes is in the message's arena. Content may arrive
//! in parts, and memory is bounded by one field, whatever a client sends. The envelope comes last, when the whole content is
//! known. A pass that has nothing to do costs nothing.

mod auto_bcc;
mod body;
mod canonical;
mod characters;
mod checks;
mod content;
mod drop_headers;
mod encoding;
mod envelope_recipient;
mod envelope_sender;
mod field;
mod field_kind;
mod field_text;
mod header_checks;
mod header_rewrite;
mod hop_count;
mod mailbox_line;
mod message_id;
mod missing_headers;
mod output;
mod received;
mod recipient_dedupe;
mod rejection;
mod settings;
mod structure;
mod virtual_alias;
mod waiting;

use core::cell::RefCell;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::envelope::{BodyType, Envelope, Origin, QueuedEnvelope};
use crate::lookup::{Answers, Asker};
use crate::message::mime::Structure;
use crate::queue_id::QueueId;
use content::Phase;
use field::OneField;
use field_kind::Seen;
use message_id::MESSAGE_ID_SIZE_MAX;
use output::Output;

pub use characters::strip_characters;
pub use checks::{Decisions, check_action};
pub use drop_headers::FieldNames;
pub use rejection::{Halt, Rejection};
pub use settings::{Bcc, Canonical, Checks, Classes, Masquerade, Mime, OctetSet, Settings, VirtualAlias};

/// Arguments of each call of the passes.
pub struct Surroundings<'c, 'a> {
    /// Arena of the message. All output may refer to it.
    pub arena: &'a Bump,
    /// Settings of the passes.
    pub settings: &'a Settings,
    /// Origin of the message.
    pub origin: &'c Origin,
    /// Envelope as given by MAIL and RCPT.
    pub envelope: &'a Envelope,
    /// Receives the actions of checks, for the log.
    pub observer: &'c mut dyn Observer,
}

impl Surroundings<'_, '_> {
    /// Reborrows all fields for a shorter time.
    pub fn reborrow(&mut self) -> Surroundings<'_, '_> {
        Surroundings {
            arena: self.arena,
            settings: self.settings,
            origin: self.origin,
            envelope: self.envelope,
            observer: self.observer,
        }
    }
}

/// Arguments of the passes during one call: the surroundings, and the answers that the message has received.
struct Passes<'c, 'a> {
    arena: &'a Bump,
    settings: &'a Settings,
    origin: &'c Origin,
    envelope: &'a Envelope,
    observer: &'c mut dyn Observer,
    answers: &'c RefCell<Answers>,
}

impl<'c, 'a> Passes<'c, 'a> {
    fn new(surroundings: &'c mut Surroundings<'_, 'a>, answers: &'c RefCell<Answers>) -> Self {
        let Surroundings { arena, settings, origin, envelope, observer } = surroundings;
        Self { arena, settings, origin, envelope, observer: &mut **observer, answers }
    }

    /// Returns the party on whose behalf tables are searched.
    fn asker(&self) -> Asker<'c> {
        Asker::new(self.origin.sharer(), self.answers)
    }
}

/// Receives the actions of checks.
pub trait Observer {
    /// Called for each action of a check.
    fn noticed(&mut self, notice: &Notice<'_>);
}

/// An action of a check.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'n> {
    /// Action as in Postfix's log: `reject`, `warning`, `hold` and so on.
    pub action: &'static str,
    /// `header` or `body`.
    pub subject: &'static str,
    /// Field or line.
    pub text: &'n [u8],
    /// Text of the entry after the action.
    pub argument: &'n [u8],
}

/// A cleaned part of the content.
#[derive(Debug)]
pub struct Part<'a> {
    /// Number of input bytes consumed. Pass the remainder again, followed by more input.
    pub consumed: usize,
    /// The rest of the content enters the queue unchanged.
    pub is_done: bool,
    /// Output for the consumed bytes.
    pub output: ArenaVec<'a, &'a [u8]>,
}

/// State of the passes over one message.
#[derive(Clone, Debug)]
pub struct Cleanup {
    id: QueueId,
    is_local_context: bool,
    phase: Phase,
    seen: Seen,
    hops: u32,
    structure: Structure,
    /// Some pass needs the MIME structure.
    is_structure_followed: bool,
    /// The content declares bytes above 127.
    is_eight_bit: bool,
    /// A field contains UTF-8, which makes the message require SMTPUTF8.
    is_utf8: bool,
    /// No field that was written has a byte above 127.
    is_header_ascii: bool,
    decisions: Decisions,
    /// Progress across repeated calls for the envelope, which return the same result.
    aliases: RefCell<virtual_alias::Progress>,
    body: body::Progress,
    answers: RefCell<Answers>,
    message_id: [u8; MESSAGE_ID_SIZE_MAX],
    message_id_size: u8,
}

impl Cleanup {
    /// Creates the state for the message `id`. `is_local_context`: the client's mail counts as local
    /// (`local_header_rewrite_clients`), so addresses are completed and missing fields added.
    #[must_use]
    pub fn new(id: QueueId, is_local_context: bool) -> Self {
        Self {
            id,
            is_local_context,
            phase: Phase::Start,
            seen: Seen::new(),
            hops: 1,
            structure: Structure::new(),
            is_structure_followed: false,
            is_eight_bit: false,
            is_utf8: false,
            is_header_ascii: true,
            decisions: Decisions::default(),
            aliases: RefCell::default(),
            body: body::Progress::default(),
            answers: RefCell::default(),
            message_id: [0; MESSAGE_ID_SIZE_MAX],
            message_id_size: 0,
        }
    }

    /// Returns the decisions of checks so far.
    #[must_use]
    pub const fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Cleans the next part of the content.
    ///
    /// `input` is content with CRLF line ends, from where the last call stopped; `is_whole`: it ends the content. The first
    /// call adds the trace field.
    ///
    /// # Errors
    /// [`Halt`]: the message is rejected; or a table has not answered, and nothing was consumed.
    pub fn content<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        input: &'a [u8],
        is_whole: bool,
    ) -> Result<Part<'a>, Halt> {
        // The answers of an undone call are kept.
        let answers = core::mem::take(&mut self.answers);
        let mut passes = Passes::new(surroundings, &answers);
        let result = if passes.settings.may_wait() {
            self.content_with_waiting(&mut passes, input, is_whole)
        } else {
            self.content_at_once(&mut passes, input, is_whole)
        };
        self.answers = answers;
        result
    }

    /// Returns the memory that answers of tables take, in bytes.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.answers.borrow().memory()
    }

    /// Runs the passes over a field, in order.
    fn field_passes<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        output: &mut Output<'a>,
        mut field: OneField<'_, 'a>,
    ) -> Result<(), Halt> {
        let settings = surroundings.settings;
        self.refuse_characters_of_lines(settings, field.given.raw)?;
        self.note_structure(surroundings, &field)?;
        self.count_hop(&field);
        if !self.header_checks(surroundings, output, &mut field)? {
            return Ok(());
        }
        self.detect_8bit(surroundings, &field);
        self.detect_utf8(surroundings, &field);
        if field.is_of_message() {
            self.seen.note(field.kind);
            self.hop_count(settings, &field)?;
            self.take_message_id(surroundings, &field);
            if drop_headers::is_dropped(settings, &field) {
                return Ok(());
            }
            if let Some(rewritten) = self.header_rewrite(surroundings, &field)? {
                self.note_written(rewritten);
                output.write(rewritten);
                return Ok(());
            }
        }
        self.note_written(field.raw());
        field.emit(surroundings.arena, settings, output);
        Ok(())
    }

    /// Runs the passes over the end of a header section, in order; `is_clean`: it ends with an empty line.
    fn end_passes<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        output: &mut Output<'a>,
        is_clean: bool,
    ) -> Result<(), Halt> {
        self.missing_headers(surroundings, output)?;
        self.end_of_header_section(surroundings.settings, is_clean)
    }

    /// Returns the envelope for the queue. Call it after all content has been cleaned.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn envelope<'a>(
        &'a self,
        surroundings: &mut Surroundings<'_, 'a>,
    ) -> Result<QueuedEnvelope<'a>, Halt> {
        self.envelope_passes(&Passes::new(surroundings, &self.answers))
    }

    /// Runs the passes over the envelope, in order.
    fn envelope_passes<'a>(&'a self, surroundings: &Passes<'_, 'a>) -> Result<QueuedEnvelope<'a>, Halt> {
        let given = surroundings.envelope;
        let sender = envelope_sender::envelope_sender(surroundings)?;
        let copies = self.decisions.copies.iter().map(alloc::vec::Vec::as_slice);
        let envelope_recipient::Outcome { recipients, expanded } = envelope_recipient::envelope_recipients(
            surroundings,
            &mut self.aliases.borrow_mut(),
            sender,
            copies,
        )?;
        if recipients.is_empty() {
            return Err(Rejection::NoRecipients.into());
        }
        let is_utf8 = self.is_utf8 || encoding::detects_utf8(surroundings) && !sender.is_ascii();
        Ok(QueuedEnvelope {
            given,
            sender,
            recipients,
            expanded,
            body: if self.is_eight_bit && given.body != BodyType::BinaryMime {
                BodyType::EightBitMime
            } else {
                given.body
            },
            smtputf8: given.smtputf8 || is_utf8,
            has_ascii_header: self.is_header_ascii,
            content_filter: self.decisions.content_filter.as_deref(),
            redirect: self.decisions.redirect.as_deref(),
        })
    }
}

#[cfg(test)]
mod tests;
