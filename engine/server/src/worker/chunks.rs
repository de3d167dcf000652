//! Bytes that wait, in chunks of few sizes.
//!
//! A growing vector is copied each time it grows, and a client chooses its size. The allocator keeps
//! pages for each size, so memory that clients held recently in other sizes would stay resident beside the present.

use std::collections::VecDeque;

/// Bytes in the order in which they came. An empty one is a null pointer, because most connections have none.
#[derive(Debug, Default)]
pub(super) struct Chunks(Option<Box<Held>>);

/// At least one byte.
#[derive(Debug, Default)]
struct Held {
    /// None of them is empty.
    chunks: VecDeque<Vec<u8>>,
    /// Number of bytes consumed at the front of the first.
    done: usize,
    size: usize,
    /// Bytes allocated for the chunks.
    capacity: usize,
}

impl Chunks {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.size)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the number of bytes allocated.
    pub(super) fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |held| held.memory())
    }

    /// Adds bytes at the end.
    pub(super) fn push(&mut self, octets: &[u8]) {
        if !octets.is_empty() {
            self.0.get_or_insert_default().push(octets);
        }
    }

    /// Returns all bytes, in slices none of which is empty.
    pub(super) fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(|held| held.slices())
    }

    /// Returns the first `limit` bytes, or all if there are fewer.
    pub(super) fn front(&self, limit: usize) -> impl Iterator<Item = &[u8]> {
        let mut left = limit;
        self.slices().map_while(move |slice| {
            let slice = slice.get(..slice.len().min(left)).unwrap_or_default();
            left -= slice.len();
            (!slice.is_empty()).then_some(slice)
        })
    }

    /// Drops `count` bytes from the front.
    pub(super) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "only what is there can be consumed");
        if let Some(held) = &mut self.0 {
            held.consume(count);
            self.0.take_if(|held| held.size == 0);
        }
    }

    /// Takes the first chunk out, to be put back by [`Chunks::put_back`] if something of it is left.
    pub(super) fn take_first(&mut self) -> Option<FirstChunk> {
        let held = self.0.as_mut()?;
        let octets = held.chunks.pop_front()?;
        let chunk = FirstChunk { done: std::mem::take(&mut held.done), octets };
        held.capacity -= chunk.octets.capacity();
        held.size -= chunk.rest().len();
        self.0.take_if(|held| held.size == 0);
        Some(chunk)
    }

    /// Puts a chunk back to the front, without its first `consumed` bytes.
    pub(super) fn put_back(&mut self, mut chunk: FirstChunk, consumed: usize) {
        chunk.done += consumed;
        let rest = chunk.rest().len();
        if rest > 0 {
            let held = self.0.get_or_insert_default();
            held.size += rest;
            held.done = chunk.done;
            held.capacity += chunk.octets.capacity();
            held.chunks.push_front(chunk.octets);
        }
    }
}

impl Held {
    fn memory(&self) -> usize {
        size_of::<Self>() + self.capacity + self.chunks.capacity() * size_of::<Vec<u8>>()
    }

    fn push(&mut self, octets: &[u8]) {
        let mut rest = octets;
        self.size += octets.len();
        while !rest.is_empty() {
            let has_room = self.chunks.back().is_some_and(|last| last.len() < CHUNK_SIZE_MAX);
            let mut chunk = if has_room { self.chunks.pop_back() } else { None }.unwrap_or_default();
            let (fitting, behind) = rest.split_at(rest.len().min(CHUNK_SIZE_MAX - chunk.len()));
            self.capacity -= chunk.capacity();
            extend(&mut chunk, fitting);
            self.capacity += chunk.capacity();
            self.chunks.push_back(chunk);
            rest = behind;
        }
    }

    fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut done = self.done;
        self.chunks.iter().map(move |chunk| chunk.get(std::mem::take(&mut done)..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.size -= count;
        self.done += count;
        while let Some(first) = self.chunks.front()
            && first.len() <= self.done
        {
            self.done -= first.len();
            self.capacity -= first.capacity();
            self.chunks.pop_front();
        }
    }
}

/// The first bytes that wait, while they are processed.
#[derive(Debug)]
pub(super) struct FirstChunk {
    octets: Vec<u8>,
    done: usize,
}

impl FirstChunk {
    /// The unprocessed part.
    pub(super) fn rest(&self) -> &[u8] {
        self.octets.get(self.done..).unwrap_or_default()
    }
}

/// Appends bytes; the capacity is a power of two.
pub(super) fn extend(vector: &mut Vec<u8>, octets: &[u8]) {
    let size = vector.len() + octets.len();
    if size > vector.capacity() {
        vector.reserve_exact(size.next_power_of_two() - vector.len());
    }
    vector.extend_from_slice(octets);
}

/// Bytes of a chunk.
const CHUNK_SIZE_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(chunks: &Chunks) -> Vec<u8> {
        chunks.slices().flatten().copied().collect()
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize),
        Consume(usize),
        First(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = prop_oneof![0usize..40, 0usize..50_000];
        let step = (0..3, size).prop_map(|(kind, size)| match kind {
            0 => Step::Push(size),
            1 => Step::Consume(size),
            _ => Step::First(size),
        });
        prop::collection::vec(step, 1..30)
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(steps in steps(), limit in 0usize..60_000) {
            let (mut chunks, mut model) = (Chunks::default(), VecDeque::new());
            let mut next = 0u8;
            for step in steps {
                match step {
                    Step::Push(size) => {
                        let octets: Vec<u8> = (0..size).map(|at| next.wrapping_add(u8::try_from(at % 251).unwrap())).collect();
                        next = next.wrapping_add(7);
                        chunks.push(&octets);
                        model.extend(octets);
                    }
                    Step::Consume(size) => {
                        let count = size.min(chunks.len());
                        chunks.consume(count);
                        model.drain(..count);
                    }
                    Step::First(size) => {
                        let Some(first) = chunks.take_first() else { continue };
                        prop_assert!(model.iter().copied().take(first.rest().len()).eq(first.rest().iter().copied()));
                        let count = size.min(first.rest().len());
                        chunks.put_back(first, count);
                        model.drain(..count);
                    }
                }
                prop_assert_eq!(chunks.len(), model.len());
                prop_assert_eq!(chunks.is_empty(), model.is_empty());
                prop_assert!(content(&chunks).iter().eq(model.iter()));
                prop_assert!(chunks.slices().all(|slice| !slice.is_empty()));
                if let Some(held) = &chunks.0 {
                    prop_assert!(held.done < held.chunks[0].len());
                    prop_assert_eq!(held.capacity, held.chunks.iter().map(Vec::capacity).sum::<usize>());
                    prop_assert!(held.capacity < 2 * held.size + 3 * CHUNK_SIZE_MAX);
                    prop_assert!(held.chunks.iter().all(|chunk| chunk.capacity().is_power_of_two()));
                }
            }
            let front: Vec<u8> = chunks.front(limit).flatten().copied().collect();
            prop_assert!(front.iter().eq(model.iter().take(limit)));
        }
    }
}
