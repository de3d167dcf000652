//! What every backend of [`Spool`] and [`Store`] must do. A backend runs [`check`] with its own way to open a queue, to let
//! time pass, and to lose power.

mod reading;

use std::collections::{BTreeMap, BTreeSet};

use bumpalo::Bump;
use mailrace_core::envelope::Recipient;
use mailrace_core::record::delivery::{Cause, Deferral, Progress, RecipientState};
use mailrace_core::record::envelope;
use mailrace_core::{Envelope, Origin, QueueId, QueuedEnvelope, Timestamp};
use mailrace_io::Io;

use crate::{Mark, MarkError, Reads, Refusal, Spool, State, Store};

/// A queue of a backend, with everything that it needs around it.
pub(crate) trait Backend: Sized {
    type Spool: Spool;
    type Io: Io;
    type Reader: Reads<Self::Io, Source = <Self::Spool as Store>::Source>;

    /// It moves messages that have few neighbours left.
    const MOVES: bool;

    /// An empty queue.
    fn new() -> Self;

    fn spool(&mut self) -> &mut Self::Spool;

    /// Lets what was submitted complete, and what runs beside the worker run.
    fn work(&mut self);

    /// A reader on another thread, and what it reads through.
    fn reader(&mut self) -> (&mut Self::Reader, &mut Self::Io);

    /// Changes a byte among these, wherever they are on the disk.
    fn damage(&mut self, octets: &[u8]);

    /// Loses what is not durable, and opens the queue again.
    fn cut_power(self) -> Self;

    /// The messages as a reader finds them on the disk: state and content.
    fn messages(&self) -> BTreeMap<QueueId, (State, Vec<u8>)>;

    /// What became of a message's recipients, as a reader finds it on the disk.
    fn progress(&self, id: QueueId) -> Progress;
}

/// Runs all checks.
pub(crate) fn check<B: Backend>() {
    a_message_is_durable_when_its_tag_comes_back::<B>();
    what_was_not_committed_is_no_message::<B>();
    marks_are_durable_when_their_tags_come_back::<B>();
    progress_is_durable_when_its_tag_comes_back::<B>();
    a_mark_needs_a_message::<B>();
    what_is_too_large_is_refused_whole::<B>();
    each_tag_comes_back_once::<B>();
    ids_are_unique_in_all_lives::<B>();
    reading::check::<B>();
}

/// Turns after which all that was submitted is settled.
const TURNS: usize = 200;

fn encoded() -> Vec<u8> {
    let arena = Bump::new();
    let recipient = Recipient { address: b"recipient@example.com".to_vec(), ..Recipient::default() };
    let sender = b"sender@example.net".to_vec();
    let envelope = Envelope { sender, recipients: vec![recipient], ..Envelope::default() };
    let mut out = bumpalo::collections::Vec::new_in(&arena);
    envelope::encode(&Origin::default(), &QueuedEnvelope::unchanged(&arena, &envelope), &mut out).unwrap();
    out.to_vec()
}

fn id<B: Backend>(backend: &mut B) -> QueueId {
    backend.spool().next_id(Timestamp::from_unix_microseconds(1_700_000_000_000_000))
}

/// Takes a message in pieces, waiting for room as long as it takes.
fn take<B: Backend>(backend: &mut B, state: State, pieces: &[&[u8]], tag: u64) -> QueueId {
    let id = id(backend);
    let mut draft = backend.spool().begin(id);
    let (last, front) = pieces.split_last().unwrap();
    for piece in front {
        while let Err(refusal) = backend.spool().append(&mut draft, &[piece]) {
            assert_eq!(refusal, Refusal::Busy);
            backend.work();
        }
    }
    while let Err((back, refusal)) = backend.spool().commit(draft, state, &encoded(), &[last], tag) {
        assert_eq!(refusal, Refusal::Busy);
        draft = back;
        backend.work();
    }
    id
}

