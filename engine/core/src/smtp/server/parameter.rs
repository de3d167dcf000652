//! The parameters of MAIL and RCPT (RFC 1870, 3030, 3461, 4954, 6152, 6531, 6533).
//!
//! As lenient as Postfix where real clients depart from the grammar: lower-case hex digits and `=` in xtext,
//! words of NOTIFY twice or empty, AUTH from clients that were not offered it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::command::Verb;
use super::decision::Refusal;
use super::exchange::Exchange;
use super::hello::Offer;
use super::session::{Outcome, Session};
use crate::address::word_size;
use crate::envelope::{BodyType, Envelope, Notify, Recipient, Return};
use crate::smtp::extension::{self, MailParameter, RcptParameter};
use crate::smtp::reply::{self, Filled};

/// Why a parameter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParameterError<'a> {
    Unsupported(&'a [u8]),
    SizeSyntax,
    /// SIZE exceeds what a file can have.
    SizeOverflow,
    /// SIZE exceeds the limit.
    SizeTooBig,
    /// A second AUTH that names an identity.
    SecondAuth,
    Ret,
    EnvelopeId,
    Notify,
    OriginalRecipient,
}

impl<'a> ParameterError<'a> {
    const fn reply(self) -> Filled<'a> {
        let reply = match self {
            Self::Unsupported(option) => return reply::UNSUPPORTED_OPTION.with(option),
            Self::SizeSyntax => &reply::SIZE_SYNTAX,
            Self::SizeOverflow => &reply::SIZE_OVERFLOW,
            Self::SizeTooBig => &reply::SIZE_TOO_BIG,
            Self::SecondAuth => &reply::SECOND_AUTH,
            Self::Ret => &reply::RET_SYNTAX,
            Self::EnvelopeId => &reply::ENVID_SYNTAX,
            Self::Notify => &reply::NOTIFY_SYNTAX,
            Self::OriginalRecipient => &reply::ORCPT_SYNTAX,
        };
        reply.with(b"")
    }
}

impl Session {
    pub(super) fn refuse_parameter(
        &mut self,
        exchange: &mut Exchange<'_>,
        verb: Verb,
        error: ParameterError<'_>,
    ) -> Outcome {
        if matches!(error, ParameterError::SizeTooBig | ParameterError::SizeOverflow) {
            self.refuse(exchange, Refusal::new(verb.name(), "too_big", error.reply()).as_error());
            return self.next(exchange);
        }
        self.error(exchange, error.reply())
    }
}

/// Reads the parameters of MAIL into `envelope`.
///
/// Of BODY and SIZE the last one counts. The value of AUTH is not kept: a client that did not authenticate cannot vouch
/// for an identity (RFC 4954 §5).
pub(super) fn mail<'a>(
    parameters: &'a [u8],
    offer: Offer,
    envelope: &mut Envelope,
) -> Result<(), ParameterError<'a>> {
    let mut has_identity = false;
    for parameter in split(parameters) {
        let unsupported = Err(ParameterError::Unsupported(parameter));
        let (name, value) = name_and_value(parameter);
        let Some(name) = extension::mail_parameter(name) else { return unsupported };
        match (name, value) {
            (MailParameter::Size, Some(value)) => envelope.declared_size = Some(size(value)?),
            (MailParameter::Body, Some(value)) => {
                envelope.body = body(value, offer).ok_or(ParameterError::Unsupported(parameter))?;
            }
            (MailParameter::SmtpUtf8, None) => envelope.smtputf8 = true,
            (MailParameter::Auth, Some(_)) if has_identity => return Err(ParameterError::SecondAuth),
            (MailParameter::Auth, Some(value)) => has_identity = value != b"<>",
            (MailParameter::Ret, Some(value)) => {
                let ret = match value {
                    value if value.eq_ignore_ascii_case(b"FULL") => Return::Full,
                    value if value.eq_ignore_ascii_case(b"HDRS") => Return::Headers,
                    _ => return Err(ParameterError::Ret),
                };
                if envelope.ret.replace(ret).is_some() {
                    return Err(ParameterError::Ret);
                }
            }
            (MailParameter::EnvelopeId, Some(value)) => {
                let id = xtext(value).filter(|id| is_printable(id)).ok_or(ParameterError::EnvelopeId)?;
                if envelope.envelope_id.replace(id).is_some() {
                    return Err(ParameterError::EnvelopeId);
                }
            }
            _ => return unsupported,
        }
    }
    let limit = offer.message_size_limit;
    if limit > 0 && envelope.declared_size.is_some_and(|size| size > limit) {
        return Err(ParameterError::SizeTooBig);
    }
    Ok(())
}

