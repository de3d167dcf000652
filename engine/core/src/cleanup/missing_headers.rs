//! The pass that adds what a message should have and does not, in Postfix's order and form.

use bumpalo::collections::Vec as ArenaVec;

use super::Surroundings;
use super::field_kind::{FieldKind, Seen};
use super::recipients::envelope_sender;
use crate::address::quote_onto;
use crate::lookup::LookupError;
use crate::message::date::{write_date, write_stamp};
use crate::queue_id::QueueId;

/// The fields that are missing, each with its line end; empty when none is.
pub(super) fn missing_headers<'a>(
    surroundings: &Surroundings<'_, 'a>,
    id: QueueId,
    seen: Seen,
) -> Result<&'a [u8], LookupError> {
    let (settings, envelope) = (surroundings.settings, surroundings.envelope);
    let mut out = ArenaVec::new_in(surroundings.arena);
    let (prefix, message_id, date, from): (&[u8], _, _, _) = if seen.is_resent() {
        (b"Resent-", FieldKind::ResentMessageId, FieldKind::ResentDate, FieldKind::ResentFrom)
    } else {
        (b"", FieldKind::MessageId, FieldKind::Date, FieldKind::From)
    };
    if !seen.has(message_id) {
        out.extend_from_slice_copy(prefix);
        out.extend_from_slice_copy(b"Message-Id: <");
        write_stamp(&mut out, id.time());
        out.push(b'.');
        out.extend_from_slice_copy(&id.text());
        out.push(b'@');
        out.extend_from_slice_copy(&settings.myhostname);
        out.extend_from_slice_copy(b">\r\n");
    }
    if !seen.has(date) {
        out.extend_from_slice_copy(prefix);
        out.extend_from_slice_copy(b"Date: ");
        write_date(&mut out, envelope.arrival, &settings.zone);
        out.extend_from_slice_copy(b"\r\n");
    }
    if !seen.has(from) {
        out.extend_from_slice_copy(prefix);
        out.extend_from_slice_copy(b"From: ");
        let sender = envelope_sender(surroundings)?;
        quote_onto(if sender.is_empty() { b"MAILER-DAEMON" } else { sender }, &mut out);
        out.extend_from_slice_copy(b"\r\n");
    }
    let has_recipients = [FieldKind::To, FieldKind::Cc, FieldKind::ResentTo, FieldKind::ResentCc]
        .into_iter()
        .any(|kind| seen.has(kind));
    if !has_recipients && !settings.undisclosed_recipients_header.is_empty() {
        out.extend_from_slice_copy(&settings.undisclosed_recipients_header);
        out.extend_from_slice_copy(b"\r\n");
    }
    Ok(out.into_bump_slice())
}
