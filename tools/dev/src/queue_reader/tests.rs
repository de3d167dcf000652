//! Queues written by hand, as the page of the format says.

use std::collections::BTreeMap;

use super::segment::sum;
use super::*;

/// Files in memory.
#[derive(Default)]
struct Memory {
    manifest: Option<Vec<u8>>,
    segments: BTreeMap<String, Vec<u8>>,
}

impl Files for Memory {
    fn manifest(&self) -> io::Result<Option<Vec<u8>>> {
        Ok(self.manifest.clone())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.segments.keys().cloned().collect())
    }

    fn read_all(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.segments.get(name).cloned())
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        Ok(self.segments[name][offset..offset + length].to_vec())
    }
}

const SALT: u64 = 77;
const ID: u64 = 12_345;

fn put(octets: &mut [u8], at: usize, value: &[u8]) {
    octets[at..at + value.len()].copy_from_slice(value);
}

fn segment(version: u32, sequence: u64) -> Vec<u8> {
    let mut file = vec![0; 16_384];
    put(&mut file, 0, b"MAILRACE");
    put(&mut file, 8, &version.to_le_bytes());
    put(&mut file, 16, &sequence.to_le_bytes());
    put(&mut file, 24, &SALT.to_le_bytes());
    put(&mut file, 32, &16_384u64.to_le_bytes());
    let first = sum(&file[..40], 0);
    put(&mut file, 40, &first.to_le_bytes());
    if version > 1 {
        let second = sum(&file[..56], 0);
        put(&mut file, 56, &second.to_le_bytes());
    }
    file
}

/// A record of a message of one part, or a mark.
fn record(file: &mut [u8], at: usize, kind: u8, envelope: &[u8], rest: &[u8]) {
    let payload = [envelope, rest].concat();
    let length = u32::try_from(payload.len()).unwrap_or(0);
    put(file, at, &[0xB7, 0x4D, 0x72, 0x52, kind]);
    put(file, at + 8, &ID.to_le_bytes());
    put(file, at + 16, &length.to_le_bytes());
    put(file, at + 20, &u32::try_from(envelope.len()).unwrap_or(0).to_le_bytes());
    put(file, at + 40, &sum(&payload, SALT).to_le_bytes());
    put(file, at + 48, &(rest.len() as u64).to_le_bytes());
    let own = sum(&file[at..at + 56], SALT ^ (at as u64).rotate_left(32));
    put(file, at + 56, &own.to_le_bytes());
    put(file, at + 64, &payload);
}

const ENVELOPE: &[u8] = b"\x07\x01\0\0\0s\x10\x03\0\0\0a@b\x12\x01\0\0\0\x06";
const CONTENT: &[u8] = b"Subject: x\r\n\r\n";

/// A segment with a message at 4096.
fn queue(version: u32) -> Memory {
    let mut file = segment(version, 5);
    record(&mut file, 4096, b'M', ENVELOPE, CONTENT);
    Memory { segments: BTreeMap::from([("5.seg".to_owned(), file)]), ..Memory::default() }
}

/// A manifest of one slot with one entry.
fn manifest(sequence: u64, state: u8, whole: u64) -> Vec<u8> {
    let mut file = vec![0; 8192];
    put(&mut file, 0, b"MAILRMAN");
    put(&mut file, 16, &2u32.to_le_bytes());
    put(&mut file, 20, &1u32.to_le_bytes());
    put(&mut file, 24, &9u64.to_le_bytes());
    put(&mut file, 32, &100u64.to_le_bytes());
    put(&mut file, 64, &sequence.to_le_bytes());
    put(&mut file, 72, &SALT.to_le_bytes());
    put(&mut file, 88, &16_384u64.to_le_bytes());
    put(&mut file, 96, &whole.to_le_bytes());
    put(&mut file, 104, &whole.to_le_bytes());
    put(&mut file, 112, &[state, 5]);
    put(&mut file, 128, b"5.seg");
    let own = sum(&file[16..192], 0);
    put(&mut file, 8, &own.to_le_bytes());
    file
}

#[test]
fn a_message_is_read_with_its_envelope() {
    let files = queue(1);
    let reading = read(&files).unwrap();
    assert!(reading.damage.is_empty());
    let message = reading.message(&files, ID).unwrap();
    assert_eq!(message.content, CONTENT);
    assert_eq!(message.envelope.sender.as_deref(), Some(&b"s"[..]));
    assert_eq!((message.envelope.recipients.len(), message.envelope.recipients[0].notify), (1, Some(6)));
    assert_eq!(id_number(&id_text(ID)), Some(ID));
}

