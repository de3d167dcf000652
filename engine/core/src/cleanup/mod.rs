//! The cleanup passes: what every message goes through between its session and the queue.
//!
//! In order, as in Postfix:
//!
//! | pass | over | does |
//! |---|---|---|
//! | `received` | header section | adds our trace field |
//! | `hop_count` | each Received field | refuses a message that loops |
//! | `header_checks` | each field | refuses, drops, replaces, or decides about the message |
//! | `header_rewrite` | each field with addresses | completes and maps them |
//! | `drop_headers` | each field | leaves out what must not enter the queue |
//! | `missing_headers` | end of the header section | adds what every message has |
//! | `body_checks`, `structure` | each line of the body | the same for its lines; finds parts and their fields |
//! | `envelope_sender` | reverse-path | completes and maps it |
//! | `envelope_recipient` | each recipient | completes and maps it, keeps the original |
//! | `virtual_alias_expansion` | each recipient | replaces it |
//! | `recipient_dedupe` | all recipients | leaves out who is there already |
//! | `auto_bcc` | all recipients | adds who gets copies |
//!
//! The content is scanned once, field by field and then, if any pass asks for it, line by line. What is unchanged
//! goes out as the slice of the input that it came as, neighbours as one slice; what a pass writes lies in the
//! message's arena. Content may come in parts: memory is bounded by one field, whatever a client sends. The envelope
//! comes last, when all is known; a pass that has nothing to do costs nothing.

mod body;
mod canonical;
mod checks;
mod field_kind;
mod field_text;
mod header_rewrite;
mod missing_headers;
mod output;
mod recipients;
mod rejection;
mod settings;
mod virtual_alias;
mod waiting;

use core::cell::RefCell;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::address::RewriteContext;
use crate::envelope::{BodyType, Envelope, Origin, Protocol, QueuedEnvelope};
use crate::message::header::{Field, Item, field_name, find_crlf, next_item};
use crate::message::mime::{Place, Structure};
use crate::message::received::{Host, write_received};
use crate::queue_id::QueueId;
use crate::smtp::reply;
use checks::{Act, Subject};
use field_kind::{FieldKind, Seen};
use field_text::{cut_place, emitted, logical, rest_of_cut_field};
use output::Output;

pub use checks::{Decisions, check_action};
pub use rejection::{Halt, Rejection};
pub use settings::{
    Bcc, Canonical, Checks, Classes, FieldNames, Masquerade, Mime, OctetSet, Settings, VirtualAlias,
};

/// What each call of the passes needs from outside.
pub struct Surroundings<'c, 'a> {
    /// The message's arena: everything that comes out may lie in it.
    pub arena: &'a Bump,
    /// What the passes are set to.
    pub settings: &'a Settings,
    /// Where the message came from.
    pub origin: &'c Origin,
    /// What MAIL and RCPT said.
    pub envelope: &'a Envelope,
    /// Told of what checks do, for the log.
    pub observer: &'c mut dyn Observer,
}

impl Surroundings<'_, '_> {
    /// The same for a shorter time.
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

/// Told of what checks do.
pub trait Observer {
    /// A check did something.
    fn noticed(&mut self, notice: &Notice<'_>);
}

/// One thing that a check did.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'n> {
    /// As Postfix's log says it: `reject`, `warning`, `hold` and so on.
    pub action: &'static str,
    /// `header` or `body`.
    pub subject: &'static str,
    /// The field or line.
    pub text: &'n [u8],
    /// What its entry says behind the action.
    pub argument: &'n [u8],
}

/// A cleaned part of the content.
#[derive(Debug)]
pub struct Part<'a> {
    /// So many octets of the input are done with. The rest is given again, with more behind it.
    pub consumed: usize,
    /// All that follows goes into the queue as it is.
    pub is_done: bool,
    /// What goes into the queue for the consumed octets.
    pub output: ArenaVec<'a, &'a [u8]>,
}

