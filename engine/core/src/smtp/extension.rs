//! Declares every keyword of the EHLO reply (RFC 5321 §4.1.1.1) with the MAIL and RCPT parameters that it adds.

/// A service extension.
#[derive(Debug)]
pub(super) struct Extension {
    pub(super) keyword: &'static str,
    pub(super) argument: Argument,
    pub(super) condition: Condition,
    pub(super) mail: &'static [(&'static str, MailParameter)],
    pub(super) rcpt: &'static [(&'static str, RcptParameter)],
}

/// Argument of the keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    None,
    /// `message_size_limit`, if there is one.
    SizeLimit,
    /// `smtpd_recipient_limit`.
    RecipientLimit,
}

/// Condition for offering the keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// Unless `disable_vrfy_command`.
    Vrfy,
    /// Offered unless bare newlines are refused, because binary bodies contain them.
    BinaryMime,
    /// Not offered, but its parameters are understood.
    Never,
}

/// A parameter of MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MailParameter {
    Size,
    Body,
    SmtpUtf8,
    Ret,
    EnvelopeId,
    Auth,
}

/// A parameter of RCPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RcptParameter {
    Notify,
    OriginalRecipient,
}

/// An extension without parameters, which is always offered.
const PLAIN: Extension =
    Extension { keyword: "", argument: Argument::None, condition: Condition::Always, mail: &[], rcpt: &[] };

/// All extensions, in the order of the reply.
pub(super) const EXTENSIONS: &[Extension] = &[
    // RFC 2920.
    Extension { keyword: "PIPELINING", ..PLAIN },
    // RFC 1870.
    Extension {
        keyword: "SIZE",
        argument: Argument::SizeLimit,
        mail: &[("SIZE", MailParameter::Size)],
        ..PLAIN
    },
    Extension { keyword: "VRFY", condition: Condition::Vrfy, ..PLAIN },
    // RFC 2034.
    Extension { keyword: "ENHANCEDSTATUSCODES", ..PLAIN },
    // RFC 6152; RFC 3030 adds a value to its parameter.
    Extension { keyword: "8BITMIME", mail: &[("BODY", MailParameter::Body)], ..PLAIN },
    // RFC 3461.
    Extension {
        keyword: "DSN",
        mail: &[("RET", MailParameter::Ret), ("ENVID", MailParameter::EnvelopeId)],
        rcpt: &[("NOTIFY", RcptParameter::Notify), ("ORCPT", RcptParameter::OriginalRecipient)],
        ..PLAIN
    },
    // RFC 6531.
    Extension { keyword: "SMTPUTF8", mail: &[("SMTPUTF8", MailParameter::SmtpUtf8)], ..PLAIN },
    // RFC 9422.
    Extension { keyword: "LIMITS", argument: Argument::RecipientLimit, ..PLAIN },
    // RFC 3030.
    Extension { keyword: "BINARYMIME", condition: Condition::BinaryMime, ..PLAIN },
    Extension { keyword: "CHUNKING", ..PLAIN },
    // RFC 4954.
    Extension {
        keyword: "AUTH",
        condition: Condition::Never,
        mail: &[("AUTH", MailParameter::Auth)],
        ..PLAIN
    },
];

/// Returns the MAIL parameter with this name, without regard to case.
pub(super) fn mail_parameter(name: &[u8]) -> Option<MailParameter> {
    EXTENSIONS.iter().find_map(|extension| named(extension.mail, name))
}

/// Returns the RCPT parameter with this name, without regard to case.
pub(super) fn rcpt_parameter(name: &[u8]) -> Option<RcptParameter> {
    EXTENSIONS.iter().find_map(|extension| named(extension.rcpt, name))
}

fn named<Parameter: Copy>(parameters: &[(&str, Parameter)], name: &[u8]) -> Option<Parameter> {
    let found = parameters.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    found.map(|(_, parameter)| *parameter)
}
