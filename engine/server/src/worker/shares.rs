//! Finds the fair share of something that clients hold, such as memory: the level to which the greediest must come down
//! so that all of them together fit (max-min fairness).

/// Amounts that holders hold, sorted by magnitude, so that the fair share is found without visiting each holder.
#[derive(Debug)]
pub(super) struct Tally {
    total: u64,
    /// By the number of bits of the amount; holders of nothing are in none.
    buckets: [Bucket; BUCKETS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    holders: u64,
    sum: u64,
}

const BUCKETS: usize = u64::BITS as usize;

impl Default for Tally {
    fn default() -> Self {
        Self { total: 0, buckets: [Bucket::default(); BUCKETS] }
    }
}

impl Tally {
    /// Notes that one holder holds `after` instead of `before`.
    pub(super) fn change(&mut self, before: u64, after: u64) {
        self.total = self.total - before + after;
        if let Some(bucket) = bucket_of(before) {
            self.buckets[bucket].holders -= 1;
            self.buckets[bucket].sum -= before;
        }
        if let Some(bucket) = bucket_of(after) {
            self.buckets[bucket].holders += 1;
            self.buckets[bucket].sum += after;
        }
    }

    /// Total amount.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Returns the share beyond which a holder is greedy: if none held more, the total would be at most `target`.
    /// [`u64::MAX`] if the total is not greater.
    ///
    /// Holders of one magnitude count as equal, so the share is at most a factor of two below the exact one,
    /// and never above it.
    pub(super) fn fair_share(&self, target: u64) -> u64 {
        if self.total <= target {
            return u64::MAX;
        }
        let mut holders: u64 = self.buckets.iter().map(|bucket| bucket.holders).sum();
        let mut smaller = 0;
        for (bits, bucket) in self.buckets.iter().enumerate() {
            // The least of the next magnitude: with that share, this holder would keep everything.
            let limit = 2u64.checked_shl(u32::try_from(bits).unwrap_or(u32::MAX)).unwrap_or(u64::MAX);
            let larger = holders - bucket.holders;
            let kept = bucket.sum.saturating_add(larger.saturating_mul(limit)).saturating_add(smaller);
            if kept > target {
                return (target - smaller) / holders;
            }
            smaller += bucket.sum;
            holders = larger;
        }
        u64::MAX
    }
}

fn bucket_of(held: u64) -> Option<usize> {
    held.checked_ilog2().map(|bits| bits as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tally(held: &[u64]) -> Tally {
        let mut tally = Tally::default();
        held.iter().for_each(|held| tally.change(0, *held));
        tally
    }

    fn together(held: &[u64], share: u64) -> u64 {
        held.iter().map(|held| *held.min(&share)).sum()
    }

    #[test]
    fn the_greediest_comes_down_and_the_small_keep_what_they_have() {
        let held = [1000, 10, 20, 30];
        assert_eq!(tally(&held).fair_share(1060), u64::MAX);
        assert_eq!(tally(&held).fair_share(560), 500);
        assert_eq!(tally(&[600, 600, 8]).fair_share(808), 400);
        assert_eq!(tally(&[8, 8]).fair_share(0), 0);
        assert_eq!(tally(&[u64::MAX / 2]).fair_share(7), 7);
    }

    proptest! {
        #[test]
        fn a_share_fits_and_is_not_much_too_small(
            held in prop::collection::vec(0u64..1 << 40, 1..50),
            part in 0u64..100,
        ) {
            let total: u64 = held.iter().sum();
            let target = total / 100 * part;
            let share = tally(&held).fair_share(target);
            if total <= target {
                prop_assert_eq!(share, u64::MAX);
            } else {
                prop_assert!(together(&held, share) <= target);
                // Rounding loses less than one of each holder.
                let double = together(&held, share.saturating_add(1).saturating_mul(2));
                prop_assert!(double >= target, "{} of {}", double, target);
            }
        }

        #[test]
        fn changes_leave_no_trace(held in prop::collection::vec(0u64..1 << 40, 1..50)) {
            let mut tally = tally(&held);
            held.iter().for_each(|held| tally.change(*held, 0));
            prop_assert_eq!(tally.total(), 0);
            prop_assert!(tally.buckets.iter().all(|bucket| bucket.holders == 0 && bucket.sum == 0));
        }
    }
}
