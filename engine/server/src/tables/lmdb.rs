//! Reading LMDB databases as postmap(1) writes them.
//!
//! The file is read as it is on disk, at one go, and its entries go into a table in memory like those of a text file:
//! a page is never waited for, nothing is mapped, and no lock is taken. That a copy of the file is one state of the
//! database follows from how LMDB writes: a transaction never touches pages of the state before it, and its own
//! become visible by one of two alternating meta pages. So a copy is whole if at most one transaction was committed
//! while it was made.

use super::string_table::StringTable;
use super::{Spec, TableError};

/// The first word of a meta page.
const MAGIC: u32 = 0xBEEF_C0DE;
/// The format that is understood.
const VERSION: u32 = 1;
const PAGE_HEADER_SIZE: usize = 16;
const NODE_HEADER_SIZE: usize = 8;
/// A tree without pages.
const NO_PAGE: u64 = u64::MAX;
/// Flags of pages.
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
/// A node's value is on pages of its own.
const BIG_VALUE: u16 = 1;
/// A node is more than a value; the same as flags of a database.
const SEVERAL_VALUES: u16 = 6;
/// Levels of a tree at most: each has at least two branches.
const DEPTH_MAX: u16 = 64;
/// How often a file is copied until it did not change meanwhile.
const COPIES_MAX: usize = 20;

/// The table in the file.
pub(super) fn table(spec: &Spec<'_>) -> Result<StringTable, TableError> {
    for _ in 0..COPIES_MAX {
        let file = spec.read()?;
        let state = State::newest(&file);
        let after = State::newest(&spec.read_front(META_PAGES_SIZE)?);
        if let (Some(state), Some(after)) = (&state, &after)
            && after.transaction.saturating_sub(state.transaction) > 1
        {
            continue;
        }
        let Some(state) = state else {
            return Err(spec.error(
                format!("{} is not an LMDB database for this architecture", spec.path().display()),
                "create it with postmap",
            ));
        };
        let mut table = StringTable::with_capacity(state.entries, 0);
        let walked = (state.root == NO_PAGE).then_some(()).or_else(|| {
            let mut walk =
                Walk { file: &file, page_size: state.page_size, pages_left: file.len() / state.page_size };
            walk.tree(state.root, DEPTH_MAX, &mut table)
        });
        return walked.map(|()| table).ok_or_else(|| {
            spec.error(format!("{} is damaged", spec.path().display()), "create it again with postmap")
        });
    }
    Err(spec.error(format!("{} changes constantly", spec.path().display()), "write it less often"))
}

/// Bytes in which both meta pages are, whatever the size of a page is.
const META_PAGES_SIZE: usize = 2 * 65_536;

/// The state of a database that a meta page stands for.
#[derive(Debug)]
struct State {
    page_size: usize,
    transaction: u64,
    root: u64,
    entries: usize,
}

impl State {
    fn newest(file: &[u8]) -> Option<Self> {
        let first = Self::at(file, 0);
        let page_size = first.as_ref()?.page_size;
        let second = Self::at(file, page_size);
        first.into_iter().chain(second).max_by_key(|state| state.transaction)
    }

    fn at(file: &[u8], page: usize) -> Option<Self> {
        let meta = file.get(page + PAGE_HEADER_SIZE..)?;
        let page_size = u32_at(meta, 24)? as usize;
        let is_ours = u32_at(meta, 0)? == MAGIC
            && u32_at(meta, 4)? == VERSION
            && (512..=65_536).contains(&page_size)
            && u16_at(meta, 76)? & SEVERAL_VALUES == 0;
        let entries = usize::try_from(u64_at(meta, 104)?).ok()?.min(file.len() / NODE_HEADER_SIZE);
        is_ours.then_some(Self {
            page_size,
            transaction: u64_at(meta, 128)?,
            root: u64_at(meta, 112)?,
            entries,
        })
    }
}

struct Walk<'f> {
    file: &'f [u8],
    page_size: usize,
    /// Each page is seen once; a damaged file may say otherwise.
    pages_left: usize,
}

impl<'f> Walk<'f> {
    /// Takes the entries of a tree; `None` if it is none.
    fn tree(&mut self, page: u64, depth: u16, table: &mut StringTable) -> Option<()> {
        self.pages_left = self.pages_left.checked_sub(1)?;
        let page = self.octets_from(page)?.get(..self.page_size)?;
        let flags = u16_at(page, 10)?;
        let nodes = usize::from(u16_at(page, 12)?).checked_sub(PAGE_HEADER_SIZE)? / 2;
        for index in 0..nodes {
            let node = page.get(usize::from(u16_at(page, PAGE_HEADER_SIZE + 2 * index)?)..)?;
            let low = u64::from(u16_at(node, 0)?) | u64::from(u16_at(node, 2)?) << 16;
            let node_flags = u16_at(node, 4)?;
            if flags & BRANCH != 0 {
                self.tree(low | u64::from(node_flags) << 32, depth.checked_sub(1)?, table)?;
            } else if flags & LEAF != 0 && node_flags & SEVERAL_VALUES == 0 {
                let (key, rest) = node.get(NODE_HEADER_SIZE..)?.split_at_checked(u16_at(node, 6)?.into())?;
                let size = usize::try_from(low).ok()?;
                let value = if node_flags & BIG_VALUE == 0 {
                    rest.get(..size)?
                } else {
                    self.octets_from(u64_at(rest, 0)?)?.get(PAGE_HEADER_SIZE..)?.get(..size)?
                };
                table.insert(without_nul(key), without_nul(value));
            } else {
                return None;
            }
        }
        Some(())
    }

    fn octets_from(&self, page: u64) -> Option<&'f [u8]> {
        self.file.get(usize::try_from(page).ok()?.checked_mul(self.page_size)?..)
    }
}

/// Some programs write strings with the byte that ends them in C.
pub(super) fn without_nul(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\0").unwrap_or(text)
}

fn u16_at(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|octets| u16::from_ne_bytes(*octets))
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..)?.first_chunk().map(|octets| u32::from_ne_bytes(*octets))
}

fn u64_at(octets: &[u8], at: usize) -> Option<u64> {
    octets.get(at..)?.first_chunk().map(|octets| u64::from_ne_bytes(*octets))
}
