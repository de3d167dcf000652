//! Header fields that the passes know, and their properties.

/// A field that some pass examines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FieldKind {
    ApparentlyTo,
    Bcc,
    Cc,
    ContentTransferEncoding,
    ContentType,
    Date,
    DispositionNotificationTo,
    ErrorsTo,
    From,
    MailFollowupTo,
    MessageId,
    Received,
    ReplyTo,
    ResentBcc,
    ResentCc,
    ResentDate,
    ResentFrom,
    ResentMessageId,
    ResentReplyTo,
    ResentSender,
    ResentTo,
    ReturnPath,
    ReturnReceiptTo,
    Sender,
    To,
    /// Another MIME field, such as Content-Description.
    OtherMime,
    Other,
}

/// Bit that makes a letter lower-case and leaves a hyphen unchanged.
const CASE: u8 = 0x20;

/// Returns whether `name` equals `small` without regard to case. `small` has only lower-case letters and hyphens. Names
/// contain no control characters, so no other byte becomes a letter or a hyphen.
fn is<const SIZE: usize>(name: &[u8], small: &[u8; SIZE]) -> bool {
    let Some(name) = name.first_chunk::<SIZE>().filter(|_| name.len() == SIZE) else { return false };
    // Compare all bytes without an early exit, which takes a few vector instructions.
    name.iter().zip(small).fold(0, |others, (octet, letter)| others | ((octet | CASE) ^ letter)) == 0
}

/// Party whose addresses a field contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Sender,
    Recipient,
}

impl FieldKind {
    /// Returns the kind of the field with this name, without regard to case.
    pub(super) fn of(name: &[u8]) -> Self {
        let (Some(first), Some(last)) = (name.first(), name.last()) else { return Self::Other };
        // Length, first and last letter leave at most two candidates.
        let (kind, is_it) = match (name.len(), first | CASE, last | CASE) {
            (2, b't', _) => (Self::To, is(name, b"to")),
            (2, ..) => (Self::Cc, is(name, b"cc")),
            (3, ..) => (Self::Bcc, is(name, b"bcc")),
            (4, b'f', _) => (Self::From, is(name, b"from")),
            (4, ..) => (Self::Date, is(name, b"date")),
            (6, ..) => (Self::Sender, is(name, b"sender")),
            (8, _, b'd') => (Self::Received, is(name, b"received")),
            (8, ..) => (Self::ReplyTo, is(name, b"reply-to")),
            (9, b'e', _) => (Self::ErrorsTo, is(name, b"errors-to")),
            (9, _, b'o') => (Self::ResentTo, is(name, b"resent-to")),
            (9, ..) => (Self::ResentCc, is(name, b"resent-cc")),
            (10, b'm', _) => (Self::MessageId, is(name, b"message-id")),
            (10, b'c', _) => (Self::OtherMime, is(name, b"content-id")),
            (10, ..) => (Self::ResentBcc, is(name, b"resent-bcc")),
            (11, _, b'm') => (Self::ResentFrom, is(name, b"resent-from")),
            (11, _, b'e') => (Self::ResentDate, is(name, b"resent-date")),
            (11, ..) => (Self::ReturnPath, is(name, b"return-path")),
            (12, b'c', _) => (Self::ContentType, is(name, b"content-type")),
            (12, ..) => (Self::OtherMime, is(name, b"mime-version")),
            (13, b'r', _) => (Self::ResentSender, is(name, b"resent-sender")),
            (13, ..) => (Self::ApparentlyTo, is(name, b"apparently-to")),
            (15, ..) => (Self::ResentReplyTo, is(name, b"resent-reply-to")),
            (16, ..) => (Self::MailFollowupTo, is(name, b"mail-followup-to")),
            (17, _, b'd') => (Self::ResentMessageId, is(name, b"resent-message-id")),
            (17, ..) => (Self::ReturnReceiptTo, is(name, b"return-receipt-to")),
            (19, ..) => {
                let is_mime = is(name, b"content-disposition") || is(name, b"content-description");
                (Self::OtherMime, is_mime)
            }
            (25, ..) => (Self::ContentTransferEncoding, is(name, b"content-transfer-encoding")),
            (27, ..) => (Self::DispositionNotificationTo, is(name, b"disposition-notification-to")),
            _ => return Self::Other,
        };
        if is_it { kind } else { Self::Other }
    }