/// Reads the parameters of RCPT into `recipient`.
pub(super) fn rcpt<'a>(parameters: &'a [u8], recipient: &mut Recipient) -> Result<(), ParameterError<'a>> {
    for parameter in split(parameters) {
        let (name, value) = name_and_value(parameter);
        match (extension::rcpt_parameter(name), value) {
            (Some(RcptParameter::Notify), Some(value)) => {
                if !recipient.notify.is_empty() {
                    return Err(ParameterError::Notify);
                }
                recipient.notify = notify(value).ok_or(ParameterError::Notify)?;
            }
            (Some(RcptParameter::OriginalRecipient), Some(value)) => {
                let original = original_recipient(value).ok_or(ParameterError::OriginalRecipient)?;
                if recipient.dsn_original.replace(original).is_some() {
                    return Err(ParameterError::OriginalRecipient);
                }
            }
            _ => return Err(ParameterError::Unsupported(parameter)),
        }
    }
    Ok(())
}

/// The value of BODY (RFC 6152, RFC 3030).
fn body(value: &[u8], offer: Offer) -> Option<BodyType> {
    let is = |name: &[u8]| value.eq_ignore_ascii_case(name);
    match value {
        _ if is(b"7BIT") => Some(BodyType::SevenBit),
        _ if is(b"8BITMIME") => Some(BodyType::EightBitMime),
        _ if is(b"BINARYMIME") && offer.has_binarymime => Some(BodyType::BinaryMime),
        _ => None,
    }
}

/// Splits at spaces. As in Postfix, quotes and angle brackets hold a word together, to the end of the line if they are
/// left open.
pub(super) fn split(parameters: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = parameters;
    core::iter::from_fn(move || {
        rest = rest.trim_ascii_start();
        let (size, _) = word_size(rest);
        let (word, behind) = rest.split_at_checked(size).unwrap_or((rest, b""));
        rest = behind;
        (!word.is_empty()).then_some(word)
    })
}

fn name_and_value(parameter: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'=', parameter) {
        Some(place) => (parameter.get(..place).unwrap_or_default(), parameter.get(place + 1..)),
        None => (parameter, None),
    }
}

fn size<'a>(value: &[u8]) -> Result<u64, ParameterError<'a>> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(ParameterError::SizeSyntax);
    }
    let size =
        value.iter().try_fold(0u64, |size, digit| size.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    size.filter(|size| i64::try_from(*size).is_ok()).ok_or(ParameterError::SizeOverflow)
}

/// RFC 3461 §4.1; `None` without any word, with an unknown one, or when NEVER is not the only one.
fn notify(value: &[u8]) -> Option<Notify> {
    let mut all = Notify::default();
    for word in value.split(|octet| *octet == b',').filter(|word| !word.is_empty()) {
        all = all.with(match word {
            word if word.eq_ignore_ascii_case(b"NEVER") => Notify::NEVER,
            word if word.eq_ignore_ascii_case(b"SUCCESS") => Notify::SUCCESS,
            word if word.eq_ignore_ascii_case(b"FAILURE") => Notify::FAILURE,
            word if word.eq_ignore_ascii_case(b"DELAY") => Notify::DELAY,
            _ => return None,
        });
    }
    let is_possible = !all.is_empty() && (all == Notify::NEVER || !all.contains(Notify::NEVER));
    is_possible.then_some(all)
}

/// `type;xtext` (RFC 3461 §4.2), or `utf-8;` and text that may have `\x{HEX}` in it (RFC 6533 §3), decoded.
///
/// The address may be any bytes, even none: it is encoded again when it is written into a report or a command.
fn original_recipient(value: &[u8]) -> Option<Box<[u8]>> {
    let place = memchr::memchr(b';', value)?;
    let (kind, address) = (value.get(..place)?, value.get(place + 1..)?);
    if kind.is_empty() {
        return None;
    }
    let address = if kind.eq_ignore_ascii_case(b"utf-8") { unicode_text(address) } else { xtext(address) }?;
    let mut original = Vec::with_capacity(kind.len() + 1 + address.len());
    original.extend_from_slice(kind);
    original.push(b';');
    original.extend_from_slice(&address);
    Some(original.into())
}

/// Decodes xtext (RFC 3461 §4); everything but a `+` that no two hex digits follow stands for itself.
fn xtext(value: &[u8]) -> Option<Box<[u8]>> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((octet, behind)) = rest.split_first() {
        rest = behind;
        if *octet != b'+' {
            out.push(*octet);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2)?;
        rest = behind;
        let number = digits.iter().try_fold(0, |number, digit| Some(number << 4 | hex_digit(*digit)?))?;
        out.push(u8::try_from(number).ok()?);
    }
    Some(out.into())
}

