//! The cleanup passes: what every message goes through between its session and the queue.
//!
//! In order, as in Postfix:
//!
//! | pass | over | does |
//! |---|---|---|
//! | `envelope_sender` | reverse-path | completes it |
//! | `envelope_recipient` | each recipient | completes it, keeps the original |
//! | `received` | header section | adds our trace field |
//! | `hop_count` | each Received field | refuses a message that loops |
//! | `drop_headers` | each field | leaves out what must not enter the queue |
//! | `missing_headers` | end of the header section | adds what every message has |
//!
//! The header section is scanned once, field by field. An unchanged field goes out as the slice of the input
//! that it came as, neighbours as one slice; what a pass writes lies in the message's arena. The section may
//! come in parts: memory is bounded by one field, whatever a client sends.

mod envelope_address;
mod field_kind;
mod missing_headers;
mod settings;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::envelope::{Envelope, Origin};
use crate::message::header::{Field, Item, field_name, next_item};
use crate::message::received::{Host, write_received};
use crate::queue_id::QueueId;
use field_kind::{FieldKind, Seen};

pub use settings::Settings;

/// Why a message may not enter the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It has [`Settings::hopcount_limit`] Received fields, ours included (554 5.4.0).
    TooManyHops,
}

/// A cleaned part of a header section.
#[derive(Debug)]
pub struct Section<'a> {
    /// So many octets of the input are done with. The rest is given again, with more behind it; once the section
    /// is done, it is the body.
    pub consumed: usize,
    /// The header section is over.
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
    message_id: [u8; MESSAGE_ID_SIZE_MAX],
    message_id_size: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing was cleaned.
    Start,
    /// Before the first field: lines of a mailbox file may stand here.
    Top,
    /// Between fields.
    Fields,
    /// Inside a field of which the rest is cut off.
    Cut,
}

/// Octets of a message-id that are kept for the log.
const MESSAGE_ID_SIZE_MAX: usize = 160;

impl Cleanup {
    /// For the message `id`. `is_local_context`: the client is one whose mail counts as this system's
    /// (`local_header_rewrite_clients`), so that missing fields are added.
    #[must_use]
    pub const fn new(id: QueueId, is_local_context: bool) -> Self {
        Self {
            id,
            is_local_context,
            phase: Phase::Start,
            seen: Seen::new(),
            hops: 1,
            message_id: [0; MESSAGE_ID_SIZE_MAX],
            message_id_size: 0,
        }
    }

    /// The body of the Message-Id field for the log, cut at 160 octets; empty if there was none.
    #[must_use]
    pub fn message_id(&self) -> &[u8] {
        self.message_id.get(..usize::from(self.message_id_size)).unwrap_or_default()
    }

    /// Cleans the next part of the header section.
    ///
    /// `input`: content with CRLF line ends, from where the last call stopped; `is_whole`: nothing follows it.
    /// The first call adds the trace field and completes the envelope's addresses.
    ///
    /// # Errors
    /// [`Rejection`]: the message may not enter.
    pub fn header_section<'a>(
        &mut self,
        arena: &'a Bump,
        settings: &Settings,
        origin: &Origin,
        envelope: &mut Envelope,
        input: &'a [u8],
        is_whole: bool,
    ) -> Result<Section<'a>, Rejection> {
        let mut output = Output { slices: ArenaVec::with_capacity_in(8, arena), input, pending: 0..0 };
        if self.phase == Phase::Start {
            envelope_address::envelope_sender(settings, envelope);
            envelope_address::envelope_recipient(settings, envelope);
            let mut field = ArenaVec::with_capacity_in(320, arena);
            let host =
                Host { name: &settings.myhostname, software: &settings.mail_name, zone: &settings.zone };
            write_received(&mut field, host, origin, envelope, self.id);
            output.write(field.into_bump_slice());
            self.phase = Phase::Top;
        }
        // Fields with NUL are rare; the question is asked once for all.
        let has_nul = memchr::memchr(0, input).is_some();
        let mut at = 0;
        let end_of_section = loop {
            let rest = input.get(at..).unwrap_or_default();
            if self.phase == Phase::Cut {
                let skipped = rest_of_cut_field(rest, is_whole);
                at += skipped.octets;
                if !skipped.is_over {
                    return Ok(output.part(at));
                }
                self.phase = Phase::Fields;
                continue;
            }
            if self.phase == Phase::Top {
                match mailbox_line(rest, is_whole) {
                    MailboxLine::Whole(size) => {
                        output.write(b"X-Mailbox-Line: ");
                        output.keep(at, at + size);
                        at += size;
                        continue;
                    }
                    MailboxLine::Incomplete if rest.len() <= settings.header_size_limit => {
                        return Ok(output.part(at));
                    }
                    MailboxLine::Incomplete | MailboxLine::No => {}
                }
            }
            match next_item(rest, is_whole) {
                Item::Field(field) => {
                    self.phase = Phase::Fields;
                    self.clean_field(settings, &mut output, field, at, has_nul)?;
                    at += field.raw.len();
                }
                Item::End(size) => break Some(size),
                Item::Body => break None,
                // A CR at the end may be half of a line end.
                Item::Incomplete
                    if cut_place(rest.strip_suffix(b"\r").unwrap_or(rest), settings.header_size_limit)
                        .is_some() =>
                {
                    // Endless: its front goes out now and the rest is skipped, if it is a field at all.
                    let Some((name_size, colon)) = field_name(rest) else { break None };
                    self.clean_field(
                        settings,
                        &mut output,
                        Field { raw: rest, name_size, colon },
                        at,
                        has_nul,
                    )?;
                    at += name_size;
                    self.phase = Phase::Cut;
                }
                Item::Incomplete => return Ok(output.part(at)),
            }
        };
        if self.is_local_context
            || settings.always_add_missing_headers
            || !settings.remote_header_rewrite_domain.is_empty()
        {
            let added = missing_headers::missing_headers(arena, settings, envelope, self.id, self.seen);
            if let Item::Field(field) = next_item(added, true)
                && FieldKind::of(field.name()) == FieldKind::MessageId
            {
                self.note_message_id(field.body());
            }
            output.write(added);
        }
        match end_of_section {
            Some(size) => {
                output.keep(at, at + size);
                at += size;
            }
            // The body begins without an empty line.
            None => output.write(b"\r\n"),
        }
        let mut section = output.part(at);
        section.is_done = true;
        Ok(section)
    }

    fn clean_field(
        &mut self,
        settings: &Settings,
        output: &mut Output<'_>,
        field: Field<'_>,
        at: usize,
        has_nul: bool,
    ) -> Result<(), Rejection> {
        let kind = FieldKind::of(field.name());
        self.seen.note(kind);
        self.hop_count(settings, kind)?;
        if kind == FieldKind::MessageId {
            self.note_message_id(field.body());
        }
        if is_dropped(settings, field.name()) {
            return Ok(());
        }
        let mut end = field.raw.len();
        if has_nul && let Some(nul) = memchr::memchr(0, field.raw) {
            // As Postfix, whose text ends at a NUL.
            end = nul;
        }
        end = end.min(cut_place(field.raw, settings.header_size_limit).unwrap_or(end));
        let mut start = 0;
        if field.colon != field.name_size {
            output.keep(at, at + field.name_size);
            start = field.colon;
        }
        output.keep(at + start, at + end.max(start));
        if !field.raw.get(..end).unwrap_or_default().ends_with(b"\r\n") {
            output.write(b"\r\n");
        }
        Ok(())
    }

    /// Counts Received fields.
    fn hop_count(&mut self, settings: &Settings, kind: FieldKind) -> Result<(), Rejection> {
        if kind == FieldKind::Received {
            self.hops += 1;
            if self.hops >= settings.hopcount_limit {
                return Err(Rejection::TooManyHops);
            }
        }
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

/// What goes into the queue, gathered so that neighbouring slices of the input become one.
struct Output<'a> {
    slices: ArenaVec<'a, &'a [u8]>,
    input: &'a [u8],
    /// Of the input, not yet in `slices`.
    pending: core::ops::Range<usize>,
}

