//! The drop file: a message that was submitted on this machine and that no engine has taken yet.
//!
//! A header of [`HEADER_SIZE`] bytes, the content with LF line ends, the envelope. Content is written while it is
//! read, so the header is written last. The layout is in `docs/queue-format.md`.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::hash::Hasher;

use twox_hash::XxHash3_64;

use super::envelope::{
    BODY, DSN_ORIGINAL, ENVELOPE_ID, NOTIFY, RECIPIENT, RET, SENDER, body, ret, split_field,
};
use super::spool::checksum;
use super::{TooLong, length_of};
use crate::Timestamp;
use crate::envelope::{BodyType, Envelope, Notify, Recipient, Return};
use crate::submission::{full_name, is_plain_address, recipient};

/// Bytes of a drop file's header.
pub const HEADER_SIZE: usize = 64;
/// Version of the format that this module writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"MAILDROP";
/// Where the header's own checksum stands.
const SEAL: usize = 56;

const FULL_NAME: u8 = 20;
const GATEWAY: u8 = 21;

/// Header of a drop file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of content after the header.
    pub content_size: u64,
    /// [`ContentChecksum`] of them.
    pub content_checksum: u64,
    /// Bytes of the envelope after the content, up to the end of the file.
    pub envelope_size: u32,
    /// XXH3 of the envelope.
    pub envelope_checksum: u64,
}

/// Reasons why a drop file is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmissionError {
    /// It has no magic number.
    NotOurs,
    /// It has another version of the format.
    Version(u32),
    /// A checksum or size does not match.
    Damaged,
    /// The envelope has something that no envelope may have.
    Envelope,
}

impl fmt::Display for SubmissionError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => formatter.write_str("it is not a drop file"),
            Self::Version(version) => {
                write!(formatter, "it has version {version} of the format, which this program does not read")
            }
            Self::Damaged => formatter.write_str("it is damaged"),
            Self::Envelope => formatter.write_str("its envelope cannot be read"),
        }
    }
}

impl core::error::Error for SubmissionError {}

impl Header {
    /// Returns the header of a file with this amount of content, its checksum, and this encoded envelope.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(content_size: u64, content_checksum: u64, envelope: &[u8]) -> Result<Self, TooLong> {
        let envelope_size = length_of(envelope)?;
        Ok(Self { content_size, content_checksum, envelope_size, envelope_checksum: checksum(envelope, 0) })
    }

    /// Returns its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut header = [0; HEADER_SIZE];
        let mut put = |place: usize, value: &[u8]| {
            if let Some(target) = header.get_mut(place..place + value.len()) {
                target.copy_from_slice(value);
            }
        };
        put(0, &MAGIC);
        put(8, &FORMAT_VERSION.to_le_bytes());
        put(12, &self.envelope_size.to_le_bytes());
        put(16, &self.content_size.to_le_bytes());
        put(24, &self.content_checksum.to_le_bytes());
        put(32, &self.envelope_checksum.to_le_bytes());
        let seal = checksum(header.get(..SEAL).unwrap_or_default(), 0).to_le_bytes();
        if let Some(target) = header.get_mut(SEAL..) {
            target.copy_from_slice(&seal);
        }
        header
    }

    /// Reads the header of a file of `file_size` bytes.
    ///
    /// # Errors
    /// [`SubmissionError`].
    pub fn decode(octets: &[u8], file_size: u64) -> Result<Self, SubmissionError> {
        let header = octets.first_chunk::<HEADER_SIZE>().ok_or(SubmissionError::NotOurs)?;
        if !header.starts_with(&MAGIC) {
            return Err(SubmissionError::NotOurs);
        }
        let number = |place: usize| {
            let octets = header.get(place..place + 8).and_then(|octets| octets.first_chunk::<8>());
            octets.map_or(0, |octets| u64::from_le_bytes(*octets))
        };
        if number(SEAL) != checksum(header.get(..SEAL).unwrap_or_default(), 0) {
            return Err(SubmissionError::Damaged);
        }
        let half = |place: usize| u32::try_from(number(place) & u64::from(u32::MAX)).unwrap_or(0);
        if half(8) != FORMAT_VERSION {
            return Err(SubmissionError::Version(half(8)));
        }
        let header = Self {
            envelope_size: half(12),
            content_size: number(16),
            content_checksum: number(24),
            envelope_checksum: number(32),
        };
        let size = header.envelope_at().and_then(|at| at.checked_add(u64::from(header.envelope_size)));
        if size == Some(file_size) { Ok(header) } else { Err(SubmissionError::Damaged) }
    }

    /// Returns the offset of the envelope in the file; `None` if it overflows.
    #[must_use]
    pub fn envelope_at(&self) -> Option<u64> {
        self.content_size.checked_add(HEADER_SIZE as u64)
    }
}