/// Decodes `\x{HEX}` (utf-8-addr-xtext and utf-8-addr-unitext of RFC 6533 §3); everything else stands for itself.
/// `None` if a number has no digit or is no character.
fn unicode_text(value: &[u8]) -> Option<Box<[u8]>> {
    const OPEN: &[u8] = b"\\x{";
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(place) = memchr::memmem::find(rest, OPEN) {
        out.extend_from_slice(rest.get(..place)?);
        let digits = rest.get(place + OPEN.len()..)?;
        let end = memchr::memchr(b'}', digits)?;
        if end == 0 {
            return None;
        }
        let mut number = 0_u32;
        for digit in digits.get(..end)? {
            number = number.checked_mul(16)?.checked_add(hex_digit(*digit)?)?;
        }
        let character = char::from_u32(number)?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = digits.get(end + 1..)?;
    }
    out.extend_from_slice(rest);
    Some(out.into())
}

fn hex_digit(digit: u8) -> Option<u32> {
    char::from(digit).to_digit(16)
}

/// Whether there is text, and none of it beyond printable ASCII.
fn is_printable(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().all(|octet| (32..127).contains(octet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OFFER: Offer =
        Offer { has_vrfy: true, has_binarymime: true, message_size_limit: 1000, recipient_limit: 3 };

    #[test]
    fn parses_parameters_of_mail() {
        let mut envelope = Envelope::default();
        let all = b"SIZE=1000 body=8bitMIME SMTPUTF8 RET=hdrs ENVID=QQ+2B1";
        assert_eq!(mail(all, OFFER, &mut envelope), Ok(()));
        assert_eq!(envelope.declared_size, Some(1000));
        assert_eq!(envelope.body, BodyType::EightBitMime);
        assert!(envelope.smtputf8);
        assert_eq!(envelope.ret, Some(Return::Headers));
        assert_eq!(envelope.envelope_id.as_deref(), Some(&b"QQ+1"[..]));
        let cases: [(&[u8], ParameterError<'_>); 26] = [
            (b"SIZE=", ParameterError::SizeSyntax),
            (b"SIZE=-1", ParameterError::SizeSyntax),
            (b"SIZE=12k", ParameterError::SizeSyntax),
            (b"SIZE=1001", ParameterError::SizeTooBig),
            (b"SIZE=1 SIZE=1001", ParameterError::SizeTooBig),
            (b"SIZE=1001 FOO", ParameterError::Unsupported(b"FOO")),
            (b"SIZE=9223372036854775807", ParameterError::SizeTooBig),
            (b"SIZE=9223372036854775808", ParameterError::SizeOverflow),
            (b"SIZE=99999999999999999999999", ParameterError::SizeOverflow),
            (b"SIZE", ParameterError::Unsupported(b"SIZE")),
            (b"SMTPUTF8=yes", ParameterError::Unsupported(b"SMTPUTF8=yes")),
            (b"BODY=9BIT", ParameterError::Unsupported(b"BODY=9BIT")),
            (b"FOO=bar", ParameterError::Unsupported(b"FOO=bar")),
            (b"FOO=\"a b\" SIZE=1", ParameterError::Unsupported(b"FOO=\"a b\"")),
            (b"NOTIFY=NEVER", ParameterError::Unsupported(b"NOTIFY=NEVER")),
            (b"AUTH", ParameterError::Unsupported(b"AUTH")),
            (b"AUTH=a AUTH=a", ParameterError::SecondAuth),
            (b"AUTH=a AUTH=<>", ParameterError::SecondAuth),
            (b"AUTH= AUTH=<>", ParameterError::SecondAuth),
            (b"RET=SOME", ParameterError::Ret),
            (b"RET=", ParameterError::Ret),
            (b"RET=FULL RET=HDRS", ParameterError::Ret),
            (b"ENVID=", ParameterError::EnvelopeId),
            (b"ENVID=a ENVID=b", ParameterError::EnvelopeId),
            (b"ENVID=a+0A", ParameterError::EnvelopeId),
            (b"ENVID=a+g", ParameterError::EnvelopeId),
        ];
        for (given, error) in cases {
            assert_eq!(mail(given, OFFER, &mut Envelope::default()), Err(error));
        }
        let offer = Offer { has_binarymime: false, message_size_limit: 0, ..OFFER };
        assert_eq!(mail(b"SIZE=5000", offer, &mut envelope), Ok(()));
        assert!(mail(b"BODY=BINARYMIME", offer, &mut envelope).is_err());
        assert_eq!(mail(b"BODY=BINARYMIME", OFFER, &mut Envelope::default()), Ok(()));
        for given in
            ["AUTH=<>", "auth=joe+40example.net", "AUTH=", "AUTH=<> AUTH=<>", "AUTH=<> AUTH=a", "AUTH=+zz"]
        {
            assert_eq!(mail(given.as_bytes(), OFFER, &mut Envelope::default()), Ok(()), "{given}");
        }
        for (given, id) in [
            ("ENVID=X400:+20[/PRMD+3dOne/C+3dXX/;H-1]", "X400: [/PRMD=One/C=XX/;H-1]"),
            ("ENVID=a=b=", "a=b="),
            ("ENVID=+2b+2B", "++"),
            ("ENVID=a\"b c\"d RET=FULL", "a\"b c\"d"),
            ("ENVID=\"a b", "\"a b"),
        ] {
            let mut envelope = Envelope::default();
            assert_eq!(mail(given.as_bytes(), OFFER, &mut envelope), Ok(()), "{given}");
            assert_eq!(envelope.envelope_id.as_deref(), Some(id.as_bytes()), "{given}");
        }
    }

    #[test]
    fn parses_parameters_of_rcpt() {
        let mut recipient = Recipient::default();
        let all = b"NOTIFY=SUCCESS,delay,FAILURE ORCPT=rfc822;user+2Bx@example.com";
        assert_eq!(rcpt(all, &mut recipient), Ok(()));
        assert_eq!(recipient.notify.bits(), 14);
        assert_eq!(recipient.dsn_original.as_deref(), Some(&b"rfc822;user+x@example.com"[..]));
        for (given, bits) in
            [("NOTIFY=FAILURE,FAILURE", 4), ("NOTIFY=NEVER,never", 1), ("NOTIFY=,SUCCESS,,delay,", 10)]
        {
            let mut recipient = Recipient::default();
            assert_eq!(rcpt(given.as_bytes(), &mut recipient), Ok(()), "{given}");
            assert_eq!(recipient.notify.bits(), bits, "{given}");
        }
        for given in [
            "NOTIFY=",
            "NOTIFY=,",
            "NOTIFY=NEVER,SUCCESS",
            "NOTIFY=SUCCESS,NEVER",
            "NOTIFY=X",
            "NOTIFY=DELAY=1",
            "NOTIFY=NEVER NOTIFY=NEVER",
        ] {
            assert_eq!(
                rcpt(given.as_bytes(), &mut Recipient::default()),
                Err(ParameterError::Notify),
                "{given}"
            );
        }
        for (given, original) in [
            (
                "ORCPT=rfc822;SRS0=ab=cd=example.net=joe@example.com",
                "rfc822;SRS0=ab=cd=example.net=joe@example.com",
            ),
            ("ORCPT=RFC822;user+2btag+3d@example.com", "RFC822;user+tag=@example.com"),
            ("ORCPT=rfc822;", "rfc822;"),
            ("ORCPT=rfc822;a+0a", "rfc822;a\n"),
            ("ORCPT=rfc822;\"a b\"@c", "rfc822;\"a b\"@c"),
            ("ORCPT=x_y;a;b", "x_y;a;b"),
            ("ORCPT=utf-8;\u{e9}@c", "utf-8;\u{e9}@c"),
            ("ORCPT=UTF-8;\\x{e9}+2b\\x@c", "UTF-8;\u{e9}+2b\\x@c"),
        ] {
            let mut recipient = Recipient::default();
            assert_eq!(rcpt(given.as_bytes(), &mut recipient), Ok(()), "{given}");
            assert_eq!(recipient.dsn_original.as_deref(), Some(original.as_bytes()), "{given}");
        }
        for given in [
            "ORCPT=",
            "ORCPT=user@example.com",
            "ORCPT=rfc822;a+QQ",
            "ORCPT=rfc822;a+",
            "ORCPT=rfc822;a+4",
            "ORCPT=;a",
            "ORCPT=utf-8;\\x{110000}",
            "ORCPT=utf-8;\\x{d800}",
            "ORCPT=utf-8;\\x{41",
            "ORCPT=utf-8;\\x{}",
            "ORCPT=rfc822;a ORCPT=rfc822;a",
        ] {
            let refused = rcpt(given.as_bytes(), &mut Recipient::default());
            assert_eq!(refused, Err(ParameterError::OriginalRecipient), "{given}");
        }
        for given in ["SIZE=1", "RET=FULL", "SMTPUTF8", "<other@example.com>"] {
            assert!(rcpt(given.as_bytes(), &mut Recipient::default()).is_err(), "{given}");
        }
    }

    proptest! {
        #[test]
        fn parses_any_input_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = mail(&octets, OFFER, &mut Envelope::default());
            let _ = rcpt(&octets, &mut Recipient::default());
        }
    }
}
