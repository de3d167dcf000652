//! Pass that adds missing header fields, in Postfix's order and form.

use bumpalo::collections::Vec as ArenaVec;

use super::envelope_sender::envelope_sender;
use super::field_kind::{FieldKind, Seen};
use super::output::Output;
use super::rejection::Halt;
use super::{Cleanup, Passes};
use crate::address::quote_onto;
use crate::lookup::LookupError;
use crate::message::date::{write_date, write_stamp};
use crate::message::header::{Item, next_item};
use crate::message::mime::Place;
use crate::queue_id::QueueId;

impl Cleanup {
    /// Adds the missing fields at the end of the message header section.
    pub(super) fn missing_headers<'a>(
        &mut self,
        surroundings: &Passes<'_, 'a>,
        output: &mut Output<'a>,
    ) -> Result<(), Halt> {
        let settings = surroundings.settings;
        let is_wanted = self.context(settings).is_some() || settings.always_add_missing_headers;
        if self.structure.place() == Place::Primary && is_wanted {
            let added = missing_headers(surroundings, self.id, self.seen)?;
            if let Item::Field(field) = next_item(added, true)
                && FieldKind::of(field.name()) == FieldKind::MessageId
            {
                self.note_message_id(field.body());
            }
            self.note_written(added);
            output.write(added);
        }
        Ok(())
    }
}

/// Returns the missing fields, each with its line end; empty if none is missing.
fn missing_headers<'a>(
    surroundings: &Passes<'_, 'a>,
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
        let full_name = envelope.submitter.as_ref().map_or(&b""[..], |it| &it.full_name);
        if sender.is_empty() || full_name.is_empty() {
            quote_onto(if sender.is_empty() { b"MAILER-DAEMON" } else { sender }, &mut out);
        } else {
            write_full_name(full_name, &mut out);
            out.push(b'<');
            quote_onto(sender, &mut out);
            out.push(b'>');
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
    Ok(out.into_bump_slice())
}

/// Writes the display name before an address (`header_from_format` standard): as a quoted string if it contains a special
/// character, otherwise word by word; followed by a space unless it is empty.
fn write_full_name(name: &[u8], out: &mut ArenaVec<'_, u8>) {
    if name.iter().any(|octet| b"%!()<>@,;:\\\".[]".contains(octet)) {
        out.push(b'"');
        for octet in name {
            match octet {
                b'"' | b'\\' => out.extend_from_slice_copy(&[b'\\', *octet]),
                b'\r' | b'\n' => out.push(b' '),
                octet => out.push(*octet),
            }
        }
        out.extend_from_slice_copy(b"\" ");
        return;
    }
    let is_blank = |octet: &u8| octet.is_ascii_whitespace() || *octet == 0x0b;
    for word in name.split(is_blank).filter(|word| !word.is_empty()) {
        out.extend_from_slice_copy(word);
        out.push(b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bumpalo::Bump;

    #[test]
    fn full_names_are_written_as_in_postfix() {
        let cases: [(&str, &str); 9] = [
            ("Joe Doe", "Joe Doe "),
            ("  Joe \t  Doe ", "Joe Doe "),
            ("J. Doe", "\"J. Doe\" "),
            ("a \"b\" c", "\"a \\\"b\\\" c\" "),
            ("a\\b", "\"a\\\\b\" "),
            ("J\u{f6}rg", "J\u{f6}rg "),
            ("a\r\nX: y", "\"a  X: y\" "),
            ("a\nb", "a b "),
            (" ", ""),
        ];
        for (name, wanted) in cases {
            let arena = Bump::new();
            let mut out = ArenaVec::new_in(&arena);
            write_full_name(name.as_bytes(), &mut out);
            assert_eq!(core::str::from_utf8(&out), Ok(wanted), "{name:?}");
        }
    }
}
