//! Values that keep their ids: a table of clients, and one of networks.

use std::num::NonZeroU32;

/// Values at places that stay the same.
#[derive(Debug)]
pub(super) struct Table<T> {
    values: Vec<Option<T>>,
    free: Vec<NonZeroU32>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    pub(super) fn insert(&mut self, value: T) -> NonZeroU32 {
        if let Some(id) = self.free.pop() {
            self.values[index_of(id)] = Some(value);
            return id;
        }
        self.values.push(Some(value));
        let number = u32::try_from(self.values.len()).expect("a worker has fewer than 2^32 clients");
        NonZeroU32::new(number).expect("a value was pushed")
    }

    pub(super) fn take(&mut self, id: NonZeroU32) -> T {
        self.free.push(id);
        self.values[index_of(id)].take().expect(IN_USE)
    }

    pub(super) fn get(&self, id: NonZeroU32) -> &T {
        self.values[index_of(id)].as_ref().expect(IN_USE)
    }

    pub(super) fn get_mut(&mut self, id: NonZeroU32) -> &mut T {
        self.values[index_of(id)].as_mut().expect(IN_USE)
    }

    pub(super) fn at(&self, index: usize) -> Option<(NonZeroU32, &T)> {
        let id = NonZeroU32::new(u32::try_from(index).ok()?.checked_add(1)?)?;
        Some((id, self.values.get(index)?.as_ref()?))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter().flatten()
    }

    pub(super) const fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    pub(super) const fn places(&self) -> usize {
        self.values.len()
    }
}

const IN_USE: &str = "an id names a value that was not taken";

const fn index_of(id: NonZeroU32) -> usize {
    id.get() as usize - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_used_again_only_when_its_value_was_taken() {
        let mut table = Table::default();
        let [one, two] = ["one", "two"].map(|value| table.insert(value));
        assert_eq!((table.len(), table.places()), (2, 2));
        assert_eq!(table.take(one), "one");
        assert_eq!((table.len(), table.places(), *table.get(two)), (1, 2, "two"));
        assert!(table.at(0).is_none());
        assert_eq!((table.at(1), table.at(2)), (Some((two, &"two")), None));
        assert_eq!(table.insert("three"), one);
        *table.get_mut(one) = "four";
        assert_eq!(table.iter().copied().collect::<Vec<_>>(), ["four", "two"]);
    }

    #[test]
    #[should_panic(expected = "an id names a value that was not taken")]
    fn an_id_of_a_value_that_was_taken_names_none() {
        let mut table = Table::default();
        let id = table.insert(1);
        table.take(id);
        table.get(id);
    }
}
