//! Owns which fields the passes know, and what each is to them.

/// A field that some pass looks at.
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
    /// Another field of MIME: Content-Description and the like.
    OtherMime,
    Other,
}

/// Whose addresses a field has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Sender,
    Recipient,
}

impl FieldKind {
    /// The kind of the field with this name, in any case.
    pub(super) fn of(name: &[u8]) -> Self {
        // The length tells nearly all apart: one or two comparisons at most for most fields.
        let candidates: &[(&[u8], Self)] = match name.len() {
            2 => &[(b"to", Self::To), (b"cc", Self::Cc)],
            3 => &[(b"bcc", Self::Bcc)],
            4 => &[(b"from", Self::From), (b"date", Self::Date)],
            6 => &[(b"sender", Self::Sender)],
            8 => &[(b"received", Self::Received), (b"reply-to", Self::ReplyTo)],
            9 => &[
                (b"resent-to", Self::ResentTo),
                (b"resent-cc", Self::ResentCc),
                (b"errors-to", Self::ErrorsTo),
            ],
            10 => &[
                (b"message-id", Self::MessageId),
                (b"resent-bcc", Self::ResentBcc),
                (b"content-id", Self::OtherMime),
            ],
            11 => &[
                (b"resent-from", Self::ResentFrom),
                (b"resent-date", Self::ResentDate),
                (b"return-path", Self::ReturnPath),
            ],
            12 => &[(b"content-type", Self::ContentType), (b"mime-version", Self::OtherMime)],
            13 => &[(b"resent-sender", Self::ResentSender), (b"apparently-to", Self::ApparentlyTo)],
            15 => &[(b"resent-reply-to", Self::ResentReplyTo)],
            16 => &[(b"mail-followup-to", Self::MailFollowupTo)],
            17 => &[
                (b"resent-message-id", Self::ResentMessageId),
                (b"return-receipt-to", Self::ReturnReceiptTo),
            ],
            19 => &[(b"content-disposition", Self::OtherMime), (b"content-description", Self::OtherMime)],
            25 => &[(b"content-transfer-encoding", Self::ContentTransferEncoding)],
            27 => &[(b"disposition-notification-to", Self::DispositionNotificationTo)],
            _ => &[],
        };
        let found = candidates.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        found.map_or(Self::Other, |(_, kind)| *kind)
    }

    /// Whose addresses it has, if any; as Postfix sees it.
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

    /// Whether recipients are taken from it, where they are taken from the header section (`sendmail -t`); `true`: as
    /// those of a message that is sent on.
    pub(super) const fn recipients_are_resent(self) -> Option<bool> {
        match self {
            Self::Bcc | Self::Cc | Self::To => Some(false),
            Self::ResentBcc | Self::ResentCc | Self::ResentTo => Some(true),
            _ => None,
        }
    }

    /// Whether it describes the content (RFC 2045): no pass changes such a field.
    pub(super) const fn is_mime(self) -> bool {
        matches!(self, Self::ContentTransferEncoding | Self::ContentType | Self::OtherMime)
    }
}

/// The kinds that a header section had, dropped fields included.
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

    /// Whether any Resent field was there.
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
    fn resent_is_told_from_the_rest() {
        let mut seen = Seen::default();
        seen.note(FieldKind::From);
        assert!(!seen.is_resent());
        seen.note(FieldKind::ResentTo);
        assert!(seen.is_resent() && seen.has(FieldKind::From) && !seen.has(FieldKind::To));
    }
}
