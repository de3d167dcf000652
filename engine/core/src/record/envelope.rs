//! The envelope as bytes: fields of a tag, a length and a value, so that later versions can add some.
//!
//! A field is one byte of tag, four of length (little-endian), and the value. Unknown tags are skipped. The
//! fields of a recipient follow its address. Those of a recipient that was expanded are the value of one field, so that a
//! release that does not know the tag skips them too.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use bumpalo::collections::Vec as ArenaVec;

use super::{TooLong, length_of};
use crate::envelope::{
    BodyType, Envelope, Notify, Origin, Protocol, QueuedEnvelope, QueuedRecipient, Recipient, Return,
    Submitter,
};
use crate::{QueueId, Timestamp};

const ARRIVAL: u8 = 1;
const CLIENT_ADDRESS: u8 = 2;
const CLIENT_PORT: u8 = 3;
const CLIENT_NAME: u8 = 4;
const HELO: u8 = 5;
const PROTOCOL: u8 = 6;
pub(super) const SENDER: u8 = 7;
pub(super) const BODY: u8 = 8;
const SMTPUTF8: u8 = 9;
pub(super) const RET: u8 = 10;
pub(super) const ENVELOPE_ID: u8 = 11;
const DECLARED_SIZE: u8 = 12;
const CONTENT_FILTER: u8 = 13;
const REDIRECT: u8 = 14;
const USER_ID: u8 = 15;
pub(super) const RECIPIENT: u8 = 16;
const ORIGINAL: u8 = 17;
pub(super) const NOTIFY: u8 = 18;
pub(super) const DSN_ORIGINAL: u8 = 19;
// 20 and 21 are fields of a submission.
const ASCII_HEADER: u8 = 22;
const REPORTS: u8 = 23;
const EXPANDED: u8 = 24;

/// Appends the encoded envelope.
///
/// # Errors
/// [`TooLong`]: then only a part of it is appended.
pub fn encode(
    origin: &Origin,
    envelope: &QueuedEnvelope<'_>,
    out: &mut ArenaVec<'_, u8>,
) -> Result<(), TooLong> {
    let mut fields = Fields(out);
    fields.add(ARRIVAL, &envelope.given.arrival.unix_microseconds().to_le_bytes())?;
    fields.add_origin(origin)?;
    fields.add_transaction(envelope)?;
    envelope.recipients.iter().try_for_each(|recipient| fields.add_recipient(recipient))?;
    envelope.expanded.iter().try_for_each(|recipient| fields.add_expanded(recipient))
}

/// The fields of an envelope that is being encoded.
struct Fields<'o, 'a>(&'o mut ArenaVec<'a, u8>);

impl Fields<'_, '_> {
    fn add(&mut self, tag: u8, value: &[u8]) -> Result<(), TooLong> {
        let length = length_of(value)?.to_le_bytes();
        self.0.push(tag);
        self.0.extend_from_slice_copy(&length);
        self.0.extend_from_slice_copy(value);
        Ok(())
    }

    fn add_origin(&mut self, origin: &Origin) -> Result<(), TooLong> {
        match origin.client_address {
            IpAddr::V4(address) => self.add(CLIENT_ADDRESS, &address.octets())?,
            IpAddr::V6(address) => self.add(CLIENT_ADDRESS, &address.octets())?,
        }
        self.add(CLIENT_PORT, &origin.client_port.to_le_bytes())?;
        if let Some(name) = &origin.client_name {
            self.add(CLIENT_NAME, name)?;
        }
        if !origin.helo.is_empty() {
            self.add(HELO, &origin.helo)?;
        }
        let protocol = match origin.protocol {
            Protocol::Smtp => b'S',
            Protocol::Esmtp => b'E',
            Protocol::Local => b'L',
        };
        self.add(PROTOCOL, &[protocol])
    }

