//! Chance: numbers that follow from a seed.

/// A generator of numbers (splitmix64).
///
/// Each subject of a simulated world has its own, so that leaving something out of one leaves the others as they were:
/// that is what makes a failing seed shrink.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator of `seed` for `subject`.
    #[must_use]
    pub fn new(seed: u64, subject: &str) -> Self {
        let name = subject.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, octet| {
            (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut random = Self(seed ^ name);
        // Neighbouring seeds are to have nothing in common.
        Self(random.bits() ^ seed.rotate_left(32))
    }

    /// 64 random bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.bits()) * u128::from(bound);
        u64::try_from(product >> 64).unwrap_or(0)
    }

    /// An index below `length`, which is not 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// A number from `low`, which is not 0, to `high`: each order of magnitude is as likely as the others.
    pub fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let doublings = u64::from((high / low).checked_ilog2().unwrap_or(0));
        let doubling = self.between(0, doublings);
        let bottom = low << doubling;
        self.between(bottom, (bottom * 2 - 1).min(high).max(bottom))
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// Returns true in the given percentage of cases.
    pub fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    /// One of `items`, of which there is at least one.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_subject_say_it_all() {
        let draw = |seed, subject| Random::new(seed, subject).bits();
        assert_eq!(draw(1, "disk"), draw(1, "disk"));
        assert_ne!(draw(1, "disk"), draw(1, "network"));
        assert_ne!(draw(1, "disk"), draw(2, "disk"));
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut random = Random::new(7, "test");
        let mut seen = [false; 5];
        for _ in 0..1000 {
            seen[usize::try_from(random.between(10, 14) - 10).unwrap()] = true;
            assert!((3..=700).contains(&random.magnitude(3, 700)));
            assert!(random.below(1) == 0);
        }
        assert_eq!(seen, [true; 5]);
    }
}