/// The state of one message's passes.
#[derive(Clone, Debug)]
pub struct Cleanup {
    id: QueueId,
    is_local_context: bool,
    phase: Phase,
    seen: Seen,
    hops: u32,
    structure: Structure,
    /// Some pass wants to know the structure.
    is_structure_followed: bool,
    /// The content says that it has octets above 127.
    is_eight_bit: bool,
    /// A field has UTF-8, and that makes the message one for SMTPUTF8.
    is_utf8: bool,
    decisions: Decisions,
    /// Changes while the envelope is asked for again and again; what is asked for does not.
    aliases: RefCell<virtual_alias::Progress>,
    body: body::Progress,
    message_id: [u8; MESSAGE_ID_SIZE_MAX],
    message_id_size: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was cleaned.
    Start,
    /// Before the first field: lines of a mailbox file may stand here.
    Top,
    /// Between fields of a header section, or lines of a body.
    Lines,
    /// Inside a field of which the rest is cut off.
    Cut,
    /// Nothing more is done.
    Done,
}

/// Octets of a message-id that are kept for the log.
const MESSAGE_ID_SIZE_MAX: usize = 160;

impl Cleanup {
    /// For the message `id`. `is_local_context`: the client is one whose mail counts as this system's
    /// (`local_header_rewrite_clients`), so that addresses are completed and missing fields added.
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
            decisions: Decisions::default(),
            aliases: RefCell::default(),
            body: body::Progress::default(),
            message_id: [0; MESSAGE_ID_SIZE_MAX],
            message_id_size: 0,
        }
    }

    /// The body of the Message-Id field for the log, cut at 160 octets; empty if there was none.
    #[must_use]
    pub fn message_id(&self) -> &[u8] {
        self.message_id.get(..usize::from(self.message_id_size)).unwrap_or_default()
    }

    /// What checks decided so far.
    #[must_use]
    pub const fn decisions(&self) -> &Decisions {
        &self.decisions
    }

    /// Cleans the next part of the content.
    ///
    /// `input`: content with CRLF line ends, from where the last call stopped; `is_whole`: nothing follows it. The
    /// first call adds the trace field.
    ///
    /// # Errors
    /// [`Halt`]: the message may not enter; or a table has not answered, and nothing was consumed.
    pub fn content<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        input: &'a [u8],
        is_whole: bool,
    ) -> Result<Part<'a>, Halt> {
        if surroundings.settings.may_wait() {
            self.content_with_waiting(surroundings, input, is_whole)
        } else {
            self.content_at_once(surroundings, input, is_whole)
        }
    }

    fn content_at_once<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        input: &'a [u8],
        is_whole: bool,
    ) -> Result<Part<'a>, Halt> {
        let mut result = self.advance(surroundings, input, is_whole);
        if let Err(Halt::Rejected(_)) = result {
            // What is wrong with the envelope is said first.
            match self.envelope(&mut surroundings.reborrow()) {
                Err(Halt::Rejected(Rejection::NoRecipients)) | Ok(_) => {}
                Err(halt) => result = Err(halt),
            }
        }
        result
    }

    /// The envelope as it goes into the queue; all content was cleaned.
    ///
    /// # Errors
    /// [`Halt`].
    pub fn envelope<'a>(
        &'a self,
        surroundings: &mut Surroundings<'_, 'a>,
    ) -> Result<QueuedEnvelope<'a>, Halt> {
        let given = surroundings.envelope;
        let sender = recipients::envelope_sender(surroundings)?;
        let copies = self.decisions.copies.iter().map(alloc::vec::Vec::as_slice);
        let recipients =
            recipients::envelope_recipients(surroundings, &mut self.aliases.borrow_mut(), sender, copies)?;
        if recipients.is_empty() {
            return Err(Rejection::NoRecipients.into());
        }
        let is_utf8 = self.is_utf8 || self.detects_utf8(surroundings) && !sender.is_ascii();
        Ok(QueuedEnvelope {
            given,
            sender,
            recipients,
            body: if self.is_eight_bit && given.body != BodyType::BinaryMime {
                BodyType::EightBitMime
            } else {
                given.body
            },
            smtputf8: given.smtputf8 || is_utf8,
            content_filter: self.decisions.content_filter.as_deref(),
            redirect: self.decisions.redirect.as_deref(),
        })
    }

    fn advance<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        input: &'a [u8],
        is_whole: bool,
    ) -> Result<Part<'a>, Halt> {
        let settings = surroundings.settings;
        let size_max = settings.header_size_limit + settings.line_length_limit;
        let mut output = Output::new(surroundings.arena, input);
        let mut at = 0;
        if self.phase == Phase::Start {
            let is_raw = surroundings.envelope.has_raw_start;
            let Some(continuation) = continuation(input, is_whole, if is_raw { size_max } else { 0 }) else {
                return Ok(output.part(0, false));
            };
            self.is_structure_followed = settings.follows_structure(surroundings.envelope);
            self.received(surroundings, &mut output, input.get(..continuation.size).unwrap_or_default())?;
            at = continuation.size;
            self.phase = match continuation.is_whole {
                false => Phase::Cut,
                true if is_raw => Phase::Lines,
                true => Phase::Top,
            };
        }
        loop {
            let rest = input.get(at..).unwrap_or_default();
            match self.phase {
                Phase::Done => {
                    output.keep(at, input.len());
                    return Ok(output.part(input.len(), true));
                }
                Phase::Cut => {
                    let skipped = rest_of_cut_field(rest, is_whole);
                    at += skipped.octets;
                    if !skipped.is_over {
                        return Ok(output.part(at, false));
                    }
                    self.phase = Phase::Lines;
                    continue;
                }
                Phase::Top => match mailbox_line(rest, is_whole) {
                    // A longer one is not taken for one, however it arrives.
                    MailboxLine::Whole(size) if size <= settings.header_size_limit => {
                        let line = rest.get(..size).unwrap_or_default();
                        self.mailbox_field(surroundings, &mut output, line)?;
                        at += size;
                        continue;
                    }
                    MailboxLine::Incomplete if rest.len() <= settings.header_size_limit => {
                        return Ok(output.part(at, false));
                    }
                    MailboxLine::Whole(_) | MailboxLine::Incomplete | MailboxLine::No => {}
                },
                Phase::Start | Phase::Lines => {}
            }
            if self.structure.place() == Place::Body {
                if self.is_body_transparent(settings) {
                    self.phase = Phase::Done;
                    return Ok(output.part(at, true));
                }
                if !self.body_lines(surroundings, &mut output, input, &mut at, is_whole)? {
                    return Ok(output.part(at, false));
                }
                continue;
            }
            match &next_item_with(rest, is_whole, settings.line_length_limit) {
                Item::Field(field) => {
                    self.phase = Phase::Lines;
                    self.clean_field(surroundings, &mut output, field, at)?;
                    at += field.raw.len();
                }
                Item::End(size) => {
                    self.phase = Phase::Lines;
                    self.end_header_section(surroundings, &mut output, true)?;
                    output.keep(at, at + size);
                    at += size;
                    self.body.begin_segment(true);
                }
                Item::Body => {
                    self.phase = Phase::Lines;
                    let is_primary = self.structure.place() == Place::Primary;
                    self.end_header_section(surroundings, &mut output, false)?;
                    if is_primary {
                        // The body begins without an empty line.
                        output.write(b"\r\n");
                    }
                    self.body.begin_segment(false);
                }
                Item::Incomplete => {
                    // A CR at the end may be half of a line end.
                    let seen = rest.strip_suffix(b"\r").unwrap_or(rest);
                    let (Some(_), Some((name_size, colon))) = (cut_place(seen, size_max), field_name(rest))
                    else {
                        return Ok(output.part(at, false));
                    };
                    // Endless: its front goes out now and the rest is skipped.
                    let has_nul = memchr::memchr(0, rest).is_some();
                    let field = Field { raw: rest, name_size, colon, is_folded: true, has_nul };
                    self.clean_field(surroundings, &mut output, &field, at)?;
                    at += name_size;
                    self.phase = Phase::Cut;
                }
            }
        }
    }

    /// Adds our trace field, which checks may see like any other; `continuation`: lines of the content that continue it.
    fn received<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        output: &mut Output<'a>,
        continuation: &[u8],
    ) -> Result<(), Halt> {
        let settings = surroundings.settings;
        let mut raw = ArenaVec::with_capacity_in(320 + continuation.len(), surroundings.arena);
        let host = Host { name: &settings.myhostname, software: &settings.mail_name, zone: &settings.zone };
        write_received(&mut raw, host, surroundings.origin, surroundings.envelope, self.id);
        raw.extend_from_slice_copy(continuation);
        if !continuation.is_empty()
            && let Item::Field(field) = next_item(raw.clone().into_bump_slice(), true)
        {
            let (arena, size_max) = (surroundings.arena, settings.header_size_limit);
            let text = logical(arena, &field, size_max, settings.line_length_limit);
            raw.clear();
            raw.extend_from_slice_copy(emitted(arena, text, size_max));
        }
        self.own_field(surroundings, output, raw.into_bump_slice())
    }

    /// A line of a mailbox file becomes a field, which checks may see.
    fn mailbox_field<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        output: &mut Output<'a>,
        line: &'a [u8],
    ) -> Result<(), Halt> {
        let name = b"X-Mailbox-Line: ";
        let mut raw = ArenaVec::with_capacity_in(name.len() + line.len(), surroundings.arena);
        raw.extend_from_slice_copy(name);
        raw.extend_from_slice_copy(line);
        // As in any field, text ends at a NUL, and where there is too much of it.
        let end =
            memchr::memchr(0, &raw).or_else(|| cut_place(&raw, surroundings.settings.header_size_limit));
        if let Some(end) = end {
            raw.truncate(end);
            raw.extend_from_slice_copy(b"\r\n");
        }
        self.own_field(surroundings, output, raw.into_bump_slice())
    }

    /// A field that is not of the input.
    fn own_field<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        output: &mut Output<'a>,
        raw: &'a [u8],
    ) -> Result<(), Halt> {
        let settings = surroundings.settings;
        let checks = &settings.checks.header;
        let raw = strip_characters(surroundings.arena, settings, raw);
        if settings.message_reject_characters.is_some() {
            raw.split(is_line_octet).try_for_each(|line| self.refuse_characters(settings, line))?;
        }
        if let Item::Field(field) = next_item(raw, true)
            && !checks.is_empty()
        {
            let text =
                logical(surroundings.arena, &field, settings.header_size_limit, settings.line_length_limit);
            match self.check(surroundings, checks, Subject::Header, text)? {
                Act::Keep => {}
                Act::Drop => return Ok(()),
                Act::Replace(text) => {
                    output.write(emitted(surroundings.arena, text, settings.header_size_limit));
                    return Ok(());
                }
                Act::Prepend(text) => {
                    output.write(emitted(surroundings.arena, text, settings.header_size_limit));
                }
            }
        }
        output.write(raw);
        Ok(())
    }

    /// The passes over one field: `raw` begins at `at` of the input.
    fn clean_field<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        output: &mut Output<'a>,
        field: &Field<'a>,
        at: usize,
    ) -> Result<(), Halt> {
        let (arena, settings) = (surroundings.arena, surroundings.settings);
        let mut kind = FieldKind::of(field.name());
        let place = self.structure.place();
        let field_text = || logical(arena, field, settings.header_size_limit, settings.line_length_limit);
        if settings.message_reject_characters.is_some() {
            field
                .raw
                .split(|octet| matches!(octet, b'\r' | b'\n'))
                .try_for_each(|line| self.refuse_characters(settings, line))?;
        }
        if self.is_structure_followed {
            self.note_structure(surroundings, kind, field)?;
        }
        if kind == FieldKind::Received {
            self.hops += 1;
        }
        let mut replaced = None;
        if let Some(maps) = settings.checks.of(place, kind) {
            match self.check(surroundings, maps, Subject::Header, field_text())? {
                Act::Keep => {}
                Act::Drop => return Ok(()),
                Act::Prepend(text) => output.write(emitted(arena, text, settings.header_size_limit)),
                Act::Replace(text) => {
                    let name_size = field_name(text).map_or(0, |(name_size, _)| name_size);
                    kind = FieldKind::of(text.get(..name_size).unwrap_or_default());
                    replaced = Some((text, name_size));
                }
            }
        }
        if settings.mime.detects_8bit && kind == FieldKind::ContentTransferEncoding {
            let text = replaced.map_or_else(field_text, |(text, _)| text);
            let (_, encoding) = text.split_at_checked(FIELD_CTE_SIZE).unwrap_or_default();
            let encoding = encoding.trim_ascii();
            self.is_eight_bit |=
                encoding.eq_ignore_ascii_case(b"8bit") || encoding.eq_ignore_ascii_case(b"binary");
        }
        if !self.is_utf8 && self.detects_utf8(surroundings) {
            let text = replaced.map_or(field.raw, |(text, _)| text);
            self.is_utf8 = !text.is_ascii() && core::str::from_utf8(text).is_ok();
        }
        if place == Place::Primary && !kind.is_mime() {
            self.seen.note(kind);
            if kind == FieldKind::Received && self.hops >= settings.hopcount_limit {
                return Err(Rejection::TooManyHops.into());
            }
            if matches!(kind, FieldKind::MessageId) {
                let text = replaced.map_or_else(field_text, |(text, _)| text);
                self.note_message_id(text.get(FIELD_MESSAGE_ID_SIZE..).unwrap_or_default());
            }
            let name = match replaced {
                Some((text, name_size)) => text.get(..name_size).unwrap_or_default(),
                None => field.name(),
            };
            if settings.message_drop_headers.has(name) {
                return Ok(());
            }
            if let (Some(party), Some(context)) = (kind.party(), self.context(settings)) {
                let text = replaced.map_or_else(field_text, |(text, _)| text);
                let rewritten =
                    header_rewrite::header_rewrite(surroundings, context, party, text, name.len())?;
                if let Some(text) = rewritten {
                    output.write(text);
                    return Ok(());
                }
            }
        }
        match replaced {
            Some((text, _)) => output.write(emitted(arena, text, settings.header_size_limit)),
            // Where it is cut depends on what is left of it.
            None if field.colon != field.name_size || field.has_nul => {
                output.write(emitted(arena, field_text(), settings.header_size_limit));
            }
            None => keep_field(output, field, at, settings.header_size_limit),
        }
        Ok(())
    }

    /// What addresses of this message's header section are completed with; `None`: they are left alone.
    fn context<'a>(&self, settings: &'a Settings) -> Option<&'a RewriteContext> {
        let rewriting = settings.rewriting.as_ref();
        if self.is_local_context { Some(&rewriting.local) } else { rewriting.remote.as_ref() }
    }

    /// Whether UTF-8 makes this message one for SMTPUTF8 (`smtputf8_autodetect_classes`: sendmail).
    fn detects_utf8(&self, surroundings: &Surroundings<'_, '_>) -> bool {
        surroundings.settings.detects_smtputf8 && surroundings.origin.protocol == Protocol::Local
    }

    /// The pass over the end of a header section.
    fn end_header_section<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        output: &mut Output<'a>,
        is_clean: bool,
    ) -> Result<(), Halt> {
        let settings = surroundings.settings;
        let is_primary = self.structure.place() == Place::Primary;
        if is_primary && (self.context(settings).is_some() || settings.always_add_missing_headers) {
            let added = missing_headers::missing_headers(surroundings, self.id, self.seen)?;
            if let Item::Field(field) = next_item(added, true)
                && FieldKind::of(field.name()) == FieldKind::MessageId
            {
                self.note_message_id(field.body());
            }
            output.write(added);
        }
        if self.is_structure_followed
            && settings.mime.strict_encoding_domain
            && !self.decisions.is_settled
            && self.structure.is_encoding_improper()
        {
            return Err(Rejection::Improper(&reply::MIME_ENCODING).into());
        }
        self.structure.end_of_header_section(is_clean);
        Ok(())
    }

    fn note_message_id(&mut self, body: &[u8]) {
        let body = body.trim_ascii();
        let size = body.len().min(MESSAGE_ID_SIZE_MAX);
        if let (Some(place), Some(kept)) = (self.message_id.get_mut(..size), body.get(..size)) {
            place.copy_from_slice(kept);
        }
        self.message_id_size = u8::try_from(size).unwrap_or(u8::MAX);
    }
}

