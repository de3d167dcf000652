//! What every reader of a backend must do: read back what was written, wherever it has moved to, and nothing else.

use std::collections::BTreeMap;

use mailrace_core::QueueId;
use mailrace_core::record::delivery::{Deferral, Progress, RecipientState};
use mailrace_io::{Completion, Instant, Io};

use super::{Backend, TURNS, encoded, settled, take};
use crate::{Mark, Part, ReadEvent, ReadId, Reader, Reads, Spool, State, Store};

/// What a read came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Read {
    envelope: Option<Vec<u8>>,
    progress: Option<Vec<u8>>,
    content: Vec<u8>,
    is_last: bool,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Whole,
    Gone,
    Damaged,
}

impl Read {
    fn whole(content: &[u8]) -> Self {
        let (envelope, content) = (Some(encoded()), content.to_vec());
        Self { envelope, content, is_last: true, end: Some(End::Whole), progress: None }
    }

    /// Takes what the reader says, which must come in its order. Returns whether more is to follow.
    fn take(&mut self, event: ReadEvent<'_>) -> bool {
        assert_eq!(self.end, None, "nothing follows the end");
        match event {
            ReadEvent::Part(Part::Envelope(octets)) => {
                assert_eq!(self.envelope.replace(octets.to_vec()), None);
            }
            ReadEvent::Part(Part::Progress(octets)) => {
                assert!(self.envelope.is_some() && self.content.is_empty());
                assert_eq!(self.progress.replace(octets.to_vec()), None);
            }
            ReadEvent::Part(Part::Content { octets, is_last }) => {
                assert!(self.envelope.is_some() && !self.is_last);
                self.content.extend_from_slice(octets);
                self.is_last = is_last;
            }
            ReadEvent::Whole => {
                assert!(self.is_last);
                self.end = Some(End::Whole);
            }
            ReadEvent::Gone => self.end = Some(End::Gone),
            ReadEvent::Damaged(_) => self.end = Some(End::Damaged),
            ReadEvent::Failed(error) => panic!("no operation failed, and the reader says {error}"),
        }
        self.end.is_none()
    }
}

/// Reads under way, by tag.
#[derive(Default)]
struct Reading {
    reads: BTreeMap<u64, (ReadId, Read)>,
    next: u64,
}

impl Reading {
    /// Begins to read a message; returns its tag.
    fn begin<B: Backend>(&mut self, backend: &mut B, id: QueueId) -> u64 {
        let source = backend.spool().source(id).expect("it is in the queue");
        let tag = self.next;
        self.next += 1;
        let read = backend.reader().0.begin(source, tag);
        self.reads.insert(tag, (read, Read::default()));
        tag
    }

    /// Lets the reader go on for a turn.
    fn step<B: Backend>(&mut self, backend: &mut B) {
        let (reader, io) = backend.reader();
        reader.advance(io);
        let mut completions = Vec::new();
        io.wait(Some(Instant::default()), &mut completions).unwrap();
        for completion in completions {
            let Completion::Read { token, buffer, result } = completion else {
                panic!("a reader only reads")
            };
            reader.completed(token, buffer, result);
        }
        while let Some((tag, event)) = reader.next_event() {
            let (id, read) = self.reads.get_mut(&tag).expect("of a read that was forgotten nothing is heard");
            if read.take(event) {
                let id = *id;
                reader.ask(id);
            }
        }
    }

    fn forget<B: Backend>(&mut self, backend: &mut B, tag: u64) {
        if let Some((id, _)) = self.reads.remove(&tag) {
            backend.reader().0.forget(id);
        }
    }

    /// Lets all reads end.
    fn finish<B: Backend>(mut self, backend: &mut B) -> BTreeMap<u64, Read> {
        for _ in 0..TURNS {
            self.step(backend);
            backend.work();
        }
        assert!(backend.reader().0.is_idle(), "everything ends");
        self.reads.into_iter().map(|(tag, (_, read))| (tag, read)).collect()
    }
}

/// Reads one message.
fn read<B: Backend>(backend: &mut B, id: QueueId) -> Read {
    let mut reading = Reading::default();
    let tag = reading.begin(backend, id);
    reading.finish(backend).remove(&tag).expect("it was begun")
}

/// Runs all checks.
pub(super) fn check<B: Backend>() {
    what_is_durable_reads_back::<B>();
    many_are_read_at_once::<B>();
    what_became_of_recipients_is_read_with_the_message::<B>();
    what_is_moved_reads_back::<B>();
    damage_is_reported::<B>();
}

/// Bytes in which no two places are alike.
fn octets(seed: u8, size: usize) -> Vec<u8> {
    (0u32..).flat_map(u32::to_le_bytes).map(|octet| octet ^ seed).take(size).collect()
}

fn what_is_durable_reads_back<B: Backend>() {
    let mut backend = B::new();
    let size = backend.spool().piece_size_max();
    let mut expected = BTreeMap::new();
    for (seed, sizes) in
        (1..).zip([&[0][..], &[1], &[4096], &[size], &[0, 0], &[1, size, 0, 17], &[size; 30], &[100; 300]])
    {
        let pieces: Vec<Vec<u8>> = sizes.iter().map(|size| octets(seed, *size)).collect();
        let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let id = take(&mut backend, State::Incoming, &slices, u64::from(seed));
        settled(&mut backend);
        expected.insert(id, pieces.concat());
    }
    for _ in 0..2 {
        for (id, content) in &expected {
            assert_eq!(read(&mut backend, *id), Read::whole(content));
        }
        backend = backend.cut_power();
    }
    let gone = *expected.keys().next().unwrap();
    backend.spool().mark(gone, Mark::Done, 1).unwrap();
    settled(&mut backend);
    assert!(backend.spool().source(gone).is_none());
}