    /// What MAIL said, and what cleanup decided about the whole message.
    fn add_transaction(&mut self, envelope: &QueuedEnvelope<'_>) -> Result<(), TooLong> {
        let given = envelope.given;
        if let Some(submitter) = &given.submitter {
            self.add(USER_ID, &submitter.user_id.to_le_bytes())?;
        }
        self.add(SENDER, envelope.sender)?;
        match envelope.body {
            BodyType::Unstated => {}
            BodyType::SevenBit => self.add(BODY, b"7")?,
            BodyType::EightBitMime => self.add(BODY, b"8")?,
            BodyType::BinaryMime => self.add(BODY, b"B")?,
        }
        if envelope.smtputf8 {
            self.add(SMTPUTF8, &[])?;
            if envelope.has_ascii_header {
                self.add(ASCII_HEADER, &[])?;
            }
        }
        match given.ret {
            None => {}
            Some(Return::Full) => self.add(RET, b"F")?,
            Some(Return::Headers) => self.add(RET, b"H")?,
        }
        if let Some(id) = &given.envelope_id {
            self.add(ENVELOPE_ID, id)?;
        }
        if let Some(size) = given.declared_size {
            self.add(DECLARED_SIZE, &size.to_le_bytes())?;
        }
        if let Some(filter) = envelope.content_filter {
            self.add(CONTENT_FILTER, filter)?;
        }
        if let Some(redirect) = envelope.redirect {
            self.add(REDIRECT, redirect)?;
        }
        if let Some(id) = given.reports {
            self.add(REPORTS, &id.number().to_le_bytes())?;
        }
        Ok(())
    }

    fn add_recipient(&mut self, recipient: &QueuedRecipient<'_>) -> Result<(), TooLong> {
        self.add(RECIPIENT, recipient.address)?;
        if recipient.original != recipient.address {
            self.add(ORIGINAL, recipient.original)?;
        }
        if !recipient.notify.is_empty() {
            self.add(NOTIFY, &[recipient.notify.bits()])?;
        }
        if let Some(original) = recipient.dsn_original {
            self.add(DSN_ORIGINAL, original)?;
        }
        Ok(())
    }

    fn add_expanded(&mut self, recipient: &QueuedRecipient<'_>) -> Result<(), TooLong> {
        let mut value = ArenaVec::new_in(self.0.bump());
        Fields(&mut value).add_recipient(recipient)?;
        self.add(EXPANDED, &value)
    }
}

/// Reads an envelope; `None` if it is damaged.
#[must_use]
pub fn decode(mut octets: &[u8]) -> Option<(Origin, Envelope)> {
    let (mut origin, mut envelope) = (Origin::default(), Envelope::default());
    while !octets.is_empty() {
        let (tag, value, rest) = split_field(octets)?;
        octets = rest;
        match tag {
            ARRIVAL => envelope.arrival = Timestamp::from_unix_microseconds(number(value)?),
            CLIENT_ADDRESS => origin.client_address = address(value)?,
            CLIENT_PORT => origin.client_port = u16::from_le_bytes(value.try_into().ok()?),
            CLIENT_NAME => origin.client_name = Some(value.into()),
            HELO => origin.helo = value.into(),
            PROTOCOL => origin.protocol = protocol(value)?,
            USER_ID => {
                let user_id = u32::from_le_bytes(value.try_into().ok()?);
                envelope.submitter = Some(Box::new(Submitter { user_id, full_name: Vec::new() }));
            }
            SENDER => envelope.sender = value.to_vec(),
            BODY => envelope.body = body(value)?,
            SMTPUTF8 => envelope.smtputf8 = true,
            ASCII_HEADER => envelope.content.has_ascii_header = true,
            RET => envelope.ret = Some(ret(value)),
            ENVELOPE_ID => envelope.envelope_id = Some(value.into()),
            CONTENT_FILTER => envelope.content_filter = Some(value.into()),
            REDIRECT => envelope.redirect = Some(value.into()),
            REPORTS => envelope.reports = Some(QueueId::from_number(number(value)?)),
            DECLARED_SIZE => envelope.declared_size = Some(number(value)?),
            EXPANDED => envelope.expanded.push(expanded(value)?),
            tag => of_recipients(&mut envelope.recipients, tag, value)?,
        }
    }
    Some((origin, envelope))
}

/// Returns tag and value of the first field, and the bytes after it.
pub(super) fn split_field(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = octets.split_at_checked(5)?;
    let length = u32::from_le_bytes(head.get(1..)?.try_into().ok()?);
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((*head.first()?, value, rest))
}

/// Takes a field of the last recipient. An address begins the next one; other tags are skipped.
fn of_recipients(recipients: &mut Vec<Recipient>, tag: u8, value: &[u8]) -> Option<()> {
    match tag {
        RECIPIENT => recipients.push(Recipient { address: value.to_vec(), ..Recipient::default() }),
        ORIGINAL => recipients.last_mut()?.original = Some(value.into()),
        NOTIFY => recipients.last_mut()?.notify = Notify::from_bits(*value.first()?),
        DSN_ORIGINAL => recipients.last_mut()?.dsn_original = Some(value.into()),
        _ => {}
    }
    Some(())
}

