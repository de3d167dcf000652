//! Properties of the queue formats: written values decode to the same values, and changed ones do not decode.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::envelope::{
    BodyType, ContentTraits, Notify, Origin, Protocol, Recipient, Return, Submitter,
};
use mailrace_core::record::envelope::{decode, encode};
use mailrace_core::record::spool::{
    BatchHeader, Location, Mark, RecordHeader, RecordKind, SegmentError, SegmentHeader, checksum, record_size,
};
use mailrace_core::{Envelope, QueueId, QueuedEnvelope, Timestamp};

/// Checks bytes as queue data, and as a source of values to encode.
///
/// # Panics
/// A property does not hold.
pub fn check(octets: &[u8]) {
    check_decoded(octets);
    let mut source = Source(octets);
    check_headers(&mut source);
    check_envelope(&mut source);
    check_id(octets);
}

/// Makes values from bytes, and zeros after their end.
struct Source<'a>(&'a [u8]);

impl Source<'_> {
    fn octet(&mut self) -> u8 {
        let Some((octet, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *octet
    }

    fn number(&mut self) -> u64 {
        let size = usize::from(self.octet() % 9);
        (0..size).fold(0, |number, _| number << 8 | u64::from(self.octet()))
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number() & u64::from(u32::MAX)).expect("32 bits")
    }

    fn text(&mut self) -> Vec<u8> {
        let size = usize::from(self.octet()).min(self.0.len());
        let (text, rest) = self.0.split_at(size);
        self.0 = rest;
        text.to_vec()
    }

    fn some<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.octet() % 2 == 1).then(|| value(self))
    }
}

/// Checks that a value decoded from arbitrary bytes survives encoding and decoding.
fn check_decoded(octets: &[u8]) {
    if let Some((origin, mut envelope)) = decode(octets) {
        let again = decode(&encoded(&origin, &envelope));
        // An original recipient that equals the address is not written, which has the same meaning.
        for recipient in &mut envelope.recipients {
            recipient.original =
                recipient.original.take().filter(|original| **original != *recipient.address);
        }
        assert_eq!(again, Some((origin, envelope)));
    }
    for place in [0, octets.len() as u64] {
        if let Some(header) = RecordHeader::decode(octets, place, place) {
            assert_eq!(RecordHeader::decode(&header.encode(place, place), place, place), Some(header));
        }
        if let Some(header) = BatchHeader::decode(octets, place, place) {
            assert_eq!(header.encode(place, place)[..], octets[..64]);
        }
    }
    if let Ok(header) = SegmentHeader::decode(octets) {
        assert_eq!(header.encode()[16..48], octets[16..48]);
    }
}

/// Checks that a header is valid only where it was written, in the same use of the segment, with all of its bits.
fn check_headers(source: &mut Source<'_>) {
    let (salt, offset, bit) = (source.number(), source.number(), usize::from(source.octet()) * 2);
    let segment = SegmentHeader { sequence: source.number(), salt, size: source.number() };
    let mut block = segment.encode();
    assert_eq!(SegmentHeader::decode(&block), Ok(segment));
    let bit_of_segment = bit % (48 * 8);
    block[bit_of_segment / 8] ^= 1 << (bit_of_segment % 8);
    let error = SegmentHeader::decode(&block).expect_err("a changed bit is seen");
    assert_eq!(error == SegmentError::NotASegment, bit_of_segment < 64, "{error:?}");
    assert!(!matches!(error, SegmentError::Version(_)), "damage is no other version");

    let batch = BatchHeader {
        length: source.small(),
        records: source.small(),
        worker: source.small(),
        sequence: source.number(),
        number: source.number(),
        durable_from: source.number(),
        durable_through: source.number(),
    };
    let header = batch.encode(salt, offset);
    assert_eq!(BatchHeader::decode(&header, salt, offset), Some(batch));
    assert_eq!(BatchHeader::decode(&flipped(header, bit), salt, offset), None);
    assert_eq!(BatchHeader::decode(&header, salt ^ 1, offset), None);
    assert_eq!(BatchHeader::decode(&header, salt, offset ^ 16), None);
    assert_eq!(RecordHeader::decode(&header, salt, offset), None);

    let length = source.small();
    let kind = match source.octet() % 3 {
        0 => RecordKind::Chunk,
        1 => RecordKind::Message,
        _ => RecordKind::Mark,
    };
    let payload = source.text();
    let record = RecordHeader {
        kind,
        is_held: source.octet() % 2 == 1,
        id: QueueId::from_number(source.number()),
        length,
        envelope_length: source.small() % (length / 2 + 1),
        part: source.small(),
        previous: source.some(|source| Location { sequence: source.number().max(1), offset: source.small() }),
        payload_checksum: checksum(&payload, salt),
        content_size: source.number(),
    };
    let header = record.encode(salt, offset);
    assert_eq!(RecordHeader::decode(&header, salt, offset), Some(record));
    assert_eq!(RecordHeader::decode(&flipped(header, bit), salt, offset), None);
    assert_eq!(RecordHeader::decode(&header, salt ^ 1, offset), None);
    assert_eq!(RecordHeader::decode(&header, salt, offset ^ 16), None);
    assert_eq!(RecordHeader::decode(&header[..63], salt, offset), None);
    assert_eq!(BatchHeader::decode(&header, salt, offset), None);
    assert_eq!(record.size(), record_size(length as usize));
    assert!(record.size() >= 64 + length as usize && record.size().is_multiple_of(16));

    let mut changed = payload.clone();
    if !changed.is_empty() {
        let bit = bit % (changed.len() * 8);
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(checksum(&changed, salt), record.payload_checksum, "a changed bit is seen");
    }
    assert_ne!(checksum(&payload, salt ^ 1), record.payload_checksum, "another use is seen");
    let mark = source.octet();
    assert!(Mark::from_octet(mark).is_none_or(|known| known.octet() == mark));
}