fn many_are_read_at_once<B: Backend>() {
    let mut backend = B::new();
    let size = backend.spool().piece_size_max() / 3;
    let mut expected = BTreeMap::new();
    for seed in 0..50 {
        let content = octets(seed, size + usize::from(seed));
        let id = take(&mut backend, State::Incoming, &[&content, &content[..7]], u64::from(seed));
        settled(&mut backend);
        expected.insert(id, [&content[..], &content[..7]].concat());
    }
    let mut reading = Reading::default();
    let mut tags = BTreeMap::new();
    for (number, (id, content)) in expected.iter().enumerate() {
        tags.insert(reading.begin(&mut backend, *id), content);
        let forgotten = [reading.begin(&mut backend, *id), reading.begin(&mut backend, *id)];
        reading.forget(&mut backend, forgotten[0]);
        if number % 3 == 0 {
            reading.step(&mut backend);
            backend.work();
        }
        reading.forget(&mut backend, forgotten[1]);
    }
    let reads = reading.finish(&mut backend);
    assert_eq!(reads.len(), tags.len());
    for (tag, read) in reads {
        assert_eq!(read, Read::whole(tags[&tag]));
    }
}

fn what_became_of_recipients_is_read_with_the_message<B: Backend>() {
    let mut backend = B::new();
    let id = take(&mut backend, State::Hold, &[b"in two ", b"pieces"], 1);
    settled(&mut backend);
    for attempts in 1..4 {
        let deferral = Deferral { attempts, ..Deferral::default() };
        let progress = Progress::of(&[RecipientState::Deferred(deferral)]).unwrap();
        backend.spool().note(id, &progress, 7).unwrap();
        settled(&mut backend);
        for _ in 0..2 {
            let found = read(&mut backend, id);
            assert_eq!(Progress::decode(found.progress.as_deref().unwrap()), Some(progress.clone()));
            assert_eq!(Read { progress: None, ..found }, Read::whole(b"in two pieces"));
            backend = backend.cut_power();
        }
    }
}

/// A message stays while others come and go. It is read all the time, from where it was asked for long before or just now.
fn what_is_moved_reads_back<B: Backend>() {
    let mut backend = B::new();
    let size = backend.spool().piece_size_max();
    let pieces = [octets(1, size), octets(2, 100), octets(3, size / 2)];
    let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    let id = take(&mut backend, State::Incoming, &slices, 1);
    settled(&mut backend);
    let expected = Read::whole(&pieces.concat());
    let (mut moves, mut gone, mut place) = (0, 0, backend.spool().place(id));
    let mut old = vec![backend.spool().source(id).unwrap()];
    let mut passing = Vec::new();
    for (round, number) in (0..300).zip(10..) {
        passing.push(take(&mut backend, State::Incoming, &[&octets(9, size / 2)], number));
        let mut reading = Reading::default();
        let now = reading.begin(&mut backend, id);
        if let Some(source) = old.get(round % old.len()).cloned() {
            let read = backend.reader().0.begin(source, 1000);
            reading.reads.insert(1000, (read, Read::default()));
        }
        // While some of it is under way.
        (0..round % 7).for_each(|_| reading.step(&mut backend));
        settled(&mut backend);
        if passing.len() > 5 {
            backend.spool().mark(passing.remove(0), Mark::Done, 5).unwrap();
            settled(&mut backend);
        }
        let mut reads = reading.finish(&mut backend);
        for read in [reads.remove(&now), reads.remove(&1000)].into_iter().flatten() {
            if read.end == Some(End::Gone) {
                gone += 1;
                assert!(expected.content.starts_with(&read.content));
                assert_eq!(self::read(&mut backend, id), expected, "its store knows where it is");
            } else {
                assert_eq!(read, expected);
            }
        }
        if backend.spool().place(id) != place {
            moves += 1;
            place = backend.spool().place(id);
            old.push(backend.spool().source(id).unwrap());
        }
    }
    assert!(!B::MOVES || (moves > 3 && gone > 10), "moved {moves} times, gone {gone} times");
}

fn damage_is_reported<B: Backend>() {
    let mut backend = B::new();
    let contents = [&b"its first piece"[..], b"its last piece", b"another message"];
    let id = take(&mut backend, State::Incoming, &contents[..2], 1);
    let other = take(&mut backend, State::Incoming, &contents[2..], 2);
    settled(&mut backend);
    backend.damage(contents[0]);
    let found = read(&mut backend, id);
    assert_eq!((found.end, found.content.as_slice()), (Some(End::Damaged), &b""[..]));
    assert_eq!(read(&mut backend, other), Read::whole(contents[2]));
    backend.damage(contents[2]);
    let found = read(&mut backend, other);
    assert_eq!((found.end, found.envelope), (Some(End::Damaged), None));
}