    /// Returns the party whose addresses the field contains, if any, as in Postfix.
    pub(super) const fn party(self) -> Option<Party> {
        match self {
            Self::DispositionNotificationTo
            | Self::ErrorsTo
            | Self::From
            | Self::MailFollowupTo
            | Self::ReplyTo
            | Self::ResentFrom
            | Self::ResentSender
            | Self::ReturnPath
            | Self::ReturnReceiptTo
            | Self::Sender => Some(Party::Sender),
            Self::ApparentlyTo
            | Self::Bcc
            | Self::Cc
            | Self::ResentBcc
            | Self::ResentCc
            | Self::ResentReplyTo
            | Self::ResentTo
            | Self::To => Some(Party::Recipient),
            _ => None,
        }
    }

    /// Returns whether the field describes the content (RFC 2045). No pass changes such a field.
    pub(super) const fn is_mime(self) -> bool {
        matches!(self, Self::ContentTransferEncoding | Self::ContentType | Self::OtherMime)
    }
}

/// Kinds of fields in a header section, including dropped fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(u32);

impl Seen {
    pub(super) const fn new() -> Self {
        Self(0)
    }

    pub(super) const fn note(&mut self, kind: FieldKind) {
        self.0 |= 1 << kind as u8;
    }

    pub(super) const fn has(self, kind: FieldKind) -> bool {
        self.0 & (1 << kind as u8) != 0
    }

    /// Returns whether any Resent field has occurred.
    pub(super) fn is_resent(self) -> bool {
        use FieldKind as Kind;
        let kinds = [
            Kind::ResentBcc,
            Kind::ResentCc,
            Kind::ResentDate,
            Kind::ResentFrom,
            Kind::ResentMessageId,
            Kind::ResentReplyTo,
            Kind::ResentSender,
            Kind::ResentTo,
        ];
        kinds.into_iter().any(|kind| self.has(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case() {
        assert_eq!(FieldKind::of(b"RESENT-message-ID"), FieldKind::ResentMessageId);
        assert_eq!(FieldKind::of(b"tO"), FieldKind::To);
        assert_eq!(FieldKind::of(b"Subject"), FieldKind::Other);
        assert_eq!(FieldKind::of(b"Receivex"), FieldKind::Other);
        assert!(FieldKind::of(b"MIME-version").is_mime());
    }

    #[test]
    fn every_name_has_its_kind() {
        use FieldKind as Kind;
        for (name, kind) in [
            ("apparently-to", Kind::ApparentlyTo),
            ("bcc", Kind::Bcc),
            ("cc", Kind::Cc),
            ("content-transfer-encoding", Kind::ContentTransferEncoding),
            ("content-type", Kind::ContentType),
            ("date", Kind::Date),
            ("disposition-notification-to", Kind::DispositionNotificationTo),
            ("errors-to", Kind::ErrorsTo),
            ("from", Kind::From),
            ("mail-followup-to", Kind::MailFollowupTo),
            ("message-id", Kind::MessageId),
            ("received", Kind::Received),
            ("reply-to", Kind::ReplyTo),
            ("resent-bcc", Kind::ResentBcc),
            ("resent-cc", Kind::ResentCc),
            ("resent-date", Kind::ResentDate),
            ("resent-from", Kind::ResentFrom),
            ("resent-message-id", Kind::ResentMessageId),
            ("resent-reply-to", Kind::ResentReplyTo),
            ("resent-sender", Kind::ResentSender),
            ("resent-to", Kind::ResentTo),
            ("return-path", Kind::ReturnPath),
            ("return-receipt-to", Kind::ReturnReceiptTo),
            ("sender", Kind::Sender),
            ("to", Kind::To),
            ("content-id", Kind::OtherMime),
            ("content-description", Kind::OtherMime),
            ("content-disposition", Kind::OtherMime),
            ("mime-version", Kind::OtherMime),
        ] {
            assert_eq!(FieldKind::of(name.as_bytes()), kind, "{name}");
            assert_eq!(FieldKind::of(name.to_ascii_uppercase().as_bytes()), kind, "{name}");
            // One byte is changed, missing or extra.
            for place in 0..name.len() {
                let mut other = name.as_bytes().to_vec();
                other[place] = b'1';
                assert_eq!(FieldKind::of(&other), Kind::Other, "{name} at {place}");
            }
            assert_eq!(FieldKind::of([name, "x"].concat().as_bytes()), Kind::Other, "{name}");
        }
    }

    #[test]
    fn resent_fields_are_recognised() {
        let mut seen = Seen::default();
        seen.note(FieldKind::From);
        assert!(!seen.is_resent());
        seen.note(FieldKind::ResentTo);
        assert!(seen.is_resent() && seen.has(FieldKind::From) && !seen.has(FieldKind::To));
    }
}