/// Octets of `Content-Transfer-Encoding:` and `Message-Id:`.
const FIELD_CTE_SIZE: usize = 26;
const FIELD_MESSAGE_ID_SIZE: usize = 11;

/// [`next_item`], but a field's colon stands within so many octets.
#[inline(always)]
fn next_item_with(input: &[u8], is_whole: bool, name_size_max: usize) -> Item<'_> {
    match next_item(input, is_whole) {
        Item::Field(field) if field.colon >= name_size_max => Item::Body,
        Item::Incomplete if input.get(..name_size_max).is_some_and(|front| field_name(front).is_none()) => {
            Item::Body
        }
        item => item,
    }
}

/// Lines at the front of content that begin with a blank.
struct Continuation {
    /// Bytes of these lines; or all there is, if there is more than may be kept.
    size: usize,
    /// The last line is whole, and no further one follows.
    is_whole: bool,
}

/// `None`: more input has to tell. `size_max`: with more input than this, what there is has to do; 0: no line is one.
fn continuation(input: &[u8], is_whole: bool, size_max: usize) -> Option<Continuation> {
    let mut size = 0;
    if size_max > 0 {
        loop {
            match input.get(size) {
                Some(b' ' | b'\t') => {}
                Some(_) => break,
                None if is_whole => break,
                // The line end stays in front of what tells whether the field goes on.
                None if input.len() > size_max => {
                    return Some(Continuation { size: size.saturating_sub(2), is_whole: false });
                }
                None => return None,
            }
            match input.get(size..).and_then(find_crlf) {
                Some(line) => size += line + 2,
                None if is_whole => size = input.len(),
                None if input.len() > size_max => {
                    // A CR at the end may be half of a line end.
                    let size = input.len() - usize::from(input.ends_with(b"\r"));
                    return Some(Continuation { size, is_whole: false });
                }
                None => return None,
            }
        }
    }
    Some(Continuation { size, is_whole: true })
}