/// The checksum of content that comes in parts: XXH3, 64 bits, seed 0.
#[derive(Clone)]
pub struct ContentChecksum(XxHash3_64);

impl ContentChecksum {
    /// Returns the checksum of no content.
    #[must_use]
    pub fn new() -> Self {
        Self(XxHash3_64::with_seed(0))
    }

    /// Adds a part.
    pub fn add(&mut self, part: &[u8]) {
        self.0.write(part);
    }

    /// Returns the checksum of all parts.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.finish()
    }
}

impl Default for ContentChecksum {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ContentChecksum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ContentChecksum").field(&self.value()).finish()
    }
}

/// The envelope of a drop file, as far as the submitter may choose it. The file's owner tells who that is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// The reverse-path in internal form; empty: the null reverse-path.
    pub sender: Vec<u8>,
    /// The submitter's display name; empty: none.
    pub full_name: Vec<u8>,
    /// It comes from elsewhere: its header section is not completed (`sendmail -G`).
    pub is_gateway: bool,
    /// Type of the content.
    pub body: BodyType,
    /// As in [`Envelope::ret`].
    pub ret: Option<Return>,
    /// As in [`Envelope::envelope_id`].
    pub envelope_id: Option<Box<[u8]>>,
    /// Forward-paths in internal form with their DSN parameters, without [`Recipient::original`]; not empty.
    pub recipients: Vec<Recipient>,
}

impl Submission {
    /// Encodes it: fields as in [`super::envelope`].
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, TooLong> {
        let mut out = Vec::new();
        let mut field = |tag: u8, value: &[u8]| {
            let length = length_of(value)?.to_le_bytes();
            out.push(tag);
            out.extend_from_slice(&length);
            out.extend_from_slice(value);
            Ok(())
        };
        field(SENDER, &self.sender)?;
        if !self.full_name.is_empty() {
            field(FULL_NAME, &self.full_name)?;
        }
        if self.is_gateway {
            field(GATEWAY, &[])?;
        }
        match self.body {
            BodyType::Unstated => {}
            BodyType::SevenBit => field(BODY, b"7")?,
            BodyType::EightBitMime => field(BODY, b"8")?,
            BodyType::BinaryMime => field(BODY, b"B")?,
        }
        match self.ret {
            None => {}
            Some(Return::Full) => field(RET, b"F")?,
            Some(Return::Headers) => field(RET, b"H")?,
        }
        if let Some(id) = &self.envelope_id {
            field(ENVELOPE_ID, id)?;
        }
        for recipient in &self.recipients {
            field(RECIPIENT, &recipient.address)?;
            if !recipient.notify.is_empty() {
                field(NOTIFY, &[recipient.notify.bits()])?;
            }
            if let Some(original) = &recipient.dsn_original {
                field(DSN_ORIGINAL, original)?;
            }
        }
        Ok(out)
    }

    /// Reads the envelope described by `header`.
    ///
    /// # Errors
    /// [`SubmissionError`]. The submitter may have written anything: an address that would be another command or line where it
    /// is sent on is refused, and so are fields that only checks may set.
    pub fn decode(header: &Header, octets: &[u8]) -> Result<Self, SubmissionError> {
        if octets.len() as u64 != u64::from(header.envelope_size)
            || checksum(octets, 0) != header.envelope_checksum
        {
            return Err(SubmissionError::Damaged);
        }
        let submission = Self::decode_fields(octets).ok_or(SubmissionError::Envelope)?;
        if submission.can_be_sent_on() { Ok(submission) } else { Err(SubmissionError::Envelope) }
    }