/// Reads the value of a field that holds one recipient.
fn expanded(mut octets: &[u8]) -> Option<Recipient> {
    let mut recipients = Vec::new();
    while !octets.is_empty() {
        let (tag, value, rest) = split_field(octets)?;
        octets = rest;
        of_recipients(&mut recipients, tag, value)?;
    }
    recipients.pop().filter(|_| recipients.is_empty())
}

fn number(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_le_bytes)
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
    }
}

fn protocol(value: &[u8]) -> Option<Protocol> {
    match value {
        b"S" => Some(Protocol::Smtp),
        b"E" => Some(Protocol::Esmtp),
        b"L" => Some(Protocol::Local),
        _ => None,
    }
}

pub(super) fn ret(value: &[u8]) -> Return {
    if value == b"H" { Return::Headers } else { Return::Full }
}

pub(super) fn body(value: &[u8]) -> Option<BodyType> {
    match value {
        b"7" => Some(BodyType::SevenBit),
        b"8" => Some(BodyType::EightBitMime),
        b"B" => Some(BodyType::BinaryMime),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ContentTraits;
    use bumpalo::Bump;
    use proptest::prelude::*;

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..20)
    }

    fn encoded(origin: &Origin, envelope: &Envelope) -> Vec<u8> {
        let arena = Bump::new();
        let mut out = ArenaVec::new_in(&arena);
        encode(origin, &QueuedEnvelope::unchanged(&arena, envelope), &mut out).unwrap();
        out.to_vec()
    }

    proptest! {
        #[test]
        fn envelopes_round_trip(
            (arrival, sender, helo, name) in (any::<u64>(), octets(), octets(), prop::option::of(octets())),
            recipients in prop::collection::vec((octets(), prop::option::of(octets()), 0u8..16, prop::option::of(octets())), 0..4),
            (address, port) in (any::<IpAddr>(), any::<u16>()),
            (smtputf8, is_ascii) in any::<(bool, bool)>(),
            (declared, id) in (prop::option::of(any::<u64>()), prop::option::of(octets())),
            filter in prop::option::of(octets()),
            user_id in prop::option::of(any::<u32>()),
            delivered in 0usize..5,
        ) {
            let mut origin = Origin::new(address, port);
            origin.helo = helo.into();
            origin.client_name = name.map(Into::into);
            origin.protocol = Protocol::Esmtp;
            let recipients = recipients.into_iter().map(|(address, original, notify, dsn)| Recipient {
                // An original that is the same is not kept apart.
                original: original.filter(|original| *original != address).map(Into::into),
                address,
                notify: Notify::from_bits(notify),
                dsn_original: dsn.map(Into::into),
            });
            let mut recipients: Vec<Recipient> = recipients.collect();
            let expanded = recipients.split_off(delivered.min(recipients.len()));
            let envelope = Envelope {
                arrival: Timestamp::from_unix_microseconds(arrival),
                sender,
                recipients,
                expanded,
                body: BodyType::BinaryMime,
                smtputf8,
                ret: Some(Return::Headers),
                envelope_id: id.map(Into::into),
                declared_size: declared,
                // Kept only where it counts.
                content: ContentTraits { has_ascii_header: smtputf8 && is_ascii, has_raw_start: false },
                content_filter: filter.clone().map(Into::into),
                redirect: filter.map(Into::into),
                submitter: user_id.map(|user_id| Box::new(Submitter { user_id, full_name: Vec::new() })),
                reports: declared.map(QueueId::from_number),
            };
            let mut out = encoded(&origin, &envelope);
            // A field of a later version is skipped.
            out.extend_from_slice(&[200, 2, 0, 0, 0, 1, 2]);
            prop_assert_eq!(decode(&out), Some((origin, envelope)));
        }

        #[test]
        fn parses_any_input_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode(&octets);
        }
    }
    /// The value of a field 24 with these fields, each a tag and one byte.
    fn expanded_of(fields: &[(u8, u8)]) -> Option<Recipient> {
        let value: Vec<u8> = fields.iter().flat_map(|(tag, byte)| [*tag, 1, 0, 0, 0, *byte]).collect();
        expanded(&value)
    }

    #[test]
    fn an_expanded_recipient_is_one_recipient() {
        let one = expanded_of(&[(RECIPIENT, b'a'), (200, 7), (NOTIFY, 2)]).unwrap();
        assert_eq!((one.address, one.notify), (b"a".to_vec(), Notify::SUCCESS));
        assert_eq!(expanded_of(&[]), None);
        assert_eq!(expanded_of(&[(NOTIFY, 2)]), None);
        assert_eq!(expanded_of(&[(RECIPIENT, b'a'), (RECIPIENT, b'b')]), None);
    }
}
