//! Owns which fields the passes know.

/// A field that some pass looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FieldKind {
    Cc,
    Date,
    From,
    MessageId,
    Received,
    ResentBcc,
    ResentCc,
    ResentDate,
    ResentFrom,
    ResentMessageId,
    ResentReplyTo,
    ResentSender,
    ResentTo,
    To,
    Other,
}

impl FieldKind {
    /// The kind of the field with this name, in any case.
    pub(super) fn of(name: &[u8]) -> Self {
        // The length tells nearly all apart: one comparison at most for most fields.
        let candidates: &[(&[u8], Self)] = match name.len() {
            2 => &[(b"to", Self::To), (b"cc", Self::Cc)],
            4 => &[(b"from", Self::From), (b"date", Self::Date)],
            8 => &[(b"received", Self::Received)],
            9 => &[(b"resent-to", Self::ResentTo), (b"resent-cc", Self::ResentCc)],
            10 => &[(b"message-id", Self::MessageId), (b"resent-bcc", Self::ResentBcc)],
            11 => &[(b"resent-from", Self::ResentFrom), (b"resent-date", Self::ResentDate)],
            13 => &[(b"resent-sender", Self::ResentSender)],
            15 => &[(b"resent-reply-to", Self::ResentReplyTo)],
            17 => &[(b"resent-message-id", Self::ResentMessageId)],
            _ => &[],
        };
        let found = candidates.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
        found.map_or(Self::Other, |(_, kind)| *kind)
    }
}

/// The kinds that a header section had, dropped fields included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen(u16);

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
