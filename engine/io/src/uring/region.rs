//! Memory that the kernel may use for as long as it likes.

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

const PAGE_SIZE: usize = 4096;
/// A transparent huge page of x86-64, and of aarch64 with pages of 4 KiB.
const HUGE_PAGE_SIZE: usize = 2 << 20;

/// Zeroed, page-aligned memory that is never freed: the kernel tears a ring down after its file was closed, at
/// a time of its own. A worker's ring lives as long as the process, so nothing is lost by it.
///
/// The kernel is asked for huge pages where whole ones fit: copies miss the translation cache less often, and a write of
/// contiguous memory is one segment for the device instead of one for each page.
pub(super) struct Region {
    pub(super) start: NonNull<u8>,
}

impl Region {
    pub(super) fn new(size: usize) -> Self {
        let size = size.max(1).next_multiple_of(PAGE_SIZE);
        let huge = size - size % HUGE_PAGE_SIZE;
        // Address space for the alignment; pages of it that are never used take no memory.
        let mapped = if huge > 0 { size.checked_add(HUGE_PAGE_SIZE) } else { Some(size) };
        let mapped = mapped.expect("the size of a region fits the address space");
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping replaces no memory of this process.
        let mapping = unsafe { libc::mmap(ptr::null_mut(), mapped, access, kind, -1, 0) };
        let layout =
            Layout::from_size_align(size, PAGE_SIZE).expect("the size of a region fits the address space");
        let Some(mapping) = NonNull::new(mapping.cast::<u8>()).filter(|_| mapping != libc::MAP_FAILED) else {
            handle_alloc_error(layout)
        };
        if huge == 0 {
            return Self { start: mapping };
        }
        // SAFETY: the offset is less than a huge page, by which the mapping is larger than `size`.
        let start = unsafe { mapping.add(mapping.align_offset(HUGE_PAGE_SIZE)) };
        // SAFETY: the range is in the mapping, and the advice changes no content. Without huge pages nothing is lost but time.
        unsafe { libc::madvise(start.as_ptr().cast(), huge, libc::MADV_HUGEPAGE) };
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

/// Disables transparent huge pages of this process but for memory that asks for them, such as that of rings; before Linux 6.18
/// for most of that, too. A kernel without this setting has no such pages.
pub fn limit_huge_pages() {
    // Not in libc yet (include/uapi/linux/prctl.h).
    const PR_THP_DISABLE_EXCEPT_ADVISED: libc::c_ulong = 1 << 1;
    let (on, unused): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: the call has no pointers, and changes how memory is backed, not what it contains.
    let disable =
        |flags: libc::c_ulong| unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, on, flags, unused, unused) };
    if disable(PR_THP_DISABLE_EXCEPT_ADVISED) != 0 {
        disable(0);
    }
}

/// Zeros to write to files, as many as are written at once.
///
/// Nothing ever touches them, so the kernel maps its page of zeros, a huge one where it has that, and they take no memory.
pub(crate) fn zeros() -> &'static [u8] {
    static ZEROS: OnceLock<&'static [u8]> = OnceLock::new();
    ZEROS.get_or_init(|| Region::pieces(1, HUGE_PAGE_SIZE).pop().expect("one piece was asked for"))
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
