//! The reader: the files that it has open, and reads that are given up or fail.

use std::time::Duration;

use super::walk::{Ending, Read, bytes, put};
use super::*;
use crate::{ReadEvent, ReadId, Reader, Reads, Source};

impl Life {
    /// Lets the reader go on for a turn. Reads that have ended are taken out of `reads`.
    fn read_on(&mut self, reads: &mut BTreeMap<u64, (ReadId, Read)>) -> Vec<(u64, Read)> {
        self.reader.advance(&mut self.reader_io);
        let mut completions = Vec::new();
        self.reader_io.wait(Some(Instant::default()), &mut completions).unwrap();
        for completion in completions {
            let Completion::Read { token, buffer, result } = completion else {
                panic!("a reader only reads")
            };
            self.reader.completed(token, buffer, result);
        }
        let mut ended = Vec::new();
        while let Some((tag, event)) = self.reader.next_event() {
            let (id, read) = reads.get_mut(&tag).unwrap();
            let id = *id;
            let end = match event {
                ReadEvent::Part(part) => {
                    read.take(part);
                    self.reader.ask(id);
                    continue;
                }
                ReadEvent::Whole => Ending::Whole,
                ReadEvent::Gone => Ending::Gone,
                ReadEvent::Damaged(_) => Ending::Damaged,
                ReadEvent::Failed(_) => Ending::Failed,
            };
            read.end = Some(end);
            ended.extend(reads.remove(&tag).map(|(_, read)| (tag, read)));
        }
        ended
    }

    /// Reads these messages at once; their tags count up from 0.
    fn read_all(&mut self, sources: Vec<Source>) -> BTreeMap<u64, Read> {
        let begin = |(tag, source)| (tag, (self.reader.begin(source, tag), Read::default()));
        let mut reads = (0..).zip(sources).map(begin).collect();
        let mut ended = BTreeMap::new();
        for _ in 0..1000 {
            ended.extend(self.read_on(&mut reads));
            self.opener.step();
        }
        assert!(reads.is_empty() && self.reader.is_empty() && self.reader.is_idle());
        ended
    }
}

/// A queue with messages in many segments.
fn many_segments(count: usize) -> (Life, Vec<QueueId>) {
    let mut life = Life::begin(&World::calm().disk());
    let ids = (0..count).map(|seed| put(&mut life, &vec![bytes(seed, 8000); 7])).collect();
    (life, ids)
}

#[test]
fn more_segments_than_are_open_at_once_are_read() {
    let (mut life, ids) = many_segments(100);
    let sources: Vec<Source> = ids.iter().map(|id| life.spool.source(*id).unwrap()).collect();
    let segments: std::collections::BTreeSet<u64> =
        sources.iter().flat_map(|source| &source.segments).map(|holder| holder.header.sequence).collect();
    assert!(segments.len() > 90);
    for (seed, read) in life.read_all(sources).into_values().enumerate() {
        assert_eq!((read.end, read.pieces), (Some(Ending::Whole), vec![bytes(seed, 8000); 7]));
        assert!(life.reader.files() <= 64);
    }
}

#[test]
fn a_segment_that_is_not_read_is_closed() {
    let (mut life, ids) = many_segments(5);
    let sources: Vec<Source> = ids.iter().map(|id| life.spool.source(*id).unwrap()).collect();
    life.read_all(sources[..3].to_vec());
    let open = life.reader.files();
    assert!(open >= 3);
    let deadline = life.reader.deadline().unwrap();
    life.reader_io.pass(Duration::from_secs(5));
    // One of them is read once more.
    life.read_all(sources[..1].to_vec());
    life.reader_io.wait(Some(deadline), &mut Vec::new()).unwrap();
    life.reader.advance(&mut life.reader_io);
    assert!((1..open).contains(&life.reader.files()));
    let deadline = life.reader.deadline().unwrap();
    life.reader_io.wait(Some(deadline), &mut Vec::new()).unwrap();
    life.reader.advance(&mut life.reader_io);
    assert_eq!((life.reader.files(), life.reader.deadline()), (0, None));
}

#[test]
fn a_segment_that_was_removed_is_gone_and_one_that_cannot_be_read_fails() {
    let mut life = Life::begin(&World::calm().disk());
    let id = put(&mut life, &[bytes(1, 100)]);
    let source = life.spool.source(id).unwrap();
    let path = source.segments[0].path.clone();
    life.disk.world().set_broken(&path, true);
    assert_eq!(life.read_all(vec![source.clone(), source.clone()])[&1].end, Some(Ending::Failed));
    life.disk.world().set_broken(&path, false);
    assert!(life.read_all(vec![source.clone()])[&0].is_whole());
    // Until its file is closed it can be read.
    life.disk.remove(&path).unwrap();
    assert!(life.read_all(vec![source.clone()])[&0].is_whole());
    life.reader_io.pass(Duration::from_secs(10));
    let reads = life.read_all(vec![source.clone(), source]);
    assert_eq!([reads[&0].end, reads[&1].end], [Some(Ending::Gone); 2]);
}

#[test]
fn without_a_thread_that_opens_files_reads_fail() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let id = put(&mut life, &[bytes(1, 100)]);
    let source = life.spool.source(id).unwrap();
    let mut other = Life::begin(&World::calm().disk());
    other.opener = life.opener;
    other.reader.begin(source, 0);
    other.reader.advance(&mut other.reader_io);
    assert!(matches!(other.reader.next_event(), Some((0, ReadEvent::Failed(_)))));
    assert!(other.reader.is_empty());
}

/// At whichever step a read is forgotten, nothing of it stays, and the next one at its place is not taken for it.
#[test]
fn a_read_is_forgotten_at_any_time() {
    let mut life = Life::begin(&World::calm().disk());
    let ids = [put(&mut life, &vec![bytes(1, 8000); 40]), put(&mut life, &[bytes(2, 10)])];
    let sources = ids.map(|id| life.spool.source(id).unwrap());
    for steps in 0..60 {
        let first = life.reader.begin(sources[0].clone(), 7);
        let mut reads = BTreeMap::from([(7, (first, Read::default()))]);
        for step in 0..steps {
            life.read_on(&mut reads);
            if step % 2 == 0 {
                life.opener.step();
            }
        }
        let was_over = reads.is_empty();
        life.reader.forget(first);
        let second = life.reader.begin(sources[1].clone(), 0);
        assert_ne!(first, second);
        // The name of one that is over.
        life.reader.forget(first);
        life.reader.ask(first);
        let mut reads = BTreeMap::from([(0, (second, Read::default()))]);
        let mut ended = Vec::new();
        for _ in 0..200 {
            ended.extend(life.read_on(&mut reads));
            life.opener.step();
        }
        let [(_, read)] = &ended[..] else { panic!("{} reads ended", ended.len()) };
        assert_eq!(read.pieces, [bytes(2, 10)], "forgotten after {steps} steps");
        assert!(life.reader.is_empty() && life.reader.is_idle());
        life.reader_io.pass(Duration::from_secs(10));
        life.reader.advance(&mut life.reader_io);
        assert_eq!(life.reader.files(), 0);
        life.opener.step();
        assert!(steps < 59 || was_over, "it is forgotten at all of its steps");
    }
}