/// A field that nothing changed.
fn keep_field(output: &mut Output<'_>, field: &Field<'_>, at: usize, size_max: usize) {
    let end = cut_place(field.raw, size_max).unwrap_or(field.raw.len());
    output.keep(at, at + end);
    if !field.raw.get(..end).unwrap_or_default().ends_with(b"\r\n") {
        output.write(b"\r\n");
    }
}

/// `input` without the octets that are taken out (`message_strip_characters`); line ends stay. Before the passes, and
/// in as many parts as one likes.
#[must_use]
pub fn strip_characters<'a>(arena: &'a Bump, settings: &Settings, input: &'a [u8]) -> &'a [u8] {
    let Some(set) = &settings.message_strip_characters else { return input };
    let is_kept = |octet: &u8| is_line_octet(octet) || !set.contains(*octet);
    if input.iter().all(is_kept) {
        return input;
    }
    ArenaVec::from_iter_in(input.iter().copied().filter(is_kept), arena).into_bump_slice()
}

const fn is_line_octet(octet: &u8) -> bool {
    matches!(octet, b'\r' | b'\n')
}

/// Whether the section begins with a line of a mailbox file, `From ` with any number of `>` before it.
enum MailboxLine {
    /// So many octets, line end included.
    Whole(usize),
    Incomplete,
    No,
}

fn mailbox_line(input: &[u8], is_whole: bool) -> MailboxLine {
    let quotes = input.iter().take_while(|octet| **octet == b'>').count();
    let rest = input.get(quotes..).unwrap_or_default();
    let is_start = b"From ".starts_with(rest.get(..5.min(rest.len())).unwrap_or_default());
    if !is_start || (is_whole && rest.len() < 5) {
        return MailboxLine::No;
    }
    match find_crlf(rest) {
        Some(end) if rest.len() >= 5 => MailboxLine::Whole(quotes + end + 2),
        None if is_whole => MailboxLine::Whole(input.len()),
        _ => MailboxLine::Incomplete,
    }
}

#[cfg(test)]
mod tests;
