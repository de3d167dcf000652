//! Records and ids: what is written is read again, and a changed byte is noticed.

use mailrace_core::record::delivery::{Progress, RecipientState};
use mailrace_core::record::manifest::{Manifest, slot_size};
use mailrace_core::record::spool::{
    BATCH_HEADER_SIZE, BatchHeader, FORMAT_VERSION_1, Location, Mark, Noted, RECORD_ALIGNMENT,
    RECORD_HEADER_SIZE, RecordHeader, RecordKind, SegmentError, SegmentHeader, checksum, record_size,
};
use mailrace_core::record::submission::{Header, Submission, SubmissionError};
use mailrace_core::{QueueId, Recipient, Timestamp};
use proptest::prelude::*;

fn location() -> impl Strategy<Value = Option<Location>> {
    prop::option::of((1..u64::MAX, any::<u32>()).prop_map(|(sequence, offset)| Location { sequence, offset }))
}

prop_compose! {
    fn record()(
        kind in prop_oneof![
            Just(RecordKind::Chunk), Just(RecordKind::Message), Just(RecordKind::Mark), Just(RecordKind::Other(b'?')),
        ],
        is_held in any::<bool>(),
        id in any::<u64>(),
        (length, envelope_length) in any::<u32>().prop_flat_map(|length| (Just(length), 0..=length)),
        part in any::<u32>(),
        previous in location(),
        (payload_checksum, content_size) in any::<(u64, u64)>(),
    ) -> RecordHeader {
        RecordHeader {
            kind, is_held, id: QueueId::from_number(id), length, envelope_length, part, previous, payload_checksum,
            content_size,
        }
    }
}

prop_compose! {
    fn batch()(
        (length, records, worker) in any::<(u32, u32, u32)>(),
        (sequence, number, durable_from, durable_through) in any::<(u64, u64, u64, u64)>(),
    ) -> BatchHeader {
        BatchHeader { length, records, worker, sequence, number, durable_from, durable_through }
    }
}

