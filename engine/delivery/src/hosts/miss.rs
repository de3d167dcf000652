//! Lookups that give nothing, in Postfix's words and with its status codes.

use crate::Cause;

/// What kept a lookup from giving records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissKind {
    /// There is no such name, or no such record of it.
    NotFound,
    /// No server has answered, or one with a temporary failure.
    Temporary,
    /// A server refuses to answer for good.
    Refused,
    /// A record names what cannot be a host.
    Invalid,
    /// The domain accepts no mail (RFC 7505).
    NullMx,
}

/// A lookup that gave no records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Its kind.
    pub kind: MissKind,
    /// One line of text, for the log and for reports.
    pub text: Box<str>,
}

impl Miss {
    fn new(kind: MissKind, text: impl Into<Box<str>>) -> Self {
        Self { kind, text: text.into() }
    }

    /// The words of res_query(3)'s failures. `record`: `MX`, `A` or `AAAA`.
    fn of_query(kind: MissKind, name: &str, record: &str, cause: &str) -> Self {
        let text = format!(
            "Host or domain name not found. Name service error for name={name} type={record}: {cause}"
        );
        Self::new(kind, text)
    }

    /// There is no such name (NXDOMAIN).
    #[must_use]
    pub fn no_name(name: &str, record: &str) -> Self {
        Self::of_query(MissKind::NotFound, name, record, "Host not found")
    }

    /// The name has no such record.
    #[must_use]
    pub fn no_record(name: &str, record: &str) -> Self {
        let cause = "Host found but no data record of requested type";
        Self::of_query(MissKind::NotFound, name, record, cause)
    }

    /// No server has answered, or only with a temporary failure (SERVFAIL).
    #[must_use]
    pub fn temporary(name: &str, record: &str) -> Self {
        Self::of_query(MissKind::Temporary, name, record, "Host not found, try again")
    }

    /// A server refuses the question for good (FORMERR).
    #[must_use]
    pub fn refused(name: &str, record: &str) -> Self {
        Self::of_query(MissKind::Refused, name, record, "Non-recoverable error")
    }

    /// The records name what cannot be a host.
    #[must_use]
    pub fn invalid_record(name: &str, record: &str) -> Self {
        let text = format!(
            "Name service error for name={name} type={record}: Malformed or unexpected name server reply"
        );
        Self::new(MissKind::Invalid, text)
    }

    /// What was to be looked up cannot be a name.
    #[must_use]
    pub fn invalid_name(name: &str) -> Self {
        let text = format!("Name service error for {name}: invalid host or domain name");
        Self::new(MissKind::NotFound, text)
    }

    /// The domain accepts no mail (RFC 7505).
    #[must_use]
    pub fn null_mx(name: &str) -> Self {
        Self::new(MissKind::NullMx, format!("Domain {name} does not accept mail (nullMX)"))
    }

    /// No address of the host is of a family in use.
    #[must_use]
    pub fn without_address(name: &str) -> Self {
        Self::new(MissKind::NotFound, format!("{name}: host not found"))
    }

    /// Neither /etc/hosts nor what the system asks after it has the host (`smtp_host_lookup = native`).
    #[must_use]
    pub fn unknown_host(name: &str) -> Self {
        Self::new(MissKind::NotFound, format!("unable to look up host {name}: Name or service not known"))
    }

    /// Of the failures for two types of records, the one that counts: a temporary one before a permanent one, and what was
    /// not found last; the second of two alike.
    #[must_use]
    pub fn or(self, second: Self) -> Self {
        let weight = |miss: &Self| match miss.kind {
            MissKind::Temporary => 2,
            MissKind::Refused | MissKind::Invalid | MissKind::NullMx => 1,
            MissKind::NotFound => 0,
        };
        if weight(&self) > weight(&second) { self } else { second }
    }

    /// Whether a domain for which the lookup of MX records ended so is looked up as a host (RFC 5321 §5.1).
    #[must_use]
    pub const fn leads_to_host(&self, ignores_mx_lookup_error: bool) -> bool {
        match self.kind {
            MissKind::NotFound => true,
            MissKind::Temporary | MissKind::Refused | MissKind::Invalid => ignores_mx_lookup_error,
            MissKind::NullMx => false,
        }
    }

    /// The reason for mail whose MX records could not be looked up.
    pub(super) fn mx_reason(&self) -> Cause {
        let text = self.text.as_bytes();
        match self.kind {
            MissKind::Temporary => Cause::new(4, 4, 3, text),
            MissKind::Refused => Cause::new(5, 4, 3, text),
            MissKind::Invalid | MissKind::NotFound => Cause::new(5, 4, 4, text),
            MissKind::NullMx => Cause::new(5, 1, 0, text),
        }
    }

    /// The reason for mail whose hosts could not be looked up. `is_temporary`: a failure before it was.
    pub(super) fn host_reason(&self, is_temporary: bool) -> Cause {
        let class = if is_temporary { 4 } else { 5 };
        let text = self.text.as_bytes();
        match self.kind {
            MissKind::Temporary => Cause::new(4, 4, 3, text),
            MissKind::Refused => Cause::new(class, 4, 3, text),
            MissKind::Invalid | MissKind::NotFound | MissKind::NullMx => Cause::new(class, 4, 4, text),
        }
    }
}
