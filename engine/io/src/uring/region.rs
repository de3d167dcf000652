//! Memory that the kernel may use for as long as it likes.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ptr::NonNull;

const PAGE_SIZE: usize = 4096;

/// Zeroed, page-aligned memory that is never freed: the kernel tears a ring down after its file was closed, at
/// a time of its own. A worker's ring lives as long as the process, so nothing is lost by it.
pub(super) struct Region {
    pub(super) start: NonNull<u8>,
}

impl Region {
    pub(super) fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size.max(1), PAGE_SIZE)
            .expect("the size of a region fits the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start }
    }

    /// Returns `count` pieces of `size` bytes, a multiple of the page size.
    pub(super) fn pieces(count: usize, size: usize) -> Vec<&'static mut [u8]> {
        assert!(size > 0 && size.is_multiple_of(PAGE_SIZE), "pieces of a region are pages");
        let bytes = count.checked_mul(size).expect("the size of a region fits the address space");
        let region = Self::new(bytes);
        // SAFETY: the region has this many zeroed bytes, is never freed, and there is no other reference to it.
        let memory: &'static mut [u8] =
            unsafe { std::slice::from_raw_parts_mut(region.start.as_ptr(), bytes) };
        memory.chunks_exact_mut(size).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_and_zero() {
        let pieces = Region::pieces(5, 1 << 20);
        assert_eq!(pieces.len(), 5);
        for (index, piece) in pieces.into_iter().enumerate() {
            assert!(piece.iter().all(|byte| *byte == 0));
            piece.fill(u8::try_from(index).unwrap() + 1);
        }
        assert!(Region::pieces(3, 4096).iter().all(|piece| piece.len() == 4096));
    }
}
