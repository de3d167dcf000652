//! The receive buffers that the kernel fills: a ring of them is provided, it picks.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::region::Region;
use crate::Piece;
use crate::operation::Serial;

/// The one buffer group of a ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// `IOU_PBUF_RING_INC` of the kernel's interface: many receives share a buffer, one after another.
const INCREMENTAL: u16 = 2;

/// Receive buffers, each either the kernel's, or lent out in pieces until all of these came back.
pub(super) struct ReceiveBuffers {
    /// Tells pieces of this ring from those of others.
    serial: Serial,
    /// The ring of entries that the kernel reads. Never freed, see [`Region`].
    ring: Region,
    /// The buffers themselves. Never freed, see [`Region`].
    memory: Region,
    states: Vec<BufferState>,
    size: u32,
    mask: u16,
    tail: u16,
    is_incremental: bool,
}

/// One buffer.
#[derive(Clone, Copy, Default)]
struct BufferState {
    /// Where the kernel puts the next bytes (incremental), in bytes from the buffer's start.
    offset: u32,
    /// Pieces lent out.
    lent: u32,
    /// The kernel is done with it: it goes back to the kernel when no piece is lent out.
    is_finished: bool,
}

impl ReceiveBuffers {
    /// Registers `count` (a power of two) buffers of `size` bytes with the ring.
    pub(super) fn register(submitter: &Submitter<'_>, count: u16, size: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the number of receive buffers is a power of two");
        let ring = Region::new(usize::from(count) * size_of::<BufRingEntry>());
        let memory = Region::new(usize::from(count) * size as usize);
        let address = ring.start.as_ptr() as u64;
        // SAFETY: `ring` has room for `count` entries, is page aligned and is never freed, so the kernel
        // may read it for as long as it likes.
        let with_flags =
            unsafe { submitter.register_buf_ring_with_flags(address, count, BUFFER_GROUP, INCREMENTAL) };
        let is_incremental = match with_flags {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                // SAFETY: as above.
                unsafe { submitter.register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0) }?;
                false
            }
            Err(error) => return Err(error),
        };
        let states = vec![BufferState::default(); usize::from(count)];
        let serial = Serial::next();
        let mut buffers =
            Self { serial, ring, memory, states, size, mask: count - 1, tail: 0, is_incremental };
        for buffer in 0..count {
            buffers.provide(buffer);
        }
        Ok(buffers)
    }

    /// Takes note that the kernel put `length` bytes into `buffer`; `has_more`: it goes on in that buffer.
    pub(super) fn lend(&mut self, buffer: u16, length: u32, has_more: bool) -> Piece {
        let state = &mut self.states[usize::from(buffer)];
        let offset = state.offset;
        assert!(offset + length <= self.size && !state.is_finished, "the kernel overran a receive buffer");
        state.lent += 1;
        state.offset += length;
        state.is_finished = !(self.is_incremental && has_more);
        Piece { owner: self.serial, buffer, offset, length }
    }

    /// The bytes of a piece that is lent out.
    pub(super) fn octets(&self, piece: &Piece) -> &[u8] {
        assert!(piece.owner == self.serial, "a piece is read from the ring that lent it");
        let start = usize::from(piece.buffer) * self.size as usize + piece.offset as usize;
        // SAFETY: this ring's `lend` made the piece, as its owner says, and checked that it lies inside its buffer, and so in
        // the region.
        let start = unsafe { self.memory.start.as_ptr().add(start) };
        // SAFETY: as above. The kernel wrote these bytes before the completion that made the piece, and writes
        // after them only: a buffer goes back to the kernel when no piece of it is lent out, and a piece
        // cannot be copied and ends when it is recycled.
        unsafe { std::slice::from_raw_parts(start, piece.length as usize) }
    }

    /// Takes a piece back.
    pub(super) fn recycle(&mut self, piece: Piece) {
        assert!(piece.owner == self.serial, "a piece is given back to the ring that lent it");
        let state = &mut self.states[usize::from(piece.buffer)];
        assert!(state.lent > 0, "a piece was given back twice");
        state.lent -= 1;
        if state.lent == 0 && state.is_finished {
            self.provide(piece.buffer);
        }
    }

    /// Gives a whole buffer to the kernel.
    fn provide(&mut self, buffer: u16) {
        self.states[usize::from(buffer)] = BufferState::default();
        let place = usize::from(self.tail & self.mask);
        let entries = self.ring.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `place` is below the number of entries.
        let entry = unsafe { entries.add(place) };
        // SAFETY: the place is past the ring's tail, where the kernel does not look, and no other code has a
        // reference to it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(self.memory.start.as_ptr() as u64 + u64::from(buffer) * u64::from(self.size));
        entry.set_len(self.size);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the base of a registered, live ring of entries.
        let tail = unsafe { BufRingEntry::tail(entries) };
        // SAFETY: the tail is an aligned u16 in memory that lives for ever; we and the kernel access it
        // atomically. Release: the entry above is visible before the tail that covers it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