impl<'a> Output<'a> {
    /// Octets of the input as they are.
    fn keep(&mut self, start: usize, end: usize) {
        if self.pending.end == start {
            self.pending.end = end;
        } else {
            self.settle();
            self.pending = start..end;
        }
    }

    /// Octets that a pass wrote.
    fn write(&mut self, octets: &'a [u8]) {
        if !octets.is_empty() {
            self.settle();
            self.slices.push(octets);
        }
    }

    fn settle(&mut self) {
        let pending = core::mem::replace(&mut self.pending, 0..0);
        if let Some(octets) = self.input.get(pending)
            && !octets.is_empty()
        {
            self.slices.push(octets);
        }
    }

    /// All of it, for `consumed` octets of the input.
    fn part(mut self, consumed: usize) -> Section<'a> {
        self.settle();
        Section { consumed, is_done: false, output: self.slices }
    }
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
    match memchr::memmem::find(rest, b"\r\n") {
        Some(end) if rest.len() >= 5 => MailboxLine::Whole(quotes + end + 2),
        None if is_whole => MailboxLine::Whole(input.len()),
        _ => MailboxLine::Incomplete,
    }
}

/// Whether `message_drop_headers` names the field.
fn is_dropped(settings: &Settings, name: &[u8]) -> bool {
    settings.message_drop_headers.iter().any(|dropped| name.eq_ignore_ascii_case(dropped))
}

/// Where a field is cut, as in Postfix: at `limit` octets with each line end counted as one, or at a line end in the
/// last tenth before that. `None`: the field is not cut.
fn cut_place(raw: &[u8], limit: usize) -> Option<usize> {
    if raw.len() <= limit {
        return None;
    }
    // In octets of `raw`, and with line ends as one octet.
    let (mut start, mut counted) = (0, 0);
    let mut line_end = 0;
    loop {
        let rest = raw.get(start..)?;
        let line = memchr::memmem::find(rest, b"\r\n");
        let size = line.unwrap_or(rest.len());
        if counted + size > limit {
            let is_near = start > 0 && line_end * 10 >= limit * 9;
            return Some(if is_near { start } else { start + (limit - counted) });
        }
        line?;
        line_end = counted + size;
        counted = line_end + 1;
        start += size + 2;
        if start >= raw.len() {
            return None;
        }
    }
}

/// How much of a cut field's rest is at the front of the input.
struct Skipped {
    octets: usize,
    is_over: bool,
}

fn rest_of_cut_field(input: &[u8], is_whole: bool) -> Skipped {
    let mut at = 0;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Some(line_end) = memchr::memmem::find(rest, b"\r\n") else {
            // A CR at the end may be half of a line end: it stays.
            let kept = usize::from(rest.last() == Some(&b'\r') && !is_whole);
            let octets = if is_whole { input.len() } else { input.len() - kept };
            return Skipped { octets, is_over: is_whole };
        };
        let next = at + line_end + 2;
        match input.get(next) {
            Some(b' ' | b'\t') => at = next,
            Some(_) => return Skipped { octets: next, is_over: true },
            None if is_whole => return Skipped { octets: next, is_over: true },
            // The next octet tells whether the field goes on: the line end stays in front of it.
            None => return Skipped { octets: next - 2, is_over: false },
        }
    }
}

#[cfg(test)]
mod tests;