fn flipped(mut header: [u8; 64], bit: usize) -> [u8; 64] {
    header[bit / 8 % 64] ^= 1 << (bit % 8);
    header
}

/// Checks that an envelope decodes as it was written, and that no prefix cut within a field decodes.
fn check_envelope(source: &mut Source<'_>) {
    let mut origin = Origin::default();
    if let Some(number) = source.some(Source::number) {
        origin.client_address = std::net::Ipv6Addr::from(u128::from(number) << 60).into();
    }
    origin.client_port = u16::from(source.octet());
    origin.client_name = source.some(|source| source.text().into());
    origin.helo = source.text().into();
    origin.protocol = match source.octet() % 3 {
        0 => Protocol::Smtp,
        1 => Protocol::Esmtp,
        _ => Protocol::Local,
    };
    let recipient = |source: &mut Source<'_>| {
        let address = source.text();
        let original: Option<Box<[u8]>> = source.some(|source| source.text().into());
        let original = original.filter(|original| **original != *address);
        Recipient {
            address,
            original,
            notify: Notify::from_bits(source.octet()),
            dsn_original: source.some(|source| source.text().into()),
        }
    };
    let smtputf8 = source.octet() % 2 == 1;
    let envelope = Envelope {
        arrival: Timestamp::from_unix_microseconds(source.number()),
        sender: source.text(),
        recipients: (0..source.octet() % 8).map(|_| recipient(source)).collect(),
        expanded: (0..source.octet() % 3).map(|_| recipient(source)).collect(),
        body: match source.octet() % 4 {
            0 => BodyType::Unstated,
            1 => BodyType::SevenBit,
            2 => BodyType::EightBitMime,
            _ => BodyType::BinaryMime,
        },
        smtputf8,
        ret: source.some(|source| if source.octet() % 2 == 1 { Return::Full } else { Return::Headers }),
        envelope_id: source.some(|source| source.text().into()),
        declared_size: source.some(Source::number),
        // Kept only where it counts.
        content: ContentTraits {
            has_ascii_header: smtputf8 && source.octet() % 2 == 1,
            has_raw_start: false,
        },
        content_filter: source.some(|source| source.text().into()),
        redirect: source.some(|source| source.text().into()),
        submitter: source.some(|source| {
            let user_id = u32::from(source.octet());
            Box::new(Submitter { user_id, full_name: Vec::new() })
        }),
        reports: source.some(|source| QueueId::from_number(source.number())),
    };
    let octets = encoded(&origin, &envelope);
    let read = decode(&octets);
    assert_eq!(read, Some((origin, envelope)));
    let cut = &octets[..octets.len() - 1];
    assert_eq!(decode(cut).filter(|_| !octets.ends_with(&[0; 4])), None, "a field that is cut is none");
}

fn encoded(origin: &Origin, envelope: &Envelope) -> Vec<u8> {
    let arena = Bump::new();
    let mut out = ArenaVec::new_in(&arena);
    encode(origin, &QueuedEnvelope::unchanged(&arena, envelope), &mut out).unwrap();
    out.to_vec()
}

/// Checks that the text of a queue id matches its number.
fn check_id(octets: &[u8]) {
    let number = octets.iter().fold(0_u64, |number, octet| number.rotate_left(8) ^ u64::from(*octet));
    let id = QueueId::from_number(number);
    assert_eq!(QueueId::parse(&id.text()), Some(id));
    let text = octets.get(..octets.len().min(12)).unwrap_or_default();
    if let Some(id) = QueueId::parse(text) {
        assert_eq!(id.text()[..], *text, "an id has one text");
    }
}
