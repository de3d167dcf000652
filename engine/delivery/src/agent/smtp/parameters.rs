//! Parameters of MAIL and RCPT: what the message needs, as far as the server offers it.

use mailrace_core::Envelope;
use mailrace_core::envelope::{BodyType, Recipient, Return};
use mailrace_core::smtp::client::{Extensions, append_xtext};

/// Whether content is converted to 7 bits: as in Postfix, wherever it may be needed, declared or not.
pub(super) fn is_converted(envelope: &Envelope, offered: &Extensions) -> bool {
    !offered.eight_bit_mime && matches!(envelope.body, BodyType::EightBitMime | BodyType::Unstated)
}

/// The parameters of MAIL, each with a space before it. `size`: of the content.
pub(super) fn of_mail(envelope: &Envelope, offered: &Extensions, size: u64) -> Vec<u8> {
    let mut out = Vec::new();
    // The size of content that is converted is not known.
    if offered.size.is_some() && !is_converted(envelope, offered) {
        out.extend_from_slice(format!(" SIZE={size}").as_bytes());
    }
    match envelope.body {
        BodyType::EightBitMime if offered.eight_bit_mime => out.extend_from_slice(b" BODY=8BITMIME"),
        BodyType::SevenBit if offered.eight_bit_mime => out.extend_from_slice(b" BODY=7BIT"),
        _ => {}
    }
    if offered.dsn {
        if let Some(id) = &envelope.envelope_id {
            out.extend_from_slice(b" ENVID=");
            append_xtext(id, false, &mut out);
        }
        match envelope.ret {
            None => {}
            Some(Return::Full) => out.extend_from_slice(b" RET=FULL"),
            Some(Return::Headers) => out.extend_from_slice(b" RET=HDRS"),
        }
    }
    if envelope.smtputf8 && offered.smtputf8 {
        out.extend_from_slice(b" SMTPUTF8");
    }
    out
}

/// The parameters of RCPT, each with a space before it. A server with DSN is always told the original recipient, as Postfix
/// does, so that its reports name the address that the sender knows.
pub(super) fn of_rcpt(recipient: &Recipient, offered: &Extensions) -> Vec<u8> {
    let mut out = Vec::new();
    if !offered.dsn {
        return out;
    }
    if !recipient.notify.is_empty() {
        out.extend_from_slice(b" NOTIFY=");
        let names: Vec<&str> = recipient.notify.keywords().collect();
        out.extend_from_slice(names.join(",").as_bytes());
    }
    let given = recipient.dsn_original.as_deref().and_then(|text| {
        let at = text.iter().position(|byte| *byte == b';')?;
        text.split_at_checked(at).zip(text.get(at + 1..)).map(|((kind, _), address)| (kind, address))
    });
    let (kind, address) = given.unwrap_or_else(|| {
        let address = recipient.original();
        (if address.is_ascii() { &b"rfc822"[..] } else { &b"utf-8"[..] }, address)
    });
    out.extend_from_slice(b" ORCPT=");
    out.extend_from_slice(kind);
    out.push(b';');
    append_xtext(address, offered.smtputf8 && kind.eq_ignore_ascii_case(b"utf-8"), &mut out);
    out
}

#[cfg(test)]
mod tests {
    use mailrace_core::envelope::Notify;

    use super::*;

    #[test]
    fn only_what_is_offered_is_sent() {
        let envelope = Envelope {
            body: BodyType::EightBitMime,
            smtputf8: true,
            ret: Some(Return::Headers),
            envelope_id: Some(b"a b".as_slice().into()),
            ..Envelope::default()
        };
        assert_eq!(of_mail(&envelope, &Extensions::default(), 9), b"");
        let offered = Extensions {
            size: Some(0),
            eight_bit_mime: true,
            smtputf8: true,
            dsn: true,
            ..Extensions::default()
        };
        let expected: &[u8] = b" SIZE=9 BODY=8BITMIME ENVID=a+20b RET=HDRS SMTPUTF8";
        assert_eq!(of_mail(&envelope, &offered, 9), expected);
        let recipient = Recipient {
            address: b"b@example.com".to_vec(),
            original: Some(b"a+x@example.com".as_slice().into()),
            notify: Notify::SUCCESS.with(Notify::DELAY),
            dsn_original: None,
        };
        assert_eq!(of_rcpt(&recipient, &Extensions::default()), b"");
        let expected: &[u8] = b" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+2Bx@example.com";
        assert_eq!(of_rcpt(&recipient, &offered), expected);
        let dsn_original = Some(b"x400;c=us".as_slice().into());
        let recipient = Recipient { dsn_original, notify: Notify::default(), ..recipient };
        assert_eq!(of_rcpt(&recipient, &offered), b" ORCPT=x400;c+3Dus");
    }
}
