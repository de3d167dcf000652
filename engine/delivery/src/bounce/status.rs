//! The fields of message/delivery-status (RFC 3464, section 2) and message/global-delivery-status (RFC 6533, section 3).

use bumpalo::Bump;
use mailrace_core::address::quoted;
use mailrace_core::message::date::date;
use mailrace_core::{Envelope, Timestamp};

use super::report::Encoding;
use super::text::{append_folded, append_printable};
use super::{Cause, Kind, Notice, ReportSettings, ReportedRecipient};

/// Appends the fields of the message, and those of each recipient after an empty line.
pub(super) fn append(
    settings: &ReportSettings,
    notice: &Notice<'_>,
    encoding: Encoding,
    arena: &Bump,
    out: &mut Vec<u8>,
) {
    let is_utf8 = encoding.is_eight_bit();
    let mut fields = Fields { settings, notice, is_utf8, arena, line: Vec::new(), out };
    fields.of_message();
    for reported in notice.recipients {
        fields.out.extend_from_slice(b"\r\n");
        fields.of_recipient(reported);
    }
}

/// Returns the sender of an original, in internal form. For the null reverse-path, it is the address that reports come from.
pub(super) fn sender(settings: &ReportSettings, original: &Envelope) -> Vec<u8> {
    if original.sender.is_empty() {
        [b"MAILER-DAEMON@", &*settings.host_name].concat()
    } else {
        original.sender.clone()
    }
}

struct Fields<'a> {
    settings: &'a ReportSettings,
    notice: &'a Notice<'a>,
    is_utf8: bool,
    arena: &'a Bump,
    /// The field that is being written.
    line: Vec<u8>,
    out: &'a mut Vec<u8>,
}

impl Fields<'_> {
    fn of_message(&mut self) {
        let (settings, original) = (self.settings, self.notice.original);
        self.field(b"Reporting-MTA: dns; ", &settings.host_name);
        if let Some(id) = &original.envelope_id {
            self.field(b"Original-Envelope-Id: ", id);
        }
        settings.append_name(&mut self.line);
        self.field(b"-Queue-ID: ", &self.notice.original_id.text());
        settings.append_name(&mut self.line);
        self.line.extend_from_slice(b"-Sender: ");
        let sender = sender(settings, original);
        self.append_address(&sender, b"; ");
        self.end_field();
        self.date(b"Arrival-Date: ", original.arrival);
    }

    fn of_recipient(&mut self, reported: &ReportedRecipient<'_>) {
        let ReportedRecipient { recipient, action, cause } = *reported;
        self.line.extend_from_slice(b"Final-Recipient: ");
        self.append_address(&recipient.address, b"; ");
        self.end_field();
        self.line.extend_from_slice(b"Original-Recipient: ");
        match &recipient.dsn_original {
            Some(original) => append_printable(original, self.is_utf8, &mut self.line),
            None => self.append_address(recipient.original(), b";"),
        }
        self.end_field();
        self.field(b"Action: ", action.keyword().as_bytes());
        self.field(b"Status: ", cause.status.to_string().as_bytes());
        if !cause.remote.is_empty() {
            self.field(b"Remote-MTA: dns; ", &cause.remote);
        }
        self.diagnostic(cause);
        if self.notice.kind == Kind::Delay {
            let lifetime =
                u64::try_from(self.settings.maximal_queue_lifetime.as_micros()).unwrap_or(u64::MAX);
            let end = self.notice.original.arrival.unix_microseconds().saturating_add(lifetime);
            self.date(b"Will-Retry-Until: ", Timestamp::from_unix_microseconds(end));
        }
    }

    /// Diagnostic-Code: a server's reply on one line, or the reason in our words.
    fn diagnostic(&mut self, cause: &Cause) {
        self.line.extend_from_slice(b"Diagnostic-Code: ");
        if cause.diagnostic.is_empty() {
            self.settings.append_name(&mut self.line);
            self.line.extend_from_slice(b"; ");
            append_printable(&cause.text, self.is_utf8, &mut self.line);
        } else {
            self.line.extend_from_slice(b"smtp;");
            for line in cause.diagnostic.split(|byte| *byte == b'\n') {
                self.line.push(b' ');
                append_printable(line, self.is_utf8, &mut self.line);
            }
        }
        append_folded(&self.line, self.out);
        self.line.clear();
    }

    /// Appends an address with its type (RFC 3464, section 2.1.2; RFC 6533, section 3).
    fn append_address(&mut self, address: &[u8], separator: &[u8]) {
        let is_global = self.notice.original.smtputf8 && !address.is_ascii();
        self.line.extend_from_slice(if is_global { b"utf-8" } else { b"rfc822" });
        self.line.extend_from_slice(separator);
        append_printable(quoted(self.arena, address), self.is_utf8, &mut self.line);
    }

    fn date(&mut self, name: &[u8], time: Timestamp) {
        self.field(name, date(self.arena, time, self.notice.zone));
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.line.extend_from_slice(name);
        append_printable(value, self.is_utf8, &mut self.line);
        self.end_field();
    }

    fn end_field(&mut self) {
        self.out.append(&mut self.line);
        self.out.extend_from_slice(b"\r\n");
    }
}
