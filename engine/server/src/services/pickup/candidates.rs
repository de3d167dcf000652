//! Files of the maildrop that may be taken: a bounded number of names, each under its owner.
//!
//! Owners take turns, whatever number of files each has; among those of one owner the order is that of their names, which
//! is that of time. When there is no room the owner with the most names gives up its last one, so no owner can keep the
//! names of others out.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The digits of a file's name as a number.
pub(super) type Name = u128;

#[derive(Debug)]
pub(super) struct Candidates {
    owners: BTreeMap<u32, BTreeSet<Name>>,
    /// Each owner after its number of names.
    by_size: BTreeSet<(usize, u32)>,
    count: usize,
    max: usize,
    /// Whose turn was last.
    last: u32,
    /// A name found no room since [`Candidates::take_overflow`].
    has_overflowed: bool,
}

impl Candidates {
    /// At most `max` names.
    pub(super) const fn new(max: usize) -> Self {
        Self {
            owners: BTreeMap::new(),
            by_size: BTreeSet::new(),
            count: 0,
            max,
            last: 0,
            has_overflowed: false,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether names found no room since the last call.
    pub(super) const fn take_overflow(&mut self) -> bool {
        std::mem::replace(&mut self.has_overflowed, false)
    }

    /// Adds a name, unless it is there or there is no room for it.
    pub(super) fn add(&mut self, owner: u32, name: Name) {
        if self.owners.get(&owner).is_some_and(|names| names.contains(&name)) {
            return;
        }
        self.change(owner, |names| _ = names.insert(name));
        if self.count > self.max {
            self.has_overflowed = true;
            if let Some((_, greediest)) = self.by_size.last().copied() {
                self.change(greediest, |names| _ = names.pop_last());
            }
        }
    }

    /// The first name of the owner whose turn it is, among those that `may_take` says may have one.
    pub(super) fn next(&mut self, may_take: impl Fn(u32) -> bool) -> Option<(u32, Name)> {
        let after = self.owners.range((Bound::Excluded(self.last), Bound::Unbounded));
        let owner =
            after.chain(self.owners.range(..=self.last)).map(|(owner, _)| *owner).find(|it| may_take(*it))?;
        self.last = owner;
        let mut first = None;
        self.change(owner, |names| first = names.pop_first());
        first.map(|name| (owner, name))
    }

    fn change(&mut self, owner: u32, change: impl FnOnce(&mut BTreeSet<Name>)) {
        let names = self.owners.entry(owner).or_default();
        let before = names.len();
        change(names);
        let after = names.len();
        self.by_size.remove(&(before, owner));
        if after == 0 {
            self.owners.remove(&owner);
        } else {
            self.by_size.insert((after, owner));
        }
        self.count = self.count + after - before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn taken(candidates: &mut Candidates) -> Vec<(u32, Name)> {
        std::iter::from_fn(|| candidates.next(|_| true)).collect()
    }

    #[test]
    fn owners_take_turns_and_names_keep_their_order() {
        let mut candidates = Candidates::new(100);
        for (owner, name) in [(7, 3), (7, 1), (7, 2), (9, 5), (1, 9), (9, 4), (7, 1)] {
            candidates.add(owner, name);
        }
        assert_eq!(candidates.len(), 6);
        assert_eq!(taken(&mut candidates), [(1, 9), (7, 1), (9, 4), (7, 2), (9, 5), (7, 3)]);
        assert!(candidates.is_empty() && candidates.owners.is_empty() && candidates.by_size.is_empty());
        assert_eq!(candidates.next(|_| true), None);
    }

    #[test]
    fn skips_owners_that_must_wait() {
        let mut candidates = Candidates::new(100);
        candidates.add(1, 1);
        candidates.add(2, 2);
        assert_eq!(candidates.next(|owner| owner != 1), Some((2, 2)));
        assert_eq!(candidates.next(|owner| owner != 1), None);
        assert_eq!(candidates.next(|_| true), Some((1, 1)));
    }

    #[test]
    fn the_owner_with_the_most_files_makes_room() {
        let mut candidates = Candidates::new(10);
        (0..1000).for_each(|name| candidates.add(666, name));
        assert!(candidates.take_overflow() && !candidates.take_overflow());
        assert_eq!(candidates.len(), 10);
        (0..3).for_each(|owner| candidates.add(owner, 5000));
        assert_eq!(candidates.len(), 10);
        assert_eq!(candidates.owners[&666], (0..7).collect());
        // Its earlier names come before its later ones.
        candidates.add(666, 0);
        assert!((0..3).all(|owner| candidates.owners.contains_key(&owner)));
    }

    proptest! {
        /// As a plain list of pairs would have it.
        #[test]
        fn counts_stay_consistent(steps in prop::collection::vec((0_u32..5, 0_u128..20, any::<bool>()), 0..200), max in 1_usize..20) {
            let mut candidates = Candidates::new(max);
            for (owner, name, adds) in steps {
                if adds {
                    candidates.add(owner, name);
                } else {
                    candidates.next(|it| it != owner);
                }
                let count: usize = candidates.owners.values().map(BTreeSet::len).sum();
                prop_assert!(count == candidates.len() && count <= max);
                let sizes: BTreeSet<_> = candidates.owners.iter().map(|(owner, it)| (it.len(), *owner)).collect();
                prop_assert_eq!(&sizes, &candidates.by_size);
            }
        }
    }
}
