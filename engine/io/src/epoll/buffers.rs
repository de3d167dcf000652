//! The receive buffers: filled one after the other, lent out in pieces.

use crate::Piece;
use crate::operation::Serial;

/// Bytes that one receive takes at most. What a client sends beyond has to wait until the others had their turn.
const RECEIVE_SIZE_MAX: usize = 64 * 1024;

/// A buffer with less room than this share of it is full: small receives cost as much as large ones.
const ROOM_SHARE_MIN: u32 = 16;

/// A bounded number of buffers, each filled from its front until it is full, and used again when no piece of it is lent
/// out any more.
pub(super) struct ReceiveBuffers {
    /// Tells pieces of these buffers from those of others.
    serial: Serial,
    memory: Vec<u8>,
    states: Vec<BufferState>,
    /// Unused ones. The one used last comes first: its memory is still in the processor's cache.
    free: Vec<u16>,
    /// The one that is being filled.
    current: Option<u16>,
    size: u32,
}

#[derive(Clone, Copy, Default)]
struct BufferState {
    /// Bytes from its start that were received into.
    used: u32,
    /// Pieces lent out.
    lent: u32,
}

impl ReceiveBuffers {
    /// `count` buffers of `size` bytes; their pages are touched at first use.
    pub(super) fn new(count: u16, size: u32) -> Self {
        Self {
            serial: Serial::next(),
            memory: vec![0; usize::from(count) * size as usize],
            states: vec![BufferState::default(); usize::from(count)],
            free: (0..count).rev().collect(),
            current: None,
            size,
        }
    }

    /// Where the next bytes go; `None` when all buffers are full and lent out.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        let buffer = match self.current {
            Some(buffer) if self.size - self.state(buffer).used >= self.size / ROOM_SHARE_MIN => buffer,
            // A full one comes back when its pieces do.
            _ => self.free.pop()?,
        };
        self.current = Some(buffer);
        let start = self.start(buffer) + self.state(buffer).used as usize;
        let end = (self.start(buffer) + self.size as usize).min(start + RECEIVE_SIZE_MAX);
        Some(&mut self.memory[start..end])
    }

    /// Lends the first `length` bytes of what [`ReceiveBuffers::room`] gave last.
    pub(super) fn lend(&mut self, length: usize) -> Piece {
        let buffer = self.current.expect("octets were received into the current buffer");
        let length = u32::try_from(length).expect("a receive is smaller than a buffer");
        let state = &mut self.states[usize::from(buffer)];
        let offset = state.used;
        assert!(length > 0 && offset + length <= self.size, "a receive overran its buffer");
        state.used += length;
        state.lent += 1;
        Piece { owner: self.serial, buffer, offset, length }
    }

    /// The bytes of a piece that is lent out.
    pub(super) fn octets(&self, piece: &Piece) -> &[u8] {
        assert!(piece.owner == self.serial, "a piece is read from the buffers that lent it");
        let start = self.start(piece.buffer) + piece.offset as usize;
        &self.memory[start..start + piece.length as usize]
    }

    /// Takes a piece back.
    pub(super) fn recycle(&mut self, piece: Piece) {
        assert!(piece.owner == self.serial, "a piece is given back to the buffers that lent it");
        let Piece { buffer, .. } = piece;
        let state = &mut self.states[usize::from(buffer)];
        assert!(state.lent > 0, "a piece was given back twice");
        state.lent -= 1;
        if state.lent == 0 {
            state.used = 0;
            if self.current != Some(buffer) {
                self.free.push(buffer);
            }
        }
    }

    fn state(&self, buffer: u16) -> BufferState {
        self.states[usize::from(buffer)]
    }

    fn start(&self, buffer: u16) -> usize {
        usize::from(buffer) * self.size as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(buffers: &mut ReceiveBuffers, octets: &[u8]) -> Option<Piece> {
        buffers.room()?[..octets.len()].copy_from_slice(octets);
        Some(buffers.lend(octets.len()))
    }

    #[test]
    fn pieces_share_buffers_and_stay_as_they_are_until_they_are_given_back() {
        let mut buffers = ReceiveBuffers::new(2, 4096);
        // Given back at once, as they mostly are: the buffer goes on being the one that is filled.
        let first = receive(&mut buffers, b"first").unwrap();
        buffers.recycle(first);
        let mut pieces = Vec::new();
        // The fourth finds too little room in a buffer.
        for round in 0..6u8 {
            pieces.push(receive(&mut buffers, &[round; 1300]).unwrap());
        }
        assert!(buffers.room().is_none(), "both are full");
        for (round, piece) in pieces.iter().enumerate() {
            assert_eq!(buffers.octets(piece), vec![u8::try_from(round).unwrap(); 1300]);
        }
        let rest = pieces.split_off(3);
        pieces.into_iter().for_each(|piece| buffers.recycle(piece));
        let again = receive(&mut buffers, &[9; 4096]).unwrap();
        assert_eq!((again.buffer, again.offset), (0, 0));
        assert!(buffers.room().is_none());
        assert_eq!(buffers.octets(&rest[0]), [3; 1300]);
        rest.into_iter().for_each(|piece| buffers.recycle(piece));
        buffers.recycle(again);
        assert_eq!(buffers.room().map(|room| room.len()), Some(4096));
    }

    #[test]
    fn one_receive_takes_a_bounded_part_of_a_buffer() {
        let mut buffers = ReceiveBuffers::new(1, 256 * 1024);
        assert_eq!(buffers.room().map(|room| room.len()), Some(RECEIVE_SIZE_MAX));
    }
}
