//! Owns memory that the kernel may use for as long as it likes.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

const PAGE_SIZE: usize = 4096;
const HUGE_PAGE_SIZE: usize = 2 << 20;

/// Zeroed, page-aligned memory that is never freed: the kernel tears a ring down after its file was closed, at
/// a time of its own. A worker's ring lives as long as the process, so that nothing is lost by it.
pub(super) struct Region {
    pub(super) start: NonNull<u8>,
}

impl Region {
    pub(super) fn new(size: usize) -> Self {
        if size >= HUGE_PAGE_SIZE
            && let Some(start) = in_huge_pages(size)
        {
            return Self { start };
        }
        let layout = Layout::from_size_align(size.max(1), PAGE_SIZE)
            .expect("the size of a region fits the address space");
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start }
    }

    /// `count` pieces of `size` octets, a multiple of the page size.
    pub(super) fn pieces(count: usize, size: usize) -> Vec<&'static mut [u8]> {
        assert!(size > 0 && size.is_multiple_of(PAGE_SIZE), "pieces of a region are pages");
        let octets = count.checked_mul(size).expect("the size of a region fits the address space");
        let region = Self::new(octets);
        // SAFETY: the region has this many zeroed octets, is never freed, and nobody else has a reference to it.
        let memory: &'static mut [u8] =
            unsafe { std::slice::from_raw_parts_mut(region.start.as_ptr(), octets) };
        memory.chunks_exact_mut(size).collect()
    }
}

/// The same in pages of 2 MiB as far as the kernel has them, and none of its pages is missing: what is read, written and
/// copied by the megabyte finds its addresses faster. The process itself does without huge pages, which would keep memory
/// that it has given back; those that are there when it says so stay.
fn in_huge_pages(size: usize) -> Option<NonNull<u8>> {
    /// What the process wants is put aside for the time of one call.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let length = size.checked_next_multiple_of(HUGE_PAGE_SIZE)?.checked_add(HUGE_PAGE_SIZE)?;
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping at an address of the kernel's choice takes nobody's memory.
    let mapping = unsafe { mmap_anonymous(std::ptr::null_mut(), length, protection, flags) }.ok()?;
    let mapping = mapping.cast::<u8>();
    let offset = mapping.align_offset(HUGE_PAGE_SIZE);
    assert!(offset <= HUGE_PAGE_SIZE, "the mapping has a page more than is wanted");
    // SAFETY: the offset is within the mapping, as just asserted.
    let start = unsafe { mapping.add(offset) };
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let are_unwanted = transparent_huge_pages_are_disabled().unwrap_or(true);
    if are_unwanted {
        // What cannot be had stays in small pages, here and below.
        let _ = disable_transparent_huge_pages(false);
    }
    // SAFETY: the octets from `start` on are in the mapping, and the advice changes none of them.
    let _ = unsafe { madvise(start.cast(), length - HUGE_PAGE_SIZE, Advice::LinuxHugepage) };
    for page in (0..size).step_by(PAGE_SIZE) {
        // SAFETY: the page is in the mapping.
        let page = unsafe { start.add(page) };
        // SAFETY: nobody else knows of the mapping yet. Volatile, so that it is written although it is zero already.
        unsafe { page.write_volatile(0) };
    }
    if are_unwanted {
        let _ = disable_transparent_huge_pages(true);
    }
    NonNull::new(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_apart_and_zero() {
        let pieces = Region::pieces(5, 1 << 20);
        assert_eq!(pieces.len(), 5);
        for (index, piece) in pieces.into_iter().enumerate() {
            assert!(piece.iter().all(|octet| *octet == 0));
            piece.fill(u8::try_from(index).unwrap() + 1);
        }
        assert!(Region::pieces(3, 4096).iter().all(|piece| piece.len() == 4096));
    }
}