/// All tags that come back, each with whether what it stands for is durable.
fn settled<B: Backend>(backend: &mut B) -> Vec<(u64, bool)> {
    let mut tags = Vec::new();
    for _ in 0..TURNS {
        backend.work();
        while let Some((tag, result)) = backend.spool().next_settled() {
            tags.push((tag, result.is_ok()));
        }
    }
    assert!(backend.spool().is_idle(), "everything settles");
    tags
}

fn states<B: Backend>(backend: &mut B) -> BTreeMap<QueueId, State> {
    backend.spool().ids().collect()
}

fn a_message_is_durable_when_its_tag_comes_back<B: Backend>() {
    let mut backend = B::new();
    let size = backend.spool().piece_size_max();
    let large = vec![b'x'; size];
    let pieces: [&[&[u8]]; 3] = [&[b"one piece"], &[&large, &large, b"the end"], &[&large, b""]];
    let mut expected = BTreeMap::new();
    for (tag, pieces) in (7..).zip(pieces) {
        let state = if tag == 8 { State::Hold } else { State::Incoming };
        let id = take(&mut backend, state, pieces, tag);
        assert_eq!(settled(&mut backend), [(tag, true)]);
        expected.insert(id, (state, pieces.concat()));
        assert!(backend.spool().place(id).is_some_and(|place| place.state == state));
    }
    let octets: usize = expected.values().map(|(_, content)| content.len()).sum();
    for _ in 0..2 {
        let stats = backend.spool().stats();
        assert_eq!((stats.messages, stats.octets, stats.held), (3, octets as u64, 1));
        assert_eq!(backend.messages(), expected);
        backend = backend.cut_power();
    }
}

fn what_was_not_committed_is_no_message<B: Backend>() {
    let mut backend = B::new();
    let id = id(&mut backend);
    let mut draft = backend.spool().begin(id);
    backend.spool().append(&mut draft, &[b"its ", b"front"]).unwrap();
    let kept = take(&mut backend, State::Incoming, &[b"beside it"], 1);
    assert_eq!(settled(&mut backend), [(1, true)]);
    backend.spool().abandon(draft);
    assert_eq!(settled(&mut backend), []);
    let mut backend = backend.cut_power();
    assert_eq!(states(&mut backend), BTreeMap::from([(kept, State::Incoming)]));
    assert_eq!(backend.spool().usage(), crate::Usage::default());
}

fn marks_are_durable_when_their_tags_come_back<B: Backend>() {
    let mut backend = B::new();
    let ids: Vec<QueueId> =
        (0..3).map(|tag| take(&mut backend, State::Incoming, &[b"content"], tag)).collect();
    settled(&mut backend);
    let [gone, parked, released] = [ids[0], ids[1], ids[2]];
    let marks = [(gone, Mark::Done), (parked, Mark::Hold), (released, Mark::Hold), (released, Mark::Release)];
    for (tag, (id, mark)) in (10..).zip(marks) {
        backend.spool().mark(id, mark, tag).unwrap();
        assert_eq!(settled(&mut backend), [(tag, true)]);
    }
    let expected = BTreeMap::from([(parked, State::Hold), (released, State::Incoming)]);
    for _ in 0..2 {
        assert_eq!(states(&mut backend), expected);
        assert_eq!(backend.spool().place(gone), None);
        assert!(!backend.messages().contains_key(&gone));
        backend = backend.cut_power();
    }
}