proptest! {
    #[test]
    fn headers_of_records_are_read_only_where_they_were_written(
        header in record(), salt in any::<u64>(), offset in any::<u64>(), other in 1..u64::MAX,
    ) {
        let bytes = header.encode(salt, offset);
        prop_assert_eq!(RecordHeader::decode(&bytes, salt, offset), Some(header));
        prop_assert_eq!(RecordHeader::decode(&bytes, salt ^ other, offset), None);
        prop_assert_eq!(RecordHeader::decode(&bytes, salt, offset ^ other), None);
        prop_assert_eq!(RecordHeader::decode(&bytes[..RECORD_HEADER_SIZE - 1], salt, offset), None);
        prop_assert_eq!(BatchHeader::decode(&bytes, salt, offset), None, "a record is not a batch");
    }

    #[test]
    fn headers_of_batches_are_read_only_where_they_were_written(
        header in batch(), salt in any::<u64>(), offset in any::<u64>(), other in 1..u64::MAX,
    ) {
        let bytes = header.encode(salt, offset);
        prop_assert_eq!(BatchHeader::decode(&bytes, salt, offset), Some(header));
        prop_assert_eq!(BatchHeader::decode(&bytes, salt ^ other, offset), None);
        prop_assert_eq!(BatchHeader::decode(&bytes, salt, offset ^ other), None);
        prop_assert_eq!(BatchHeader::decode(&bytes[..BATCH_HEADER_SIZE - 1], salt, offset), None);
        prop_assert_eq!(RecordHeader::decode(&bytes, salt, offset), None, "a batch is not a record");
    }

    #[test]
    fn a_flipped_bit_invalidates_a_header(
        record in record(), batch in batch(), salt in any::<u64>(), offset in any::<u64>(),
        byte in 0..RECORD_HEADER_SIZE, bit in 0..8,
    ) {
        let mut bytes = record.encode(salt, offset);
        bytes[byte] ^= 1_u8 << bit;
        prop_assert_eq!(RecordHeader::decode(&bytes, salt, offset), None);
        let mut bytes = batch.encode(salt, offset);
        bytes[byte] ^= 1_u8 << bit;
        prop_assert_eq!(BatchHeader::decode(&bytes, salt, offset), None);
    }

    #[test]
    fn a_flipped_bit_in_the_block_of_a_segment_is_noticed_or_not_read(
        (sequence, salt, size) in any::<(u64, u64, u64)>(), byte in 0..200_usize, bit in 0..8,
    ) {
        let header = SegmentHeader { sequence, salt, size };
        let mut block = header.encode();
        block[byte] ^= 1_u8 << bit;
        match SegmentHeader::decode(&block) {
            Ok(read) => prop_assert!(byte >= 64 && read == header, "byte {byte}: {read:?}"),
            Err(SegmentError::NotASegment) => prop_assert!(byte < 8),
            Err(SegmentError::Damaged) => prop_assert!((8..64).contains(&byte)),
            Err(error) => prop_assert!(false, "byte {byte}: {error:?}"),
        }
    }

    #[test]
    fn segments_of_the_first_version_are_read_whatever_follows_their_fields(
        (sequence, salt, size) in any::<(u64, u64, u64)>(), rest in any::<[u8; 16]>(),
    ) {
        let header = SegmentHeader { sequence, salt, size };
        let mut block = header.encode();
        block[8..12].copy_from_slice(&FORMAT_VERSION_1.to_le_bytes());
        let sum = checksum(&block[..40], 0);
        block[40..48].copy_from_slice(&sum.to_le_bytes());
        block[48..64].copy_from_slice(&rest);
        prop_assert_eq!(SegmentHeader::decode(&block), Ok(header));
    }

    #[test]
    fn a_record_has_room_for_its_payload_and_ends_where_the_next_may_begin(payload in 0..100_000_usize) {
        let size = record_size(payload);
        prop_assert!((RECORD_HEADER_SIZE + payload..RECORD_HEADER_SIZE + payload + RECORD_ALIGNMENT).contains(&size));
        prop_assert!(size.is_multiple_of(RECORD_ALIGNMENT));
    }

    #[test]
    fn a_header_with_an_envelope_longer_than_its_payload_is_invalid(length in 0..u32::MAX, salt in any::<u64>()) {
        let header = RecordHeader {
            kind: RecordKind::Message, is_held: false, id: QueueId::from_number(1), length,
            envelope_length: length + 1, part: 0, previous: None, payload_checksum: 0, content_size: 0,
        };
        prop_assert_eq!(RecordHeader::decode(&header.encode(salt, 0), salt, 0), None);
    }

    #[test]
    fn queue_ids_and_their_texts_are_in_the_same_order(one in any::<u64>(), other in any::<u64>()) {
        let (one, other) = (QueueId::from_number(one), QueueId::from_number(other));
        prop_assert_eq!(one.text().cmp(&other.text()), one.cmp(&other));
        prop_assert_eq!(QueueId::parse(&one.text()), Some(one));
    }

    #[test]
    fn a_text_that_is_a_queue_id_is_its_only_text(text in "[0-9A-Za-z_]{12}") {
        if let Some(id) = QueueId::parse(text.as_bytes()) {
            prop_assert_eq!(id.text().to_vec(), text.as_bytes());
        }
    }

    #[test]
    fn a_queue_id_has_its_time_and_no_other_worker_has_it(micros in 0..1_u64 << 54, one in 0..1024_u16, other in 0..1024_u16) {
        let time = Timestamp::from_unix_microseconds(micros);
        let (first, second) = (QueueId::new(time, one), QueueId::new(time, other));
        prop_assert_eq!(first.time(), time);
        prop_assert_eq!(first == second, one == other);
    }

    #[test]
    fn progress_that_lost_its_end_never_has_an_outcome_of_other_recipients(
        outcomes in prop::collection::vec(0..3_u8, 1..20), cut in any::<prop::sample::Index>(),
    ) {
        let states: Vec<RecipientState> = outcomes.iter().map(|outcome| match outcome {
            0 => RecipientState::Untried,
            1 => RecipientState::Done,
            _ => RecipientState::Reported,
        }).collect();
        let mut bytes = Vec::new();
        Progress::of(&states).unwrap().encode(&mut bytes).unwrap();
        prop_assume!(!bytes.is_empty());
        if let Some(read) = Progress::decode(&bytes[..cut.index(bytes.len())]) {
            for (read, given) in read.states(states.len()).unwrap().into_iter().zip(&states) {
                prop_assert!(read == given || *read == RecipientState::Untried);
            }
        }
    }

    #[test]
    fn a_flipped_bit_in_a_drop_file_is_noticed(
        sender in "[a-z]{0,10}", recipients in prop::collection::vec("[a-z]{1,10}", 1..4),
        place in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        let recipients: Vec<Recipient> = recipients.into_iter()
            .map(|address| Recipient { address: address.into_bytes(), ..Recipient::default() }).collect();
        let submission = Submission { sender: sender.into_bytes(), recipients, ..Submission::default() };
        let envelope = submission.encode().unwrap();
        let header = Header::new(0, 0, &envelope).unwrap();
        let mut file = [header.encode().as_slice(), &envelope].concat();
        let read = |file: &[u8]| -> Result<Submission, SubmissionError> {
            let header = Header::decode(file, file.len() as u64)?;
            Submission::decode(&header, &file[64..])
        };
        prop_assert_eq!(read(&file), Ok(submission));
        let place = place.index(file.len());
        file[place] ^= 1_u8 << bit;
        prop_assert!(read(&file).is_err(), "byte {}", place);
    }
}

#[test]
fn marks_are_read_by_their_byte_and_others_are_of_a_later_release() {
    for byte in 0..=u8::MAX {
        let known = [Mark::Done, Mark::Hold, Mark::Release].into_iter().find(|mark| mark.octet() == byte);
        assert_eq!(Mark::from_octet(byte), known);
        let expected = match known {
            Some(mark) => Some(Noted::Mark(mark)),
            None => (byte == Noted::PROGRESS).then_some(Noted::Progress(b"rest")),
        };
        assert_eq!(Noted::decode(&[&[byte], &b"rest"[..]].concat()), expected);
    }
    assert_eq!(Noted::decode(b""), None);
}

#[test]
fn an_empty_manifest_has_the_size_of_its_slot_and_survives() {
    let slot = Manifest::default().encode();
    assert_eq!(slot.len(), slot_size(0));
    assert_eq!(Manifest::decode(&slot), Ok(Manifest::default()));
}