    /// Returns the number of recipients in an encoded envelope, or in the readable part of a damaged one, before they take
    /// memory.
    #[must_use]
    pub fn count_recipients(mut octets: &[u8]) -> usize {
        let mut count = 0;
        while let Some((tag, _, rest)) = split_field(octets) {
            count += usize::from(tag == RECIPIENT);
            octets = rest;
        }
        count
    }

    /// Whether it has a recipient, and only characters that addresses and ids may have.
    fn can_be_sent_on(&self) -> bool {
        let is_printable = |id: &[u8]| id.iter().all(|octet| matches!(octet, b' '..=b'~'));
        is_plain_address(&self.sender)
            && self.envelope_id.as_deref().is_none_or(is_printable)
            && self.body != BodyType::BinaryMime
            && !self.recipients.is_empty()
            && self.recipients.iter().all(|recipient| {
                let original = recipient.dsn_original.as_deref();
                is_plain_address(&recipient.address) && original.is_none_or(is_plain_address)
            })
    }

    fn decode_fields(mut octets: &[u8]) -> Option<Self> {
        let mut submission = Self::default();
        while !octets.is_empty() {
            let (tag, value, rest) = split_field(octets)?;
            octets = rest;
            match tag {
                SENDER => submission.sender = value.to_vec(),
                FULL_NAME => submission.full_name = full_name(value),
                GATEWAY => submission.is_gateway = true,
                BODY => submission.body = body(value)?,
                RET => submission.ret = Some(ret(value)),
                ENVELOPE_ID => submission.envelope_id = Some(value.into()),
                RECIPIENT => {
                    let recipient = Recipient { address: value.to_vec(), ..Recipient::default() };
                    submission.recipients.push(recipient);
                }
                NOTIFY => submission.recipients.last_mut()?.notify = Notify::from_bits(*value.first()?),
                DSN_ORIGINAL => submission.recipients.last_mut()?.dsn_original = Some(value.into()),
                // A field that this version does not know must not get lost.
                _ => return None,
            }
        }
        Some(submission)
    }

