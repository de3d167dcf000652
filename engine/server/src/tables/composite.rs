//! Tables that are made of others, or of nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::Sharer;
use mailrace_core::lookup::{Asker, LookupError, LookupTable};

type Found<'a> = Result<Option<&'a [u8]>, LookupError>;

/// `static:value`: the same for every key.
#[derive(Debug)]
pub(super) struct StaticTable(pub(super) Box<[u8]>);

impl LookupTable for StaticTable {
    fn look_up<'a>(&'a self, _arena: &'a Bump, _key: &[u8], _: Sharer) -> Found<'a> {
        Ok(Some(&self.0))
    }
}

/// `fail:reason`: never answers, to see what happens then.
#[derive(Debug)]
pub(super) struct FailTable;

impl LookupTable for FailTable {
    fn look_up<'a>(&'a self, _arena: &'a Bump, _key: &[u8], _: Sharer) -> Found<'a> {
        Err(LookupError::Unavailable)
    }
}

/// `unionmap:{...}`: the values of all, separated by commas.
#[derive(Debug)]
pub(super) struct UnionTable(pub(super) Vec<Arc<dyn LookupTable>>);

impl LookupTable for UnionTable {
    fn look_up<'a>(&'a self, arena: &'a Bump, key: &[u8], sharer: Sharer) -> Found<'a> {
        self.ask(arena, key, sharer.into())
    }

    fn ask<'a>(&'a self, arena: &'a Bump, key: &[u8], asker: Asker<'_>) -> Found<'a> {
        let mut all: Option<ArenaVec<'a, u8>> = None;
        for table in &self.0 {
            let Some(value) = asker.ask(arena, table, key)? else { continue };
            match &mut all {
                None => {
                    let mut first = ArenaVec::new_in(arena);
                    first.extend_from_slice_copy(value);
                    all = Some(first);
                }
                Some(all) => {
                    all.push(b',');
                    all.extend_from_slice_copy(value);
                }
            }
        }
        Ok(all.map(ArenaVec::into_bump_slice))
    }

    fn is_asked_for_parts(&self) -> bool {
        self.0.iter().all(|table| table.is_asked_for_parts())
    }

    fn may_wait(&self) -> bool {
        self.0.iter().any(|table| table.may_wait())
    }
}

/// `pipemap:{...}`: the value of one is the key of the next.
#[derive(Debug)]
pub(super) struct PipeTable(pub(super) Vec<Arc<dyn LookupTable>>);

impl LookupTable for PipeTable {
    fn look_up<'a>(&'a self, arena: &'a Bump, key: &[u8], sharer: Sharer) -> Found<'a> {
        self.ask(arena, key, sharer.into())
    }

    fn ask<'a>(&'a self, arena: &'a Bump, key: &[u8], asker: Asker<'_>) -> Found<'a> {
        let mut value: &'a [u8] = arena.alloc_slice_copy(key);
        for table in &self.0 {
            match asker.ask(arena, table, value)? {
                Some(next) => value = next,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }

    fn is_asked_for_parts(&self) -> bool {
        self.0.iter().all(|table| table.is_asked_for_parts())
    }

    fn may_wait(&self) -> bool {
        self.0.iter().any(|table| table.may_wait())
    }
}

/// `randmap:{...}`: one of the values, each as often as the others.
#[derive(Debug)]
pub(super) struct RandomTable {
    values: Vec<Box<[u8]>>,
    turn: AtomicU64,
}

impl RandomTable {
    pub(super) fn new(values: Vec<Box<[u8]>>) -> Self {
        let start = crate::log::now().unix_microseconds();
        Self { values, turn: AtomicU64::new(start) }
    }
}

impl LookupTable for RandomTable {
    fn look_up<'a>(&'a self, _arena: &'a Bump, _key: &[u8], _: Sharer) -> Found<'a> {
        // Steps of a SplitMix64 generator: even, and no secret depends on it.
        let mut mixed = self.turn.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let index = (u128::from(mixed ^ (mixed >> 31)) * self.values.len() as u128) >> 64;
        Ok(usize::try_from(index).ok().and_then(|index| self.values.get(index)).map(|value| &**value))
    }
}