fn progress_is_durable_when_its_tag_comes_back<B: Backend>() {
    let mut backend = B::new();
    let [id, other] = [1, 2].map(|tag| take(&mut backend, State::Incoming, &[b"content"], tag));
    settled(&mut backend);
    let deferred = |attempts, text: &[u8]| {
        let cause = Cause { text: text.into(), ..Cause::default() };
        let deferral = Deferral { attempts, cause, ..Deferral::default() };
        Progress::of(&[RecipientState::Deferred(deferral)]).unwrap()
    };
    for attempts in 1..4 {
        backend.spool().note(id, &deferred(attempts, b"greylisted"), 7).unwrap();
        assert_eq!(settled(&mut backend), [(7, true)]);
        // What becomes of the message as a whole is another matter.
        backend.spool().mark(id, Mark::Hold, 8).unwrap();
        assert_eq!(settled(&mut backend), [(8, true)]);
    }
    let mut size = 1;
    let too_large = loop {
        match backend.spool().note(id, &deferred(9, &vec![b'x'; size]), 9) {
            Ok(()) => assert_eq!(settled(&mut backend), [(9, true)]),
            Err(error) => break error,
        }
        size *= 2;
    };
    assert_eq!(too_large, MarkError::Refused(Refusal::TooLarge));
    backend.spool().note(id, &deferred(10, b"shorter"), 10).unwrap();
    assert_eq!(settled(&mut backend), [(10, true)]);
    for _ in 0..2 {
        assert_eq!(backend.progress(id), deferred(10, b"shorter"));
        assert_eq!(backend.progress(other), Progress::default());
        assert_eq!(states(&mut backend), BTreeMap::from([(id, State::Hold), (other, State::Incoming)]));
        backend = backend.cut_power();
    }
    assert_eq!(backend.spool().usage(), crate::Usage::default());
}

fn a_mark_needs_a_message<B: Backend>() {
    let mut backend = B::new();
    let unknown = id(&mut backend);
    assert_eq!(backend.spool().mark(unknown, Mark::Done, 1), Err(MarkError::NotFound));
    assert_eq!(backend.spool().note(unknown, &Progress::default(), 1), Err(MarkError::NotFound));
    assert_eq!(settled(&mut backend), []);
}

fn what_is_too_large_is_refused_whole<B: Backend>() {
    let mut backend = B::new();
    let id = id(&mut backend);
    let mut draft = backend.spool().begin(id);
    let mut size = backend.spool().piece_size_max();
    while backend.spool().fits(&encoded(), size) {
        size *= 2;
    }
    let content = vec![b'x'; size];
    assert_eq!(backend.spool().append(&mut draft, &[&content]), Err(Refusal::TooLarge));
    let refused = backend.spool().commit(draft, State::Incoming, &encoded(), &[&content], 1);
    let (draft, refusal) = refused.unwrap_err();
    assert_eq!(refusal, Refusal::TooLarge);
    // The draft is as it was.
    backend.spool().commit(draft, State::Incoming, &encoded(), &[b"small"], 2).unwrap();
    assert_eq!(settled(&mut backend), [(2, true)]);
    assert_eq!(backend.messages(), BTreeMap::from([(id, (State::Incoming, b"small".to_vec()))]));
}

fn each_tag_comes_back_once<B: Backend>() {
    let mut backend = B::new();
    let mut expected = BTreeSet::new();
    let large = vec![b'y'; backend.spool().piece_size_max()];
    let mut ids = Vec::new();
    for round in 0..5 {
        for tag in round * 10..round * 10 + 4 {
            let pieces: &[&[u8]] = if tag % 3 == 0 { &[&large, b"end"] } else { &[b"short"] };
            ids.push(take(&mut backend, State::Incoming, pieces, tag));
            expected.insert(tag);
        }
        let tags: BTreeSet<u64> = settled(&mut backend).into_iter().map(|(tag, _)| tag).collect();
        assert_eq!(tags, std::mem::take(&mut expected));
        // Room for the next round.
        for (tag, id) in (100..).zip(ids.drain(..)) {
            backend.spool().mark(id, Mark::Done, tag).unwrap();
        }
        assert_eq!(settled(&mut backend).len(), 4);
    }
    assert_eq!(backend.spool().stats().messages, 0);
}

fn ids_are_unique_in_all_lives<B: Backend>() {
    let mut backend = B::new();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        for tag in 0..3 {
            // The clock stands still.
            assert!(seen.insert(take(&mut backend, State::Incoming, &[b"content"], tag)));
        }
        assert_eq!(settled(&mut backend).len(), 3);
        backend = backend.cut_power();
    }
    assert_eq!(states(&mut backend).len(), 9);
}