    /// Returns the envelope for the passes.
    #[must_use]
    pub fn into_envelope(self, arrival: Timestamp) -> Envelope {
        Envelope {
            arrival,
            sender: self.sender,
            recipients: self
                .recipients
                .into_iter()
                .map(|it| Recipient { dsn_original: it.dsn_original, ..recipient(it.address, it.notify) })
                .collect(),
            body: self.body,
            ret: self.ret,
            envelope_id: self.envelope_id,
            ..Envelope::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    fn submission() -> Submission {
        Submission {
            sender: b"joe".to_vec(),
            full_name: "J\u{f6}rg \"J\" Doe".into(),
            is_gateway: true,
            body: BodyType::EightBitMime,
            ret: Some(Return::Headers),
            envelope_id: Some((*b"id 1").into()),
            recipients: vec![
                Recipient {
                    address: b"a b@c".to_vec(),
                    notify: Notify::SUCCESS.with(Notify::DELAY),
                    dsn_original: Some((*b"rfc822;x@y").into()),
                    ..Recipient::default()
                },
                Recipient::default(),
            ],
        }
    }

    fn read(octets: &[u8]) -> Result<Submission, SubmissionError> {
        Submission::decode(&Header::new(0, 0, octets).unwrap(), octets)
    }

    #[test]
    fn submissions_round_trip() {
        assert_eq!(read(&submission().encode().unwrap()), Ok(submission()));
        assert_eq!(Submission::count_recipients(&submission().encode().unwrap()), 2);
        let least = Submission {
            recipients: vec![Recipient { address: b"a".to_vec(), ..Recipient::default() }],
            ..Submission::default()
        };
        assert_eq!(read(&least.encode().unwrap()), Ok(least));
    }

    /// Any user may have written the file.
    #[test]
    fn replaces_control_characters_in_display_names() {
        let written = Submission { full_name: "J\x1b[31m\u{202e}\r\nBcc: x".into(), ..submission() };
        assert_eq!(read(&written.encode().unwrap()).unwrap().full_name, b"J?[31m?  Bcc: x");
    }

    #[test]
    fn an_empty_recipient_is_mailer_daemon() {
        let envelope = submission().into_envelope(Timestamp::default());
        let (one, other) = (&envelope.recipients[0], &envelope.recipients[1]);
        assert_eq!((one.address.as_slice(), one.original()), (&b"a b@c"[..], &b"a b@c"[..]));
        assert_eq!(one.dsn_original.as_deref(), Some(&b"rfc822;x@y"[..]));
        assert_eq!((other.address.as_slice(), other.original()), (&b"MAILER-DAEMON"[..], &b""[..]));
    }

    #[test]
    fn headers_round_trip_and_match_their_file() {
        let envelope = submission().encode().unwrap();
        let header = Header::new(1000, 77, &envelope).unwrap();
        let size = 64 + 1000 + envelope.len() as u64;
        assert_eq!(Header::decode(&header.encode(), size), Ok(header));
        assert_eq!(header.envelope_at(), Some(1064));
        for size in [size - 1, size + 1, 0] {
            assert_eq!(Header::decode(&header.encode(), size), Err(SubmissionError::Damaged));
        }
        assert_eq!(Header::decode(&header.encode()[..63], size), Err(SubmissionError::NotOurs));
        for place in 0..HEADER_SIZE {
            let mut damaged = header.encode();
            damaged[place] ^= 1;
            assert!(Header::decode(&damaged, size).is_err(), "byte {place}");
        }
        let endless = Header { content_size: u64::MAX, ..header };
        assert_eq!(Header::decode(&endless.encode(), size), Err(SubmissionError::Damaged));
    }

    #[test]
    fn errors_name_an_unsupported_version() {
        let mut octets = Header::new(0, 0, b"").unwrap().encode();
        octets[8] = 9;
        let seal = checksum(&octets[..SEAL], 0).to_le_bytes();
        octets[SEAL..].copy_from_slice(&seal);
        assert_eq!(Header::decode(&octets, 64), Err(SubmissionError::Version(9)));
    }

    #[test]
    fn refuses_invalid_envelopes() {
        let with = |change: fn(&mut Submission)| {
            let mut submission = submission();
            change(&mut submission);
            read(&submission.encode().unwrap())
        };
        for changed in [
            with(|it| it.recipients.clear()),
            with(|it| it.body = BodyType::BinaryMime),
            with(|it| it.sender = b"a>\r\nRCPT TO:<b".to_vec()),
            with(|it| it.recipients[0].address = b"a\nb".to_vec()),
            with(|it| it.recipients[0].address = b"a\0b".to_vec()),
            with(|it| it.envelope_id = Some((*b"a\nb").into())),
            with(|it| it.envelope_id = Some((*b"a\x1bb").into())),
            with(|it| it.sender = b"a\x1b[31m@b".to_vec()),
            with(|it| it.recipients[0].address = "\u{202e}a@b".into()),
        ] {
            assert_eq!(changed, Err(SubmissionError::Envelope));
        }
        // A check's FILTER.
        let mut octets = submission().encode().unwrap();
        octets.extend_from_slice(&[13, 1, 0, 0, 0, b'x']);
        assert_eq!(read(&octets), Err(SubmissionError::Envelope));
        let octets = submission().encode().unwrap();
        assert_eq!(
            Submission::decode(&Header::new(0, 0, b"other").unwrap(), &octets),
            Err(SubmissionError::Damaged)
        );
        let damaged = Header { envelope_checksum: 1, ..Header::new(0, 0, &octets).unwrap() };
        assert_eq!(Submission::decode(&damaged, &octets), Err(SubmissionError::Damaged));
    }

    #[test]
    fn the_checksum_does_not_depend_on_how_content_is_split() {
        let content = [b'x'; 5000];
        let mut sum = ContentChecksum::new();
        content.chunks(777).for_each(|part| sum.add(part));
        assert_eq!(sum.value(), checksum(&content, 0));
    }

    proptest! {
        #[test]
        fn parses_any_input_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..90), size in any::<u64>()) {
            let _ = Header::decode(&octets, size);
            let _ = read(&octets);
        }
    }
}
