//! Owns the parameters of MAIL and RCPT (RFC 1870, 3030, 3461, 6152, 6531).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::envelope::{BodyType, Envelope, Notify, Recipient, Return};

/// Why a parameter is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ParameterError<'a> {
    /// 555 5.5.4.
    Unsupported(&'a [u8]),
    /// 501 5.5.4: SIZE is no number.
    SizeSyntax,
    /// 552 5.3.4: SIZE is more than 64 bits, or more than the limit.
    SizeTooBig,
    /// 501 5.5.4.
    Ret,
    /// 501 5.5.4.
    EnvelopeId,
    /// 501 5.5.4.
    Notify,
    /// 501 5.5.4.
    OriginalRecipient,
}

/// What may be asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    /// BODY=BINARYMIME.
    pub(super) has_binarymime: bool,
    /// 0: no limit.
    pub(super) message_size_limit: u64,
}

/// Reads the parameters of MAIL into `envelope`.
pub(super) fn mail<'a>(
    parameters: &'a [u8],
    offer: Offer,
    envelope: &mut Envelope,
) -> Result<(), ParameterError<'a>> {
    for parameter in split(parameters) {
        let unsupported = Err(ParameterError::Unsupported(parameter));
        let (name, value) = name_and_value(parameter);
        let mut memory = [0; NAME_SIZE_MAX];
        match (lower(name, &mut memory), value) {
            (b"size", Some(value)) => envelope.declared_size = Some(size(value, offer)?),
            (b"body", Some(value)) if value.eq_ignore_ascii_case(b"7BIT") => {
                envelope.body = BodyType::SevenBit
            }
            (b"body", Some(value)) if value.eq_ignore_ascii_case(b"8BITMIME") => {
                envelope.body = BodyType::EightBitMime
            }
            (b"body", Some(value)) if offer.has_binarymime && value.eq_ignore_ascii_case(b"BINARYMIME") => {
                envelope.body = BodyType::BinaryMime;
            }
            (b"smtputf8", None) => envelope.smtputf8 = true,
            (b"ret", Some(value)) => {
                let ret = match value {
                    value if value.eq_ignore_ascii_case(b"FULL") => Return::Full,
                    value if value.eq_ignore_ascii_case(b"HDRS") => Return::Headers,
                    _ => return Err(ParameterError::Ret),
                };
                if envelope.ret.replace(ret).is_some() {
                    return Err(ParameterError::Ret);
                }
            }
            (b"envid", Some(value)) => {
                let id = xtext(value).filter(|id| is_printable(id)).ok_or(ParameterError::EnvelopeId)?;
                if envelope.envelope_id.replace(id).is_some() {
                    return Err(ParameterError::EnvelopeId);
                }
            }
            _ => return unsupported,
        }
    }
    Ok(())
}

/// Reads the parameters of RCPT into `recipient`.
pub(super) fn rcpt<'a>(parameters: &'a [u8], recipient: &mut Recipient) -> Result<(), ParameterError<'a>> {
    for parameter in split(parameters) {
        let (name, value) = name_and_value(parameter);
        let mut memory = [0; NAME_SIZE_MAX];
        match (lower(name, &mut memory), value) {
            (b"notify", Some(value)) => {
                if !recipient.notify.is_empty() {
                    return Err(ParameterError::Notify);
                }
                recipient.notify = notify(value).ok_or(ParameterError::Notify)?;
            }
            (b"orcpt", Some(value)) => {
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

/// Octets of the longest name of a parameter that is known.
const NAME_SIZE_MAX: usize = 8;

pub(super) fn split(parameters: &[u8]) -> impl Iterator<Item = &[u8]> {
    parameters.split(|octet| matches!(octet, b' ' | b'\t')).filter(|parameter| !parameter.is_empty())
}

fn name_and_value(parameter: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memchr(b'=', parameter) {
        Some(place) => (parameter.get(..place).unwrap_or_default(), parameter.get(place + 1..)),
        None => (parameter, None),
    }
}

/// `name` in lower case; empty if it is longer than any that is known.
fn lower<'a>(name: &[u8], memory: &'a mut [u8; NAME_SIZE_MAX]) -> &'a [u8] {
    let Some(place) = memory.get_mut(..name.len()) else { return b"" };
    place.copy_from_slice(name);
    place.make_ascii_lowercase();
    place
}

fn size<'a>(value: &[u8], offer: Offer) -> Result<u64, ParameterError<'a>> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(ParameterError::SizeSyntax);
    }
    let size =
        value.iter().try_fold(0u64, |size, digit| size.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    let size = size.ok_or(ParameterError::SizeTooBig)?;
    if offer.message_size_limit > 0 && size > offer.message_size_limit {
        return Err(ParameterError::SizeTooBig);
    }
    Ok(size)
}

/// RFC 3461 §4.1; `None` if a word is unknown, twice, or NEVER is not alone.
fn notify(value: &[u8]) -> Option<Notify> {
    let mut all = Notify::default();
    for word in value.split(|octet| *octet == b',') {
        let one = match word {
            word if word.eq_ignore_ascii_case(b"NEVER") => Notify::NEVER,
            word if word.eq_ignore_ascii_case(b"SUCCESS") => Notify::SUCCESS,
            word if word.eq_ignore_ascii_case(b"FAILURE") => Notify::FAILURE,
            word if word.eq_ignore_ascii_case(b"DELAY") => Notify::DELAY,
            _ => return None,
        };
        if all.contains(one) || all.contains(Notify::NEVER) || (one == Notify::NEVER && !all.is_empty()) {
            return None;
        }
        all = all.with(one);
    }
    Some(all)
}

