//! Indexed storage with stable places: what is under way in the kernel is kept alive here.

/// Values at places that stay the same until they are taken.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Keeps `value` and names its place.
    ///
    /// # Panics
    /// Past 2^32 values: each is an operation under way, of which rings have fewer.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self.places[index as usize] = Some(value);
            return index;
        }
        let index = u32::try_from(self.places.len()).expect("fewer than 2^32 operations are under way");
        self.places.push(Some(value));
        index
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)?.as_ref()
    }

    pub(crate) fn take(&mut self, index: u32) -> Option<T> {
        let value = self.places.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(value)
    }

    /// Takes everything.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.free.clear();
        self.places.drain(..).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_place_is_used_again_and_not_twice() {
        let mut slab = Slab::new();
        let first = slab.insert('a');
        let second = slab.insert('b');
        assert_eq!(slab.take(first), Some('a'));
        assert_eq!(slab.take(first), None);
        assert_eq!(slab.insert('c'), first);
        assert_eq!(slab.get(second), Some(&'b'));
        assert_eq!(slab.drain().count(), 2);
    }
}
