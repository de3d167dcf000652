//! The pass that adds what a message should have and does not, in Postfix's order and form.

use alloc::vec::Vec;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::Settings;
use super::field_kind::{FieldKind, Seen};
use crate::address::quote_local_part;
use crate::envelope::Envelope;
use crate::message::date::{write_date, write_stamp};
use crate::queue_id::QueueId;

/// The fields that are missing, each with its line end; empty when none is.
pub(super) fn missing_headers<'a>(
    arena: &'a Bump,
    settings: &Settings,
    envelope: &Envelope,
    id: QueueId,
    seen: Seen,
) -> &'a [u8] {
    let mut out = ArenaVec::new_in(arena);
    let is_resent = seen.is_resent();
    let (prefix, message_id, date, from): (&[u8], _, _, _) = if is_resent {
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
        if envelope.sender.is_empty() {
            out.extend_from_slice_copy(b"MAILER-DAEMON");
        } else {
            let mut external = Vec::new();
            quote_local_part(&envelope.sender, &mut external);
            out.extend_from_slice_copy(&external);
        }
        out.extend_from_slice_copy(b"\r\n");
    }
    let has_recipients = [FieldKind::To, FieldKind::Cc, FieldKind::ResentTo, FieldKind::ResentCc]
        .into_iter()
        .any(|kind| seen.has(kind));
    if !has_recipients && !settings.undisclosed_recipients_header.is_empty() {
        out.extend_from_slice_copy(&settings.undisclosed_recipients_header);
        out.extend_from_slice_copy(b"\r\n");
    }
    out.into_bump_slice()
}