#[test]
fn recipients_that_were_expanded_come_after_the_others() {
    let mut files = Memory::default();
    let mut file = segment(2, 5);
    let expanded = b"\x18\x0e\0\0\0\x10\x03\0\0\0l@b\x12\x01\0\0\0\x02";
    record(&mut file, 4096, b'M', &[ENVELOPE, expanded].concat(), CONTENT);
    let reported = b"S\x01\x08\0\0\0\x01\0\0\0\x01\0\0\0\x02\x01\0\0\0R";
    record(&mut file, 8192, b'K', b"", reported);
    files.segments.insert("5.seg".to_owned(), file);
    let message = read(&files).unwrap().message(&files, ID).unwrap();
    assert_eq!(message.envelope.recipients.len(), 1);
    assert_eq!(
        (&message.envelope.expanded[0].address[..], message.envelope.expanded[0].notify),
        (&b"l@b"[..], Some(2))
    );
    assert_eq!(message.outcomes, b"\0R");
}

#[test]
fn marks_hold_release_and_delete() {
    for (verbs, expected) in
        [(&b"H"[..], Some(true)), (b"HR", Some(false)), (b"D", None), (b"Z", Some(false))]
    {
        let mut files = queue(1);
        let file = files.segments.get_mut("5.seg").unwrap();
        for (index, verb) in verbs.iter().enumerate() {
            record(file, 8192 + 4096 * index / 2, b'K', b"", &[*verb]);
        }
        let reading = read(&files).unwrap();
        assert_eq!(reading.messages.get(&ID).map(|found| found.is_held), expected, "{verbs:?}");
    }
}

#[test]
fn the_manifest_lists_what_must_be_present() {
    let damage = |files: &Memory| {
        let reading = read(files).unwrap();
        (reading.messages.len(), reading.damage.iter().map(|damage| damage.name.clone()).collect::<Vec<_>>())
    };
    let mut files = queue(2);
    assert_eq!(damage(&files), (1, vec!["manifest".to_owned()]));
    files.manifest = Some(manifest(5, b'C', 1));
    assert_eq!(damage(&files), (1, vec![]));
    files.manifest = Some(manifest(5, b'C', 2));
    assert_eq!(damage(&files), (1, vec!["5.seg".to_owned()]));
    // An old copy of a segment that was emptied since.
    files.manifest = Some(manifest(5, b'E', 1));
    assert_eq!(damage(&files), (0, vec![]));
    files.manifest = Some(manifest(6, b'O', 1));
    assert_eq!(damage(&files), (0, vec!["5.seg".to_owned()]));
}

#[test]
fn a_damaged_record_belongs_to_no_message() {
    let mut files = queue(1);
    let file = files.segments.get_mut("5.seg").unwrap();
    file[4096 + 64 + ENVELOPE.len()] ^= 1;
    assert!(read(&files).unwrap().messages.is_empty());
    files.segments.get_mut("5.seg").unwrap()[20] ^= 1;
    assert_eq!(read(&files).unwrap().damage.len(), 1);
}

#[test]
fn missing_records_that_the_manifest_counted_are_located() {
    let mut files = queue(2);
    files.manifest = Some(manifest(5, b'C', 1));
    let counted = read(&files).unwrap().counted();
    assert_eq!(read(&files).unwrap().gone_since(&counted), []);
    let gone = Gone { name: "5.seg".to_owned(), offset: 4096, id: ID };
    files.segments.get_mut("5.seg").unwrap()[4096 + 64] ^= 1;
    assert_eq!(read(&files).unwrap().gone_since(&counted), std::slice::from_ref(&gone));
    files.segments.clear();
    files.manifest = Some(manifest(5, b'L', 1));
    assert_eq!(read(&files).unwrap().gone_since(&counted), [gone]);
    // Emptied, or never counted.
    files.manifest = Some(manifest(5, b'E', 1));
    assert_eq!(read(&files).unwrap().gone_since(&counted), []);
    files = queue(2);
    files.manifest = Some(manifest(5, b'C', 2));
    assert_eq!(read(&files).unwrap().gone_since(&read(&files).unwrap().counted()), []);
}

/// A batch of one record's size, whose worker knows all before it to be durable.
fn batch(file: &mut [u8], at: usize, number: u64) {
    put(file, at, &[0xB7, 0x4D, 0x72, 0x42]);
    put(file, at + 4, &4096u32.to_le_bytes());
    put(file, at + 16, &number.to_le_bytes());
    put(file, at + 24, &(number - 1).to_le_bytes());
    put(file, at + 40, &1u64.to_le_bytes());
    let own = sum(&file[at..at + 56], SALT ^ (at as u64).rotate_left(32));
    put(file, at + 56, &own.to_le_bytes());
}

#[test]
fn a_gap_where_a_durable_batch_was_is_damage() {
    let damage = |places: &[(usize, u64)]| {
        let mut file = segment(1, 5);
        places.iter().for_each(|(at, number)| batch(&mut file, *at, *number));
        let files = Memory { segments: BTreeMap::from([("5.seg".to_owned(), file)]), ..Memory::default() };
        read(&files).unwrap().damage.iter().map(|damage| damage.offset).collect::<Vec<_>>()
    };
    assert_eq!(damage(&[(4096, 1), (8192, 2), (12_288, 3)]), [0u64; 0]);
    assert_eq!(damage(&[(4096, 1), (12_288, 3)]), [8192]);
    // One that was given the next number has lost none.
    assert_eq!(damage(&[(4096, 1), (12_288, 2)]), [0u64; 0]);
}