/// `type;xtext` (RFC 3461 §4.2), decoded.
fn original_recipient(value: &[u8]) -> Option<Box<[u8]>> {
    let place = memchr::memchr(b';', value)?;
    let (kind, address) = (value.get(..place)?, value.get(place + 1..)?);
    let is_kind =
        !kind.is_empty() && kind.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    // RFC 6533 §3: an address of type utf-8 may come as UTF-8.
    let address =
        xtext(address).filter(|address| !address.is_empty() && !address.iter().any(u8::is_ascii_control))?;
    if !is_kind {
        return None;
    }
    let mut original = Vec::with_capacity(kind.len() + 1 + address.len());
    original.extend_from_slice(kind);
    original.push(b';');
    original.extend_from_slice(&address);
    Some(original.into())
}

/// Decodes xtext (RFC 3461 §4); UTF-8 is let through. `None` if it is none.
fn xtext(value: &[u8]) -> Option<Box<[u8]>> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((octet, behind)) = rest.split_first() {
        rest = behind;
        match octet {
            b'+' => {
                let (digits, behind) = rest.split_at_checked(2)?;
                rest = behind;
                let [high, low] = digits else { return None };
                let digit = |octet: &u8| match octet {
                    b'0'..=b'9' => Some(octet - b'0'),
                    b'A'..=b'F' => Some(octet - b'A' + 10),
                    _ => None,
                };
                out.push(digit(high)? << 4 | digit(low)?);
            }
            b'=' => return None,
            33..=126 | 128.. => out.push(*octet),
            _ => return None,
        }
    }
    Some(out.into())
}

fn is_printable(octets: &[u8]) -> bool {
    octets.iter().all(|octet| (32..127).contains(octet))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OFFER: Offer = Offer { has_binarymime: true, message_size_limit: 1000 };

    #[test]
    fn parameters_of_mail() {
        let mut envelope = Envelope::default();
        let all = b"SIZE=1000 body=8bitMIME SMTPUTF8 RET=hdrs ENVID=QQ+2B1";
        assert_eq!(mail(all, OFFER, &mut envelope), Ok(()));
        assert_eq!(envelope.declared_size, Some(1000));
        assert_eq!(envelope.body, BodyType::EightBitMime);
        assert!(envelope.smtputf8);
        assert_eq!(envelope.ret, Some(Return::Headers));
        assert_eq!(envelope.envelope_id.as_deref(), Some(&b"QQ+1"[..]));
        let cases: [(&[u8], ParameterError<'_>); 16] = [
            (b"SIZE=", ParameterError::SizeSyntax),
            (b"SIZE=-1", ParameterError::SizeSyntax),
            (b"SIZE=12k", ParameterError::SizeSyntax),
            (b"SIZE=1001", ParameterError::SizeTooBig),
            (b"SIZE=99999999999999999999999", ParameterError::SizeTooBig),
            (b"SIZE", ParameterError::Unsupported(b"SIZE")),
            (b"SMTPUTF8=yes", ParameterError::Unsupported(b"SMTPUTF8=yes")),
            (b"BODY=9BIT", ParameterError::Unsupported(b"BODY=9BIT")),
            (b"FOO=bar", ParameterError::Unsupported(b"FOO=bar")),
            (b"NOTIFY=NEVER", ParameterError::Unsupported(b"NOTIFY=NEVER")),
            (b"RET=SOME", ParameterError::Ret),
            (b"RET=", ParameterError::Ret),
            (b"RET=FULL RET=HDRS", ParameterError::Ret),
            (b"ENVID=a ENVID=b", ParameterError::EnvelopeId),
            (b"ENVID=a+0A", ParameterError::EnvelopeId),
            (b"ENVID=a+b", ParameterError::EnvelopeId),
        ];
        for (given, error) in cases {
            assert_eq!(mail(given, OFFER, &mut Envelope::default()), Err(error));
        }
        let offer = Offer { has_binarymime: false, message_size_limit: 0 };
        assert_eq!(mail(b"SIZE=5000", offer, &mut envelope), Ok(()));
        assert!(mail(b"BODY=BINARYMIME", offer, &mut envelope).is_err());
        assert_eq!(mail(b"BODY=BINARYMIME", OFFER, &mut envelope), Ok(()));
    }

    #[test]
    fn parameters_of_rcpt() {
        let mut recipient = Recipient::default();
        let all = b"NOTIFY=SUCCESS,delay,FAILURE ORCPT=rfc822;user+2Bx@example.com";
        assert_eq!(rcpt(all, &mut recipient), Ok(()));
        assert_eq!(recipient.notify.bits(), 14);
        assert_eq!(recipient.dsn_original.as_deref(), Some(&b"rfc822;user+x@example.com"[..]));
        for given in [
            "NOTIFY=",
            "NOTIFY=NEVER,SUCCESS",
            "NOTIFY=SUCCESS,NEVER",
            "NOTIFY=DELAY,DELAY",
            "NOTIFY=X",
            "NOTIFY=NEVER NOTIFY=NEVER",
        ] {
            assert_eq!(
                rcpt(given.as_bytes(), &mut Recipient::default()),
                Err(ParameterError::Notify),
                "{given}"
            );
        }
        for given in [
            "ORCPT=",
            "ORCPT=user@example.com",
            "ORCPT=rfc822;a+QQ",
            "ORCPT=;a",
            "ORCPT=rfc822;",
            "ORCPT=r;a=b",
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
        fn any_octets_are_a_value(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = mail(&octets, OFFER, &mut Envelope::default());
            let _ = rcpt(&octets, &mut Recipient::default());
        }
    }
}
